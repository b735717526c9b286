"""Gradebooks, planned contrôles, marks and activities.

Invariant: a mark is out of 20 in quarters of a point, and there only is a row for what a teacher has entered: a
contrôle ahead, one held in the last days, or a forgotten pupil has none (pending). In every locality the last
lycée class has its first session unpublished (with marks in it), the last collège class one locked gradebook;
the second session is nowhere published nor open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from random import Random

import msgspec

from sandbox.population.calendar import (
    CALENDAR,
    CONTROL_TARGETS,
    ENTRY_DEADLINES,
    SESSIONS,
    holds_school,
    instant,
)
from sandbox.population.curriculum import Cycle, Taught
from sandbox.population.families import DISPENSED_SUBJECT, Families, Pupil
from sandbox.population.schools import ClassRoom, Locality
from sandbox.population.timetables import Lesson

Row = tuple[object, ...]

LOCKED_SUBJECT = "ART"
_ENTRY_DELAY_DAYS = 10
_SPREAD_DAYS = 4  # between the contrôles of neighbouring subjects; those with the most keep their dates
_CONTROLS_MAX = 4
_MARKS = tuple(Decimal(quarters).scaleb(-2) * 25 for quarters in range(81))
_BEST = len(_MARKS) - 1
_ABSENT_SHARE = 0.03
_PENDING_SHARE = 0.02
_CORRECTED_SHARE = 0.05
_NO_ACTIVITIES_SHARE = 0.1
_ACTIVITIES_BONUS = 6  # quarters: activities are marked more kindly than contrôles


class Gradebook(msgspec.Struct, frozen=True):
    """A class's gradebook of a subject in a session, with the dates of its contrôles."""

    room: ClassRoom
    taught: Taught
    session: int
    locked: bool
    published: bool
    held_on: tuple[date, ...]

    @property
    def entered(self) -> tuple[tuple[int, date], ...]:
        """Number and date of the contrôles whose marks have been entered."""
        due = CALENDAR.today - timedelta(days=_ENTRY_DELAY_DAYS)
        return tuple((number, day) for number, day in enumerate(self.held_on, start=1) if day <= due)


def gradebooks(locality: Locality, lessons: tuple[Lesson, ...]) -> Iterator[Gradebook]:
    """Both sessions' gradebooks of every class."""
    weekdays: dict[tuple[str, str], set[int]] = {}
    for lesson in lessons:
        weekdays.setdefault((lesson.room.id, lesson.subject), set()).add(lesson.day)
    unpublished = locality.schools[-1].classes[-1].id
    locked = next(school for school in locality.schools if school.cycle is Cycle.COLLEGIAL).classes[-1].id
    for room in locality.classes:
        for index, taught in enumerate(room.taught):
            later = timedelta(days=index % 3 * _SPREAD_DAYS if taught.controls < _CONTROLS_MAX else 0)
            days = weekdays[room.id, taught.subject.code]
            for session in SESSIONS:
                current = session == CALENDAR.session
                yield Gradebook(
                    room=room,
                    taught=taught,
                    session=session,
                    locked=not current or (room.id == locked and taught.subject.code == LOCKED_SUBJECT),
                    published=current and room.id != unpublished,
                    held_on=tuple(
                        _next(day + later, days) for day in CONTROL_TARGETS[session][taught.controls]
                    ),
                )


def _next(day: date, weekdays: set[int]) -> date:
    """The first day of school from `day` on that is one of `weekdays`."""
    while day.isoweekday() not in weekdays or not holds_school(day):
        day += timedelta(days=1)
    return day


def gradebook_row(book: Gradebook) -> Row:
    """A row of `gradebooks`."""
    entered = book.entered
    updated_at = (
        instant(entered[-1][1] + timedelta(days=_ENTRY_DELAY_DAYS)) if entered else CALENDAR.updated_at
    )
    deadline = ENTRY_DEADLINES[book.session]
    code = book.taught.subject.code
    return (book.room.id, code, book.session, book.locked, book.published, deadline, updated_at)


def control_rows(books: Iterable[Gradebook]) -> Iterator[Row]:
    """Rows of `controls`."""
    for book in books:
        for number, held_on in enumerate(book.held_on, start=1):
            yield (book.room.id, book.taught.subject.code, book.session, number, held_on)


def mark_rows(locality: Locality, books: Iterable[Gradebook], families: Families) -> Iterator[Row]:
    """Rows of `marks`: what has been entered."""
    rng = locality.rng("marks")
    talents = _talents(locality, families)
    lists = families.by_class()
    for book in books:
        severity = rng.gauss(0.0, 5.0)
        for number, held_on in book.entered:
            entered_at = instant(held_on + timedelta(days=2 + int(rng.random() * (_ENTRY_DELAY_DAYS - 4))))
            head = (book.taught.subject.code, book.session, number, book.room.id)
            for pupil in lists[book.room.position]:
                cell = _cell(rng, head[0], pupil, talents[pupil.rank] - severity)
                if cell is not None:
                    state, mark, version = cell
                    yield (pupil.id, *head, state, mark, version, entered_at + timedelta(days=version - 1))


def _cell(rng: Random, subject: str, pupil: Pupil, talent: float) -> tuple[str, Decimal | None, int] | None:
    """State, mark and version of what a teacher entered for one pupil; None where he forgot."""
    if pupil.dispensed and subject == DISPENSED_SUBJECT:
        return ("dispensed", None, 1)
    draw = rng.random()
    if draw < _ABSENT_SHARE:
        return ("absent", None, 1)
    if draw < _ABSENT_SHARE + _PENDING_SHARE:
        return None
    return ("marked", _mark(talent + rng.gauss(0.0, 8.0)), 2 if draw > 1 - _CORRECTED_SHARE else 1)


def activity_rows(locality: Locality, books: Iterable[Gradebook], families: Families) -> Iterator[Row]:
    """Rows of `activities`; none where contrôles weigh all or the teacher has entered none yet."""
    rng = locality.rng("activities")
    talents = _talents(locality, families)
    lists = families.by_class()
    for book in books:
        code = book.taught.subject.code
        if not book.entered or book.taught.control_weight == 1 or rng.random() < _NO_ACTIVITIES_SHARE:
            continue
        for pupil in lists[book.room.position]:
            if not (pupil.dispensed and code == DISPENSED_SUBJECT):
                mark = _mark(talents[pupil.rank] + _ACTIVITIES_BONUS + rng.gauss(0.0, 5.0))
                yield (pupil.id, code, book.session, mark)


def _talents(locality: Locality, families: Families) -> list[float]:
    """How able each pupil is, by rank, in quarters of a point."""
    rng = locality.rng("talents")
    return [rng.gauss(48.0, 11.0) for _ in families.pupils]


def _mark(quarters: float) -> Decimal:
    return _MARKS[min(max(int(quarters), 0), _BEST)]
