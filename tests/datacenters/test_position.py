"""Positions survive the wire and order by timeline, then LSN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import position
from datacenters.position import NOWHERE, shows

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


SWITCH = (1, 490)


@pytest.mark.parametrize(
    ("held", "needed", "switch", "settled", "expected"),
    [
        ((0, 0), NOWHERE, None, False, True),
        ((2, 5), NOWHERE, SWITCH, False, True),
        ((1, 500), (1, 500), None, False, True),
        ((1, 499), (1, 500), None, True, False),
        ((0, 0), (1, 1), None, True, False),
        ((1, 999), (2, 1), None, True, False),
        # Taken over with the history: whoever is on the new timeline has it.
        ((2, 491), (1, 490), SWITCH, False, True),
        ((1, 490), (1, 490), SWITCH, False, True),
        # Beyond the switch: done again, somewhere.
        ((2, 999), (1, 491), SWITCH, False, False),
        ((2, 999), (1, 491), SWITCH, True, True),
        ((1, 999), (1, 491), SWITCH, True, False),
        # Nobody knows yet where the old timeline ends, or this is two moves ago.
        ((2, 999), (1, 100), None, False, False),
        ((3, 1), (1, 100), (2, 700), False, False),
        ((3, 1), (1, 100), (2, 700), True, True),
    ],
)
def test_what_shows_a_write(
    held: tuple[int, int],
    needed: tuple[int, int],
    switch: tuple[int, int] | None,
    settled: bool,
    expected: bool,
) -> None:
    assert shows(held, needed, switch=switch, settled=settled) is expected


@given(
    written=st.integers(1, 100),
    switched=st.integers(0, 100),
    replayed_after=st.integers(1, 50),
    timeline=st.integers(1, 2),
    at=st.integers(0, 300),
    switch_known=st.booleans(),
    settled=st.booleans(),
)
def test_what_is_said_to_show_a_write_has_it(
    written: int,
    switched: int,
    replayed_after: int,
    timeline: int,
    at: int,
    switch_known: bool,
    settled: bool,
) -> None:
    """A history that ended at `switched`; what was written beyond it was done again `replayed_after` later."""
    done_again_at = switched + replayed_after
    if timeline == 1:
        has_it = written <= at and (written <= switched or not switch_known)
    else:
        at = max(at, switched)
        if settled:  # by the active datacenter, after the replay
            at = max(at, done_again_at)
        has_it = written <= switched or at >= done_again_at
    switch = (1, switched) if switch_known else None
    if shows((timeline, at), (1, written), switch=switch, settled=settled):
        assert has_it
