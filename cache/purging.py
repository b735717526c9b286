"""What a cache is told to show no longer: hard purges for good, soft ones until it has asked again.

Invariant: a hard purge counts here before it is told to tier 2, and no soft one ever takes it back. Soft purges are not
told to tier 2: every process hears them from the feed, which keeps them for as long as they matter
(docs/decisions/0026-soft-purges.md).
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from cache.generations import EVERYTHING, Generations
from cache.shared import SharedTier
from cache.softened import Softened

# About 200 bytes each; beyond them the oldest half of the soft purges counts for every entry from before.
SOFTENED_TAGS_MAX = 16_384


class Purging:
    """The half of a `Cache` that hears purges."""

    def __init__(self, *, generations: Generations, shared: SharedTier | None) -> None:
        self._generations = generations
        self._shared = shared
        self._softened = Softened(max_tags=SOFTENED_TAGS_MAX)
        # Changes with whatever may end an entry's freshness besides its age and its generations.
        self._heard_serial = 0

    def purge_memory(self, tags: Sequence[str], place: int | None) -> None:
        """Outdate the tags in this process, at once. `place` grows with every purge of the cluster.

        None: the purge has no place in the feed (etcd is away); it comes after all that was heard.
        """
        self._raise(tags, self._generations.at(place))

    def purge(self, tags: Sequence[str], place: int | None) -> Coroutine[Any, Any, None]:
        """Once awaited: outdate the tags in this process, then in tier 2. Never raises because tier 2 is away.

        The tag `EVERYTHING` outdates all entries: for a feed that may have missed something.
        """
        # Counted now: by the time it is awaited another era may have begun.
        return self._purge(tags, self._generations.at(place))

    async def purge_own(self, tags: Sequence[str], place: int | None) -> None:
        """As `purge`, for what this process itself has just put into the feed.

        A place below what was heard of its tags may be one of a feed that begins again: it comes after all the same.
        """
        value = self._generations.at(place)
        heard = max((self._generations.current(tag) for tag in tags), default=0)
        await self._purge(tags, value if value >= heard else self._generations.at(None))

    def begin_era(self) -> None:
        """Outdate everything in this process: the feed begins again further down, as etcd's does when it was put back."""
        self._raise((EVERYTHING,), self._generations.next_era())

    async def catch_up(self, place: int) -> None:
        """Outdate all of tier 2 up to `place` unless somebody heard every purge until a moment ago.

        For a process that starts, before it counts any other place: what was purged while nobody of this site listened
        would look fresh, and tier 2 may count in a later era than a process that has heard nothing yet.
        """
        if self._shared is None:
            return
        if (known := await self._shared.generation(EVERYTHING)) is not None:
            self._raise((EVERYTHING,), known)
        if not await self._shared.was_heard():
            await self.purge((EVERYTHING,), place)

    def soften(self, tags: Sequence[str], at: float) -> None:
        """Have what was stored under the tags at `at` (Unix seconds) or before count as stale, from tier 2 as well.

        It is shown only as its class's stale windows allow, until it is fetched anew. `EVERYTHING` softens all entries.
        """
        changed = [self._softened.soften(tag, at) for tag in tags]
        self._heard_serial += any(changed)

    async def _purge(self, tags: Sequence[str], value: int) -> None:
        self._raise(tags, value)
        if self._shared is not None:
            await self._shared.purge(tags, value)

    def _raise(self, tags: Sequence[str], value: int) -> None:
        for tag in tags:
            self._generations.raise_to(tag, value)
