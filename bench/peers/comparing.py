"""A scenario measured at every server in turn: what a request costs, how many there can be, how long they wait.

Invariant: blocks alternate server by server, the first round warms up and is dropped, ratios are taken inside a round;
before that every server has given the same bytes for every path that is asked, and refused a token that nobody signed.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench import machine
from bench.client import Unexpected
from bench.peers import open_loop, peak, setups, tools
from bench.peers.people import Issuer, Pupil
from bench.peers.probing import probe
from bench.peers.scenarios import Lane, Scenario, raw, requests
from sandbox import ports, processes

READY_WITHIN_S = 30.0
LATENCY_SHARE = 0.5
# Half of the ten minutes that an access token lives.
RENEWED_AFTER_S = 300.0
WARMED_TIMES = 1.3
WARMED_MAX_S = 60
_FORGED = "a" * 86


class Peer(msgspec.Struct, frozen=True):
    """A server that takes part: its port and all its processes."""

    port: int
    running: Sequence[processes.Running]


class Block(msgspec.Struct, frozen=True):
    """What one server did in one round; times in milliseconds, at `LATENCY_SHARE` of its own peak."""

    requests_per_s: float
    cpu_us_per_request: float
    offered_per_s: float
    p50_ms: float
    p99_ms: float


@asynccontextmanager
async def serving(ground: setups.Ground, names: Iterable[str], core: int) -> AsyncIterator[dict[str, Peer]]:
    """Start the peers on a core. Raises: Missing, ProcessFailed."""
    wanted = list(names)
    free = ports.free_ports(2 * len(wanted))
    peers: dict[str, Peer] = {}
    started: list[processes.Running] = []
    try:
        for name in wanted:
            port = free.pop()
            programs = setups.SETUPS[name](ground, port, free.pop())
            with machine.pinned(core):
                running = [
                    processes.spawn(
                        program.command,
                        name=f"{name}-{number}",
                        log=ground.folder / f"{name}-{number}.log",
                        environment={**processes.BARE_ENVIRONMENT, **program.environment},
                    )
                    for number, program in enumerate(programs)
                ]
            started += running
            peers[name] = Peer(port, running)
        for peer in peers.values():
            await processes.ready(peer.running[0], partial(_listens, peer.port), within_s=READY_WITHIN_S)
        yield peers
    finally:
        await asyncio.gather(*(running.stop() for running in started))


async def agree(
    peers: Mapping[str, Peer], issuer: Issuer, pupils: Sequence[Pupil], bodies: Mapping[str, bytes]
) -> dict[str, dict[str, bytes]]:
    """Each server's entity tags by path, after it gave every one of `bodies`. Raises: Unexpected."""
    etags: dict[str, dict[str, bytes]] = {}
    for name, peer in peers.items():
        asked = list(issuer.tokens(pupils, len(pupils)))
        answers = await probe(peer.port, [raw(pupil.path, token) for pupil, token in asked])
        for (pupil, _), answer in zip(asked, answers, strict=True):
            if answer.status != 200 or answer.body != bodies[pupil.path]:
                raise Unexpected(f"{name}: {answer.status}, other bytes than the gateway gives")
        etags[name] = {
            pupil.path: answer.fields.get(b"etag", b"")
            for (pupil, _), answer in zip(asked, answers, strict=True)
        }
        if name not in setups.CHECKS_NO_TOKEN:
            await _refuses_forgeries(name, peer, asked[0])
    return etags


async def _refuses_forgeries(name: str, peer: Peer, asked: tuple[Pupil, str]) -> None:
    pupil, token = asked
    head, payload, _ = token.split(".")
    (refused,) = await probe(peer.port, [raw(pupil.path, f"{head}.{payload}.{_FORGED}")])
    if refused.status not in {401, 403}:
        raise Unexpected(f"{name}: {refused.status} for a signature that nobody made")


class Measuring(msgspec.Struct, frozen=True):
    """How long and how hard."""

    rounds: int
    seconds: int
    connections: int
    rate: float


