from __future__ import annotations

from collections import Counter

from sandbox.population.territory import CAPITAL, PROVINCES, REGIONS


def test_there_are_twelve_academies_and_eighty_two_provincial_directorates() -> None:
    assert len(REGIONS) == 12
    assert len(PROVINCES) == 82


def test_each_region_has_as_many_provinces_as_the_decree_gives_it() -> None:
    counts = Counter(province.region.code for province in PROVINCES)
    assert [counts[region.code] for region in REGIONS] == [8, 8, 9, 7, 5, 16, 8, 5, 6, 4, 4, 2]


def test_codes_names_and_letters_are_unique() -> None:
    assert len({province.code for province in PROVINCES}) == 82
    assert [province.number for province in PROVINCES] == list(range(1, 83))
    assert len({province.name_fr for province in PROVINCES}) == 82
    assert len({province.name_ar for province in PROVINCES}) == 82
    assert len({region.letter for region in REGIONS}) == 12


def test_a_province_code_begins_with_its_region() -> None:
    assert all(province.code.startswith(province.region.code) for province in PROVINCES)


def test_the_capital_is_rabat_of_its_own_region() -> None:
    assert (CAPITAL.name_fr, CAPITAL.region.name_fr) == ("Rabat", "Rabat-Salé-Kénitra")
