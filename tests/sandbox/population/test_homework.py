from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.calendar import CALENDAR, holds_school, instant
from sandbox.population.country import LocalRecords
from sandbox.population.schools import lay_out
from tests.sandbox.population.conftest import Tables


def test_homework_is_due_before_and_after_today(tables: Tables) -> None:
    due = [row["due_on"] for row in tables["homework"]]
    assert min(due) < CALENDAR.today < max(due)


def test_homework_is_set_by_the_subjects_teacher_in_a_lesson_and_due_in_one(tables: Tables) -> None:
    lessons = {(row["class_id"], row["subject"], row["teacher"], row["day"]) for row in tables["lessons"]}
    for row in tables["homework"]:
        assert row["assigned_on"] < CALENDAR.today
        assert row["assigned_on"] < row["due_on"]
        for day in (row["assigned_on"], row["due_on"]):
            assert (row["class_id"], row["subject"], row["teacher"], day.isoweekday()) in lessons
            assert holds_school(day)
        assert row["updated_at"] < instant(CALENDAR.today)


def test_texts_are_in_the_language_of_the_subject(tables: Tables) -> None:
    texts = {
        subject: [r["body"] for r in tables["homework"] if r["subject"] == subject]
        for subject in ("AR", "MATH")
    }
    assert all("ا" in text for text in texts["AR"])
    assert all("page" in text for text in texts["MATH"])


def test_pupils_tick_homework_of_their_own_class(tables: Tables) -> None:
    class_of = {row["id"]: row["class_id"] for row in tables["pupils"]}
    set_for = {row["id"]: row["class_id"] for row in tables["homework"]}
    ticks = [(row["pupil"], row["homework"]) for row in tables["homework_done"]]
    assert ticks
    assert len(ticks) == len(set(ticks))
    assert all(class_of[pupil] == set_for[homework] for pupil, homework in ticks)


@settings(max_examples=15)
@given(seed=st.integers())
def test_the_sample_class_always_has_homework_ahead(seed: int) -> None:
    part = LocalRecords(lay_out(seed, 200)[0])
    room = part.locality.sample_class
    due = [piece.due_on for piece in part.homework if piece.lesson.room is room]
    assert any(day > CALENDAR.today for day in due)
