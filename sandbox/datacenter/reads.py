"""Reads of what a class and its pupils share: calendar, timetable, homework, announcements, roster, absences.

Invariant: one statement, so one snapshot, per read; statements are built once; a thing that is not there is a
`not-found`, whoever asks: who may ask is the gateway's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, bindparam, func, or_, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.tables import (
    absences,
    announcements,
    assignments,
    calendar,
    classes,
    dispensations,
    homework,
    homework_done,
    lesson_changes,
    lessons,
    provinces,
    pupils,
    schools,
    subjects,
    teachers,
)

ROWS_MAX = 5000
ANNOUNCEMENTS_MAX = 500

Parameters = Mapping[str, Any]

_SUBJECT = (
    subjects.c.code.label("subject_code"),
    subjects.c.name_ar.label("subject_ar"),
    subjects.c.name_fr.label("subject_fr"),
)
_LOADED_AT = calendar.c.updated_at.label("loaded_at")  # stands in where the rows themselves keep no time


async def rows_of(connection: AsyncConnection, statement: Any, parameters: Parameters) -> list[Row[Any]]:
    """The rows of a statement whose first row exists as soon as the thing asked for does.

    Raises: Refused (`not-found`).
    """
    rows = list((await connection.execute(statement, dict(parameters))).all())
    if not rows:
        raise Refused("not-found")
    return rows


def subject_of(row: Row[Any]) -> shapes.Subject:
    """The subject in the columns `subject_code`, `subject_ar`, `subject_fr`."""
    return shapes.Subject(code=row.subject_code, ar=row.subject_ar, fr=row.subject_fr)


def latest(rows: Iterable[Row[Any]], otherwise: datetime) -> str:
    """The last `updated_at` of the rows; `otherwise` where there is none."""
    return shapes.instant_text(
        max((row.updated_at for row in rows if row.updated_at is not None), default=otherwise)
    )


_CALENDAR = select(calendar)


async def read_calendar(connection: AsyncConnection, parameters: Parameters) -> shapes.Calendar:
    """Where the school year stands."""
    row = (await rows_of(connection, _CALENDAR, parameters))[0]
    return shapes.Calendar(
        year=row.year,
        session=row.session,
        week=row.week,
        today=row.today,
        first_day=row.first_day,
        last_day=row.last_day,
        as_of=shapes.instant_text(row.updated_at),
    )


_TIMETABLE = (
    select(
        _LOADED_AT,
        lessons.c.day,
        lessons.c.start_at,
        lessons.c.end_at,
        lessons.c.room,
        *_SUBJECT,
        teachers.c.name_ar.label("teacher_ar"),
        teachers.c.name_fr.label("teacher_fr"),
        lesson_changes.c.kind.label("change_kind"),
        lesson_changes.c.room.label("change_room"),
    )
    .select_from(
        classes.join(calendar, true())
        .outerjoin(
            lessons.join(subjects, subjects.c.code == lessons.c.subject).join(
                teachers, teachers.c.id == lessons.c.teacher
            ),
            lessons.c.class_id == classes.c.id,
        )
        .outerjoin(
            lesson_changes,
            and_(
                lesson_changes.c.class_id == classes.c.id,
                lesson_changes.c.week == bindparam("week"),
                lesson_changes.c.day == lessons.c.day,
                lesson_changes.c.start_at == lessons.c.start_at,
            ),
        )
    )
    .where(classes.c.id == bindparam("class_id"))
    .order_by(lessons.c.day, lessons.c.start_at)
)


async def read_timetable(connection: AsyncConnection, parameters: Parameters) -> shapes.Timetable:
    """One class's lessons in `week`."""
    rows = await rows_of(connection, _TIMETABLE, parameters)
    return shapes.Timetable(
        week=parameters["week"],
        class_id=parameters["class_id"],
        lessons=[
            shapes.Lesson(
                day=row.day,
                start=shapes.clock_text(row.start_at),
                end=shapes.clock_text(row.end_at),
                subject=subject_of(row),
                teacher=shapes.Name(ar=row.teacher_ar, fr=row.teacher_fr),
                room=row.room,
                change=row.change_kind and shapes.LessonChange(kind=row.change_kind, room=row.change_room),
            )
            for row in rows
            if row.day is not None
        ],
        as_of=shapes.instant_text(rows[0].loaded_at),
    )


