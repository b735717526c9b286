"""Tier 1 against a model, and against what the interpreter says it costs."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from cache.memory import HELD_OVERHEAD_BYTES, Held, MemoryTier, size_bytes
from tests.cache.building import NOW, entry

MAX_BYTES = 8 * (HELD_OVERHEAD_BYTES + 1500)


def held(key: str, body: bytes = b"", position: int = 1) -> Held:
    """An entry in tier 1 where only key, body and version matter."""
    return Held(
        entry(body, position=(1, position)), key=key, from_s=NOW, until_s=NOW + 3, fresh_until_s=NOW + 60
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "delete", "force"]),
        st.sampled_from("abcdefghij"),
        st.integers(0, 3000),
        st.integers(1, 4),
    ),
    max_size=80,
)


@given(STEPS)
def test_it_behaves_as_a_small_dictionary_that_forgets_the_least_used(
    steps: list[tuple[str, str, int, int]],
) -> None:
    tier = MemoryTier(max_bytes=MAX_BYTES, max_entries=6)
    model: OrderedDict[str, Held] = OrderedDict()
    for step, key, size, position in steps:
        if step == "get":
            assert tier.get(key) is model.get(key)
            if key in model:
                model.move_to_end(key)
        elif step == "delete":
            tier.delete(key)
            model.pop(key, None)
        else:
            one = held(key, b"x" * size, position)
            older = key in model and model[key].entry.position > (1, position) and step == "put"
            fits = one.size_bytes <= MAX_BYTES // 8
            assert tier.put(key, one, replace=step == "force") == (fits and not older)
            if not older:
                model.pop(key, None)
                if fits:
                    model[key] = one
            while sum(each.size_bytes for each in model.values()) > MAX_BYTES or len(model) > 6:
                model.popitem(last=False)
        assert len(tier) == len(model)
        assert tier.held_bytes == sum(each.size_bytes for each in model.values()) <= MAX_BYTES
    for key in "abcdefghij":
        assert tier.get(key) is model.get(key)


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


def test_the_bytes_counted_are_not_fewer_than_the_interpreter_uses() -> None:
    tier = MemoryTier(max_bytes=100_000_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            key = f"family:1:/v1/pupils/{number:016d}/grades?session=1&year=2026"
            body = bytes(1400)
            one = entry(body, stored_at=NOW + number, tags=("*", f"grades:{number}"), generations=(0, number))
            tier.put(
                key, Held(one, key=key, from_s=NOW + number, until_s=NOW + number, fresh_until_s=NOW + number)
            )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= tier.held_bytes


@given(st.text(max_size=40), st.binary(max_size=100), st.lists(st.text(max_size=10), max_size=4))
def test_the_size_counts_body_key_and_tags(key: str, body: bytes, tags: list[str]) -> None:
    size = size_bytes(key, entry(body, tags=tuple(tags)))
    assert size >= HELD_OVERHEAD_BYTES + len(body) + len(key.encode()) + sum(
        len(tag.encode()) for tag in tags
    )
