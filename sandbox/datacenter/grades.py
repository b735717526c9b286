"""Reads of marks: a pupil's session as his family sees it, a gradebook as its teacher sees it.

Invariant: of an unpublished subject a family learns nothing, not even when somebody last worked on it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Integer, Row, and_, bindparam, case, func, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import averages, shapes
from sandbox.datacenter.reads import Parameters, rows_of
from sandbox.datacenter.tables import (
    activities,
    calendar,
    classes,
    controls,
    gradebooks,
    level_subjects,
    marks,
    pupils,
    subjects,
)

_SESSION = func.coalesce(bindparam("session", type_=Integer), calendar.c.session)


def _listed(column: Any, order: Any) -> Any:
    return func.array_agg(aggregate_order_by(column, order))


# The pupil's own cells of one subject: every planned contrôle, marked or not.
_own = (
    select(
        _listed(controls.c.number, controls.c.number).label("numbers"),
        _listed(func.coalesce(marks.c.state, "pending"), controls.c.number).label("states"),
        _listed(marks.c.mark, controls.c.number).label("marks"),
    )
    .select_from(
        controls.outerjoin(
            marks,
            and_(
                marks.c.pupil == pupils.c.id,
                marks.c.subject == controls.c.subject,
                marks.c.session == controls.c.session,
                marks.c.number == controls.c.number,
            ),
        )
    )
    .where(
        controls.c.class_id == gradebooks.c.class_id,
        controls.c.subject == gradebooks.c.subject,
        controls.c.session == gradebooks.c.session,
    )
    .lateral("own")
)

# The whole class's contrôles of one subject, one total per pupil: an absence counts 0, a dispensation does not count.
_totals = (
    select(
        marks.c.pupil,
        func.sum(case((marks.c.state == "marked", marks.c.mark), else_=0))
        .filter(marks.c.state != "dispensed")
        .label("total"),
        func.count().filter(marks.c.state != "dispensed").label("counted"),
        func.max(marks.c.updated_at).label("updated_at"),
    )
    .where(
        marks.c.class_id == gradebooks.c.class_id,
        marks.c.session == gradebooks.c.session,
        marks.c.subject == gradebooks.c.subject,
    )
    .group_by(marks.c.pupil)
    .correlate(gradebooks)
    .subquery("totals")
)

_class = (
    select(
        func.array_agg(_totals.c.pupil).label("pupils"),
        func.array_agg(func.coalesce(_totals.c.total, 0)).label("totals"),
        func.array_agg(_totals.c.counted).label("counts"),
        func.array_agg(activities.c.mark).label("activities"),
        func.max(_totals.c.updated_at).label("updated_at"),
    )
    .select_from(
        _totals.outerjoin(
            activities,
            and_(
                activities.c.pupil == _totals.c.pupil,
                activities.c.subject == gradebooks.c.subject,
                activities.c.session == gradebooks.c.session,
            ),
        )
    )
    .correlate(gradebooks)
    .lateral("class_marks")
)
_GRADES = (
    select(
        calendar.c.year,
        _SESSION.label("session"),
        calendar.c.updated_at.label("loaded_at"),
        subjects.c.code,
        subjects.c.name_ar,
        subjects.c.name_fr,
        level_subjects.c.coefficient,
        level_subjects.c.control_weight,
        gradebooks.c.published,
        gradebooks.c.updated_at,
        activities.c.mark.label("own_activities"),
        _own.c.numbers,
        _own.c.states,
        _own.c.marks,
        _class.c.pupils.label("class_pupils"),
        _class.c.totals,
        _class.c.counts,
        _class.c.activities,
        _class.c.updated_at.label("marks_updated_at"),
    )
    .select_from(
        pupils.join(classes, classes.c.id == pupils.c.class_id)
        .join(calendar, true())
        .outerjoin(
            level_subjects.join(subjects, subjects.c.code == level_subjects.c.subject),
            level_subjects.c.level == classes.c.level,
        )
        .outerjoin(
            gradebooks,
            and_(
                gradebooks.c.class_id == classes.c.id,
                gradebooks.c.subject == level_subjects.c.subject,
                gradebooks.c.session == _SESSION,
            ),
        )
        .outerjoin(
            activities,
            and_(
                activities.c.pupil == pupils.c.id,
                activities.c.subject == level_subjects.c.subject,
                activities.c.session == _SESSION,
            ),
        )
        .outerjoin(_own, gradebooks.c.published)
        .outerjoin(_class, gradebooks.c.published)
    )
    .where(pupils.c.id == bindparam("pupil_id"))
    .order_by(level_subjects.c.coefficient.desc(), subjects.c.code)
)


async def read_grades(connection: AsyncConnection, parameters: Parameters) -> shapes.Grades:
    """A pupil's marks and averages in one session; another year than the current one has no records here."""
    rows = await rows_of(connection, _GRADES, parameters)
    head = rows[0]
    year = parameters["year"] if parameters["year"] is not None else head.year
    known = [row for row in rows if row.code is not None] if year == head.year else []
    graded = [_subject(row, parameters["pupil_id"]) for row in known]
    changed = [row.updated_at for row in known if row.published]
    changed += [row.marks_updated_at for row in known if row.marks_updated_at is not None]
    return shapes.Grades(
        year=year,
        session=head.session,
        published=any(row.published for row in known),
        subjects=[subject for subject, _ in graded],
        average=shapes.mark_text(
            averages.general_average(
                (row.coefficient, average) for row, (_, average) in zip(known, graded, strict=True)
            )
        ),
        as_of=shapes.instant_text(max(changed, default=head.loaded_at)),
    )


