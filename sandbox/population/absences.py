"""Absences and lates since the year began, each of a real lesson of the pupil's class.

Invariant: a pupil has at most one entry per lesson; a justified absence was justified within three days.
Every seventh pupil, the first one included, has several.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from sandbox.population.calendar import CALENDAR, FIRST_LESSONS, instant, school_days
from sandbox.population.families import Families
from sandbox.population.identifiers import opaque_id
from sandbox.population.schools import Locality
from sandbox.population.timetables import Lesson

_COUNT_SHARES = (0.55, 0.75, 0.87, 0.95)  # none, at most one, two, three; else _COUNT_MAX
_COUNT_MAX = 5
_REGULAR_EVERY = 7
_REGULAR_COUNT = 3
_LATE_SHARE = 0.3
_JUSTIFIED_SHARE = 0.45
_JUSTIFICATION_DAYS_MAX = 3
_REASONS = (
    "Certificat médical",
    "Maladie",
    "Raison familiale",
    "Rendez-vous médical",
    "Transport en panne",
    "شهادة طبية",
    "ظرف عائلي",
    "مرض",
)


def absence_rows(
    locality: Locality, families: Families, lessons: tuple[Lesson, ...]
) -> Iterator[tuple[object, ...]]:
    """Rows of `absences`."""
    rng = locality.rng("absences")
    held = _held(lessons)
    yesterday = CALENDAR.today - timedelta(days=1)
    days = school_days(FIRST_LESSONS, yesterday)
    for pupil in families.pupils:
        draw = rng.random()
        count = next((n for n, share in enumerate(_COUNT_SHARES) if draw < share), _COUNT_MAX)
        if pupil.rank % _REGULAR_EVERY == 0:
            count = max(count, _REGULAR_COUNT)
        seen: set[tuple[date, object]] = set()
        while len(seen) < count:
            day = days[int(rng.random() * len(days))]
            options = held.get((pupil.room.position, day.isoweekday()))
            if not options:
                continue
            lesson = options[int(rng.random() * len(options))]
            if (day, lesson.start_at) in seen:
                continue
            seen.add((day, lesson.start_at))
            late = rng.random() < _LATE_SHARE
            observed_at = instant(day, lesson.start_at) + timedelta(minutes=20 if late else 10)
            justified = not late and rng.random() < _JUSTIFIED_SHARE
            waited = 1 + int(rng.random() * _JUSTIFICATION_DAYS_MAX)
            justified_on = min(day + timedelta(days=waited), CALENDAR.today)
            yield (
                opaque_id(rng),
                pupil.id,
                pupil.room.id,
                day,
                lesson.start_at,
                lesson.end_at,
                "late" if late else "absence",
                justified,
                _REASONS[int(rng.random() * len(_REASONS))] if justified else None,
                observed_at,
                instant(justified_on) if justified else observed_at,
            )


def _held(lessons: tuple[Lesson, ...]) -> dict[tuple[int, int], list[Lesson]]:
    """The lessons of each class position and weekday."""
    held: dict[tuple[int, int], list[Lesson]] = {}
    for lesson in lessons:
        held.setdefault((lesson.room.position, lesson.day), []).append(lesson)
    return held
