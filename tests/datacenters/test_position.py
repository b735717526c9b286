"""Positions survive the wire and order by timeline, then LSN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import position

POSITIONS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**64 - 1))


@given(POSITIONS)
def test_text_survives_a_round_trip(found: tuple[int, int]) -> None:
    assert position.parse(position.render(found)) == found


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-x", " 1-2", "1-2\n", "1/2", "١-٢" + "x"])
def test_anything_else_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        position.parse(text)


@pytest.mark.parametrize(
    ("text", "lsn"), [("0/3000148", 0x3000148), ("1/0", 1 << 32), ("A/FFFFFFFF", 0xAFFFFFFFF)]
)
def test_postgres_lsns_are_numbers(text: str, lsn: int) -> None:
    assert position.lsn_from_postgres(text) == lsn


@pytest.mark.parametrize("text", ["", "1", "g/0", "1/2/3"])
def test_anything_else_is_no_lsn(text: str) -> None:
    with pytest.raises(ValueError, match="LSN"):
        position.lsn_from_postgres(text)
