"""A scenario measured in every lane in turn: what a request costs, how many there can be, how long they wait.

Invariant: each round gives every lane a block, in an order that turns from round to round; the first round warms up and is
dropped; ratios are taken inside a round. Each load goes on in the list of requests where the one before it ended.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench import machine
from bench.client import Refused, Unexpected
from bench.peers import http2, open_loop, peak, tools
from bench.peers.people import Issuer, Pupil
from bench.peers.scenarios import Lane, Scenario, requests
from bench.peers.serving import Peer
from sandbox import processes

LATENCY_SHARE = 0.5
# Of the ten minutes that an access token lives, with room for a round.
RENEWED_AFTER_S = 400.0
# What is looked up once a minute is looked up before a block; what tier 1 looks up again every 3 s, within it.
WARMING_S = 1
WARMED_TIMES = 1.3
# So few requests are asked one after the other before every block: together they are more misses than a datacenter takes.
# Of more, one of each pupil's is, and the rest are seen when their tokens are new.
ALWAYS_WARMED_MAX = 2_000
WARMED_MAX_S = 240
AGAIN_MAX = 2


class Block(msgspec.Struct, frozen=True):
    """What one lane did in one round.

    `busy`: the share of a core that the server used at its peak, beside a load that may be the slower of the two. Waits
    in milliseconds, at `LATENCY_SHARE` of that peak. `again`: how often it was begun again, because something was refused.
    """

    requests_per_s: float
    busy: float
    cpu_us_per_request: float
    offered_per_s: float
    p50_ms: float
    p99_ms: float
    again: int = 0


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
        seconds: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._scenario = scenario
        self._issuer = issuer
        self._pupils = pupils
        self._etags = etags
        self._scratch = scratch
        self._count = scenario.tokens * (seconds if scenario.fresh else 1)
        self._made_at = -RENEWED_AFTER_S
        self._tokens: list[tuple[Pupil, str]] = []
        self._sent: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._seen_by: set[str] = set()

    @property
    def fresh(self) -> bool:
        """Whether no token is to be seen twice."""
        return self._scenario.fresh

    def due(self) -> bool:
        """Whether new tokens are."""
        return self.fresh or self._monotonic() >= self._made_at + RENEWED_AFTER_S

    def renew(self) -> None:
        """Make new tokens."""
        self._made_at = self._monotonic()
        self._tokens = self._scenario.asked(list(self._issuer.tokens(self._pupils, self._count)))
        self._sent = {}
        self._seen_by = set()

    def unseen(self, lane: Lane) -> bool:
        """Whether the lane's server has not seen these tokens yet."""
        return lane.name not in self._seen_by

    def seen(self, lane: Lane) -> None:
        """It has."""
        self._seen_by.add(lane.name)

    def next(self, lane: Lane) -> list[bytes]:
        """What is sent in a lane, beginning with what was not sent yet."""
        wanted = requests(lane, self._tokens, self._etags[lane.server])
        at = self._sent.get(lane.name, 0) % len(wanted)
        return wanted[at:] + wanted[:at]

    def one_each(self, lane: Lane) -> list[bytes]:
        """One request of every pupil who asks."""
        found = {pupil.subject: (pupil, token) for pupil, token in self._tokens}
        return requests(lane, found.values(), self._etags[lane.server])

    def others(self, lane: Lane) -> list[bytes]:
        """One request of every pupil with a token that is in no load."""
        tokens = self._issuer.tokens(self._pupils, len(self._pupils))
        return requests(lane, tokens, self._etags[lane.server])

    def sent(self, lane: Lane, count: int) -> None:
        """So many were. Raises: Unexpected where every token was to be a new one and some were not."""
        self._sent[lane.name] = total = self._sent.get(lane.name, 0) + count
        if self._scenario.fresh and total > self._count:
            raise Unexpected(f"{self._count} tokens are too few: {lane.title} has seen some of them twice")

    def kept(self, wanted: Sequence[bytes]) -> Path:
        """The same as a file, until the next one."""
        return peak.write(self._scratch / "requests", wanted)

    def people(self, lane: Lane, count: int) -> list[tuple[Pupil, str]]:
        """Who asks next in a lane where only so many ask at once: those who have not for the longest time."""
        at = self._asked.get(lane.name, 0)
        self._asked[lane.name] = at + count
        return [self._tokens[(at + number) % len(self._tokens)] for number in range(count)]

    @property
    def place(self) -> Path:
        """A folder for what their senders write."""
        return self._scratch / "senders"


async def measure(
    scenario: Scenario, peers: Mapping[str, Peer], load: Load, how: Measuring
) -> dict[str, list[Block]]:
    """All rounds of one scenario, by lane. Raises: Unexpected, OSError, TimeoutError."""
    blocks: dict[str, list[Block]] = {lane.name: [] for lane in scenario.lanes}
    for number in range(how.rounds + 1):
        print(f"bench: {scenario.name}, round {number} of {how.rounds}", file=sys.stderr, flush=True)
        if load.due():
            load.renew()
        turn = number % len(scenario.lanes)
        for lane in (*scenario.lanes[turn:], *scenario.lanes[:turn]):
            peer = peers[lane.server]
            block = await _tried(lane, peer, load, how)
            for running in peer.running:
                processes.bound_log(running.log)
            if number > 0:  # the first round warms up
                blocks[lane.name].append(block)
    return blocks


