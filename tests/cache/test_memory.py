"""Tier 1 against a model, and against what the interpreter says it costs."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.coding import encode
from cache.memory import HELD_OVERHEAD_BYTES, LOOKED_AT_MAX, PERSONAL_SHARE, Held, MemoryTier, size_bytes
from cache.reading import Fetched, made_of
from gateway.prepared import prepare
from tests.cache.building import KEY, NOW, entry

MAX_BYTES = 8 * (HELD_OVERHEAD_BYTES + 1500)


def held(key: str, body: bytes = b"", position: int = 1, *, shared: bool = False) -> Held:
    """An entry in tier 1 where only key, body, version and class matter."""
    one = entry(body, position=(1, position))
    return Held(one, key=key, from_s=NOW, until_s=NOW + 3, fresh_until_s=NOW + 60, shared=shared)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "delete", "force"]),
        st.sampled_from("abcdefghij"),
        st.integers(0, 3000),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=80,
)


@given(STEPS)
def test_it_behaves_as_a_dictionary_that_may_forget(steps: list[tuple[str, str, int, int, bool]]) -> None:
    tier = MemoryTier(max_bytes=MAX_BYTES, max_entries=6)
    model: dict[str, Held] = {}
    ever: list[Held] = []
    for step, key, size, position, shared in steps:
        present = tier.get(key)
        assert present is None or present is model[key]
        if step == "delete":
            tier.delete(key)
            assert tier.get(key) is None
        elif step != "get":
            one = held(key, b"x" * size, position, shared=shared)
            older = present is not None and present.entry.position > (1, position) and step == "put"
            fits = one.size_bytes <= MAX_BYTES // 8
            assert tier.put(key, one, replace=step == "force") == (fits and not older)
            if fits and not older:
                model[key] = one
                ever.append(one)
        kept = [each for each in "abcdefghij" if tier.get(each) is not None]
        assert len(tier) == len(kept) <= 6
        assert tier.held_bytes == sum(model[each].size_bytes for each in kept) <= MAX_BYTES
        for each in ever:  # who still knows what has left must not show it
            assert (each.fresh_until_s > NOW) == any(tier.get(name) is each for name in kept)
    tier.clear()
    assert all(each.fresh_until_s < NOW and each.until_s < NOW for each in ever)


def test_room_is_used_before_anybody_must_go() -> None:
    tier, one = MemoryTier(max_bytes=MAX_BYTES), held("0")
    fitting = MAX_BYTES // one.size_bytes
    for number in range(fitting):
        tier.put(str(number), held(str(number), shared=number % 2 == 0))
    assert len(tier) == fitting


def test_what_was_not_asked_for_again_goes_first_and_the_oldest_of_it() -> None:
    tier, one = MemoryTier(max_bytes=MAX_BYTES), held("a")
    fitting = MAX_BYTES // one.size_bytes
    for number in range(fitting):
        tier.put(str(number), held(str(number)))
    used = [str(number) for number in range(0, fitting, 2)]
    for key in used:
        tier.get(key)
    for number in range(fitting // 2):
        tier.put(f"new {number}", held(f"new {number}"))
    assert [key for key in used if tier.get(key) is None] == []
    assert tier.get("1") is None


def test_what_was_popular_once_does_not_stay_for_ever() -> None:
    tier, one = MemoryTier(max_bytes=MAX_BYTES), held("a")
    fitting = MAX_BYTES // one.size_bytes
    tier.put("once", held("once"))
    for _ in range(1000):
        tier.get("once")
    for number in range(20 * fitting):
        tier.put(str(number), held(str(number)))
        tier.get(str(number))
    assert tier.get("once") is None


def test_a_crawl_of_a_million_keys_takes_no_used_entry_away() -> None:
    tier, one = MemoryTier(max_bytes=1_000 * held("a").size_bytes), entry(b"x")
    known = [f"known {number}" for number in range(500)]
    for key in known:
        tier.put(key, held(key))
        tier.get(key)
    for number in range(1_000_000):
        key = str(number)
        tier.put(key, Held(one, key=key, from_s=NOW, until_s=NOW, fresh_until_s=NOW))
    assert [key for key in known if tier.get(key) is None] == []
    assert len(tier) > 900


def test_one_put_looks_at_so_many_though_everybody_here_is_wanted() -> None:
    tier = MemoryTier(max_bytes=1_000 * held("a").size_bytes)
    known = [str(number) for number in range(900)]
    for key in known:
        tier.put(key, held(key))
        tier.get(key)
    waiting = {key: kept.uses for key, kept in tier._held.items()}
    for number in range(200):
        tier.put(f"new {number}", held(f"new {number}"))
        left = {key: kept.uses for key, kept in tier._held.items()}
        assert sum(left.get(key) != uses for key, uses in waiting.items()) <= LOOKED_AT_MAX
        waiting = left
    assert tier.held_bytes <= 1_000 * held("a").size_bytes


@pytest.mark.parametrize("used", [False, True])
def test_under_pressure_what_is_shared_outlives_what_is_personal(used: bool) -> None:
    tier, one = MemoryTier(max_bytes=MAX_BYTES * 4), held("a")
    fitting = MAX_BYTES * 4 // one.size_bytes
    shared = [f"shared {number}" for number in range(fitting // 2)]
    for key in shared:
        tier.put(key, held(key, shared=True))
    for number in range(10 * fitting):
        key = f"personal {number}"
        tier.put(key, held(key))
        if used:
            tier.get(key)
    assert [key for key in shared if tier.get(key) is None] == []


def test_what_is_personal_keeps_a_quarter_however_much_is_shared() -> None:
    tier, one = MemoryTier(max_bytes=MAX_BYTES * 4), held("a")
    fitting = MAX_BYTES * 4 // one.size_bytes
    for number in range(fitting):
        tier.put(f"personal {number}", held(f"personal {number}"))
    for number in range(10 * fitting):
        tier.put(f"shared {number}", held(f"shared {number}", shared=True))
    kept = sum(tier.get(f"personal {number}") is not None for number in range(fitting))
    assert fitting // PERSONAL_SHARE - 1 <= kept <= fitting // PERSONAL_SHARE + 1


def test_an_entry_that_becomes_shared_changes_its_queue() -> None:
    tier = MemoryTier(max_bytes=MAX_BYTES)
    tier.put("a", held("a"))
    tier.put("a", held("a", b"longer", shared=True))
    assert (len(tier), tier.held_bytes) == (1, held("a", b"longer").size_bytes)
    tier.delete("a")
    assert (len(tier), tier.held_bytes) == (0, 0)


def test_an_older_version_never_replaces_a_newer_one() -> None:
    tier = MemoryTier(max_bytes=MAX_BYTES)
    assert tier.put("a", held("a", b"new", 2))
    assert not tier.put("a", held("a", b"old", 1))
    kept = tier.get("a")
    assert kept is not None
    assert kept.entry.body == b"new"


def test_clearing_forgets_everything() -> None:
    tier = MemoryTier(max_bytes=MAX_BYTES)
    tier.put("a", held("a"))
    tier.clear()
    assert tier.get("a") is None
    assert (len(tier), tier.held_bytes) == (0, 0)


CODINGS_ASKED_FOR = {"none": (), "one": ("br",), "all": ("br", "zstd", "gzip", "identity")}


@pytest.mark.parametrize("asked_for", list(CODINGS_ASKED_FOR))
@pytest.mark.parametrize("coded", [False, True])
def test_the_bytes_counted_are_not_fewer_than_the_interpreter_uses(asked_for: str, coded: bool) -> None:
    tier = MemoryTier(max_bytes=100_000_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            key = f"family:1:/v1/pupils/{number:016d}/grades?session=1&year=2026"
            body = msgspec.json.encode([f"{number} {at}" for at in range(200)])
            fetched = Fetched(
                body=body,
                epoch=1,
                position=(1, 1_000 + number),
                last_modified=f"Tue, 17 Nov 2026 16:05:00 GMT {number}",
                coded=encode(body) if coded else (),
            )
            one = made_of(
                fetched,
                key=KEY,
                tags=("*", f"grades:{number}"),
                generations=(0, number),
                begun_at=NOW + number,
                previous=None,
            )
            kept = Held(one, key=key, from_s=NOW + number, until_s=NOW + number, fresh_until_s=NOW + number)
            for coding in CODINGS_ASKED_FOR[asked_for]:
                prepare(kept, coding.encode())
            tier.put(key, kept)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"\n{asked_for}, {coded}: {(after - before) / 2000:.0f} of {tier.held_bytes / 2000:.0f} counted")
    assert after - before <= tier.held_bytes


@given(st.text(max_size=40), st.binary(max_size=100), st.lists(st.text(max_size=10), max_size=4))
def test_the_size_counts_body_key_and_tags(key: str, body: bytes, tags: list[str]) -> None:
    size = size_bytes(key, entry(body, tags=tuple(tags)))
    assert size >= HELD_OVERHEAD_BYTES + len(body) + len(key.encode()) + sum(
        len(tag.encode()) for tag in tags
    )
