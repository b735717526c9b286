"""The cache as the rest of the house knows it: `peek` for the edge, `read` for everybody else.

Invariant: the cache fails open and never lies about it. Nothing that goes wrong in a tier reaches a reader; what a
reader gets is current by generation and trusted by epoch in every state, survival included. A purged entry is not
shown again in any state, whatever its class, because a purge says "this is known to be wrong" and the likeliest
reader of a survival page is the one the change was about (docs/decisions/0004-what-survival-may-show.md).

The order inside a fill is the whole of its safety: generations are read, then the datacenter is asked, then the
entry is offered under the generations read before.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence

import msgspec

from cache import asking
from cache.asking import Ask, Fetch, FetchTimedOut, Known
from cache.cache_key import CacheKey
from cache.coalescing import SingleFlight
from cache.entries import NOWHERE, Entry, Position
from cache.freshness import Epochs, Verdict, judge, newer
from cache.generations import Generations
from cache.leases import Heard, Lease
from cache.memory import USES_MAX, Held, MemoryTier
from cache.policy import Policy
from cache.promptness import Waited
from cache.purging import Purging
from cache.reading import Event, Fetched, Reading, State, reading_of
from cache.sealing import Sealer
from cache.shared import Looked, SharedTier, shared_tier
from cache.valkey import ValkeyTier

FETCH_MAX_S = 4.5
WAIT_MAX_S = 5.0
FLIGHTS_MAX = 1024
WAITERS_MAX = 4096
# How long tier 2 may take to be worth asking again within one read.
PROMPT_MAX_S = 0.05
# Fetches ahead at once; nobody waits for them.
AHEAD_MAX = 16


class Cache(Purging):
    """Two tiers and the rules between them. One per worker."""

    def __init__(
        self,
        *,
        memory: MemoryTier,
        generations: Generations,
        clock: Callable[[], float],
        valkey: ValkeyTier | None = None,
        sealer: Sealer | None = None,
        on_event: Callable[[Event], None] | None = None,
        fetch_max_s: float = FETCH_MAX_S,
        wait_max_s: float = WAIT_MAX_S,
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._event = on_event or (lambda _event: None)
        super().__init__(generations=generations, shared=shared_tier(valkey, sealer, self._event))
        self._fetch_max_s = fetch_max_s
        self._hears_purges: Callable[[], bool] = _never
        self._epochs = Epochs()
        self._flights: SingleFlight[Reading] = SingleFlight(
            flights_max=FLIGHTS_MAX, waiters_max=WAITERS_MAX, wait_max_s=wait_max_s
        )
        self._ahead: SingleFlight[Reading] = SingleFlight(
            flights_max=2 * AHEAD_MAX, waiters_max=0, wait_max_s=wait_max_s
        )

    def go_by(self, hears_purges: Callable[[], bool]) -> None:
        """Let tier 1 show what is fresh without asking tier 2 while `hears_purges` says that none can have been missed.

        Without it, and while it says no, tier 1 asks again every `Policy.tier1_s`.
        """
        self._hears_purges = hears_purges

    def peek(self, key: str, now: float) -> Held | None:
        """The entry that may be shown at once, or None: tier 1 only, no await. `key` is `CacheKey.text`."""
        held = self._memory.get(key)
        if held is None or (now >= held.until_s and (now >= held.fresh_until_s or not self._hears_purges())):
            return None
        return held if self._holds(held, now) else None

    def still(self, held: Held, now: float, *, hears_purges: bool) -> bool:
        """Whether what `peek` gave may be shown now as well; that counts as a use.

        `hears_purges` is what the function given to `go_by` says now.
        """
        if now >= (held.fresh_until_s if hears_purges else held.until_s):
            return False
        if held.uses < USES_MAX:
            held.uses += 1
        if (
            held.generations_serial == self._generations.serial
            and held.heard_serial == self._heard_serial
            and now >= held.from_s
        ):
            return True
        return self._holds(held, now)

    async def read(
        self,
        key: CacheKey,
        *,
        policy: Policy,
        tags: Sequence[str],
        fetch: Fetch,
        not_before: Position = NOWHERE,
    ) -> Reading:
        """The answer under `key`, fetched if need be; an entry from before the position `not_before` is passed over.

        `fetch` gets the entry it may revalidate (with `origin_etag`), or None. Raises what `fetch` raises when the
        class lets nothing older stand in; `Overloaded` and `FetchTimedOut` when a bound is reached.
        """
        ask = asking.ask(key, policy, tags, fetch, not_before)
        text, now = ask.text, self._clock()
        if not policy.stored:
            fetched = await self._fetched(ask, None, asyncio.get_running_loop().time() + self._fetch_max_s)
            return reading_of(asking.made(ask, fetched, now, None, (0,) * len(ask.tags)), State.MISS, 0, now)
        held = self.peek(text, now)
        if held is not None and held.entry.position >= not_before and held.entry.tags == ask.tags:
            self._event(Event.HIT_TIER1)
            return reading_of(held.entry, State.HIT, 1, now)
        # A reader who comes after a purge, or wants to see a write, must not be given what an earlier fill is
        # fetching: other flight.
        flight = (text, self._heard_serial, self._generations.snapshot(ask.tags), not_before)
        reading, joined = await self._flights.run(flight, lambda: self._resolve(ask))
        if not joined:
            return reading
        self._event(Event.COLLAPSED)
        return msgspec.structs.replace(reading, state=State.COLLAPSED) if reading.tier == 0 else reading

    def ahead(self, held: Held, key: CacheKey, *, policy: Policy, tags: Sequence[str], fetch: Fetch) -> None:
        """Have an entry of tier 1 fetched anew behind its readers, once; where too many are, a later reader tries again."""
        ask = asking.ask(key, policy, tags, fetch)
        after = held.entry.stored_at
        if self._ahead.begin(ask.text, lambda: self._resolve(ask, behind=True, after=after)):
            held.ahead_at = math.inf

    async def note_heard(self, life_s: float) -> None:
        """Note in tier 2, for `life_s` seconds, that this process hears every purge."""
        if self._shared is not None:
            await self._shared.note_heard(life_s)

    def set_epoch(self, epoch: int, switch_position: Position | None) -> None:
        """Hear the epoch, and up to where its predecessor counts (None: not known yet).

        Lower epochs than the highest heard are ignored.
        """
        moved = self._epochs.moved(epoch, switch_position)
        if moved != self._epochs:
            self._epochs = moved
            self._heard_serial += 1

    def clear_memory(self) -> None:
        """Forget tier 1."""
        self._memory.clear()

    async def aclose(self) -> None:
        """Give up fills, end what is being stored, close tier 2."""
        await self._flights.aclose()
        await self._ahead.aclose()
        if self._shared is not None:
            await self._shared.aclose()

    async def _resolve(self, ask: Ask, *, behind: bool = False, after: float = -math.inf) -> Reading:
        """`behind`: nobody waits. What was stored at `after` or before will not do."""
        looked_at, waited = self._clock(), Waited(PROMPT_MAX_S)
        known = await self._look(ask)
        if (found := self._shown(ask, known, looked_at, fresh_only=behind, after=after)) is not None:
            return found
        lease, ends_at = Lease(), asyncio.get_running_loop().time() + self._fetch_max_s
        # Who is slow to say what he has is not asked for a turn and for what he has by then as well.
        prompt = not waited.long() and known.answered
        try:
            if self._shared is not None and prompt and ask.not_before == NOWHERE:
                lease = await self._turn(self._shared, ask, ends_at)
                looked_at = self._clock()
                known = await self._look(ask)  # somebody's turn may have ended just now
                if (found := self._shown(ask, known, looked_at, fresh_only=True, after=after)) is not None:
                    self._shared.end(lease, found=True)
                    return found
            # Before the fetch, or a purge that runs beside it would be missed.
            recorded, begun_at = self._generations.snapshot(ask.tags), self._clock()
            fetched = await self._fetched(ask, known.previous, ends_at)
            entry = asking.made(ask, fetched, begun_at, known.previous, recorded)
            return self._fill(ask, known, entry, fetched, looked_at, lease)
        except BaseException as error:
            if self._shared is not None:
                self._shared.end(
                    lease, None if behind else error
                )  # what nobody waits for is nobody's failure
            covered = None if behind else self._cover(ask, known, error)
            if covered is None:
                raise
            return covered
        finally:
            if self._shared is not None:
                self._shared.end(lease)

    def _shown(
        self, ask: Ask, known: Known, looked_at: float, *, fresh_only: bool, after: float
    ) -> Reading | None:
        """What is known, if it may be shown before anybody is asked; what is stale then has somebody ask behind."""
        now = self._clock()
        state = asking.at_once(ask, known, now, epochs=self._epochs, softened=self._softened)
        if known.best is None or state is None or (fresh_only and state is not State.HIT):
            return None
        if known.best.stored_at <= after:
            return None
        if state is State.HIT:
            self._keep(ask, known.best, looked_at, now)
            self._event(Event.HIT_TIER1 if known.tier == 1 else Event.HIT_TIER2)
        else:
            self._event(Event.REVALIDATING)
            self._flights.begin((ask.text, Event.REVALIDATING), lambda: self._resolve(ask, behind=True))
        return reading_of(known.best, state, known.tier, now)

    async def _turn(self, shared: SharedTier, ask: Ask, ends_at: float) -> Lease:
        heard = Heard(self._generations.snapshot(ask.tags), self._epochs.current)
        try:
            return await shared.turn(ask.key, heard, within_s=ends_at - asyncio.get_running_loop().time())
        except TimeoutError as error:
            raise FetchTimedOut("another worker's fetch did not end in time") from error

    async def _fetched(self, ask: Ask, previous: Entry | None, ends_at: float) -> Fetched:
        deadline = asyncio.timeout_at(ends_at)
        try:
            async with deadline:
                return await ask.fetch(previous)
        except TimeoutError as error:
            if deadline.expired():
                raise FetchTimedOut("the fetch did not end in time") from error
            raise

    def _fill(
        self, ask: Ask, known: Known, entry: Entry, fetched: Fetched, looked_at: float, lease: Lease
    ) -> Reading:
        """Keep what was fetched where the rules allow, and answer with it."""
        now = self._clock()
        best = known.best
        if (
            best is not None and newer(best, entry) and self._defends(best, ask.policy, now)
        ):  # a lagging datacenter answered
            self._event(Event.REFUSED_OLDER)
            verdict = judge(best, ask.policy, now, epochs=self._epochs, softened=self._softened)
            if verdict is Verdict.STALE and self._valid(best):
                self._event(Event.STALE)
                return reading_of(best, State.STALE, known.tier, now)
        elif self._generations.outdated(entry.tags, entry.generations):
            self._event(Event.PURGED_IN_FLIGHT)
            if fetched.cacheable and self._epochs.trust(entry):
                # Never shown again, but it shows more than what a fill after the purge may bring: nobody is shown less.
                self._keep(ask, entry, looked_at, now)
        elif fetched.cacheable and self._epochs.trust(entry):
            self._keep(ask, entry, looked_at, now)
            self._offer(ask, entry, now, lease)
        state = State.REVALIDATED if fetched.not_modified else State.MISS
        self._event(Event(state.value))
        return reading_of(entry, state, 0, now)

    def _cover(self, ask: Ask, known: Known, error: BaseException) -> Reading | None:
        """The older answer that may stand in for a failed fetch, if any."""
        now = self._clock()
        state = asking.instead(ask, known, error, now, epochs=self._epochs, softened=self._softened)
        if known.best is None or state is None or not self._valid(known.best):
            return None
        self._event(Event(state.value))
        return reading_of(known.best, state, known.tier, now)

    async def _look(self, ask: Ask) -> Known:
        """What both tiers hold, joined: generations by maximum, entries by version."""
        looked = await self._look_shared(ask)
        held = self._memory.get(ask.text)
        own = None if held is None else held.entry
        candidates = [(entry, tier) for entry, tier in ((own, 1), (looked.entry, 2)) if entry is not None]
        trusted = [(entry, tier) for entry, tier in candidates if self._epochs.trust(entry)]
        shown = own if own is not None and self._defends(own, ask.policy, self._clock()) else None
        valid = [
            (entry, tier)
            for entry, tier in trusted
            if self._valid(entry) and entry.tags == ask.tags and not (shown and newer(shown, entry))
        ]
        best, tier = max(valid, key=_version, default=(None, 0))
        previous, _ = max(trusted, key=_version, default=(None, 0))
        lost = looked.entry is None or (best is not None and newer(best, looked.entry))
        if best is not None and looked.answered and lost:
            self._offer(ask, best, self._clock())  # Valkey lost it (restart, eviction): others need not fetch
        return Known(
            best=best,
            tier=tier,
            previous=previous if previous and previous.origin_etag else None,
            answered=looked.answered,
        )

    async def _look_shared(self, ask: Ask) -> Looked:
        if self._shared is None:
            return Looked()
        looked = await self._shared.look(ask.key, ask.tags)
        if looked.answered:
            for tag, generation in zip(ask.tags, looked.generations, strict=True):
                if generation is not None:
                    self._generations.raise_to(tag, generation)
        return looked

    def _valid(self, entry: Entry) -> bool:
        return not self._generations.outdated(entry.tags, entry.generations)

    def _holds(self, held: Held, now: float) -> bool:
        """Whether nothing that was heard since it was last looked at speaks against it, nor the clock."""
        if now < held.from_s:
            return False
        if held.generations_serial == self._generations.serial and held.heard_serial == self._heard_serial:
            return True
        entry = held.entry
        softened = self._softened.since(entry.tags, entry.stored_at) < math.inf
        if softened or not self._valid(entry) or not self._epochs.trust(entry):
            held.withdraw()
            return False
        held.generations_serial = self._generations.serial
        held.heard_serial = self._heard_serial
        return True

    def _keep(self, ask: Ask, entry: Entry, looked_at: float, now: float) -> None:
        lot = random.random()  # noqa: S311 - nobody's secret
        held = asking.held(ask, entry, looked_at=looked_at, now=now, lot=lot, softened=self._softened)
        present = self._memory.get(ask.text)
        if present is not None and present.entry is entry:
            # Looked at again: what the edge prepared still holds.
            present.from_s, present.until_s, present.fresh_until_s = (
                held.from_s,
                held.until_s,
                held.fresh_until_s,
            )
            return
        replace = present is not None and not self._defends(present.entry, ask.policy, now)
        if not self._memory.put(ask.text, held, replace=replace):
            self._event(Event.REFUSED_OLDER)

    def _defends(self, entry: Entry, policy: Policy, now: float) -> bool:
        """Whether an entry keeps its place against an older version: not once distrusted, nor after its life."""
        return self._epochs.trust(entry) and now - entry.stored_at < policy.life_s

    def _offer(self, ask: Ask, entry: Entry, now: float, lease: Lease | None = None) -> None:
        if self._shared is not None:
            life_s = entry.stored_at + ask.policy.life_s - now
            self._shared.offer(ask.key, entry, life_s=life_s, lease=lease)


def _version(candidate: tuple[Entry, int]) -> tuple[int, Position, float]:
    entry, _ = candidate
    return entry.epoch, entry.position, entry.stored_at


def _never() -> bool:
    return False
