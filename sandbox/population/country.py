"""The synthetic country: a seed and a number of pupils, from which every row of every table follows.

Nobody in it exists. Its people are drawn from lists of names, their codes and telephone numbers lie outside what is
given out, and only the geography is real.

Invariant: the same seed and number of pupils give the same rows, byte for byte, in any process; rows are made one
locality (about a thousand pupils) at a time, so that memory does not grow with the country.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Self

import msgspec

from sandbox.population import (
    absences,
    accounts,
    announcements,
    families,
    homework,
    marks,
    samples,
    schools,
    teachers,
    timetables,
)
from sandbox.population.calendar import CALENDAR
from sandbox.population.columns import TABLES
from sandbox.population.curriculum import CURRICULUM, LEVELS, SUBJECTS
from sandbox.population.territory import PROVINCES, REGIONS

Row = tuple[object, ...]


class Reference:
    """The part of the country that is there once: territory, curriculum, calendar, announcements to many."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def rows(self, table: str) -> Iterable[Row]:
        """The rows of `table` that belong to no locality."""
        make = _REFERENCE_ROWS.get(table)
        return make(self) if make else ()


def _level_subject_rows() -> Iterator[Row]:
    for level, programme in CURRICULUM.items():
        for x in programme:
            yield (level, x.subject.code, x.coefficient, x.hours, x.controls, x.control_weight)


_REFERENCE_ROWS: dict[str, Callable[[Reference], Iterable[Row]]] = {
    "regions": lambda _: ((x.code, x.name_ar, x.name_fr) for x in REGIONS),
    "provinces": lambda _: ((x.code, x.region.code, x.name_ar, x.name_fr) for x in PROVINCES),
    "levels": lambda _: ((x.code, x.cycle.value, x.name_ar, x.name_fr, x.rank) for x in LEVELS.values()),
    "subjects": lambda _: ((x.code, x.name_ar, x.name_fr) for x in SUBJECTS.values()),
    "level_subjects": lambda _: _level_subject_rows(),
    "calendar": lambda _: ((1, *msgspec.structs.astuple(CALENDAR)),),
    "announcements": lambda part: announcements.territory_rows(part.seed),
}


class LocalRecords:
    """Everything about one locality; made when first asked for, kept as long as this object."""

    def __init__(self, locality: schools.Locality) -> None:
        self.locality = locality

    @cached_property
    def families(self) -> families.Families:
        """Pupils and guardians."""
        return families.settle(self.locality)

    @cached_property
    def assignments(self) -> tuple[teachers.Assignment, ...]:
        """Who teaches what to whom."""
        return teachers.assign(self.locality)

    @cached_property
    def lessons(self) -> tuple[timetables.Lesson, ...]:
        """The timetables of all classes."""
        return timetables.schedule(self.locality, self.assignments)

    @cached_property
    def homework(self) -> tuple[homework.Homework, ...]:
        """What the classes have been set."""
        return homework.homework_of(self.locality, self.lessons)

    @cached_property
    def gradebooks(self) -> tuple[marks.Gradebook, ...]:
        """Both sessions' gradebooks."""
        return tuple(marks.gradebooks(self.locality, self.lessons))

    def rows(self, table: str) -> Iterable[Row]:
        """The locality's rows of `table`."""
        make = _LOCAL_ROWS.get(table)
        return make(self) if make else ()


_LOCAL_ROWS: dict[str, Callable[[LocalRecords], Iterable[Row]]] = {
    "schools": lambda part: schools.school_rows(part.locality),
    "classes": lambda part: schools.class_rows(part.locality),
    "teachers": lambda part: map(teachers.teacher_row, teachers.teachers_of(part.assignments)),
    "assignments": lambda part: map(teachers.assignment_row, part.assignments),
    "pupils": lambda part: map(families.pupil_row, part.families.pupils),
    "dispensations": lambda part: families.dispensation_rows(part.families),
    "guardians": lambda part: map(families.guardian_row, part.families.guardians),
    "guardianships": lambda part: families.guardianship_rows(part.families),
    "lessons": lambda part: map(timetables.lesson_row, part.lessons),
    "lesson_changes": lambda part: timetables.lesson_change_rows(part.locality, part.lessons),
    "gradebooks": lambda part: map(marks.gradebook_row, part.gradebooks),
    "controls": lambda part: marks.control_rows(part.gradebooks),
    "marks": lambda part: marks.mark_rows(part.locality, part.gradebooks, part.families),
    "activities": lambda part: marks.activity_rows(part.locality, part.gradebooks, part.families),
    "absences": lambda part: absences.absence_rows(part.locality, part.families, part.lessons),
    "homework": lambda part: map(homework.homework_row, part.homework),
    "homework_done": lambda part: homework.homework_done_rows(part.locality, part.families, part.homework),
    "announcements": lambda part: announcements.local_rows(part.locality),
    "accounts": lambda part: accounts.account_rows(part.locality, part.families, part.assignments),
}


class Country(msgspec.Struct, frozen=True):
    """A synthetic country; `localities` is its school map, the rest is made when asked for."""

    seed: int
    pupils: int
    localities: tuple[schools.Locality, ...]

    @classmethod
    def generate(cls, seed: int, pupils: int) -> Self:
        """The country of this seed with exactly so many pupils (200 to 200,000, else ValueError)."""
        return cls(seed=seed, pupils=pupils, localities=schools.lay_out(seed, pupils))

    def parts(self) -> Iterator[Reference | LocalRecords]:
        """What is there once, then each locality: together every row, and one part at a time in memory."""
        yield Reference(self.seed)
        for locality in self.localities:
            yield LocalRecords(locality)

    def rows(self, table: str) -> Iterator[Row]:
        """The rows of one table in the order of its columns (`columns.RECORDS`, `columns.ACCOUNTS_COLUMNS`).

        Raises KeyError for a table that the country does not fill.
        """
        if table not in TABLES:
            raise KeyError(table)
        for part in self.parts():
            yield from part.rows(table)

    def samples(self) -> dict[str, dict[str, object]]:
        """The people by whom the sandbox introduces itself: the ready file's `accounts`."""
        home, abroad = self.localities[0], self.localities[-1]
        here = samples.Neighbourhood(home, families.settle(home), teachers.assign(home))
        there = here if abroad is home else samples.Neighbourhood(abroad, families.settle(abroad), ())
        return samples.choose(here, there)
