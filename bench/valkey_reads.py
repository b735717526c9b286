"""Reads of Valkey by one worker: over the connection that everybody shares, and over redis-py's pool.

Invariant: both ask the same server for the same bytes with as many questions in flight, alternate block by block in one
process, and every reply is compared with what was put there.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis

from bench import machine
from bench.client import Unexpected
from bench.figures import Figure, figure, ratio, row, shown
from cache.bounded_valkey import BoundedValkey
from sandbox import valkey

BODY_BYTES = 1_400
NAMES_MAX = 1_000
IN_FLIGHT = 32
SHARED, POOL = "shared", "pool"
NAMES = {SHARED: "A  one shared connection", POOL: "B  redis-py, as many connections as in flight"}
Read = Callable[[bytes], Awaitable[bytes | None]]


class Block(msgspec.Struct, frozen=True):
    """What one way did in one block."""

    cpu_us_per_read: float
    reads_per_s: float


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder."""

    where: machine.Machine
    seconds: int
    blocks: dict[str, list[Block]]
    cpu_ratio: Figure
    throughput_ratio: Figure


async def run(*, pairs: int, seconds: float) -> Result:
    """Set everything up, measure, take everything down."""
    cores, here = machine.choose_cores(), machine.this_machine()
    values = {b"page:%d" % number: b"%d:" % number + b"x" * BODY_BYTES for number in range(NAMES_MAX)}
    with tempfile.TemporaryDirectory(prefix="massar-bench-") as scratch:
        with machine.pinned(cores.load):
            server = await valkey.start(folder=Path(scratch) / "valkey", logs=Path(scratch))
        pool = Redis(
            connection_pool=BlockingConnectionPool.from_url(server.url, max_connections=IN_FLIGHT, protocol=2)
        )
        own = BoundedValkey(server.url, monotonic=time.monotonic, operation_max_s=5.0)
        try:
            await pool.mset({name.decode(): value for name, value in values.items()})
            print(f"bench: measuring {pairs} rounds of 2 blocks of {seconds} s", file=sys.stderr, flush=True)
            with machine.pinned(cores.server):
                blocks = await _blocks(own, pool, values, pairs=pairs, seconds=seconds)
        finally:
            await own.aclose()
            await pool.aclose(close_connection_pool=True)
            await server.process.stop()
    cpu = {name: [block.cpu_us_per_read for block in many] for name, many in blocks.items()}
    rate = {name: [block.reads_per_s for block in many] for name, many in blocks.items()}
    return Result(
        where=here,
        seconds=int(seconds),
        blocks=blocks,
        cpu_ratio=ratio(cpu[POOL], cpu[SHARED]),
        throughput_ratio=ratio(rate[SHARED], rate[POOL]),
    )


def table(result: Result) -> str:
    """The run as text."""
    where = result.where
    versions = ", ".join(f"{name} {number}" for name, number in where.versions.items())
    rounds = len(result.blocks[SHARED])
    return "\n".join([
        f"GET of {BODY_BYTES} bytes from Valkey, {IN_FLIGHT} in flight, one process; the server on another core",
        f"  {where.processor}, {where.cores} cores, Linux {where.kernel}, load average {where.load_average} before",
        f"  Python {where.python}, {versions}",
        f"  {rounds} rounds of {result.seconds} s blocks; median (quartiles)",
        "",
        row("", "CPU µs per read", "reads per second"),
        *(
            row(
                name,
                shown(figure([block.cpu_us_per_read for block in result.blocks[key]]), 1),
                shown(figure([block.reads_per_s for block in result.blocks[key]]), 0),
            )
            for key, name in NAMES.items()
        ),
        "",
        f"ratio  CPU per read   B / A: {shown(result.cpu_ratio, 2)}",
        f"ratio  throughput     A / B: {shown(result.throughput_ratio, 2)}",
    ])  # fmt: skip


async def _blocks(
    own: BoundedValkey, pool: Redis, values: dict[bytes, bytes], *, pairs: int, seconds: float
) -> dict[str, list[Block]]:
    async def shared(name: bytes) -> bytes | None:
        return (await own.values([name]))[0]

    async def pooled(name: bytes) -> bytes | None:
        found = await pool.get(name.decode())
        return found if isinstance(found, bytes) else None

    ways: dict[str, Read] = {SHARED: shared, POOL: pooled}
    blocks: dict[str, list[Block]] = {name: [] for name in ways}
    for number in range(pairs + 1):
        for name, read in ways.items():
            block = await _block(read, values, seconds=seconds)
            if number > 0:  # the first round warms up
                blocks[name].append(block)
    return blocks


async def _block(read: Read, values: dict[bytes, bytes], *, seconds: float) -> Block:
    """Read for a while, `IN_FLIGHT` at once. Raises `Unexpected` where a reply is another's."""
    names, done = list(values), 0
    began, used = time.perf_counter(), time.process_time()

    async def reader(place: int) -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            place = (place + 7) % len(names)
            if await read(names[place]) != values[names[place]]:
                raise Unexpected(f"{names[place]!r} holds something else")
            done += 1

    await asyncio.gather(*[reader(place * 31) for place in range(IN_FLIGHT)])
    took_s, used_s = time.perf_counter() - began, time.process_time() - used
    return Block(cpu_us_per_read=used_s * 1e6 / done, reads_per_s=done / took_s)