class Load:
    """The requests of one scenario, with tokens that are made anew before they run out."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        issuer: Issuer,
        pupils: Sequence[Pupil],
        etags: Mapping[str, Mapping[str, bytes]],
        scratch: Path,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._scenario = scenario
        self._issuer = issuer
        self._pupils = pupils
        self._etags = etags
        self._scratch = scratch
        self._made_at = -RENEWED_AFTER_S
        self._tokens: list[tuple[Pupil, str]] = []

    def due(self) -> bool:
        """Whether new tokens are."""
        return self._scenario.fresh or self._monotonic() >= self._made_at + RENEWED_AFTER_S

    def renew(self) -> None:
        """Make new tokens."""
        self._made_at = self._monotonic()
        self._tokens = list(self._issuer.tokens(self._pupils, self._scenario.tokens))

    def of(self, lane: Lane) -> list[bytes]:
        """What is sent in a lane."""
        return requests(lane, self._tokens, self._etags[lane.server])

    def kept(self, wanted: Sequence[bytes]) -> Path:
        """The same as a file, until the next one."""
        return peak.write(self._scratch / "requests", wanted)


async def measure(
    scenario: Scenario, peers: Mapping[str, Peer], load: Load, how: Measuring
) -> dict[str, list[Block]]:
    """All rounds of one scenario, by lane. Raises: Unexpected."""
    blocks: dict[str, list[Block]] = {lane.name: [] for lane in scenario.lanes}
    peaks: dict[str, float] = {}
    for number in range(how.rounds + 1):
        print(f"bench: {scenario.name}, round {number} of {how.rounds}", file=sys.stderr, flush=True)
        new = load.due()
        if new:
            load.renew()
        for lane in scenario.lanes:
            peer, wanted = peers[lane.server], load.of(lane)
            if new and not scenario.fresh:
                await _warm(peer, load.kept(wanted), len(wanted), how)
            parts = _thirds(wanted) if scenario.fresh else (wanted, wanted, wanted)
            block = await _block(lane, peer, parts, load, how, peaks.get(lane.name))
            peaks.setdefault(lane.name, block.requests_per_s)
            _must_be_fresh(scenario, block, how, len(parts[0]))
            for running in peer.running:
                processes.bound_log(running.log)
            if number > 0:  # the first round warms up
                blocks[lane.name].append(block)
    return blocks


def _thirds(wanted: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]]:
    """Fresh tokens are fresh once: each of the three measurements of a block takes some of its own."""
    third = len(wanted) // 3
    return wanted[:third], wanted[third : 2 * third], wanted[2 * third : 3 * third]


def _must_be_fresh(scenario: Scenario, block: Block, how: Measuring, tokens: int) -> None:
    if scenario.fresh and max(block.requests_per_s, block.offered_per_s) * how.seconds > tokens:
        raise Unexpected(f"{scenario.name}: {tokens} tokens are too few, some were seen twice")


async def _warm(peer: Peer, file: Path, count: int, how: Measuring) -> None:
    """Let a server see every request at least once."""
    wrk = tools.program("wrk")
    first = await peak.peak(wrk, peer.port, file, connections=how.connections, seconds=1)
    if count > first.requests:
        seconds = math.ceil(WARMED_TIMES * count * first.seconds / max(1, first.requests))
        await peak.peak(wrk, peer.port, file, connections=how.connections, seconds=min(seconds, WARMED_MAX_S))


async def _block(
    lane: Lane,
    peer: Peer,
    parts: tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]],
    load: Load,
    how: Measuring,
    known_peak: float | None,
) -> Block:
    at_once, at_a_rate, at_half = parts
    wrk = tools.program("wrk")
    most = await peak.peak(
        wrk, peer.port, load.kept(at_once), connections=how.connections, seconds=how.seconds
    )
    per_s = most.requests / most.seconds
    half = (known_peak or per_s) * LATENCY_SHARE
    # What a peer cannot do at the common rate it is asked at half of what it can.
    rate = min(how.rate, half)
    offer = partial(
        open_loop.offer, peer.port, status=lane.status, seconds=how.seconds, connections=how.connections
    )
    used_s = _cpu_s(peer)
    offered = await offer(at_a_rate, rate=rate)
    used_s = _cpu_s(peer) - used_s
    waits = await offer(at_half, rate=half)
    return Block(
        requests_per_s=per_s,
        cpu_us_per_request=used_s * 1e6 / offered.requests,
        offered_per_s=rate,
        p50_ms=waits.p50_ms,
        p99_ms=waits.p99_ms,
    )


def _cpu_s(peer: Peer) -> float:
    return sum(machine.cpu_s(running.who) for running in peer.running)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
