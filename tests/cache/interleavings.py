"""A machine that interleaves writes, purges, fills and reads of two workers over one real Valkey.

What it holds against the cache, after every step:
- who begins to read after having heard a purge sees what that purge announced, from whatever tier and in whatever
  state, however the fills of others overlap;
- a purge that one worker told Valkey reaches another one that has lost the feed: at once where nothing is in its memory
  that may be shown, else within tier 1's window;
- what tier 1 holds is never replaced by an older version;
- nobody is shown less than what an answer of the same worker had shown before he asked.

What was drawn says all of what happens, however slow the machine: else Hypothesis could neither replay nor shrink it.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cache.bounded_valkey import BoundedValkey, Question, Script
from cache.cache_key import CacheKey
from cache.entries import Entry
from cache.leases import Heard, Lease, Leases
from cache.policy import TIER1_RECHECK_MAX_S, S
from cache.reading import Fetched, Reading
from cache.valkey import ValkeyTier
from tests.cache.building import KEYS, Clock, Switching, World

WORKERS = st.integers(0, 1)
INDEX = st.integers(0, 5)  # of what there is, round and round: a step that does nothing finds nothing
EXAMPLES = itertools.count()


class Patience(selectors.DefaultSelector):
    """Looks at the network once nothing else is left to do; where nothing is to come from there either, all is quiet."""

    def __init__(self, *, awaits: Callable[[], bool], quiet: Callable[[], None]) -> None:
        super().__init__()
        self._awaits = awaits
        self._quiet = quiet

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Asyncio names no time to wait only while something is ready to run."""
        if timeout == 0:
            return []
        if not self._awaits():
            self._quiet()
            return []
        return super().select()


class Stillness(asyncio.SelectorEventLoop):
    """A loop that runs until all is quiet, and whose time stands still: nothing is late, slow or given up in it."""

    def __init__(self, *, awaits: Callable[[], bool]) -> None:
        super().__init__(Patience(awaits=awaits, quiet=self.stop))

    def time(self) -> float:
        return 0.0