async def _tried(lane: Lane, peer: Peer, load: Load, how: Measuring) -> Block:
    """One block; where something was refused, as servers short of their core do, all of it once more. Raises: Unexpected."""
    again = 0
    while True:
        try:
            if load.fresh:  # the tokens are what is new: answers, and what is known of people, are not
                await peer.probe(load.others(lane))
            else:
                await _warm(lane, peer, load, how, every=load.unseen(lane))
                load.seen(lane)
            return msgspec.structs.replace(await _block(lane, peer, load, how), again=again)
        except Refused as reason:
            if again == AGAIN_MAX:
                raise
            again += 1
            print(
                f"bench: {lane.title} once more: {str(reason).splitlines()[0]}", file=sys.stderr, flush=True
            )
            if load.due():
                load.renew()


async def _warm(lane: Lane, peer: Peer, load: Load, how: Measuring, *, every: bool) -> None:
    """Let a server see what comes next; with `every`, or where it is little, all of it at least once."""
    wrk, wanted = tools.program("wrk"), list(dict.fromkeys(load.next(lane)))
    await peer.probe(wanted if len(wanted) <= ALWAYS_WARMED_MAX else load.one_each(lane))
    if peer.certificate is not None:
        return  # a load over HTTP/2 begins by warming
    file = load.kept(wanted)
    first = await peak.peak(wrk, peer.port, file, connections=how.connections, seconds=WARMING_S)
    if every and len(wanted) > max(first.requests, ALWAYS_WARMED_MAX):
        seconds = math.ceil(WARMED_TIMES * len(wanted) * first.seconds / max(1, first.requests))
        if seconds > WARMED_MAX_S:
            raise Unexpected(f"{lane.title} would need {seconds} s to see every request once")
        await peak.peak(wrk, peer.port, file, connections=how.connections, seconds=seconds)
    for running in peer.running:
        processes.bound_log(running.log)


async def _block(lane: Lane, peer: Peer, load: Load, how: Measuring) -> Block:
    per_s, busy = await _most(lane, peer, load, how)
    half = per_s * LATENCY_SHARE
    # What a peer cannot do at the common rate it is asked at half of what it can.
    rate = min(how.rate, half)
    offered, used_s = await _offered(lane, peer, load, how, rate=rate)
    waits, _ = await _offered(lane, peer, load, how, rate=half)
    return Block(
        requests_per_s=per_s,
        busy=busy,
        cpu_us_per_request=used_s * 1e6 / offered.requests,
        offered_per_s=rate,
        p50_ms=waits.p50_ms,
        p99_ms=waits.p99_ms,
    )


async def _most(lane: Lane, peer: Peer, load: Load, how: Measuring) -> tuple[float, float]:
    """How many requests a second a server answers at most, and the share of its core that it used for them."""
    if peer.certificate is not None:
        driven = await _driven(lane, peer, load, how, rate=None)
        return driven.requests / driven.seconds, driven.cpu_s / driven.seconds
    wrk, wanted, used_s = tools.program("wrk"), load.kept(load.next(lane)), _cpu_s(peer)
    done = await peak.peak(wrk, peer.port, wanted, connections=how.connections, seconds=how.seconds)
    used_s = _cpu_s(peer) - used_s
    load.sent(lane, done.requests)
    return done.requests / done.seconds, used_s / done.seconds


async def _offered(
    lane: Lane, peer: Peer, load: Load, how: Measuring, *, rate: float
) -> tuple[open_loop.Offered, float]:
    """What became of so many requests a second, and the server's processor time in seconds."""
    if peer.certificate is not None:
        driven = await _driven(lane, peer, load, how, rate=rate)
        return driven, driven.cpu_s
    wanted, used_s = load.next(lane), _cpu_s(peer)
    done = await open_loop.offer(
        peer.port,
        wanted,
        status=lane.status,
        rate=rate,
        seconds=how.seconds,
        connections=how.connections,
    )
    used_s = _cpu_s(peer) - used_s
    load.sent(lane, done.requests)
    return done, used_s


async def _driven(lane: Lane, peer: Peer, load: Load, how: Measuring, *, rate: float | None) -> http2.Driven:
    return await http2.drive(
        tools.program("h2load"),
        peer.port,
        load.people(lane, max(1, how.connections // http2.CONNECTIONS_EACH)),
        place=load.place,
        rate=rate,
        seconds=how.seconds,
        cpu_s=lambda: _cpu_s(peer),
    )


def _cpu_s(peer: Peer) -> float:
    return sum(machine.cpu_s(running.who) for running in peer.running)
