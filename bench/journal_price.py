"""The journal's price: entering a mark with it, and through the same gateway acknowledging on the commit alone.

Invariant: both are one worker on one core before the same datacenter and the same three etcd members with fsync;
blocks alternate, so that a slower minute of the machine slows both.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import country, machine, variants
from bench.client import Unexpected
from bench.figures import Figure, figure, ratio, row, shown
from bench.servers import THE_PRODUCT, Server, serving
from bench.teachers import Mint, Sheet, Teachers, sheets_of
from sandbox import folder
from sandbox.postgres import RECORDS

JOURNAL, COMMIT = "journal", "commit"
NAMES = {
    JOURNAL: "A  the gateway: acknowledged with its record",
    COMMIT: "B  acknowledged on the commit alone",
}
_COMMANDS = {JOURNAL: THE_PRODUCT, COMMIT: ("-m", "bench.variants", variants.without_journal.__name__)}
# One write at a time shows what each waits; so many at once, what the gateway gets through.
AT_ONCE = 16


class Block(msgspec.Struct, frozen=True):
    """One variant in one block: seconds a lone write took (median, 99 of 100), writes a second with many at once."""

    median_s: float
    p99_s: float
    writes_per_s: float
    cpu_us_per_write: float


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder."""

    where: machine.Machine
    seconds: int
    blocks: dict[str, list[Block]]
    latency_ratio: Figure
    p99_ratio: Figure
    throughput_ratio: Figure
    cpu_ratio: Figure


async def run(*, pairs: int, seconds: int) -> Result:
    """Set everything up, measure, take everything down."""
    cores = machine.choose_cores()
    here = machine.this_machine()
    blocks: dict[str, list[Block]] = {name: [] for name in _COMMANDS}
    with machine.pinned(cores.load), tempfile.TemporaryDirectory(prefix="massar-bench-") as scratch:
        folder_ = Path(scratch)
        _say("starting a sandbox")
        async with country.country(folder_) as ground, serving(folder_, ground, _COMMANDS, cores) as servers:
            records = folder.read_table(ground.place).databases[country.SITE][RECORDS]
            sheets = await sheets_of(records, Mint(ground.place), marks=1)
            _say(
                f"measuring {pairs} rounds of 2 blocks of {seconds} s alone and {seconds} s with {AT_ONCE} at once"
            )
            for number in range(pairs + 1):
                for name, server in servers.items():
                    block = await _block(server, sheets, seconds=seconds)
                    if number > 0:  # the first round warms up
                        blocks[name].append(block)
    with_journal, without = blocks[JOURNAL], blocks[COMMIT]
    return Result(
        where=here,
        seconds=seconds,
        blocks=blocks,
        latency_ratio=_ratio(with_journal, without, "median_s"),
        p99_ratio=_ratio(with_journal, without, "p99_s"),
        throughput_ratio=_ratio(with_journal, without, "writes_per_s"),
        cpu_ratio=_ratio(with_journal, without, "cpu_us_per_write"),
    )


def table(result: Result) -> str:
    """The run as text."""
    return "\n".join([
        f"entering one mark, PUT /v1/gradebooks/…/entries, one worker, {len(result.blocks[JOURNAL])} rounds; medians (quartiles)",
        row("", "ms alone", "writes per second"),
        *(
            row(
                name,
                shown(figure([1e3 * block.median_s for block in result.blocks[key]]), 2),
                shown(figure([block.writes_per_s for block in result.blocks[key]]), 0),
            )
            for key, name in NAMES.items()
        ),
        "",
        f"ratio  latency, median      A / B: {shown(result.latency_ratio, 2)}",
        f"ratio  latency, 99 of 100   A / B: {shown(result.p99_ratio, 2)}",
        f"ratio  throughput           A / B: {shown(result.throughput_ratio, 2)}",
        f"ratio  gateway CPU a write  A / B: {shown(result.cpu_ratio, 2)}",
    ])  # fmt: skip


async def _block(server: Server, sheets: Sequence[Sheet], *, seconds: int) -> Block:
    """One write at a time for `seconds`, then many at once for as long."""
    alone = await _entered(server, sheets[:1], seconds=seconds)
    used_s = machine.cpu_s(server.running.who)
    many = await _entered(server, sheets[1 : 1 + AT_ONCE], seconds=seconds)
    used_s = machine.cpu_s(server.running.who) - used_s
    return Block(
        median_s=alone[len(alone) // 2],
        p99_s=alone[int(len(alone) * 0.99)],
        writes_per_s=len(many) / seconds,
        cpu_us_per_write=1e6 * used_s / len(many),
    )


async def _entered(server: Server, sheets: Sequence[Sheet], *, seconds: int) -> list[float]:
    """How long each write took, in order of length: every sheet's next one as soon as its last is acknowledged."""
    teachers = Teachers({country.SITE: server.url}, sheets, (), rate=1)
    now = time.monotonic
    until = now() + seconds

    async def keep_entering(sheet: Sheet) -> None:
        while now() < until:
            await teachers.enter(sheet)

    for sheet in sheets:
        sheet.door = 0
    await asyncio.gather(*(keep_entering(sheet) for sheet in sheets))
    if teachers.tally.errors:
        raise Unexpected(
            f"{teachers.tally.errors} writes were not acknowledged: {dict(teachers.tally.refused)}"
        )
    return sorted(done.ended - done.began for done in teachers.tally.acknowledged)


def _ratio(above: Sequence[Block], below: Sequence[Block], of: str) -> Figure:
    return ratio([getattr(block, of) for block in above], [getattr(block, of) for block in below])


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
