from __future__ import annotations

import re
from random import Random

import pytest

from sandbox.population.names import (
    BOYS,
    FAMILIES,
    FATHERS,
    GIRLS,
    MOTHERS,
    SCHOOLS,
    Spelling,
    full_name,
    pick,
)

ARABIC = re.compile(r"[\u0621-\u064a ]+")
LATIN = re.compile(r"[A-Z][A-Za-zÀ-ÿ' -]+")
LOGIN = re.compile(r"[a-z]+")


@pytest.mark.parametrize("names", [BOYS, GIRLS, FATHERS, MOTHERS, FAMILIES, SCHOOLS])
def test_names_stand_in_both_scripts_and_once(names: tuple[Spelling, ...]) -> None:
    assert all(ARABIC.fullmatch(name.ar) for name in names)
    assert all(LATIN.fullmatch(name.fr) for name in names)
    assert all(LOGIN.fullmatch(name.login) for name in names)
    assert len({name.fr for name in names}) == len(names) >= 30


def test_a_full_name_puts_the_given_name_first() -> None:
    given, family = (
        Spelling("فاطمة الزهراء", "Fatima Zahra", "fatimazahra"),
        Spelling("الفاسي", "El Fassi", "elfassi"),
    )
    name = full_name(given, family)
    assert (name.ar, name.fr, name.login) == (
        "فاطمة الزهراء الفاسي",
        "Fatima Zahra El Fassi",
        "fatimazahra.elfassi",
    )


def test_picking_reaches_every_name() -> None:
    rng = Random(1)
    assert {pick(rng, BOYS).fr for _ in range(2000)} == {name.fr for name in BOYS}