_HOMEWORK = (
    select(
        _LOADED_AT,
        homework.c.id,
        homework.c.body,
        homework.c.assigned_on,
        homework.c.due_on,
        homework.c.updated_at,
        *_SUBJECT,
    )
    .select_from(
        classes.join(calendar, true()).outerjoin(
            homework.join(subjects, subjects.c.code == homework.c.subject),
            and_(homework.c.class_id == classes.c.id, homework.c.due_on >= bindparam("from")),
        )
    )
    .where(classes.c.id == bindparam("class_id"))
    .order_by(homework.c.due_on, homework.c.id)
    .limit(ROWS_MAX)
)


async def read_homework(connection: AsyncConnection, parameters: Parameters) -> shapes.HomeworkList:
    """A class's homework due on or after `from`."""
    rows = await rows_of(connection, _HOMEWORK, parameters)
    return shapes.HomeworkList(
        homework=[
            shapes.Homework(
                id=row.id,
                subject=subject_of(row),
                text=row.body,
                assigned_on=row.assigned_on,
                due_on=row.due_on,
            )
            for row in rows
            if row.id is not None
        ],
        as_of=latest(rows, rows[0].loaded_at),
    )


# A region and a province may share a code: level and scope are compared together.
_CONCERNS_THE_CLASS = or_(
    and_(announcements.c.level == "national", announcements.c.scope == ""),
    and_(announcements.c.level == "region", announcements.c.scope == provinces.c.region),
    and_(announcements.c.level == "province", announcements.c.scope == provinces.c.code),
    and_(announcements.c.level == "school", announcements.c.scope == schools.c.gresa),
    and_(announcements.c.level == "class", announcements.c.scope == classes.c.id),
)

_ANNOUNCEMENTS = (
    select(_LOADED_AT, *announcements.c)
    .select_from(
        classes.join(calendar, true())
        .join(schools, schools.c.gresa == classes.c.school)
        .join(provinces, provinces.c.code == schools.c.province)
        .outerjoin(announcements, and_(announcements.c.valid_from <= calendar.c.today, _CONCERNS_THE_CLASS))
    )
    .where(classes.c.id == bindparam("class_id"))
    .order_by(announcements.c.valid_from.desc(), announcements.c.id)
    .limit(ANNOUNCEMENTS_MAX)
)


async def read_announcements(connection: AsyncConnection, parameters: Parameters) -> shapes.AnnouncementList:
    """All that has been announced to a class, from the nation down; what begins later is not told yet."""
    rows = await rows_of(connection, _ANNOUNCEMENTS, parameters)
    return shapes.AnnouncementList(
        announcements=[
            shapes.Announcement(
                id=row.id,
                level=row.level,
                title=shapes.Name(ar=row.title_ar, fr=row.title_fr),
                body=shapes.Name(ar=row.body_ar, fr=row.body_fr),
                valid_from=row.valid_from,
                valid_to=row.valid_to,
            )
            for row in rows
            if row.id is not None
        ],
        as_of=latest(rows, rows[0].loaded_at),
    )


_DISPENSED_FROM = (
    select(func.array_agg(aggregate_order_by(dispensations.c.subject, dispensations.c.subject)))
    .where(dispensations.c.pupil == pupils.c.id)
    .scalar_subquery()
)

_ROSTER = (
    select(
        _LOADED_AT,
        classes.c.name.label("class_name"),
        classes.c.level,
        classes.c.school,
        pupils.c.id,
        pupils.c.number,
        pupils.c.name_ar,
        pupils.c.name_fr,
        _DISPENSED_FROM.label("dispensations"),
    )
    .select_from(classes.join(calendar, true()).outerjoin(pupils, pupils.c.class_id == classes.c.id))
    .where(classes.c.id == bindparam("class_id"))
    .order_by(pupils.c.number, pupils.c.id)
)


