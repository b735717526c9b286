"""Keys lie where the design says, and audit rows sort by epoch, then time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datacenters import etcd_keys

MOMENTS = st.tuples(st.integers(0, 10**9), st.floats(0, 4e9))


def test_every_key_is_below_the_root() -> None:
    names = [name for name in dir(etcd_keys) if name.isupper()]
    assert all(getattr(etcd_keys, name).startswith(etcd_keys.ROOT) for name in names)
    assert etcd_keys.observation("rabat") == "massar/observations/rabat"


@given(MOMENTS, MOMENTS)
def test_audit_rows_sort_as_they_happened(one: tuple[int, float], other: tuple[int, float]) -> None:
    in_ms = [(epoch, round(at * 1000)) for epoch, at in (one, other)]
    keys = [etcd_keys.audit(*one), etcd_keys.audit(*other)]
    assert (keys[0] < keys[1]) == (in_ms[0] < in_ms[1])
