"""Reads of Valkey: both ways read the same, and the table says of whom it speaks."""

from __future__ import annotations

import pytest

from bench import valkey_reads
from bench.client import Unexpected
from bench.valkey_reads import NAMES, POOL, SHARED, run, table


async def test_both_ways_are_measured_in_turn_and_shown_side_by_side() -> None:
    result = await run(pairs=2, seconds=0.05)
    assert [len(result.blocks[name]) for name in (SHARED, POOL)] == [2, 2]
    assert all(block.reads_per_s > 0 for blocks in result.blocks.values() for block in blocks)
    shown = table(result)
    assert all(name in shown for name in NAMES.values())


async def test_another_ones_reply_ends_the_measuring() -> None:
    async def read(_name: bytes) -> bytes:
        return b"another"

    with pytest.raises(Unexpected):
        await valkey_reads._block(read, {b"a": b"own"}, seconds=1)
