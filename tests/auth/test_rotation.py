"""Refresh token families: the table of decisions, and histories of a phone and a thief."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.rotation import REPEAT_WITHIN_S, Exchange, Family, judge

NOW = 1_800_000_000.0
ROTATE, REPEAT, REUSED, REFUSE = Exchange.ROTATE, Exchange.REPEAT, Exchange.REUSED, Exchange.REFUSE


def family(*, sequence: int = 5, exchanged_s_ago: float | None = 10.0, live: bool = True) -> Family:
    """A family whose newest token is 5."""
    exchanged_at = None if exchanged_s_ago is None else NOW - exchanged_s_ago
    return Family(sequence=sequence, exchanged_at=exchanged_at, live=live)


@pytest.mark.parametrize(
    ("held", "sequence", "same_device", "expected"),
    [
        (family(), 5, True, ROTATE),
        (family(exchanged_s_ago=None, sequence=1), 1, True, ROTATE),
        (family(), 5, False, REFUSE),
        # ahead: the rotation was lost with a site
        (family(), 6, True, ROTATE),
        (family(), 900, True, ROTATE),
        (family(), 6, False, REFUSE),
        # the lost answer
        (family(), 4, True, REPEAT),
        (family(exchanged_s_ago=REPEAT_WITHIN_S), 4, True, REPEAT),
        (family(exchanged_s_ago=-3.0), 4, True, REPEAT),
        (family(exchanged_s_ago=REPEAT_WITHIN_S + 0.001), 4, True, REUSED),
        (family(), 4, False, REUSED),
        (family(exchanged_s_ago=None), 4, True, REUSED),
        # its successor was used, so it is not the last exchange any more
        (family(), 3, True, REUSED),
        (family(), 1, True, REUSED),
        (family(), 1, False, REUSED),
        # over
        (family(live=False), 5, True, REFUSE),
        (family(live=False), 6, True, REFUSE),
        (family(live=False), 4, True, REFUSE),
        (family(live=False), 1, False, REFUSE),
    ],
)
def test_the_table_of_decisions(held: Family, sequence: int, same_device: bool, expected: Exchange) -> None:
    assert judge(held, sequence=sequence, same_device=same_device, now=NOW) is expected


def apply(held: Family, sequence: int, exchange: Exchange, now: float) -> Family:
    """What the database holds afterwards."""
    if exchange is ROTATE:
        return Family(sequence=sequence + 1, exchanged_at=now, live=True)
    if exchange is REUSED:
        return Family(sequence=held.sequence, exchanged_at=held.exchanged_at, live=False)
    return held


@given(
    st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=3),  # how far behind the newest known token is presented
            st.booleans(),  # from its own device
            st.floats(min_value=0, max_value=100),  # seconds later
        ),
        max_size=30,
    )
)
def test_in_any_history_one_number_is_open_and_an_old_token_opens_nothing_new(
    history: list[tuple[int, bool, float]],
) -> None:
    held = Family(sequence=1, exchanged_at=None, live=True)
    now = NOW
    for behind, same_device, later_s in history:
        now += later_s
        sequence = max(1, held.sequence - behind)
        exchange = judge(held, sequence=sequence, same_device=same_device, now=now)
        after = apply(held, sequence, exchange, now)
        assert after.sequence - held.sequence in (0, 1)
        if sequence < held.sequence:
            assert after.sequence == held.sequence
            assert exchange in ((REPEAT, REUSED) if held.live else (REFUSE,))
        if not same_device:
            assert exchange in (REUSED, REFUSE)
        if not held.live:
            assert after == held
        held = after


@given(st.integers(1, 50), st.integers(0, 50), st.booleans())
def test_a_sequence_ahead_is_accepted_once(stored: int, ahead: int, soon: bool) -> None:
    held = Family(sequence=stored, exchanged_at=None, live=True)
    assert judge(held, sequence=stored + ahead, same_device=True, now=NOW) is ROTATE
    after = apply(held, stored + ahead, ROTATE, NOW)
    later = NOW + (1 if soon else 31)
    again = judge(after, sequence=stored + ahead, same_device=True, now=later)
    assert again is (REPEAT if soon else REUSED)
