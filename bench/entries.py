"""What entries cost: a worker without any, one more of them, and finding or purging one among few and among many.

Invariant: sizes are the kernel's, of processes that do nothing else; what is compared alternates within one process, and a
purge counts only once an entry of its tag is known to be outdated.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from bench import country, machine
from bench.client import Unexpected
from bench.figures import Figure, figure, p99, shown
from bench.servers import ROOT, THE_PRODUCT, serving
from cache.cache_key import CacheKey
from cache.coding import CODINGS, IDENTITY, encode
from cache.entries import Entry
from cache.generations import EVERYTHING, Generations
from cache.memory import Held, MemoryTier
from cache.policy import M
from cache.reading import Fetched, made_of
from cache.store import Cache
from cache.valkey import ValkeyTier
from gateway.prepared import prepare
from sandbox import proc, valkey

NUMBERS = (1_000, 10_000, 100_000)
WEIGHED = 20_000
LOOKS = 20_000
PURGES = 500
TAGGED_MAX = 1_000_000
ROUNDS = 12
LESSONS = 14
UNBOUNDED = 1 << 40
_AT_ONCE = 500
_LIFE_S = 3_600.0
_NOW = 1_800_000_000.0
_ALONE, _AMONG_MANY = "tag:alone", "tag:among-many"


class Size(msgspec.Struct, frozen=True):
    """Of one process, in bytes: all that is resident, and the same with what it shares counted by shares."""

    resident: int
    proportional: int


class Weight(msgspec.Struct, frozen=True):
    """Of one entry, in bytes: its body, what the process grew by, and what tier 1 counts for it."""

    body: int
    one_coding: float
    """Asked for in one coding."""
    every_coding: float
    counted: float


class Looks(msgspec.Struct, frozen=True):
    """Look-ups among so many entries: ns, one of each round.

    `floor_ns`: medians of reading one field of the same objects in a plain dictionary, which nothing does in less.
    """

    entries: int
    median_ns: list[float]
    p99_ns: list[float]
    floor_ns: list[float]


class Purged(msgspec.Struct, frozen=True):
    """Purges of a tag that so many entries have: µs, one of each round, in the process and in Valkey."""

    entries: int
    memory_us: list[float]
    valkey_us: list[float]


class Result(msgspec.Struct, frozen=True):
    """A whole run, as it is written to the results folder."""

    where: machine.Machine
    worker: Size
    weight: Weight
    looks: list[Looks]
    purged: list[Purged]


async def run(*, tagged: int = TAGGED_MAX) -> Result:
    """Measure. Raises: OSError, TimeoutError, ProcessFailed, Unexpected."""
    where = machine.this_machine()
    with country.scratch_folder() as scratch:
        _say("a worker, by requirements.lock alone")
        worker = await _worker_size(scratch)
    _say("an entry's weight")
    # A process that has held nothing before: what Python keeps of what went would hide what came.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
        weight = await asyncio.get_running_loop().run_in_executor(apart, weigh, WEIGHED)
    _say("look-ups")
    looks = look(NUMBERS, rounds=ROUNDS)
    _say(f"purges of {tagged:,} entries")
    with country.scratch_folder() as scratch:
        purged = await purge((1, tagged), scratch, rounds=ROUNDS)
    return Result(where=where, worker=worker, weight=weight, looks=looks, purged=purged)


def size(pid: int) -> Size:
    """What the kernel says of a process. Source: proc_pid_smaps(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Size(resident=kilobytes["Rss"] * 1024, proportional=kilobytes["Pss"] * 1024)


async def _worker_size(scratch: Path) -> Size:
    """A worker that has answered nothing, with what the image installs: development packages bring Litestar plugins."""
    bare = scratch / "bare"
    python = str(bare / "bin" / "python")
    requirements = ("--require-hashes", "-r", str(ROOT / "requirements.lock"))
    for command in (
        (sys.executable, "-m", "venv", str(bare)),
        (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements),
    ):
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    async with (
        country.country(scratch) as ground,
        serving(scratch, ground, {"worker": THE_PRODUCT}, machine.choose_cores(), python=python) as servers,
    ):
        return size(_worker(servers["worker"].running.pid))


def _worker(part: int) -> int:
    """The process that serves phones: the child of the part that manages it. Raises: Unexpected."""
    family = proc.descendants([proc.identity(part)])
    found = [
        one.pid for one in family if (known := proc.look(one.pid)) is not None and known.parent_pid == part
    ]
    workers = [pid for pid in found if "workers" in proc.command(proc.identity(pid))]
    if len(workers) != 1:
        raise Unexpected(f"{len(workers)} workers, not one")
    return workers[0]


def weigh(count: int) -> Weight:
    """Hold `count` entries and see what this process grows by."""
    tier = MemoryTier(max_bytes=UNBOUNDED, max_entries=count)
    own, helds = os.getpid(), []
    gc.collect()
    before = size(own).resident
    for number in range(count):
        key, held = _held(number, coded=True)
        tier.put(key, held)
        prepare(held, CODINGS[0].encode())
        helds.append(held)
    gc.collect()
    one = size(own).resident - before
    for held in helds:
        for coding in (*CODINGS, IDENTITY):
            prepare(held, coding.encode())
    gc.collect()
    every = size(own).resident - before
    return Weight(len(_body(0)), one / count, every / count, tier.held_bytes / count)


def look(numbers: Sequence[int], *, rounds: int) -> list[Looks]:
    """Look entries up among so many, in turn; the first round warms up."""
    caches = {count: _filled(count) for count in numbers}
    plain = {
        count: {key: held for key in keys if (held := cache.peek(key, _NOW + 1)) is not None}
        for count, (cache, keys) in caches.items()
    }
    looks = [Looks(count, [], [], []) for count in numbers]
    for number in range(rounds + 1):
        for one in looks:
            cache, keys = caches[one.entries]
            # Others each time, or the second would find in the processor's caches what the first one brought there.
            first, second = (random.Random(f"{number} {part}").choices(keys, k=LOOKS) for part in range(2))
            times = _looked(partial(cache.peek, now=_NOW + 1), first)
            floor = _looked(partial(_uses, plain[one.entries]), second)
            if number > 0:
                one.median_ns.append(statistics.median(times))
                one.p99_ns.append(p99(times))
                one.floor_ns.append(statistics.median(floor))
    return looks


def _uses(held: Mapping[str, Held], key: str) -> int:
    return held[key].uses


def _looked(find: Callable[[str], object], keys: Sequence[str]) -> list[float]:
    clock, times = time.perf_counter_ns, []
    for key in keys:
        began = clock()
        found = find(key)
        times.append(float(clock() - began))
        if found is None:
            raise Unexpected("an entry is not there")
    return times


async def purge(numbers: tuple[int, int], scratch: Path, *, rounds: int) -> list[Purged]:
    """Purge a tag of few entries and one of many, in turn, in the process and in a Valkey that hold both."""
    few, many = numbers
    holding = {_ALONE: few, _AMONG_MANY: many}
    server = await valkey.start(folder=scratch / "valkey", logs=scratch)
    admin = Redis.from_url(server.url)
    tier = ValkeyTier(server.url, name_secret=b"bench" * 8, monotonic=time.monotonic, operation_max_s=5.0)
    try:
        await admin.config_set("maxmemory", "0")
        memory = MemoryTier(max_bytes=UNBOUNDED, max_entries=few + many)
        cache = Cache(memory=memory, generations=Generations(max_tags=8), clock=lambda: _NOW)
        for tag, count in holding.items():
            await _tagged(memory, tier, tag, count)
        purged = {tag: Purged(count, [], []) for tag, count in holding.items()}
        for number in range(rounds + 1):
            for tag, one in purged.items():
                generation = 2 + number * PURGES
                memory_us = _purged_here(cache, tag, generation)
                valkey_us = await _purged_there(tier, tag, generation)
                if number > 0:
                    one.memory_us.append(memory_us)
                    one.valkey_us.append(valkey_us)
    finally:
        await tier.aclose()
        await admin.aclose()
        await server.process.stop()
    return list(purged.values())


async def _tagged(memory: MemoryTier, tier: ValkeyTier, tag: str, count: int) -> None:
    """Small entries of one tag in both tiers."""
    for began in range(0, count, _AT_ONCE):
        puts = []
        for number in range(began, min(began + _AT_ONCE, count)):
            entry, key = _entry(b"{}", number, tags=(EVERYTHING, tag)), _key(f"{tag}/{number}")
            memory.put(key.text, _holding(key, entry))
            puts.append(tier.put(key, entry.body, entry=entry, life_s=_LIFE_S))
        await asyncio.gather(*puts)


def _purged_here(cache: Cache, tag: str, generation: int) -> float:
    """µs of one purge; afterwards the last entry of the tag must be gone."""
    began = time.perf_counter_ns()
    for higher in range(PURGES):
        cache.purge_memory((tag,), generation + higher)
    took_us = (time.perf_counter_ns() - began) / PURGES / 1000
    if cache.peek(_key(f"{tag}/0").text, _NOW + 1) is not None:
        raise Unexpected("a purged entry is shown")
    return took_us


async def _purged_there(tier: ValkeyTier, tag: str, generation: int) -> float:
    """The same in Valkey, one after the other."""
    began = time.perf_counter_ns()
    for higher in range(PURGES):
        await tier.raise_generations((tag,), generation + higher)
    took_us = (time.perf_counter_ns() - began) / PURGES / 1000
    found = await tier.get(_key(f"{tag}/0"), (EVERYTHING, tag))
    if found.sealed is None or found.generations[1] != generation + PURGES - 1:
        raise Unexpected("an entry is gone, or its tag was not purged")
    return took_us


def _filled(count: int) -> tuple[Cache, list[str]]:
    tier = MemoryTier(max_bytes=UNBOUNDED, max_entries=count)
    keys = []
    for number in range(count):
        key, held = _held(number, coded=False)
        tier.put(key, held)
        keys.append(key)
    return Cache(memory=tier, generations=Generations(max_tags=2 * count), clock=lambda: _NOW), keys


def _held(number: int, *, coded: bool) -> tuple[str, Held]:
    body = _body(number)
    entry = _entry(body, number, tags=(EVERYTHING, f"timetable:{number}"), coded=coded)
    key = _key(f"classes/{number}/timetable/2026-W47")
    return key.text, _holding(key, entry)


def _holding(key: CacheKey, entry: Entry) -> Held:
    return Held(entry, key=key.text, from_s=_NOW, until_s=_NOW + M.fresh_s, fresh_until_s=_NOW + M.fresh_s)


def _entry(body: bytes, number: int, *, tags: tuple[str, ...], coded: bool = False) -> Entry:
    fetched = Fetched(
        body=body,
        epoch=1,
        position=(1, 1_000 + number),
        last_modified="Tue, 17 Nov 2026 16:05:00 GMT",
        coded=encode(body) if coded else (),
    )
    return made_of(
        fetched, key=_key(""), tags=tags, generations=(0,) * len(tags), begun_at=_NOW, previous=None
    )


def _key(resource: str) -> CacheKey:
    return CacheKey(resource=resource, view="class")


def _body(number: int) -> bytes:
    """A synthetic week, about as long as a real answer."""
    subjects = random.Random(number).choices(("math", "physics", "arabic", "french"), k=LESSONS)
    lessons = [
        {"day": 1 + at % 6, "start": "08:30", "end": "10:30", "subject": subject, "teacher": f"{number:06}-{at:02}", "room": "S1"}
        for at, subject in enumerate(subjects)
    ]  # fmt: skip
    return msgspec.json.encode({"week": "2026-W47", "class_id": f"class{number:011d}", "lessons": lessons})


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def table(result: Result) -> str:
    """The run as text."""
    where, worker, weight = result.where, result.worker, result.weight
    return "\n".join([
        "what entries cost",
        f"  {where.processor}, {where.cores} cores, Python {where.python}, load average {where.load_average} before",
        f"  a worker without entries, by requirements.lock alone: {_megabytes(worker.resident)} resident, {_megabytes(worker.proportional)} in shares",
        f"  an entry of {weight.body:,} bytes: {weight.one_coding:,.0f} bytes when asked for in one coding,",
        f"  {weight.every_coding:,.0f} in each; counted as {weight.counted:,.0f}",
        *(
            f"  a look-up among {one.entries:>9,} entries: median {_figure(one.median_ns)} ns, p99 {_figure(one.p99_ns)} ns;"
            f" in a plain dictionary {_figure(one.floor_ns)} ns"
            for one in result.looks
        ),
        *(
            f"  a purge of a tag of {one.entries:>9,}: {_figure(one.memory_us, 2)} µs in the process,"
            f" {_figure(one.valkey_us, 1)} µs in Valkey"
            for one in result.purged
        ),
    ])  # fmt: skip


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB ({count / 1e6:.0f} MB)"


def _figure(rounds: Sequence[float], digits: int = 0) -> str:
    of: Figure = figure(rounds)
    return shown(of, digits)
