"""What the two tiers hold, joined: which entries stand, which of them may be shown at once, what is kept where.

Invariant: an entry that was purged, that belongs to a history that is over, or that is older than one shown before it is
never the best; what leaves tier 1 is withdrawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from cache import asking
from cache.asking import Ask, Known
from cache.entries import Entry, Position
from cache.freshness import Epochs, newer
from cache.generations import Generations
from cache.leases import Lease
from cache.memory import USES_MAX, Held, MemoryTier
from cache.policy import Policy
from cache.purging import Purging
from cache.reading import Event, Reading, State, reading_of
from cache.request import patience_is_spent
from cache.shared import Looked, SharedTier


class Tiers(Purging):
    """The half of a `Cache` that looks and keeps; nobody outside is asked here."""

    def __init__(
        self,
        *,
        memory: MemoryTier,
        generations: Generations,
        shared: SharedTier | None,
        clock: Callable[[], float],
        on_event: Callable[[Event], None],
    ) -> None:
        super().__init__(generations=generations, shared=shared)
        self._memory = memory
        self._clock = clock
        self._event = on_event
        self._hears_purges: Callable[[], bool] = _never
        self._epochs = Epochs()

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

    def peek_for(self, ask: Ask, now: float) -> Held | None:
        """As `peek`, where the entry also shows what is to be seen and has the tags that it would have now.

        Some tags follow from facts that change: purges of the class that a pupil has left say nothing of his grades.
        """
        held = self.peek(ask.text, now)
        if held is None or held.entry.position < ask.not_before or held.entry.tags != ask.tags:
            return None
        return held

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
        # Where purges may have been missed nobody but tier 2 knows of them, however long it takes.
        if patience_is_spent() and self._hears_purges():
            self._event(Event.LOOK_SKIPPED)
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
            age_s = now - entry.stored_at
            life_s = ask.kept_s - age_s if age_s < ask.policy.life_s else 0.0
            self._shared.offer(ask.key, entry, life_s=life_s, lease=lease)

    def _shown_of_memory(self, ask: Ask) -> Reading | None:
        now = self._clock()
        held = self.peek_for(ask, now)
        if held is None:
            return None
        self._event(Event.HIT_TIER1)
        return reading_of(held.entry, State.HIT, 1, now)


def _version(candidate: tuple[Entry, int]) -> tuple[int, Position, float]:
    entry, _ = candidate
    return entry.epoch, entry.position, entry.stored_at


def _never() -> bool:
    return False
