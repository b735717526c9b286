"""The cache as the rest of the house knows it: `peek_for` for the edge, `read` for everybody else.

Invariant: the cache fails open and never lies about it. Nothing that goes wrong in a tier reaches a reader; what a
reader gets is current by generation and trusted by epoch in every state, survival included. A purged entry is not
shown again in any state, whatever its class, because a purge says "this is known to be wrong" and the likeliest
reader of a survival page is the one the change was about (docs/decisions/0004-what-survival-may-show.md).

A worker that hears no purges asks tier 2 for them at least every `TIER1_RECHECK_MAX_S`, and once more when a fetch has come
home, for those who joined it on its way; of what is purged after that reply, or while tier 2 does not answer, it knows nothing.

The order inside a fill is the whole of its safety: generations are read, then the datacenter is asked, then the
entry is offered under the generations read before.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable, Sequence

import msgspec

from cache import asking
from cache.asking import NOT_LOOKED, Ask, Fetch, FetchTimedOut, Found, Known, Look
from cache.cache_key import CacheKey
from cache.coalescing import SingleFlight
from cache.entries import NOWHERE, Entry, Position
from cache.freshness import Verdict, judge, newer
from cache.generations import Generations
from cache.leases import Heard, Lease
from cache.memory import Held, MemoryTier
from cache.policy import Policy
from cache.promptness import Waited
from cache.reading import Event, Fetched, Reading, State, reading_of
from cache.request import awaiting, spend_patience
from cache.sealing import Sealer
from cache.shared import SharedTier, shared_tier
from cache.tiers import Tiers
from cache.valkey import ValkeyTier

FETCH_MAX_S = 4.5
WAIT_MAX_S = 5.0
FLIGHTS_MAX = 1024
WAITERS_MAX = 4096
# How long tier 2 may take to be worth asking again within one request that hears purges. A first read asks six times: what is known of the
# caller and what is asked for, each looked for, its turn taken, and looked for again.
PROMPT_MAX_S = 0.02
# Fetches ahead at once; nobody waits for them.
AHEAD_MAX = 16


class Cache(Tiers):
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
        event = on_event or (lambda _event: None)
        super().__init__(
            memory=memory,
            generations=generations,
            shared=shared_tier(valkey, sealer, event),
            clock=clock,
            on_event=event,
        )
        self._fetch_max_s = fetch_max_s
        self._wait_max_s = wait_max_s
        self._flights: SingleFlight[Reading] = SingleFlight(
            flights_max=FLIGHTS_MAX, waiters_max=WAITERS_MAX, wait_max_s=wait_max_s
        )
        self._looks: dict[Hashable, asyncio.Future[Found | None]] = {}
        self._ahead: SingleFlight[Reading] = SingleFlight(
            flights_max=2 * AHEAD_MAX, waiters_max=0, wait_max_s=wait_max_s
        )

    async def read(
        self,
        key: CacheKey,
        *,
        policy: Policy,
        tags: Sequence[str],
        fetch: Fetch,
        not_before: Position = NOWHERE,
        shared: bool = False,
    ) -> Reading:
        """The answer under `key`, fetched if need be; an entry from before the position `not_before` is passed over.

        `fetch` gets the entry it may revalidate (with `origin_etag`), or None. Raises what `fetch` raises when the
        class lets nothing older stand in; `Overloaded` and `FetchTimedOut` when a bound is reached.
        """
        return await self.answer(asking.ask(key, policy, tags, fetch, not_before=not_before, shared=shared))

    async def answer(self, ask: Ask, look: Look | None = None) -> Reading:
        """As `read`; `look` is what `find` brought just now, where it brought no reading."""
        if not ask.policy.stored:
            now, ends_at = self._clock(), asyncio.get_running_loop().time() + self._fetch_max_s
            fetched = await self._fetched(ask, None, ends_at)
            return reading_of(asking.made(ask, fetched, now, None, (0,) * len(ask.tags)), State.MISS, 0, now)
        if look is None:
            found, look = await self.find(ask)
            if found is not None:
                return found
        clock = asyncio.get_running_loop().time
        ends_at = clock() + self._wait_max_s
        reading, joined = await self._flights.run(self._flight(ask), lambda: self._resolve(ask, look))
        if joined and not self._valid(reading.entry):
            # Purged while it was on its way, and this reader may have come after that.
            reading, joined = await self._flights.run(
                self._flight(ask), lambda: self._resolve(ask, None), within_s=ends_at - clock()
            )
        if not joined:
            return reading
        self._event(Event.COLLAPSED)
        return msgspec.structs.replace(reading, state=State.COLLAPSED) if reading.tier == 0 else reading

    async def find(self, ask: Ask) -> Found:
        """What the tiers hold if it may be shown before anybody is asked; else what `answer` wants to know of it.

        In the reader's own turn: most that is not in tier 1 is in tier 2, and a task would cost as much as the look. Who comes
        while somebody looks for the same waits for what he finds.
        """
        if (found := self._shown_of_memory(ask)) is not None:
            return found, None
        flight = self._flight(ask)
        if flight in self._flights:
            return NOT_LOOKED
        if (looking := self._looks.get(flight)) is not None:
            with awaiting(joined=True):
                others = await asyncio.shield(looking)
            if others is None:
                return self._shown_of_memory(ask), None
            _note_promptness(others[1])
            if others[0] is not None:
                self._event(Event.COLLAPSED)
            return others
        looking = self._looks[flight] = asyncio.get_running_loop().create_future()
        seen: Found | None = None
        try:
            seen = await self._first_look(ask)
        finally:
            del self._looks[flight]
            looking.set_result(seen)  # None: who looked has left
        return seen

    def ahead(self, held: Held, key: CacheKey, *, policy: Policy, tags: Sequence[str], fetch: Fetch) -> None:
        """Have an entry of tier 1 fetched anew behind its readers, once; where too many are, a later reader tries again."""
        ask = asking.ask(key, policy, tags, fetch)
        after = held.entry.stored_at
        if self._ahead.begin(ask.text, lambda: self._resolve(ask, None, behind=True, after=after)):
            held.ahead_at = math.inf

    async def aclose(self) -> None:
        """Give up fills, end what is being stored, close tier 2."""
        await self._flights.aclose()
        await self._ahead.aclose()
        if self._shared is not None:
            await self._shared.aclose()

    def _flight(self, ask: Ask) -> Hashable:
        """Whom an answer is for: who comes after a purge, or wants to see a write, must not get what is already on its way."""
        return ask.text, ask.tags, self._heard_serial, self._generations.snapshot(ask.tags), ask.not_before

    async def _first_look(
        self, ask: Ask, *, behind: bool = False, after: float = -math.inf
    ) -> tuple[Reading | None, Look]:
        looked_at, waited = self._clock(), Waited(PROMPT_MAX_S)
        known = await self._look(ask)
        found = self._shown(ask, known, looked_at, fresh_only=behind, after=after)
        # Who is slow to say what he has is not asked for a turn and for what he has by then as well.
        look = Look(known=known, at=looked_at, prompt=not waited.long() and known.answered)
        if self._shared is not None:
            _note_promptness(look)
        return found, look

    async def _resolve(
        self, ask: Ask, look: Look | None, *, behind: bool = False, after: float = -math.inf
    ) -> Reading:
        """`behind`: nobody waits. What was stored at `after` or before will not do."""
        if look is None:
            found, look = await self._first_look(ask, behind=behind, after=after)
            if found is not None:
                return found
        known, looked_at = look.known, look.at
        lease, ends_at = Lease(), asyncio.get_running_loop().time() + self._fetch_max_s
        try:
            if self._shared is not None and look.prompt and ask.not_before == NOWHERE:
                lease = await self._turn(self._shared, ask, ends_at)
                looked_at = self._clock()
                known = await self._look(ask)  # somebody's turn may have ended just now
                if (found := self._shown(ask, known, looked_at, fresh_only=True, after=after)) is not None:
                    self._shared.end(lease, found=True)
                    return found
            # Before the fetch, or a purge that runs beside it would be missed.
            recorded, begun_at = self._generations.snapshot(ask.tags), self._clock()
            fetched = await self._fetched(ask, known.previous, ends_at)
            if not self._hears_purges():
                await self._look_shared(ask)
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
            self._flights.begin((ask.text, Event.REVALIDATING), lambda: self._resolve(ask, None, behind=True))
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


def _note_promptness(look: Look | None) -> None:
    """One who was kept waiting, or got no answer, asks tier 2 no more in this request."""
    if look is not None and not look.prompt:
        spend_patience()
