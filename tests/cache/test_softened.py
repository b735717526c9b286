"""Soft purges by tag, against a model that never forgets."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cache.generations import EVERYTHING
from cache.softened import Softened

TAGS = st.sampled_from(["a", "b", "c", "d", "e", EVERYTHING])


def test_what_was_stored_until_then_is_softened_and_nothing_later() -> None:
    softened = Softened(max_tags=10)
    assert softened.since(("a", "b"), 5.0) == math.inf
    assert softened.soften("a", 7.0)
    assert softened.since(("a", "b"), 6.9) == 7.0
    assert softened.since(("a", "b"), 7.0) == 7.0, "a fetch that began in that instant may not have seen it"
    assert softened.since(("a", "b"), 7.1) == math.inf
    assert softened.since(("b",), 5.0) == math.inf


def test_an_older_soft_purge_changes_nothing() -> None:
    softened = Softened(max_tags=10)
    softened.soften("a", 7.0)
    assert not softened.soften("a", 7.0)
    assert not softened.soften("a", 3.0)
    assert softened.since(("a",), 5.0) == 7.0


def test_of_several_tags_the_earliest_counts_that_came_after_the_entry() -> None:
    softened = Softened(max_tags=10)
    for tag, at in (("a", 3.0), ("b", 7.0), ("c", 9.0)):
        softened.soften(tag, at)
    assert softened.since(("a", "b", "c"), 5.0) == 7.0


def test_everything_is_softened_and_the_map_is_empty_again() -> None:
    softened = Softened(max_tags=10)
    softened.soften("a", 3.0)
    softened.soften(EVERYTHING, 7.0)
    assert softened.since((EVERYTHING, "never"), 6.0) == 7.0
    assert len(softened) == 0


@given(st.integers(2, 4), st.lists(st.tuples(TAGS, st.integers(1, 30)), max_size=40))
def test_no_soft_purge_is_ever_missed_and_the_map_stays_bounded(
    max_tags: int, ordered: list[tuple[str, int]]
) -> None:
    softened = Softened(max_tags=max_tags)
    truth: dict[str, float] = {}
    for tag, at in ordered:
        softened.soften(tag, at)
        truth[tag] = max(at, truth.get(tag, 0))
        assert len(softened) <= max_tags
        for stored_at in range(31):
            for own in ("a", "b", "quiet"):
                due = max(truth.get(own, 0), truth.get(EVERYTHING, 0)) >= stored_at > 0
                found = softened.since((EVERYTHING, own), stored_at)
                assert found >= stored_at
                assert found <= 30 or found == math.inf
                assert found < math.inf or not due
