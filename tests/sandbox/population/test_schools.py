from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.population.curriculum import LEVELS, Cycle
from sandbox.population.schools import (
    CLASS_SIZE_MAX,
    CLASS_SIZE_MIN,
    PUPILS_MAX,
    PUPILS_MIN,
    SAMPLE_LEVEL,
    class_rows,
    lay_out,
    school_rows,
)
from sandbox.population.territory import CAPITAL


@settings(max_examples=60)
@given(seed=st.integers(), pupils=st.integers(PUPILS_MIN, 9000))
def test_any_country_has_exactly_its_pupils_in_classes_of_the_right_size(seed: int, pupils: int) -> None:
    localities = lay_out(seed, pupils)
    classes = [room for locality in localities for room in locality.classes]
    assert sum(room.size for room in classes) == pupils
    assert all(CLASS_SIZE_MIN <= room.size <= CLASS_SIZE_MAX for room in classes)
    assert len({room.id for room in classes}) == len(classes)
    assert [locality.first_pupil for locality in localities] == [
        sum(before.pupils for before in localities[:number]) for number in range(len(localities))
    ]
    for locality in localities:
        assert {school.cycle for school in locality.schools} == set(Cycle)
        assert all(room.level.cycle is school.cycle for school in locality.schools for room in school.classes)
        assert [room.position for room in locality.classes] == list(range(len(locality.classes)))
        assert locality.sample_class.size >= 30
        assert locality.sample_class.level.code == SAMPLE_LEVEL


@pytest.mark.parametrize("pupils", [PUPILS_MIN - 1, PUPILS_MAX + 1])
def test_a_country_too_small_or_too_large_is_refused(pupils: int) -> None:
    with pytest.raises(ValueError, match="pupils must be"):
        lay_out(1, pupils)


def test_the_largest_country_reaches_every_province_with_unique_schools() -> None:
    localities = lay_out(3, PUPILS_MAX)
    gresas = [school.gresa for locality in localities for school in locality.schools]
    assert len({locality.province.code for locality in localities}) == 82
    assert len(set(gresas)) == len(gresas) == 600
    assert all(re.fullmatch(r"\d{5}[A-Z]", code) for code in gresas)


def test_a_large_country_teaches_every_level() -> None:
    levels = {room.level.code for locality in lay_out(3, 20_000) for room in locality.classes}
    assert levels == set(LEVELS)


def test_two_thousand_pupils_go_to_a_handful_of_schools_the_first_in_rabat() -> None:
    localities = lay_out(1, 2000)
    assert localities[0].province is CAPITAL
    assert len({locality.province.code for locality in localities}) == 2
    assert sum(len(locality.schools) for locality in localities) == 6


def test_classes_of_a_level_are_counted_in_each_school() -> None:
    for locality in lay_out(1, 2000):
        for school in locality.schools:
            names = [room.name for room in school.classes]
            assert len(set(names)) == len(names)
            assert all(re.fullmatch(r"[0-9A-Z]+-\d", name) for name in names)
    assert "2APIC-3" in {room.name for room in lay_out(1, 2000)[0].classes}


def test_each_class_knows_its_school() -> None:
    locality = lay_out(1, 700)[0]
    for room, school in zip(locality.classes, locality.school_of, strict=True):
        assert room in school.classes
    assert [row[1] for row in class_rows(locality)] == [school.gresa for school in locality.school_of]
    assert {row[3] for row in school_rows(locality)} == {CAPITAL.code}
