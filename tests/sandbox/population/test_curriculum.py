from __future__ import annotations

from decimal import Decimal

import pytest

from sandbox.population.curriculum import CURRICULUM, LEVELS, SUBJECTS, Cycle
from sandbox.population.teachers import LESSONS_MAX, lessons_of


def weights(level: str) -> dict[str, Decimal]:
    return {taught.subject.code: taught.control_weight for taught in CURRICULUM[level]}


def test_every_year_of_schooling_has_a_level() -> None:
    assert {level.rank for level in LEVELS.values()} == set(range(1, 13))
    assert [sum(x.cycle is cycle for x in LEVELS.values()) for cycle in Cycle] == [6, 3, 17]


@pytest.mark.parametrize("level", ["2APIC", "TCSF", "2BACSMA"])
def test_secondary_weights_are_those_of_the_ministry(level: str) -> None:
    found = weights(level)
    expected = {"MATH": Decimal("1.00"), "FR": Decimal("0.80"), "EN": Decimal("0.60"), "AR": Decimal("0.75")}
    assert {code: found[code] for code in expected} == expected


def test_primary_weighs_languages_by_the_default() -> None:
    assert weights("4AP")["FR"] == Decimal("0.75")
    assert weights("4AP")["MATH"] == 1


def test_maths_weighs_nine_in_mathematical_sciences_a() -> None:
    (maths,) = (taught for taught in CURRICULUM["2BACSMA"] if taught.subject.code == "MATH")
    assert maths.coefficient == 9


@pytest.mark.parametrize("level", LEVELS)
def test_a_programme_is_sound_and_fits_a_week(level: str) -> None:
    programme = CURRICULUM[level]
    codes = [taught.subject.code for taught in programme]
    assert len(codes) == len(set(codes))
    assert all(taught.coefficient >= 1 and 2 <= taught.controls <= 4 for taught in programme)
    assert 28 <= sum(taught.hours for taught in programme) <= 36
    assert sum(len(lessons_of(taught)) for taught in programme) <= LESSONS_MAX


def test_every_subject_is_taught_somewhere_and_named_in_both_languages() -> None:
    assert {taught.subject.code for programme in CURRICULUM.values() for taught in programme} == set(SUBJECTS)
    assert all(subject.name_ar and subject.name_fr for subject in SUBJECTS.values())
