from __future__ import annotations

from collections import Counter, defaultdict
from datetime import time

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.calendar import CALENDAR
from sandbox.population.schools import lay_out
from sandbox.population.teachers import assign, lessons_of
from sandbox.population.timetables import SATURDAY, Lesson, lesson_change_rows, schedule
from tests.sandbox.population.conftest import Tables


def hours_of(lesson: Lesson) -> range:
    return range(lesson.start_at.hour, lesson.end_at.hour)


@settings(max_examples=30)
@given(seed=st.integers(), pupils=st.integers(200, 1400))
def test_no_teacher_class_or_room_is_in_two_places_at_once(seed: int, pupils: int) -> None:
    (locality,) = lay_out(seed, pupils)
    lessons = schedule(locality, assign(locality))
    for key in ("class", "teacher", "place"):
        taken: Counter[tuple[str, str, int, int]] = Counter()
        for lesson in lessons:
            school = locality.school_of[lesson.room.position].gresa
            who = {"class": lesson.room.id, "teacher": lesson.teacher.id, "place": lesson.place}[key]
            taken.update((school, who, lesson.day, hour) for hour in hours_of(lesson))
        assert max(taken.values()) == 1


@settings(max_examples=30)
@given(seed=st.integers(), pupils=st.integers(200, 1400))
def test_every_assigned_hour_is_held(seed: int, pupils: int) -> None:
    (locality,) = lay_out(seed, pupils)
    assignments = assign(locality)
    held: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for lesson in schedule(locality, assignments):
        held[lesson.room.id, lesson.subject, lesson.teacher.id].append(len(hours_of(lesson)))
    assert {key: sorted(hours) for key, hours in held.items()} == {
        (line.room.id, line.taught.subject.code, line.teacher.id): sorted(lessons_of(line.taught))
        for line in assignments
    }


def test_lessons_keep_school_hours(tables: Tables) -> None:
    for row in tables["lessons"]:
        assert 1 <= row["day"] <= SATURDAY
        assert row["start_at"] < row["end_at"]
        assert row["start_at"].minute == row["end_at"].minute == 30
        morning = time(8, 30) <= row["start_at"] and row["end_at"] <= time(12, 30)
        afternoon = time(14, 30) <= row["start_at"] and row["end_at"] <= time(18, 30)
        assert morning or (afternoon and row["day"] != SATURDAY)


def test_two_hour_lessons_begin_the_school_day(tables: Tables) -> None:
    slots = {(row["start_at"], row["end_at"]) for row in tables["lessons"]}
    assert (time(8, 30), time(10, 30)) in slots
    assert {row["day"] for row in tables["lessons"]} == {1, 2, 3, 4, 5, 6}


def test_some_lessons_of_the_current_week_are_cancelled_and_some_moved(tables: Tables) -> None:
    changes = tables["lesson_changes"]
    assert {row["week"] for row in changes} == {CALENDAR.week}
    assert {row["kind"] for row in changes} == {"cancelled", "moved"}
    assert all((row["room"] is None) == (row["kind"] == "cancelled") for row in changes)


@settings(max_examples=10)
@given(seed=st.integers())
def test_the_sample_class_always_has_a_moved_lesson(seed: int) -> None:
    (locality,) = lay_out(seed, 300)
    lessons = schedule(locality, assign(locality))
    rows = list(lesson_change_rows(locality, lessons))
    assert any(row[0] == locality.sample_class.id and row[4] == "moved" for row in rows)
    held = {(lesson.room.id, lesson.day, lesson.start_at) for lesson in lessons}
    assert {(row[0], row[2], row[3]) for row in rows} <= held
    assert len(rows) < len(lessons) / 4
