"""What a warm read costs one worker, and two.

All workers share the servers' core, far from busy: with a core each the second would share the load's, and neither cost be
the other's. Two workers are asked twice, since neither load is quite that of a node with a core for each. With one worker's
load between them the core is asked as often as before, but each worker half as often, so that its own work (feeds, renewals)
weighs double; the aim is judged by this. With one worker's load for each, the core they share rests less between requests.

Invariant: both servers are up all the time and take turns; every answer came from the edge but for the odd one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import country, machine
from bench.client import Unexpected
from bench.figures import Figure, interval, ratio_interval, row, shown
from bench.peers import open_loop
from bench.peers.scenarios import raw
from bench.servers import THE_PRODUCT, Server, serving
from bench.warm_read import ROUTED_SHARE_MAX, routed
from sandbox import proc, processes

ONE, TWO = "one", "two"
WORKERS = {ONE: 1, TWO: 2}
CONNECTIONS = 64
WARMING_S = 1.0
# Two costs are called equal within this.
EQUAL_WITHIN = 0.05


class Lane(msgspec.Struct, frozen=True):
    """A server as it is asked: `times` the load of one worker."""

    server: str
    title: str
    times: int = 1


ALONE, SHARED, DOUBLED = "alone", "shared", "doubled"
LANES = {
    ALONE: Lane(ONE, "A  one worker"),
    SHARED: Lane(TWO, "B  two workers, the same load together"),
    DOUBLED: Lane(TWO, "C  two workers, the same load each", times=2),
}


class Block(msgspec.Struct, frozen=True):
    """What one lane did in one block. `busiest`: the share of its processor time that its busiest worker used."""

    cpu_us_per_request: float
    p99_ms: float
    busiest: float


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder; `ratios` are what two workers take by what one takes."""

    where: machine.Machine
    cores: machine.Cores
    seconds: int
    rate: float
    body_bytes: int
    blocks: dict[str, list[Block]]
    ratios: dict[str, Figure]


async def run(*, pairs: int, seconds: int, rate: float) -> Result:
    """Set everything up, measure, take everything down. Raises: Unexpected, ProcessFailed, OSError."""
    cores, here = machine.choose_cores(), machine.this_machine()
    blocks: dict[str, list[Block]] = {name: [] for name in LANES}
    commands = dict.fromkeys(WORKERS, THE_PRODUCT)
    with machine.pinned(cores.load), tempfile.TemporaryDirectory(prefix="massar-bench-") as scratch:
        place = Path(scratch)
        _say("starting a sandbox")
        async with (
            country.country(place) as ground,
            serving(place, ground, commands, cores, workers=WORKERS) as servers,
        ):
            _say(f"measuring {pairs} rounds of {len(LANES)} blocks of {seconds} s")
            for number in range(pairs + 1):
                turn = number % len(LANES)
                for name in (*tuple(LANES)[turn:], *tuple(LANES)[:turn]):
                    lane = LANES[name]
                    server = servers[lane.server]
                    block = await _block(server, ground, seconds=seconds, rate=rate * lane.times)
                    if number > 0:  # the first round warms up
                        blocks[name].append(block)
    return Result(
        where=here,
        cores=cores,
        seconds=seconds,
        rate=rate,
        body_bytes=len(ground.body),
        blocks=blocks,
        ratios={
            name: ratio_interval(_cpu_us(blocks[name]), _cpu_us(blocks[ALONE])) for name in (SHARED, DOUBLED)
        },
    )


async def _block(server: Server, ground: country.Ground, *, seconds: float, rate: float) -> Block:
    """Warm every worker, then so many requests a second."""
    await _offered(server, ground, seconds=WARMING_S, rate=rate)
    through, began = routed(server), _used(server)
    done = await _offered(server, ground, seconds=seconds, rate=rate)
    used = {pid: used_s - began.get(pid, 0.0) for pid, used_s in _used(server).items()}
    if (through := routed(server) - through) > ROUTED_SHARE_MAX * done.requests:
        raise Unexpected(f"{through} of {done.requests} reads were not answered by the edge")
    processes.bound_log(server.running.log)
    used_s = sum(used.values())
    return Block(
        cpu_us_per_request=used_s * 1e6 / done.requests,
        p99_ms=done.p99_ms,
        busiest=max(used.values()) / used_s,
    )


async def _offered(
    server: Server, ground: country.Ground, *, seconds: float, rate: float
) -> open_loop.Offered:
    return await open_loop.offer(
        server.port,
        [raw(ground.path, ground.token)],
        rate=rate,
        seconds=seconds,
        connections=CONNECTIONS,
        in_turn=True,
    )


def _used(server: Server) -> dict[int, float]:
    """Seconds of processor time of each of a server's processes so far."""
    return {who.pid: machine.used_s(who.pid) for who in proc.descendants([server.running.who])}


def _cpu_us(blocks: Sequence[Block]) -> list[float]:
    return [block.cpu_us_per_request for block in blocks]


def table(result: Result) -> str:
    """The run as text."""
    where = result.where
    versions = ", ".join(f"{name} {number}" for name, number in where.versions.items())
    return "\n".join([
        f"warm authenticated read of {result.body_bytes} bytes, {result.rate:,.0f} requests/s",
        f"  {where.processor}, {where.cores} cores, Linux {where.kernel}, load average {where.load_average} before",
        f"  all workers on core {result.cores.server}; load and the idle sandbox on core {result.cores.load}",
        f"  Python {where.python}, {versions}",
        f"  {CONNECTIONS} connections in turn, {len(result.blocks[ALONE])} rounds of {result.seconds} s blocks; medians (95 %)",
        "",
        row("", "CPU µs per request", "p99 ms", "share of the busiest worker"),
        *(
            row(
                lane.title,
                shown(interval(_cpu_us(result.blocks[name])), 1),
                shown(interval([block.p99_ms for block in result.blocks[name]]), 2),
                f"{statistics.median(block.busiest for block in result.blocks[name]):.0%}",
            )
            for name, lane in LANES.items()
        ),
        "",
        f"ratio  CPU per request B / A: {shown(result.ratios[SHARED], 3)}   aim: equal within {EQUAL_WITHIN:.0%}: {_judged(result.ratios[SHARED])}",
        f"ratio  CPU per request C / A: {shown(result.ratios[DOUBLED], 3)}",
    ])  # fmt: skip


def _judged(ratio: Figure) -> str:
    """An aim is met when the whole interval is within it, and missed when all of it is beyond."""
    low, high = 1 - EQUAL_WITHIN, 1 + EQUAL_WITHIN
    if low <= ratio.low and ratio.high <= high:
        return "met"
    return "not met" if ratio.low > high or ratio.high < low else "within the interval"


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
