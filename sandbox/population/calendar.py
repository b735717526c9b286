"""The synthetic school year: which day it is, which sessions and weeks there are, on which days school is held.

Invariant: everything that carries a date derives it from `CALENDAR`, so that the country is the same whenever
it is generated. The day is Friday 20 November 2026, two days after a holiday, in the middle of a first session with
marks behind it and contrôles ahead of it. Its one break is the autumn's: the sandbox keeps no single-day holidays.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

import msgspec

SUNDAY = 7
MOROCCO = timezone(timedelta(hours=1))  # all year but Ramadan, which comes after every instant told here


class Calendar(msgspec.Struct, frozen=True):
    """Which year (its first one), session and ISO week are current, and the bounds of the year."""

    year: int
    session: int
    week: str
    today: date
    first_day: date
    last_day: date
    updated_at: datetime


CALENDAR = Calendar(
    year=2026,
    session=1,
    week="2026-W47",
    today=date(2026, 11, 20),
    first_day=date(2026, 9, 2),
    last_day=date(2027, 7, 10),
    updated_at=datetime(2026, 9, 1, 8, 0, tzinfo=UTC),
)
FIRST_LESSONS = date(2026, 9, 8)
AUTUMN_BREAK = (date(2026, 10, 18), date(2026, 10, 25))
SESSIONS = (1, 2)
ENTRY_DEADLINES = {
    1: datetime(2027, 1, 23, 22, 59, 59, tzinfo=UTC),
    2: datetime(2027, 6, 26, 22, 59, 59, tzinfo=UTC),
}

# When the n-th of k contrôles of a session is due at the earliest; `marks` spreads the subjects over the days after.
CONTROL_TARGETS: dict[int, dict[int, tuple[date, ...]]] = {
    1: {
        2: (date(2026, 10, 5), date(2026, 11, 30)),
        3: (date(2026, 9, 28), date(2026, 10, 27), date(2026, 12, 7)),
        4: (date(2026, 9, 28), date(2026, 10, 26), date(2026, 11, 11), date(2026, 12, 14)),
    },
    2: {
        2: (date(2027, 3, 8), date(2027, 5, 17)),
        3: (date(2027, 2, 22), date(2027, 4, 5), date(2027, 5, 31)),
        4: (date(2027, 2, 15), date(2027, 3, 15), date(2027, 4, 19), date(2027, 5, 31)),
    },
}


def holds_school(day: date) -> bool:
    """True on Monday to Saturday of the year's lessons, but for the autumn break."""
    return (
        FIRST_LESSONS <= day <= CALENDAR.last_day
        and day.isoweekday() != SUNDAY
        and not AUTUMN_BREAK[0] <= day <= AUTUMN_BREAK[1]
    )


def school_days(first: date, last: date) -> tuple[date, ...]:
    """The days of school from `first` to `last`, both included."""
    days = (first + timedelta(days=offset) for offset in range((last - first).days + 1))
    return tuple(day for day in days if holds_school(day))


def instant(day: date, at: time = time(17, 0)) -> datetime:
    """That day and Moroccan clock time as an instant."""
    return datetime.combine(day, at, tzinfo=MOROCCO)
