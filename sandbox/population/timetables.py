"""Weekly timetables in which no teacher, class or room is in two places at once.

Invariant: lessons are the edges of a bipartite multigraph (classes, teachers) and slots are colours. König's
theorem: when nobody has more lessons than there are slots, a colouring exists; alternating paths find it, so
making a timetable never fails and never searches.
Source: König, Über Graphen und ihre Anwendung auf Determinantentheorie und Mengenlehre (1916).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import time
from random import Random

import msgspec

from sandbox.population.calendar import CALENDAR
from sandbox.population.schools import ClassRoom, Locality, School
from sandbox.population.teachers import Assignment, Teacher, lessons_of

MONDAY, SATURDAY = 1, 6

# Two-hour slots (day, starting hour), the best first: mornings, then afternoons; none on Saturday afternoon.
_SLOTS = (
    *((day, 8) for day in range(MONDAY, SATURDAY + 1)),
    *((day, 10) for day in range(MONDAY, SATURDAY + 1)),
    *((day, 14) for day in range(MONDAY, SATURDAY)),
    *((day, 16) for day in range(MONDAY, SATURDAY)),
)
_ALL_FREE = (1 << len(_SLOTS)) - 1
_STARTS = {hour: time(hour, 30) for hour in range(8, 19)}
_SLOTS_OF_DAY = {
    day: sum(1 << slot for slot, (slot_day, _) in enumerate(_SLOTS) if slot_day == day)
    for day in range(MONDAY, SATURDAY + 1)
}

# Subjects taught in rooms of their own kind: how many a school has, and what they are called.
_SPECIAL_ROOMS = {
    "PC": (3, "Labo physique"),
    "SVT": (3, "Labo SVT"),
    "INF": (2, "Salle informatique"),
    "TEC": (2, "Atelier"),
    "SI": (2, "Atelier"),
    "EPS": (60, "Terrain"),
}
_CHANGED_SHARE = 0.08
_CANCELLED_SHARE = 0.6


class Lesson(msgspec.Struct, frozen=True):
    """A weekly lesson; `day` is 1 for Monday to 6 for Saturday."""

    room: ClassRoom
    day: int
    start_at: time
    end_at: time
    subject: str
    teacher: Teacher
    place: str


class _Wish(msgspec.Struct, frozen=True):
    """A lesson still without a slot."""

    assignment: Assignment
    hours: int


def schedule(locality: Locality, assignments: tuple[Assignment, ...]) -> tuple[Lesson, ...]:
    """Every hour of every assignment placed in the week, ordered by class, day and hour."""
    rng = locality.rng("timetables")
    lessons: list[Lesson] = []
    for school in locality.schools:
        wishes = [
            _Wish(assignment=assignment, hours=hours)
            for assignment in assignments
            if assignment.teacher.school == school.gresa
            for hours in lessons_of(assignment.taught)
        ]
        rng.shuffle(wishes)
        lessons.extend(_placed(rng, school, wishes, _Colouring(wishes).slots()))
    lessons.sort(key=lambda lesson: (lesson.room.position, lesson.day, lesson.start_at))
    return tuple(lessons)


class _Colouring:
    """Gives each wish a slot; a vertex is a class or a teacher, by id."""

    def __init__(self, wishes: list[_Wish]) -> None:
        self._ends = [(wish.assignment.room.id, wish.assignment.teacher.id) for wish in wishes]
        self._subjects = [wish.assignment.taught.subject.code for wish in wishes]
        vertices = [vertex for ends in self._ends for vertex in ends]
        self._free = dict.fromkeys(vertices, _ALL_FREE)
        self._at: dict[tuple[str, int], int] = {}
        self._days_of: dict[tuple[str, str], int] = {}

    def slots(self) -> list[int]:
        """The slot of each wish, in the order of the wishes."""
        slots = [-1] * len(self._ends)
        for wish, (room, teacher) in enumerate(self._ends):
            free = self._free[room] & self._free[teacher]
            if not free:
                free = self._make_free(slots, room, teacher)
            same_subject = self._days_of.get((room, self._subjects[wish]), 0)
            slot = _lowest(free & ~same_subject or free)
            self._take(slots, wish, slot)
            self._days_of[room, self._subjects[wish]] = same_subject | _SLOTS_OF_DAY[_SLOTS[slot][0]]
        return slots

    def _make_free(self, slots: list[int], room: str, teacher: str) -> int:
        """Swap two slots along the alternating path from the teacher, so that one is free at both ends."""
        ours, theirs = _lowest(self._free[room]), _lowest(self._free[teacher])
        path: list[int] = []
        vertex, slot = teacher, ours
        while (wish := self._at.get((vertex, slot))) is not None:
            path.append(wish)
            room_end, teacher_end = self._ends[wish]
            vertex = room_end if vertex == teacher_end else teacher_end
            slot = theirs if slot == ours else ours
        taken = [slots[wish] for wish in path]
        for wish, before in zip(path, taken, strict=True):
            self._release(wish, before)
        for wish, before in zip(path, taken, strict=True):
            self._take(slots, wish, theirs if before == ours else ours)
        return 1 << ours

    def _take(self, slots: list[int], wish: int, slot: int) -> None:
        slots[wish] = slot
        for vertex in self._ends[wish]:
            self._at[vertex, slot] = wish
            self._free[vertex] &= ~(1 << slot)

    def _release(self, wish: int, slot: int) -> None:
        for vertex in self._ends[wish]:
            del self._at[vertex, slot]
            self._free[vertex] |= 1 << slot


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _placed(rng: Random, school: School, wishes: list[_Wish], slots: list[int]) -> Iterator[Lesson]:
    """The wishes as lessons, each in a room that nobody else uses in that slot."""
    home = {room.id: f"Salle {number}" for number, room in enumerate(school.classes, start=1)}
    used: dict[tuple[int, str], int] = {}
    for wish, slot in zip(wishes, slots, strict=True):
        room, subject = wish.assignment.room, wish.assignment.taught.subject.code
        place = home[room.id]
        rooms, kind = _SPECIAL_ROOMS.get(subject, (0, ""))
        taken = used.get((slot, kind), 0)
        if taken < rooms:
            used[slot, kind] = taken + 1
            place = f"{kind} {taken + 1}"
        day, hour = _SLOTS[slot]
        if wish.hours == 1 and rng.random() < 0.5:
            hour += 1
        yield Lesson(
            room=room,
            day=day,
            start_at=_STARTS[hour],
            end_at=_STARTS[hour + wish.hours],
            subject=subject,
            teacher=wish.assignment.teacher,
            place=place,
        )


def lesson_row(lesson: Lesson) -> tuple[object, ...]:
    """A row of `lessons`."""
    return (
        lesson.room.id,
        lesson.day,
        lesson.start_at,
        lesson.end_at,
        lesson.subject,
        lesson.teacher.id,
        lesson.place,
    )


def lesson_change_rows(locality: Locality, lessons: tuple[Lesson, ...]) -> Iterator[tuple[object, ...]]:
    """Rows of `lesson_changes` for the current week: some lessons cancelled, some moved to the class's annexe.

    The sample class's first lesson is moved, so that a change can be shown in every country.
    """
    rng = locality.rng("lesson changes")
    sample = next(lesson for lesson in lessons if lesson.room.id == locality.sample_class.id)
    for lesson in lessons:
        if lesson is not sample and rng.random() >= _CHANGED_SHARE:
            continue
        cancelled = lesson is not sample and rng.random() < _CANCELLED_SHARE
        kind, place = ("cancelled", None) if cancelled else ("moved", f"Annexe {lesson.room.position + 1}")
        yield (lesson.room.id, CALENDAR.week, lesson.day, lesson.start_at, kind, place)