async def read_roster(connection: AsyncConnection, parameters: Parameters) -> shapes.Roster:
    """A class and its pupils, by number."""
    rows = await rows_of(connection, _ROSTER, parameters)
    head = rows[0]
    return shapes.Roster(
        class_=shapes.ClassCard(
            id=parameters["class_id"], name=head.class_name, level=head.level, school_gresa=head.school
        ),
        pupils=[
            shapes.RosterRow(
                id=row.id,
                number=row.number,
                name=shapes.Name(ar=row.name_ar, fr=row.name_fr),
                dispensations=row.dispensations or [],
            )
            for row in rows
            if row.id is not None
        ],
        as_of=shapes.instant_text(head.loaded_at),
    )


_ABSENCES = (
    select(
        _LOADED_AT,
        absences.c.id,
        absences.c.held_on,
        absences.c.start_at,
        absences.c.end_at,
        absences.c.kind,
        absences.c.justified,
        absences.c.reason,
        absences.c.updated_at,
    )
    .select_from(
        pupils.join(calendar, true()).outerjoin(
            absences, and_(absences.c.pupil == pupils.c.id, absences.c.held_on >= bindparam("from"))
        )
    )
    .where(pupils.c.id == bindparam("pupil_id"))
    .order_by(absences.c.held_on, absences.c.start_at)
    .limit(ROWS_MAX)
)


async def read_absences(connection: AsyncConnection, parameters: Parameters) -> shapes.AbsenceList:
    """A pupil's absences on or after `from`; why he was absent is for his family alone."""
    rows = await rows_of(connection, _ABSENCES, parameters)
    with_reason = parameters["view"] == "family"
    return shapes.AbsenceList(
        absences=[
            shapes.Absence(
                id=row.id,
                date=row.held_on,
                slot=shapes.Slot(start=shapes.clock_text(row.start_at), end=shapes.clock_text(row.end_at)),
                kind=row.kind,
                justified=row.justified,
                reason=row.reason if with_reason else None,
            )
            for row in rows
            if row.id is not None
        ],
        as_of=latest(rows, rows[0].loaded_at),
    )


_HOMEWORK_DONE = (
    select(_LOADED_AT, homework_done.c.homework)
    .select_from(pupils.join(calendar, true()).outerjoin(homework_done, homework_done.c.pupil == pupils.c.id))
    .where(pupils.c.id == bindparam("pupil_id"))
    .order_by(homework_done.c.homework)
    .limit(ROWS_MAX)
)


async def read_homework_done(connection: AsyncConnection, parameters: Parameters) -> shapes.HomeworkDone:
    """Which homework a pupil has ticked."""
    rows = await rows_of(connection, _HOMEWORK_DONE, parameters)
    return shapes.HomeworkDone(
        done=[row.homework for row in rows if row.homework is not None],
        as_of=shapes.instant_text(rows[0].loaded_at),
    )


_ASSIGNMENTS = (
    select(
        _LOADED_AT,
        calendar.c.year,
        classes.c.id.label("class_id"),
        classes.c.name.label("class_name"),
        classes.c.school,
        assignments.c.hours,
        *_SUBJECT,
    )
    .select_from(
        teachers.join(calendar, true()).outerjoin(
            assignments.join(classes, classes.c.id == assignments.c.class_id).join(
                subjects, subjects.c.code == assignments.c.subject
            ),
            assignments.c.teacher == teachers.c.id,
        )
    )
    .where(teachers.c.id == bindparam("teacher_id"))
    .order_by(classes.c.name, classes.c.id, subjects.c.code)
)


async def read_assignments(connection: AsyncConnection, parameters: Parameters) -> shapes.AssignmentList:
    """A teacher's classes, subjects and hours."""
    rows = await rows_of(connection, _ASSIGNMENTS, parameters)
    held = [row for row in rows if row.class_id is not None]
    return shapes.AssignmentList(
        year=rows[0].year,
        hours=shapes.number(sum((row.hours for row in held), start=shapes.NO_HOURS)),
        assignments=[
            shapes.Assignment(
                class_id=row.class_id,
                class_name=row.class_name,
                school_gresa=row.school,
                subject=subject_of(row),
                hours=shapes.number(row.hours),
            )
            for row in held
        ],
        as_of=shapes.instant_text(rows[0].loaded_at),
    )