class OneByOne(BoundedValkey):
    """Questions wait for one another: which replies come together is the network's accident."""

    def __init__(self, url: str, *, monotonic: Callable[[], float]) -> None:
        super().__init__(url, monotonic=monotonic)
        self.asking = asyncio.Lock()

    async def ask(self, question: Question) -> Any:
        async with self.asking:
            return await super().ask(question)

    async def values(self, names: Sequence[bytes]) -> list[bytes | None]:
        async with self.asking:
            return await super().values(names)

    async def run_all(
        self, script: Script, given: Sequence[tuple[Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        async with self.asking:  # the second time for a script that Valkey does not know yet, too
            return await super().run_all(script, given)


class AtOnce(Leases):
    """Everybody's turn is now: who asks is for leases to decide, what is shown is not, and time is the machine's here."""

    async def turn(self, key: CacheKey, heard: Heard, *, within_s: float) -> Lease:
        del key, heard, within_s
        return Lease()


Chosen = TypeVar("Chosen")


def one_of(there: Sequence[Chosen], index: int) -> Chosen:
    return there[index % len(there)]


class Call:
    """One fetch on its way: to the datacenter, which reads its records when it arrives, and back."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.returned = asyncio.Event()
        self.fails = False


class Worker:
    """One worker: what it heard, what it is reading, what it holds."""

    def __init__(self, url: str, clock: Clock, *, hears: bool) -> None:
        tier = ValkeyTier(url, name_secret=KEYS.name_secret, monotonic=clock)
        tier._valkey = self.valkey = OneByOne(url, monotonic=clock)
        tier.leases = AtOnce(self.valkey, name_secret=b"")
        self.world = World(valkey=tier, clock=clock)
        self.hears = hears
        self.world.cache.go_by(lambda: self.hears)
        self.heard = 0  # purges of the feed delivered
        self.announced = 0  # newest version that a delivered purge announced
        self.held = 0
        self.shown = 0  # newest version that a read has brought
        self.calls: list[Call] = []
        self.reads: list[tuple[asyncio.Task[Reading], int]] = []


class Interleavings(RuleBasedStateMachine):
    """See the module; `url` is set by the test."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Stillness(awaits=lambda: any(worker.valkey.asking.locked() for worker in self.workers))
        example = next(EXAMPLES)
        self.key = CacheKey(f"/interleavings/{example}", "family")
        self.tag = f"interleavings:{example}"
        self.clock = Clock()
        self.version = 0
        self.feed: list[tuple[str, int, int]] = []  # tag, revision, version announced
        self.told_valkey: list[tuple[float, int]] = []  # when, version announced
        self.workers = [Worker(self.url, self.clock, hears=hears) for hears in (True, False)]

    # What happens

    @rule(elsewhere=st.sampled_from([False, False, True]), heard_by=st.sets(WORKERS))
    def write(self, *, elsewhere: bool, heard_by: set[int]) -> None:
        """Most who hear of a write do so at once: else nearly all would be behind nearly always."""
        self.version += not elsewhere
        tag = f"{self.tag}:other" if elsewhere else self.tag
        self.feed.append((tag, len(self.feed) + 1, 0 if elsewhere else self.version))
        for which in sorted(heard_by):
            self._hear(self.workers[which])

    @precondition(lambda self: self._behind())
    @rule(index=INDEX, everything=st.booleans())
    def hear(self, index: int, *, everything: bool) -> None:
        self._hear(one_of(self._behind(), index), None if everything else 1)

    @rule(which=WORKERS, arrives=st.booleans())
    def begin_to_read(self, which: int, *, arrives: bool) -> None:
        worker = self.workers[which]

        async def fetch(_: Entry | None) -> Fetched:
            call = Call()
            worker.calls.append(call)
            if arrives:
                call.arrived.set()
            await call.arrived.wait()
            version = self.version
            if call.fails:
                raise Switching
            await call.returned.wait()
            return Fetched(body=str(version).encode(), epoch=1, position=(1, version))

        read = worker.world.cache.read(self.key, policy=S, tags=(self.tag,), fetch=fetch)
        worker.reads.append((self.loop.create_task(read), max(worker.shown, self._due(worker))))
        self._settle()

    @precondition(lambda self: self._calls())
    @rule(index=INDEX, fails=st.booleans())
    def arrive(self, index: int, *, fails: bool) -> None:
        _, call = one_of(self._calls(), index)
        call.fails = fails and not call.arrived.is_set()
        call.arrived.set()
        self._settle()

    @precondition(lambda self: self._calls())
    @rule(index=INDEX)
    def return_home(self, index: int) -> None:
        worker, call = one_of(self._calls(), index)
        call.arrived.set()
        call.returned.set()
        worker.calls.remove(call)
        self._settle()

    @precondition(lambda self: any(worker.reads for worker in self.workers))
    @rule(index=INDEX)
    def leave(self, index: int) -> None:
        task, _ = one_of([read for worker in self.workers for read in worker.reads], index)
        task.cancel()
        self._settle()

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 61.0, 700.0]))
    def tick(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(which=WORKERS)
    def lose_or_find_the_feed(self, which: int) -> None:
        """Who finds it hears at once what he has missed."""
        worker = self.workers[which]
        if not worker.hears:
            self._hear(worker)
        worker.hears = not worker.hears

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(which=WORKERS)
    def forget(self, which: int) -> None:
        self.workers[which].world.cache.clear_memory()
        self.workers[which].held = self.workers[which].shown = 0

    # What must hold

    @invariant()
    def what_the_edge_would_show_is_current(self) -> None:
        for worker in self.workers:
            held = worker.world.cache.peek(self.key.text, self.clock.now)
            if held is not None:
                self._judge(int(held.entry.body), max(worker.shown, self._due(worker)))

    @invariant()
    def what_is_held_never_gets_older(self) -> None:
        for worker in self.workers:
            held = worker.world.memory.get(self.key.text)
            if held is not None:
                assert int(held.entry.body) >= worker.held
                worker.held = int(held.entry.body)

    @invariant()
    def what_was_read_is_current(self) -> None:
        for worker in self.workers:
            for task, due in [each for each in worker.reads if each[0].done()]:
                worker.reads.remove((task, due))
                if task.cancelled() or isinstance(task.exception(), Switching):
                    continue
                version = int(task.result().entry.body)
                self._judge(version, due)
                worker.shown = max(worker.shown, version)

    @staticmethod
    def _judge(version: int, due: int) -> None:
        assert version >= due, f"version {version} was shown, {due} had been announced or shown"

    def _behind(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.heard < len(self.feed)]

    def _hear(self, worker: Worker, most: int | None = None) -> None:
        for tag, revision, version in self.feed[worker.heard :][:most]:
            worker.heard += 1
            worker.announced = max(worker.announced, version)
            self._done(worker.world.cache.purge([tag], revision))
            self.told_valkey.append((self.clock.now, version))

    def _calls(self) -> list[tuple[Worker, Call]]:
        return [(worker, call) for worker in self.workers for call in worker.calls]

    def _due(self, worker: Worker) -> int:
        """The version that a read beginning now must show at least; only what is in memory may be behind Valkey."""
        if worker.hears:
            return worker.announced
        held = worker.world.cache.peek(self.key.text, self.clock.now)
        window = self.clock.now - (TIER1_RECHECK_MAX_S if held is not None else 0)
        told = max((version for at, version in self.told_valkey if at <= window), default=0)
        return max(worker.announced, told)

    def _settle(self) -> None:
        """Until nobody talks to Valkey and nothing is ready to run."""
        self.loop.run_forever()

    def _done(self, what: Coroutine[Any, Any, None]) -> None:
        """What needs nobody else ends before all is quiet."""
        task = self.loop.create_task(what)
        self._settle()
        task.result()

    def teardown(self) -> None:
        async def end() -> None:
            for worker in self.workers:
                for task, _ in worker.reads:
                    task.cancel()
                await worker.world.cache.aclose()
                await asyncio.gather(*[task for task, _ in worker.reads], return_exceptions=True)

        self._done(end())
        self.loop.close()
