from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.curriculum import Cycle
from sandbox.population.schools import lay_out
from sandbox.population.teachers import (
    HOURS_MAX,
    LESSONS_MAX,
    assign,
    assignment_row,
    lessons_of,
    teacher_row,
    teachers_of,
)

MORE_THAN_ONE = 2


@settings(max_examples=30)
@given(seed=st.integers(), pupils=st.integers(200, 1400))
def test_every_subject_of_every_class_has_one_teacher_of_its_school(seed: int, pupils: int) -> None:
    (locality,) = lay_out(seed, pupils)
    assignments = assign(locality)
    expected = [(room.id, taught.subject.code) for room in locality.classes for taught in room.taught]
    found = [(line.room.id, line.taught.subject.code) for line in assignments]
    assert len(found) == len(set(found))
    assert set(found) == set(expected)
    assert all(line.teacher.school == locality.school_of[line.room.position].gresa for line in assignments)


@settings(max_examples=30)
@given(seed=st.integers(), pupils=st.integers(200, 1400))
def test_nobody_teaches_more_than_his_cycle_allows(seed: int, pupils: int) -> None:
    (locality,) = lay_out(seed, pupils)
    hours: dict[str, int] = defaultdict(int)
    lessons: dict[str, int] = defaultdict(int)
    cycles: dict[str, Cycle] = {}
    for line in assign(locality):
        hours[line.teacher.id] += line.taught.hours
        lessons[line.teacher.id] += len(lessons_of(line.taught))
        cycles[line.teacher.id] = line.room.level.cycle
    assert all(hours[teacher] <= HOURS_MAX[cycle] for teacher, cycle in cycles.items())
    assert max(lessons.values()) <= LESSONS_MAX


def test_many_teachers_have_several_classes_and_some_several_subjects() -> None:
    classes: dict[str, set[str]] = defaultdict(set)
    subjects: dict[str, set[str]] = defaultdict(set)
    for line in assign(lay_out(5, 1000)[0]):
        classes[line.teacher.id].add(line.room.id)
        subjects[line.teacher.id].add(line.taught.subject.code)
    assert sum(len(found) >= MORE_THAN_ONE for found in classes.values()) > len(classes) / 2
    assert any(len(found) >= MORE_THAN_ONE for found in subjects.values())


def test_an_odd_hour_becomes_one_short_lesson() -> None:
    by_hours = {taught.hours: lessons_of(taught) for taught in lay_out(1, 200)[0].sample_class.taught}
    assert by_hours[5] == (2, 2, 1)
    assert by_hours[4] == (2, 2)
    assert by_hours[1] == (1,)


def test_rows_carry_the_teacher_once_and_his_hours() -> None:
    assignments = assign(lay_out(1, 200)[0])
    teachers = teachers_of(assignments)
    assert len({teacher.number for teacher in teachers}) == len(teachers)
    ppr = teacher_row(teachers[0])[1]
    assert ppr == "9000001"
    teacher, room, subject, hours = assignment_row(assignments[0])
    assert (teacher, room) == (assignments[0].teacher.id, assignments[0].room.id)
    assert (subject, hours) == (assignments[0].taught.subject.code, assignments[0].taught.hours)
