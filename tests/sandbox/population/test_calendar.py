from __future__ import annotations

from datetime import UTC, date, datetime, time

from sandbox.population.calendar import (
    AUTUMN_BREAK,
    CALENDAR,
    CONTROL_TARGETS,
    ENTRY_DEADLINES,
    SESSIONS,
    holds_school,
    instant,
    school_days,
)


def test_today_is_a_friday_of_the_current_week_and_school_is_held() -> None:
    assert CALENDAR.today.isoweekday() == 5
    year, week, _ = CALENDAR.today.isocalendar()
    assert f"{year}-W{week}" == CALENDAR.week
    assert holds_school(CALENDAR.today)


def test_school_is_closed_on_sundays_in_the_break_and_out_of_the_year() -> None:
    assert not holds_school(date(2026, 11, 22))
    assert not any(map(holds_school, AUTUMN_BREAK))
    assert not holds_school(date(2026, 8, 31))
    assert not holds_school(date(2027, 7, 12))


def test_school_days_are_listed_with_both_ends() -> None:
    assert school_days(date(2026, 11, 20), date(2026, 11, 23)) == (
        date(2026, 11, 20),
        date(2026, 11, 21),
        date(2026, 11, 23),
    )


def test_instants_are_told_by_moroccan_clocks() -> None:
    assert instant(date(2026, 11, 18), time(8, 30)) == datetime(2026, 11, 18, 7, 30, tzinfo=UTC)


def test_marks_of_the_current_session_may_still_be_entered() -> None:
    assert ENTRY_DEADLINES[CALENDAR.session] > instant(CALENDAR.today)
    assert set(ENTRY_DEADLINES) == set(SESSIONS) == set(CONTROL_TARGETS)


def test_controls_follow_each_other_within_the_year() -> None:
    for targets in CONTROL_TARGETS.values():
        for count, days in targets.items():
            assert len(days) == count
            assert list(days) == sorted(days)
            assert all(CALENDAR.first_day < day < CALENDAR.last_day for day in days)
