"""What a reader waits when Valkey has a bad day: killed, hung, full, slow, with another password, or talking garbage.

One process serves requests at a fixed rate through the cache. Each is what a first read is: what is known of the caller, then
what is asked for, nearly always from tier 2; the datacenter behind it answers at once, so what is waited for is Valkey. A
wait counts from when its request was due.

Invariant: every read's bytes are compared with what the datacenter holds; what is printed is what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from bench import country, machine
from bench.figures import p99
from cache.cache_key import CacheKey
from cache.entries import Entry
from cache.generations import Generations
from cache.memory import MemoryTier
from cache.policy import RELATIONS, M, Policy
from cache.reading import Event, Fetched
from cache.request import Places, begin_request
from cache.sealing import Sealer, SealingKeys
from cache.store import Cache
from cache.valkey import ValkeyTier
from sandbox import ports, valkey

PAGES = 2_000
BODY_BYTES = 1_400
RATE_PER_S = 300
HEALTHY_S = 3.0
FAULT_S = 5.0
# So few entries fit into tier 1 that nearly every read asks tier 2.
TIER1_BYTES = 1_048_576
# From within what counts as prompt to just below what counts as silent.
SLOW_S = (0.02, 0.045, 0.08)
BACK_WITHIN_S = 30.0
PASSWORD = "bench"
_GARBAGE = b"$-7\r\nnot a reply\r\n"
_SECRET = bytes(32)


class Day(msgspec.Struct, frozen=True):
    """One fault. Waits in ms; `back_s`: from its end until tier 2 answers again."""

    fault: str
    reads: int
    wrong: int
    failed: int
    healthy_p99_ms: float
    p99_ms: float
    longest_ms: float
    back_s: float


class Result(msgspec.Struct, frozen=True):
    """All days, as they are written to the results folder."""

    where: machine.Machine
    days: list[Day]


class Wire:
    """What lies between the cache and its Valkey: passes everything on, late or as garbage where it is told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self.late_s = 0.0
        self.garbage = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen for the block; gives the port."""
        server = await asyncio.start_server(self._accept, ports.LOOPBACK, 0)
        try:
            async with server:
                yield server.sockets[0].getsockname()[1]
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for end in self._ends:  # also of who was given up before he began
                end.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies, questions = await asyncio.open_connection(ports.LOOPBACK, self._port)
        except OSError:
            writer.close()
            return
        self._ends |= {questions, writer}
        for source, sink, late in ((reader, questions, False), (replies, writer, True)):
            task = asyncio.create_task(self._pass(source, sink, late=late))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        coming: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        going = asyncio.create_task(_pass_in_order(coming, sink))
        self._tasks.add(going)
        going.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                some = _GARBAGE if late and self.garbage else data
                coming.put_nowait((time.monotonic() + (self.late_s if late else 0.0), some))
        coming.put_nowait((0.0, b""))
        await going
        self._ends.discard(sink)


async def _pass_in_order(coming: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
    while (next_one := await coming.get())[1]:
        due, some = next_one
        if (early := due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        sink.write(some)
    sink.close()


class Ground:
    """The Valkey, the wire to it and the cache that is measured."""

    def __init__(self, server: valkey.ValkeyServer, wire: Wire, cache: Cache, folder: Path) -> None:
        self.server = server
        self.wire = wire
        self.cache = cache
        self.folder = folder
        self.events: Counter[Event] = Counter()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Redis]:
        """A connection beside the wire."""
        async with Redis(host=ports.LOOPBACK, port=self.server.port, password=PASSWORD) as client:
            yield client

    async def read(self, number: int) -> bool:
        """One request; whether its bytes were right."""
        begin_request(Places(working_max=1, waiting_max=0))
        page = number % PAGES
        caller = await self._read(f"people/{page}", b"%08d" % page, RELATIONS)
        return await self._read(f"pages/{page}", b"%08d" % page + bytes(BODY_BYTES), M) and caller

    async def _read(self, resource: str, body: bytes, policy: Policy) -> bool:
        async def fetch(_previous: Entry | None) -> Fetched:
            return Fetched(body=body, epoch=1, position=(1, 1))

        key = CacheKey(resource=resource, view="bench")
        found = await self.cache.read(key, policy=policy, tags=(resource,), fetch=fetch)
        return found.entry.body == body


Fault = Callable[[Ground], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(ground: Ground) -> AsyncIterator[None]:
    """No process, then a new and empty one."""
    ground.server.process.kill()
    yield
    ground.server = await valkey.start(
        folder=ground.folder / "again", logs=ground.folder, port=ground.server.port, password=PASSWORD
    )


@asynccontextmanager
async def hung(ground: Ground) -> AsyncIterator[None]:
    """A process that does nothing."""
    os.kill(ground.server.process.pid, signal.SIGSTOP)
    yield
    os.kill(ground.server.process.pid, signal.SIGCONT)


@asynccontextmanager
async def full(ground: Ground) -> AsyncIterator[None]:
    """Nothing more is taken, and most of what there was is gone."""
    async with ground.admin() as admin:
        await admin.flushall()
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.config_set("maxmemory", "1")
        yield
        await admin.config_set("maxmemory", str(valkey.MEMORY_BYTES_MAX))
        await admin.config_set("maxmemory-policy", "volatile-ttl")


def slow(late_s: float, *, empty: bool = False) -> Fault:
    """Every reply comes late, and none too late; `empty`: nothing is there, so every read fills."""

    @asynccontextmanager
    async def fault(ground: Ground) -> AsyncIterator[None]:
        if empty:
            async with ground.admin() as admin:
                await admin.flushall()
        ground.wire.late_s = late_s
        yield
        ground.wire.late_s = 0.0

    return fault


@asynccontextmanager
async def locked(ground: Ground) -> AsyncIterator[None]:
    """Another password, and every connection ended."""
    async with ground.admin() as admin:
        await admin.config_set("requirepass", "another")
        await admin.client_kill_filter(_type="normal", skipme=True)
        yield
        await admin.config_set("requirepass", PASSWORD)


@asynccontextmanager
async def garbage(ground: Ground) -> AsyncIterator[None]:
    """What it says is no reply."""
    ground.wire.garbage = True
    yield
    ground.wire.garbage = False


FAULTS: dict[str, Fault] = {
    "killed": killed,
    "hung": hung,
    "full": full,
    **{
        f"slow{' and empty' if empty else ''} ({late_s * 1000:.0f} ms)": slow(late_s, empty=empty)
        for late_s in SLOW_S
        for empty in (False, True)
    },
    "wrong password": locked,
    "garbage": garbage,
}


async def run() -> Result:
    """Every fault in turn on one Valkey. Raises: OSError, TimeoutError, ProcessFailed."""
    days: list[Day] = []
    where = machine.this_machine()
    with country.scratch_folder() as scratch:
        async with _ground(scratch) as ground:
            for fault in FAULTS:
                print(f"bench: {fault}", file=sys.stderr, flush=True)
                days.append(await _day(ground, fault))
    return Result(where, days)


@asynccontextmanager
async def _ground(scratch: Path) -> AsyncIterator[Ground]:
    server = await valkey.start(folder=scratch / "valkey", logs=scratch, password=PASSWORD)
    wire = Wire(server.port)
    async with wire.open() as port:
        keys = SealingKeys(current=1, keys={1: _SECRET})
        tier = ValkeyTier(
            f"redis://:{PASSWORD}@{ports.LOOPBACK}:{port}/0",
            name_secret=keys.name_secret,
            monotonic=time.monotonic,
        )
        events: Counter[Event] = Counter()
        cache = Cache(
            memory=MemoryTier(max_bytes=TIER1_BYTES),
            generations=Generations(max_tags=10 * PAGES),
            clock=time.time,
            valkey=tier,
            sealer=Sealer(keys),
            on_event=lambda event: events.update((event,)),
        )
        cache.go_by(lambda: True)
        ground = Ground(server, wire, cache, scratch)
        ground.events = events
        try:
            yield ground
        finally:
            await cache.aclose()
            await ground.server.process.stop()


async def _day(ground: Ground, fault: str) -> Day:
    for page in range(PAGES):
        await ground.read(page)
    healthy, _, _ = await _load(ground, HEALTHY_S)
    async with FAULTS[fault](ground):
        waits, wrong, failed = await _load(ground, FAULT_S)
    ended = time.monotonic()
    return Day(
        fault=fault,
        reads=len(waits),
        wrong=wrong,
        failed=failed,
        healthy_p99_ms=p99(healthy) * 1000,
        p99_ms=p99(waits) * 1000,
        longest_ms=max(waits) * 1000,
        back_s=await _back(ground) - ended,
    )


async def _load(ground: Ground, seconds: float) -> tuple[list[float], int, int]:
    """The waits of all reads due within so many seconds, how many brought wrong bytes, how many failed."""
    waits: list[float] = []
    outcomes: Counter[str] = Counter()

    async def one(number: int, due: float) -> None:
        try:
            outcomes["right" if await ground.read(number) else "wrong"] += 1
        except Exception as error:  # noqa: BLE001 - whatever a reader would have met
            outcomes["failed"] += 1
            print(f"bench: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        waits.append(time.monotonic() - due)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * RATE_PER_S)):
            due = began + number / RATE_PER_S
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            group.create_task(one(next(_turn), due))
    return waits, outcomes["wrong"], outcomes["failed"]


# Not in the order in which they were kept: every read a page that tier 1 has forgotten.
_turn = itertools.count(step=7)


async def _back(ground: Ground) -> float:
    """When tier 2 first brought an entry again. Raises: TimeoutError."""
    before = ground.events[Event.HIT_TIER2]
    async with asyncio.timeout(BACK_WITHIN_S):
        while ground.events[Event.HIT_TIER2] == before:
            ground.cache.clear_memory()
            await ground.read(0)
            await asyncio.sleep(0.001)
    return time.monotonic()


def table(result: Result) -> str:
    """The run as text."""
    head = ("reads", "wrong", "failed", "p99 before", "p99", "longest", "back after s")
    return "\n".join([
        f"requests of two reads each at {RATE_PER_S}/s while Valkey has a bad day of {FAULT_S:.0f} s; waits in ms",
        f"  {result.where.processor}, {result.where.cores} cores, load average {result.where.load_average} before",
        f"  {'':<26}" + "".join(f"{name:>13}" for name in head),
        *(
            f"  {day.fault:<26}{day.reads:>13}{day.wrong:>13}{day.failed:>13}{day.healthy_p99_ms:>13.1f}"
            f"{day.p99_ms:>13.1f}{day.longest_ms:>13.1f}{day.back_s:>13.2f}"
            for day in result.days
        ),
    ])  # fmt: skip
