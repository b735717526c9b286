"""Teachers and their tableau de service: who teaches which subject to which class, and for how many hours.

Invariant: every subject of every class has exactly one teacher, of the class's own school, and nobody teaches
more hours than his cycle allows, nor more lessons than a week has slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from sandbox.population.curriculum import SUBJECTS, Cycle, Taught
from sandbox.population.identifiers import opaque_id, ppr
from sandbox.population.names import BOYS, FAMILIES, FATHERS, GIRLS, MOTHERS, FullName, full_name, pick
from sandbox.population.schools import ClassRoom, Locality, School

HOURS_MAX = {Cycle.PRIMAIRE: 30, Cycle.COLLEGIAL: 24, Cycle.QUALIFIANT: 21}
LESSONS_MAX = 20
LESSON_HOURS_MAX = 2
TEACHERS_PER_LOCALITY_MAX = 1000

# In primary two teachers share two classes: one teaches these subjects, the other the rest.
_PRIMARY_ARABIC = frozenset({"AR", "EI", "AMZ", "HG"})
_PRIMARY_CLASSES = 2
# In secondary a teacher has one field; some fields hold several subjects.
_FIELDS = (("ECO", "CPT", "ORG", "DRT"), ("TEC", "SI"), ("AR", "TRA"))
_MEN_SHARE = 0.55


class Teacher(msgspec.Struct, frozen=True):
    """A teacher of one school; `number` is unique in the country."""

    id: str
    number: int
    name: FullName
    school: str


class Assignment(msgspec.Struct, frozen=True):
    """A line of a tableau de service."""

    teacher: Teacher
    room: ClassRoom
    taught: Taught


Line = tuple[ClassRoom, Taught]


def lessons_of(taught: Taught) -> tuple[int, ...]:
    """A week's hours of a subject as lessons of two hours and at most one of one hour."""
    pairs, single = divmod(taught.hours, LESSON_HOURS_MAX)
    return (LESSON_HOURS_MAX,) * pairs + (1,) * single


def assign(locality: Locality) -> tuple[Assignment, ...]:
    """Every subject of every class with its teacher, schools one after the other."""
    rng = locality.rng("teachers")
    assignments: list[Assignment] = []
    number = 1 + locality.number * TEACHERS_PER_LOCALITY_MAX
    for school in locality.schools:
        for load in _loads(school):
            if rng.random() < _MEN_SHARE:
                given = pick(rng, BOYS if rng.random() < 0.5 else FATHERS)
            else:
                given = pick(rng, GIRLS if rng.random() < 0.5 else MOTHERS)
            name = full_name(given, pick(rng, FAMILIES))
            teacher = Teacher(id=opaque_id(rng), number=number, name=name, school=school.gresa)
            number += 1
            assignments.extend(Assignment(teacher=teacher, room=room, taught=taught) for room, taught in load)
    return tuple(assignments)


def teachers_of(assignments: Iterable[Assignment]) -> tuple[Teacher, ...]:
    """Each teacher once, in order of appearance."""
    return tuple({assignment.teacher.id: assignment.teacher for assignment in assignments}.values())


def _loads(school: School) -> Iterator[list[Line]]:
    """What each teacher of the school will teach."""
    if school.cycle is Cycle.PRIMAIRE:
        yield from _primary_loads(school)
    else:
        yield from _secondary_loads(school)


def _primary_loads(school: School) -> Iterator[list[Line]]:
    for first in range(0, len(school.classes), _PRIMARY_CLASSES):
        rooms = school.classes[first : first + _PRIMARY_CLASSES]
        lines = [(room, taught) for room in rooms for taught in room.taught]
        yield [line for line in lines if line[1].subject.code in _PRIMARY_ARABIC]
        yield [line for line in lines if line[1].subject.code not in _PRIMARY_ARABIC]


def _secondary_loads(school: School) -> Iterator[list[Line]]:
    grouped = {code for field in _FIELDS for code in field}
    fields = _FIELDS + tuple((code,) for code in SUBJECTS if code not in grouped)
    for field in fields:
        load: list[Line] = []
        for room in school.classes:
            lines = [(room, taught) for taught in room.taught if taught.subject.code in field]
            if load and not _fits([*load, *lines], HOURS_MAX[school.cycle]):
                yield load
                load = []
            load = [*load, *lines]
        if load:
            yield load


def _fits(load: list[Line], hours_max: int) -> bool:
    hours = sum(taught.hours for _, taught in load)
    lessons = sum(len(lessons_of(taught)) for _, taught in load)
    return hours <= hours_max and lessons <= LESSONS_MAX


def teacher_row(teacher: Teacher) -> tuple[object, ...]:
    """A row of `teachers`."""
    return (teacher.id, ppr(teacher.number), teacher.name.ar, teacher.name.fr, teacher.school)


def assignment_row(assignment: Assignment) -> tuple[object, ...]:
    """A row of `assignments`."""
    return (
        assignment.teacher.id,
        assignment.room.id,
        assignment.taught.subject.code,
        assignment.taught.hours,
    )
