"""What entries cost: sizes are of whole processes, and nothing counts that was not found or not purged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import entries, machine
from bench.client import Unexpected
from bench.entries import Looks, Purged, Result, Size, Weight, look, purge, size, table, weigh
from cache.memory import MemoryTier
from cache.store import Cache
from cache.valkey import ValkeyTier


def test_a_process_is_as_large_as_its_parts_and_shares_some() -> None:
    own = size(os.getpid())
    assert own.resident >= own.proportional > 1_000_000


def test_an_entry_weighs_more_than_its_body_and_is_counted() -> None:
    weight = weigh(300)
    assert 1_300 < weight.body < 1_500
    assert weight.body < weight.counted
    assert weight.one_coding <= weight.every_coding


def test_look_ups_among_few_and_many_take_turns() -> None:
    found = look((10, 100), rounds=2)
    assert [(one.entries, len(one.median_ns), len(one.p99_ns), len(one.floor_ns)) for one in found] == [
        (10, 2, 2, 2),
        (100, 2, 2, 2),
    ]
    assert all(
        0 < median <= most for one in found for median, most in zip(one.median_ns, one.p99_ns, strict=True)
    )


def test_a_look_up_that_finds_nothing_ends_the_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryTier, "put", lambda *_: True)
    with pytest.raises(Unexpected, match="not there"):
        look((10,), rounds=1)


async def test_purges_of_few_and_many_take_turns(tmp_path: Path) -> None:
    found = await purge((1, 40), tmp_path, rounds=2)
    assert [(one.entries, len(one.memory_us), len(one.valkey_us)) for one in found] == [(1, 2, 2), (40, 2, 2)]


async def test_a_purged_entry_that_is_shown_ends_the_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "purge_memory", lambda *_: None)
    with pytest.raises(Unexpected, match="is shown"):
        await purge((1, 40), tmp_path, rounds=1)


async def test_a_tag_that_valkey_does_not_know_as_purged_ends_the_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(ValkeyTier, "raise_generations", nothing)
    with pytest.raises(Unexpected, match="not purged"):
        await purge((1, 40), tmp_path, rounds=1)


def test_the_table_tells_every_figure() -> None:
    result = Result(
        where=machine.this_machine(),
        worker=Size(resident=120_400_000, proportional=90_200_000),
        weight=Weight(body=1_410, one_coding=3_123.4, every_coding=5_000, counted=6_000),
        looks=[Looks(1_000, [510.0, 520.0], [900.0, 910.0], [150.0, 160.0])],
        purged=[Purged(1_000_000, [1.25, 1.25], [80.0, 90.0])],
    )
    shown = table(result)
    for words in (
        "115 MiB (120 MB) resident, 86 MiB (90 MB) in shares",
        "1,410 bytes",
        "3,123 bytes when",
        "5,000 in each; counted as 6,000",
        "1,000 entries: median 515",
        "of 1,000,000: 1.25",
    ):
        assert words in shown
    assert entries.TAGGED_MAX == 1_000_000
