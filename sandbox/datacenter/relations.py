"""Who stands in which relation to whom: what access is decided by, and the same with names for `/me`.

Invariant: one statement per read, so the generation and the relations are of the same snapshot: an answer that
carries a generation holds every change that made it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, and_, bindparam, cast, func, literal, null, select, true, union_all
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.reads import Parameters, rows_of
from sandbox.datacenter.tables import (
    assignments,
    calendar,
    classes,
    generations,
    guardians,
    guardianships,
    pupils,
    subjects,
    teachers,
)

FIRST_GENERATION = 1

_NO_SUBJECTS = cast(null(), ARRAY(Text))  # a union takes its types from its first two branches
_PERSON = bindparam("subject", type_=Text)
_ACTIVE = and_(guardianships.c.guardian == _PERSON, guardianships.c.status == "active")
_HIS_CLASSES = (
    select(
        assignments.c.class_id,
        func.array_agg(aggregate_order_by(assignments.c.subject, assignments.c.subject)).label("subjects"),
    )
    .where(assignments.c.teacher == _PERSON)
    .group_by(assignments.c.class_id)
    .cte("his_classes")
)


def _marker(kind: str, table: Any) -> Any:
    """A row that says only that the person is known in `table`."""
    return select(literal(kind).label("kind"), table.c.id, null(), null(), null()).where(
        table.c.id == _PERSON
    )


_RELATIONS = union_all(
    select(
        literal("self").label("kind"),
        pupils.c.id.label("id"),
        pupils.c.class_id.label("class_id"),
        classes.c.school.label("school"),
        _NO_SUBJECTS.label("subjects"),
    )
    .select_from(pupils.join(classes, classes.c.id == pupils.c.class_id))
    .where(pupils.c.id == _PERSON),
    select(literal("child"), pupils.c.id, pupils.c.class_id, classes.c.school, null())
    .select_from(
        guardianships.join(pupils, pupils.c.id == guardianships.c.pupil).join(
            classes, classes.c.id == pupils.c.class_id
        )
    )
    .where(_ACTIVE),
    select(literal("taught"), pupils.c.id, pupils.c.class_id, classes.c.school, null()).select_from(
        _HIS_CLASSES.join(pupils, pupils.c.class_id == _HIS_CLASSES.c.class_id).join(
            classes, classes.c.id == pupils.c.class_id
        )
    ),
    select(literal("class"), _HIS_CLASSES.c.class_id, null(), null(), _HIS_CLASSES.c.subjects),
    _marker("guardian", guardians),
    _marker("teacher", teachers),
).subquery("relations")

_GENERATION = (
    select(func.coalesce(func.max(generations.c.generation), FIRST_GENERATION))
    .where(generations.c.subject == _PERSON)
    .scalar_subquery()
)
_CHANGED_AT = (
    select(
        func.greatest(func.max(guardianships.c.updated_at), select(calendar.c.updated_at).scalar_subquery())
    )
    .where(guardianships.c.guardian == _PERSON)
    .scalar_subquery()
)
_RELATIONS_AT = select(_RELATIONS, _GENERATION.label("generation"), _CHANGED_AT.label("changed_at")).order_by(
    _RELATIONS.c.kind, _RELATIONS.c.id
)


async def read_relations(connection: AsyncConnection, parameters: Parameters) -> shapes.Relations:
    """All relations of a subject, and the generation that any change of them raises."""
    rows = await rows_of(connection, _RELATIONS_AT, parameters)
    return shapes.Relations(
        subject=parameters["subject"],
        generation=rows[0].generation,
        pupils={
            row.id: shapes.RelatedPupil(relation=row.kind, class_id=row.class_id, school=row.school)
            for row in rows
            if row.kind in {"self", "child", "taught"}
        },
        classes={row.id: row.subjects for row in rows if row.kind == "class"},
        as_of=shapes.instant_text(rows[0].changed_at),
    )


_KNOWN = union_all(
    select(pupils.c.id, pupils.c.name_ar, pupils.c.name_fr).where(pupils.c.id == _PERSON),
    select(guardians.c.id, guardians.c.name_ar, guardians.c.name_fr).where(guardians.c.id == _PERSON),
    select(teachers.c.id, teachers.c.name_ar, teachers.c.name_fr).where(teachers.c.id == _PERSON),
).subquery("known")

_LINKED = union_all(
    select(literal("self").label("relation"), pupils.c.id.label("id")).where(pupils.c.id == _PERSON),
    select(literal("child"), guardianships.c.pupil).where(_ACTIVE),
).subquery("linked")

_PROFILE_PUPILS = select(
    _KNOWN.c.name_ar.label("own_ar"),
    _KNOWN.c.name_fr.label("own_fr"),
    calendar.c.updated_at,
    _LINKED.c.relation,
    pupils.c.id,
    pupils.c.name_ar,
    pupils.c.name_fr,
    pupils.c.class_id,
    classes.c.name.label("class_name"),
    classes.c.level,
    classes.c.school,
    null().label("code"),
).select_from(
    _KNOWN.join(calendar, true())
    .outerjoin(_LINKED, true())
    .outerjoin(pupils, pupils.c.id == _LINKED.c.id)
    .outerjoin(classes, classes.c.id == pupils.c.class_id)
)

_PROFILE_CLASSES = (
    select(
        null(),
        null(),
        calendar.c.updated_at,
        literal("taught"),
        null(),
        subjects.c.name_ar,
        subjects.c.name_fr,
        classes.c.id,
        classes.c.name,
        classes.c.level,
        classes.c.school,
        subjects.c.code,
    )
    .select_from(
        assignments.join(classes, classes.c.id == assignments.c.class_id)
        .join(subjects, subjects.c.code == assignments.c.subject)
        .join(calendar, true())
    )
    .where(assignments.c.teacher == _PERSON)
)

_lines = union_all(_PROFILE_PUPILS, _PROFILE_CLASSES).subquery("profile_lines")
_PROFILE = select(_lines).order_by(_lines.c.class_name, _lines.c.class_id, _lines.c.id, _lines.c.code)


async def read_profile(connection: AsyncConnection, parameters: Parameters) -> shapes.Profile:
    """A person's name, pupils (himself or his children) and classes."""
    rows = await rows_of(connection, _PROFILE, parameters)
    taught: dict[str, shapes.ProfileClass] = {}
    for row in rows:
        if row.code is not None:
            held = taught.setdefault(
                row.class_id,
                shapes.ProfileClass(
                    id=row.class_id,
                    name=row.class_name,
                    level=row.level,
                    school_gresa=row.school,
                    subjects=[],
                ),
            )
            held.subjects.append(shapes.Subject(code=row.code, ar=row.name_ar, fr=row.name_fr))
    own = next(row for row in rows if row.own_fr is not None)
    return shapes.Profile(
        name=shapes.Name(ar=own.own_ar, fr=own.own_fr),
        pupils=[
            shapes.ProfilePupil(
                id=row.id,
                name=shapes.Name(ar=row.name_ar, fr=row.name_fr),
                class_id=row.class_id,
                class_name=row.class_name,
                level=row.level,
                school_gresa=row.school,
                relation=row.relation,
            )
            for row in rows
            if row.id is not None
        ],
        classes=list(taught.values()),
        as_of=shapes.instant_text(rows[0].updated_at),
    )