def _subject(row: Row[Any], pupil_id: str) -> tuple[shapes.SubjectGrades, Decimal | None]:
    by_pupil = {
        pupil: averages.subject_average(
            total=total, counted=counted, activities=activity, control_weight=row.control_weight
        )
        for pupil, total, counted, activity in zip(
            row.class_pupils or (), row.totals or (), row.counts or (), row.activities or (), strict=True
        )
    }
    own = by_pupil.get(pupil_id)
    shown = shapes.SubjectGrades(
        code=row.code,
        ar=row.name_ar,
        fr=row.name_fr,
        coefficient=shapes.number(row.coefficient),
        marks=[
            shapes.GradeMark(number=number, mark=shapes.mark_text(mark), state=state)
            for number, state, mark in zip(row.numbers or (), row.states or (), row.marks or (), strict=True)
        ],
        activities=shapes.mark_text(row.own_activities) if row.published else None,
        average=shapes.mark_text(own),
        class_average=shapes.mark_text(
            averages.class_average(by_pupil.values(), marks=sum(row.counts or ()))
        ),
    )
    return shown, own


_cells = (
    select(
        _listed(controls.c.number, controls.c.number).label("numbers"),
        _listed(func.coalesce(marks.c.state, "pending"), controls.c.number).label("states"),
        _listed(marks.c.mark, controls.c.number).label("marks"),
        _listed(func.coalesce(marks.c.version, 0), controls.c.number).label("versions"),
        func.max(marks.c.updated_at).label("updated_at"),
    )
    .select_from(
        controls.outerjoin(
            marks,
            and_(
                marks.c.pupil == pupils.c.id,
                marks.c.subject == controls.c.subject,
                marks.c.session == controls.c.session,
                marks.c.number == controls.c.number,
            ),
        )
    )
    .where(
        controls.c.class_id == gradebooks.c.class_id,
        controls.c.subject == gradebooks.c.subject,
        controls.c.session == gradebooks.c.session,
    )
    .lateral("cells")
)

_planned = (
    select(
        _listed(controls.c.number, controls.c.number).label("planned"),
        _listed(controls.c.held_on, controls.c.number).label("held_on"),
    )
    .where(
        controls.c.class_id == gradebooks.c.class_id,
        controls.c.subject == gradebooks.c.subject,
        controls.c.session == gradebooks.c.session,
    )
    .lateral("planned_controls")
)

_GRADEBOOK = (
    select(
        gradebooks.c.locked,
        gradebooks.c.deadline,
        gradebooks.c.updated_at,
        _planned.c.planned,
        _planned.c.held_on,
        pupils.c.id.label("pupil_id"),
        _cells.c.numbers,
        _cells.c.states,
        _cells.c.marks,
        _cells.c.versions,
        _cells.c.updated_at.label("marks_updated_at"),
    )
    .select_from(
        gradebooks.outerjoin(_planned, true())
        .outerjoin(pupils, pupils.c.class_id == gradebooks.c.class_id)
        .outerjoin(_cells, pupils.c.id.is_not(None))
    )
    .where(
        gradebooks.c.class_id == bindparam("class_id"),
        gradebooks.c.subject == bindparam("subject"),
        gradebooks.c.session == bindparam("session", type_=Integer),
    )
    .order_by(pupils.c.number, pupils.c.id)
)


async def read_gradebook(connection: AsyncConnection, parameters: Parameters) -> shapes.Gradebook:
    """Every cell of a gradebook with its version, by the pupils' numbers."""
    rows = await rows_of(connection, _GRADEBOOK, parameters)
    head = rows[0]
    changed = [row.marks_updated_at for row in rows if row.marks_updated_at is not None]
    return shapes.Gradebook(
        class_id=parameters["class_id"],
        subject=parameters["subject"],
        session=parameters["session"],
        locked=head.locked,
        deadline=None if head.deadline is None else shapes.instant_text(head.deadline),
        controls=[
            shapes.Control(number=number, date=held_on)
            for number, held_on in zip(head.planned or (), head.held_on or (), strict=True)
        ],
        rows=[
            shapes.GradebookRow(
                pupil_id=row.pupil_id,
                marks=[
                    shapes.GradebookMark(
                        number=number, mark=shapes.mark_text(mark), state=state, version=version
                    )
                    for number, state, mark, version in zip(
                        row.numbers or (), row.states or (), row.marks or (), row.versions or (), strict=True
                    )
                ],
            )
            for row in rows
            if row.pupil_id is not None
        ],
        as_of=shapes.instant_text(max([head.updated_at, *changed])),
    )
