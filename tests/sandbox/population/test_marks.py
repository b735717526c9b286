from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.calendar import CALENDAR, holds_school, instant
from sandbox.population.country import LocalRecords
from sandbox.population.curriculum import CURRICULUM
from sandbox.population.schools import lay_out
from tests.sandbox.population.conftest import Tables

MARKS_FOR_AN_AVERAGE = 10


def levels(tables: Tables) -> dict[str, str]:
    return {row["id"]: row["level"] for row in tables["classes"]}


def test_every_class_has_both_sessions_gradebooks_of_its_subjects(tables: Tables) -> None:
    found = {(row["class_id"], row["subject"], row["session"]) for row in tables["gradebooks"]}
    expected = {
        (class_id, taught.subject.code, session)
        for class_id, level in levels(tables).items()
        for taught in CURRICULUM[level]
        for session in (1, 2)
    }
    assert found == expected


def test_the_second_session_is_neither_published_nor_open(tables: Tables) -> None:
    second = [row for row in tables["gradebooks"] if row["session"] == 2]
    assert second
    assert not any(row["published"] for row in second)
    assert all(row["locked"] for row in second)


def test_a_class_or_two_have_the_first_session_unpublished_with_marks_in_it(tables: Tables) -> None:
    first = [row for row in tables["gradebooks"] if row["session"] == 1]
    hidden = {row["class_id"] for row in first if not row["published"]}
    assert len(hidden) == 2
    assert not hidden & {row["class_id"] for row in first if row["published"]}
    assert hidden <= {row["class_id"] for row in tables["marks"]}


def test_one_gradebook_of_the_first_session_per_locality_is_locked(tables: Tables) -> None:
    locked = [row for row in tables["gradebooks"] if row["session"] == 1 and row["locked"]]
    assert len(locked) == 2
    assert all(row["published"] for row in locked)


def test_deadlines_of_the_open_session_lie_ahead(tables: Tables) -> None:
    assert all(row["deadline"] > instant(CALENDAR.today) for row in tables["gradebooks"])


def test_controls_are_held_in_order_on_a_day_of_the_subject(tables: Tables) -> None:
    taught = {(row["class_id"], row["subject"], row["day"]) for row in tables["lessons"]}
    dates: dict[tuple[str, str, int], list[date]] = {}
    for row in tables["controls"]:
        held_on = row["held_on"]
        assert (row["class_id"], row["subject"], held_on.isoweekday()) in taught
        assert holds_school(held_on)
        key = (row["class_id"], row["subject"], row["session"])
        dates.setdefault(key, []).append(held_on)
        assert row["number"] == len(dates[key])
    assert all(days == sorted(set(days)) for days in dates.values())


def test_marks_are_out_of_twenty_and_all_states_occur(tables: Tables) -> None:
    states = Counter(row["state"] for row in tables["marks"])
    assert set(states) == {"marked", "absent", "dispensed"}
    assert states["marked"] > 20 * states["absent"] > 0
    for row in (*tables["marks"], *tables["activities"]):
        if row["mark"] is not None:
            assert isinstance(row["mark"], Decimal)
            assert 0 <= row["mark"] <= 20
            assert row["mark"] % Decimal("0.25") == 0
    assert all((row["mark"] is not None) == (row["state"] == "marked") for row in tables["marks"])
    assert {row["version"] for row in tables["marks"]} == {1, 2}


def test_marks_look_like_marks(tables: Tables) -> None:
    given_marks = [row["mark"] for row in tables["marks"] if row["mark"] is not None]
    assert 11 < sum(given_marks) / len(given_marks) < 13
    assert len(set(given_marks)) > 60


def test_only_what_was_held_some_days_ago_is_marked_and_a_few_are_forgotten(tables: Tables) -> None:
    held = {
        (row["class_id"], row["subject"], row["session"], row["number"]): row["held_on"]
        for row in tables["controls"]
    }
    sizes = Counter(row["class_id"] for row in tables["pupils"])
    entered = Counter(
        (row["class_id"], row["subject"], row["session"], row["number"]) for row in tables["marks"]
    )
    assert all(held[key] < CALENDAR.today for key in entered)
    assert any(count < sizes[key[0]] for key, count in entered.items())
    waiting = [key for key, day in held.items() if day < CALENDAR.today and key not in entered]
    assert waiting
    assert all(
        row["updated_at"] <= instant(CALENDAR.today) for row in (*tables["marks"], *tables["gradebooks"])
    )


def test_the_dispensed_have_no_marks_in_what_they_are_dispensed_from(tables: Tables) -> None:
    dispensed = {(row["pupil"], row["subject"]) for row in tables["dispensations"]}
    for row in tables["marks"]:
        assert (row["state"] == "dispensed") == ((row["pupil"], row["subject"]) in dispensed)
    assert not dispensed & {(row["pupil"], row["subject"]) for row in tables["activities"]}


def test_maths_in_college_knows_no_activities(tables: Tables) -> None:
    subjects = {row["subject"] for row in tables["activities"]}
    assert "MATH" not in subjects
    assert {"FR", "EN", "AR"} <= subjects


@settings(max_examples=15)
@given(seed=st.integers(), pupils=st.integers(200, 700))
def test_the_sample_class_shows_averages_and_waits_for_marks(seed: int, pupils: int) -> None:
    (locality,) = lay_out(seed, pupils)
    part = LocalRecords(locality)
    room = locality.sample_class
    books = [book for book in part.gradebooks if book.room is room and book.session == CALENDAR.session]
    assert all(book.published for book in books)
    maths = next(book for book in books if book.taught.subject.code == "MATH")
    assert not maths.locked
    assert len(maths.entered) == 2
    assert maths.held_on[2] < CALENDAR.today < maths.held_on[3]
    marked = Counter(row[1:4] for row in part.rows("marks") if row[4] == room.id and row[5] == "marked")
    for book in books:
        for number, _ in book.entered:
            assert marked[book.taught.subject.code, 1, number] >= MARKS_FOR_AN_AVERAGE
