from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.absences import absence_rows
from sandbox.population.calendar import CALENDAR, holds_school, instant
from sandbox.population.country import LocalRecords
from sandbox.population.schools import lay_out
from tests.sandbox.population.conftest import Tables


def test_absences_and_lates_occur_justified_and_not(tables: Tables) -> None:
    kinds = Counter((row["kind"], row["justified"]) for row in tables["absences"])
    assert set(kinds) == {("absence", True), ("absence", False), ("late", False)}
    assert all((row["reason"] is not None) == row["justified"] for row in tables["absences"])


def test_each_is_of_a_lesson_that_the_class_had_before_today(tables: Tables) -> None:
    class_of = {row["id"]: row["class_id"] for row in tables["pupils"]}
    lessons = {(row["class_id"], row["day"], row["start_at"], row["end_at"]) for row in tables["lessons"]}
    for row in tables["absences"]:
        assert row["class_id"] == class_of[row["pupil"]]
        assert (row["class_id"], row["held_on"].isoweekday(), row["start_at"], row["end_at"]) in lessons
        assert row["held_on"] < CALENDAR.today
        assert holds_school(row["held_on"])


def test_nobody_is_away_twice_from_one_lesson(tables: Tables) -> None:
    keys = [(row["pupil"], row["held_on"], row["start_at"]) for row in tables["absences"]]
    assert len(keys) == len(set(keys))


def test_a_justification_comes_within_three_days(tables: Tables) -> None:
    for row in tables["absences"]:
        assert row["observed_at"] <= row["updated_at"] <= instant(CALENDAR.today)
        assert row["updated_at"].date() <= row["held_on"] + timedelta(days=3)


@settings(max_examples=10)
@given(seed=st.integers(), pupils=st.integers(200, 500))
def test_the_sample_student_always_has_several(seed: int, pupils: int) -> None:
    (locality,) = lay_out(seed, pupils)
    part = LocalRecords(locality)
    rows = list(absence_rows(locality, part.families, part.lessons))
    assert sum(row[1] == part.families.pupils[0].id for row in rows) >= 3
