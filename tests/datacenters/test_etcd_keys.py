"""Keys lie where the design says, and audit rows sort as they happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datacenters import etcd_keys
from datacenters.position import Position

POSITIONS = st.tuples(st.integers(0, 10**10 - 1), st.integers(0, 2**64 - 1))
NAMES = st.text("0123456789abcdef", min_size=1, max_size=32)


def test_every_key_is_below_the_root() -> None:
    names = [name for name in dir(etcd_keys) if name.isupper()]
    assert all(getattr(etcd_keys, name).startswith(etcd_keys.ROOT) for name in names)
    assert etcd_keys.observation("rabat") == "massar/observations/rabat"


@given(st.integers(1, 10**11), st.integers(1, 10**11))
def test_audit_rows_sort_by_their_number_and_the_head_is_none_of_them(one: int, other: int) -> None:
    assert (etcd_keys.audit(one) < etcd_keys.audit(other)) == (one < other)
    assert etcd_keys.audit(one).startswith(etcd_keys.AUDIT)
    assert not etcd_keys.AUDIT_HEAD.startswith(etcd_keys.AUDIT)
    assert etcd_keys.AUDIT_HEAD.startswith(etcd_keys.AUDIT_AND_HEAD)


@given(POSITIONS, POSITIONS, NAMES, NAMES)
def test_journal_records_sort_by_position_and_the_end_of_one_parts_them(
    one: Position, other: Position, name: str, other_name: str
) -> None:
    key, other_key = etcd_keys.journal(one, name), etcd_keys.journal(other, other_name)
    if one != other:
        assert (key < other_key) == (one < other)
    assert (key < etcd_keys.journal_end(other)) == (one < other)


@given(POSITIONS, NAMES)
def test_a_parked_record_lies_by_its_ordering_key_and_outside_the_journal(at: Position, name: str) -> None:
    journal = etcd_keys.journal(at, name)
    parked = etcd_keys.parked("ab12", journal)
    assert parked == f"{etcd_keys.PARKED}ab12/{journal.removeprefix(etcd_keys.JOURNAL)}"
    assert not parked.startswith(etcd_keys.JOURNAL)
