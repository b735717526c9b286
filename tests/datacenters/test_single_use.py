"""A token is admitted once; a full memory admits nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datacenters.single_use import SingleUse


def test_second_use_is_refused_until_it_expires() -> None:
    seen = SingleUse()
    assert seen.admit("a", until=30.0, now=0.0)
    assert not seen.admit("a", until=30.0, now=29.9)
    assert seen.admit("a", until=60.0, now=30.0)


def test_full_memory_admits_nothing_new_until_something_expires() -> None:
    seen = SingleUse(entries_max=2)
    assert seen.admit("a", until=10.0, now=0.0)
    assert seen.admit("b", until=20.0, now=0.0)
    assert not seen.admit("c", until=20.0, now=1.0)
    assert seen.admit("c", until=20.0, now=10.0)
    assert len(seen) == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5), st.floats(0.1, 20)), max_size=60))
def test_never_admitted_twice_within_its_life(uses: list[tuple[str, float, float]]) -> None:
    seen = SingleUse(entries_max=4)
    now, lives = 0.0, dict[str, float]()
    for token, passed_s, life_s in uses:
        now += passed_s
        if seen.admit(token, until=now + life_s, now=now):
            assert lives.get(token, 0.0) <= now
            lives[token] = now + life_s
        assert len(seen) <= 4
