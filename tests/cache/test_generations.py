"""Purge by counting, against a model that never forgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.generations import EVERYTHING, Generations

TAGS = st.sampled_from(["a", "b", "c", "d", "e", "f", EVERYTHING])


def test_a_purge_outdates_what_was_recorded_before_and_nothing_after() -> None:
    generations = Generations(max_tags=10)
    before = generations.snapshot(("grades:x", "roster:y"))
    assert not generations.outdated(("grades:x", "roster:y"), before)
    assert generations.raise_to("roster:y", 7)
    assert generations.outdated(("grades:x", "roster:y"), before)
    after = generations.snapshot(("grades:x", "roster:y"))
    assert after == (0, 7)
    assert not generations.outdated(("grades:x", "roster:y"), after)


def test_a_repeated_or_late_purge_changes_nothing() -> None:
    generations = Generations(max_tags=10)
    generations.raise_to("a", 7)
    serial = generations.serial
    assert not generations.raise_to("a", 7)
    assert not generations.raise_to("a", 6)
    assert (generations.current("a"), generations.serial) == (7, serial)


def test_a_purge_of_everything_outdates_tags_never_heard_of() -> None:
    generations = Generations(max_tags=10)
    before = generations.snapshot(("never",))
    generations.raise_to(EVERYTHING, 3)
    assert generations.outdated(("never",), before)


def test_an_overflow_outdates_what_it_can_no_longer_tell() -> None:
    generations = Generations(max_tags=4)
    before = generations.snapshot(("t0", "quiet"))
    for number in range(1, 6):
        generations.raise_to(f"t{number - 1}", number)
    assert len(generations) <= 4
    assert generations.outdated(("t0",), before[:1])
    assert generations.outdated(("quiet",), before[1:]), "filled before the overflow: nobody knows any more"
    assert not generations.outdated(("t4",), (5,)), "the newest are still told apart"


def test_places_leave_room_for_purges_without_one() -> None:
    generations = Generations(max_tags=4)
    generations.raise_to("t", generations.at(7))
    for _ in range(100):
        generations.raise_to("t", generations.at(None))
    assert generations.raise_to("t", generations.at(8)), "the next one of the feed is heard all the same"


def test_a_feed_that_begins_again_further_down_counts_above_all_that_was_heard() -> None:
    generations = Generations(max_tags=4)
    generations.raise_to("t", generations.at(1_000_000))
    recorded = generations.snapshot(("t", "quiet"))
    generations.raise_to(EVERYTHING, generations.next_era())
    assert generations.outdated(("t",), recorded[:1])
    assert generations.outdated(("quiet",), recorded[1:])
    assert generations.raise_to("t", generations.at(3))
    assert generations.at(4) > generations.at(3) > generations.next_era() - (generations.next_era() >> 1)


def test_a_map_of_one_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Generations(max_tags=1)


@given(st.integers(2, 5), st.lists(st.tuples(TAGS, st.integers(1, 30)), max_size=60))
def test_no_purge_is_ever_missed_and_the_map_stays_bounded(
    max_tags: int, purges: list[tuple[str, int]]
) -> None:
    """For every snapshot ever taken: purged since, in a map that forgets nothing ⇒ outdated here."""
    generations = Generations(max_tags=max_tags)
    truth: dict[str, int] = {}
    taken: list[tuple[str, int, int]] = []  # tag, its snapshot, the true generation then
    for tag, value in purges:
        for each in ("a", "b", "quiet"):
            (recorded,) = generations.snapshot((each,))
            taken.append((each, recorded, max(truth.get(each, 0), truth.get(EVERYTHING, 0))))
        serial, known = generations.serial, generations.snapshot(("a", "b", "quiet", EVERYTHING, tag))
        generations.raise_to(tag, value)
        truth[tag] = max(value, truth.get(tag, 0))
        assert len(generations) <= max_tags
        assert generations.highest == max(truth.values())
        for each, recorded, then in taken:
            true_now = max(truth.get(each, 0), truth.get(EVERYTHING, 0))
            assert generations.current(each) >= true_now
            if true_now > max(then, recorded):
                assert generations.outdated((each,), (recorded,))
        changed = generations.snapshot(("a", "b", "quiet", EVERYTHING, tag)) != known
        assert not changed or generations.serial != serial
