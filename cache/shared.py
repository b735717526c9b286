"""Tier 2 as the cache sees it: entries in, entries out, sealed on the way, and never an exception.

Invariant: nothing readable leaves the process; nothing that Valkey says or fails to say becomes an error; an entry
comes back only if its seal holds and the generation of every tag is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from cache import entries
from cache.bounded_valkey import CacheUnavailable
from cache.cache_key import CacheKey
from cache.entries import Entry, EntryBroken
from cache.leases import Heard, Lease
from cache.reading import Event
from cache.sealing import SealBroken, Sealer
from cache.valkey import Put, ValkeyTier, order

ERRANDS_MAX = 256


class Looked(msgspec.Struct, frozen=True):
    """What tier 2 said. `answered` false: nothing, so its silence about the entry means nothing either."""

    answered: bool = False
    entry: Entry | None = None
    generations: tuple[int | None, ...] = ()


class SharedTier:
    """The site's shared tier behind a seal."""

    def __init__(self, valkey: ValkeyTier, sealer: Sealer, *, on_event: Callable[[Event], None]) -> None:
        self._valkey = valkey
        self._sealer = sealer
        self._event = on_event
        self._errands: set[asyncio.Task[None]] = set()

    async def look(self, key: CacheKey, tags: Sequence[str]) -> Looked:
        """The entry and the generations of `tags` (in their order), in one round trip."""
        try:
            found = await self._valkey.get(key, tags)
        except CacheUnavailable:
            self._event(Event.UNAVAILABLE)
            return Looked()
        if found.sealed is None:
            return Looked(answered=True, generations=found.generations)
        try:
            entry = entries.decode(self._sealer.open(found.sealed, _name(key, found.order)))
        except (SealBroken, EntryBroken):
            self._event(Event.SEAL_BROKEN)
            self._run(self._valkey.drop(key))
            return Looked(answered=True, generations=found.generations)
        known = None not in found.generations and entry.tags == tuple(tags)
        return Looked(answered=True, entry=entry if known else None, generations=found.generations)

    async def turn(self, key: CacheKey, heard: Heard, *, within_s: float) -> Lease:
        """The turn at filling a key, for the whole site. Raises `TurnFailed`, `TimeoutError`."""
        return await self._valkey.leases.turn(key, heard, within_s=within_s)

    def offer(self, key: CacheKey, entry: Entry, *, life_s: float, lease: Lease | None = None) -> None:
        """Store an entry for `life_s` seconds behind the reader's back, unless a newer one or a purge is there.

        Who waits for the turn of `lease` waits until it can be found.
        """
        if life_s > 0:
            handed = lease.handed_on() if lease is not None else Lease()
            if not self._run(self._put(key, entry, life_s, handed)):
                handed.abandon()

    def end(self, lease: Lease, error: BaseException | None = None, *, found: bool = False) -> None:
        """End a turn behind the reader's back: it failed, nothing was to be fetched, or what came is for nobody else."""
        if lease.held:
            handed = lease.handed_on()
            word = handed.done() if found else handed.each() if error is None else handed.failed(error)
            if not self._run(word):
                handed.abandon()

    async def purge(self, tags: Sequence[str], value: int) -> None:
        """Raise the tags' generations; what Valkey cannot hear now, it hears before it is read again."""
        try:
            await self._valkey.raise_generations(tags, value)
        except CacheUnavailable:
            self._event(Event.UNAVAILABLE)

    async def generation(self, tag: str) -> int | None:
        """What tier 2 knows of a tag; None when that is nothing, or it does not say."""
        try:
            return await self._valkey.generation(tag)
        except CacheUnavailable:
            self._event(Event.UNAVAILABLE)
            return None

    async def note_heard(self, life_s: float) -> None:
        """Note that somebody of this site hears every purge; holds for `life_s` seconds."""
        try:
            await self._valkey.note_heard(life_s)
        except CacheUnavailable:
            self._event(Event.UNAVAILABLE)

    async def was_heard(self) -> bool:
        """Whether somebody of this site heard every purge until a moment ago; no when Valkey does not say."""
        try:
            return await self._valkey.was_heard()
        except CacheUnavailable:
            self._event(Event.UNAVAILABLE)
            return False

    async def aclose(self) -> None:
        """End what is being stored, close the connections."""
        if self._errands:
            await asyncio.wait(self._errands)
        await self._valkey.aclose()

    async def _put(self, key: CacheKey, entry: Entry, life_s: float, lease: Lease) -> None:
        try:
            sealed = self._sealer.seal(entries.encode(entry), _name(key, order(entry)))
            put = await self._valkey.put(key, sealed, entry=entry, life_s=life_s)
        except BaseException:
            await lease.each()
            raise
        if put is Put.PURGED:
            self._event(Event.PURGED_IN_FLIGHT)
            await lease.each()
            return
        if put is Put.OLDER:
            self._event(Event.REFUSED_OLDER)
        await lease.done()

    def _run(self, errand: Coroutine[Any, Any, None]) -> bool:
        """Whether there is room for it."""
        if len(self._errands) >= ERRANDS_MAX:
            errand.close()
            self._event(Event.ERRAND_SKIPPED)
            return False
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._came_back)
        return True

    def _came_back(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CacheUnavailable):
            self._event(Event.UNAVAILABLE)
        elif (
            error is not None
        ):  # an entry that cannot be written down: nobody waits for it, but it is counted
            self._event(Event.ERRAND_FAILED)


def shared_tier(
    valkey: ValkeyTier | None, sealer: Sealer | None, on_event: Callable[[Event], None]
) -> SharedTier | None:
    """Tier 2 where there is one. Raises ValueError without a sealer: nothing readable leaves the process."""
    if valkey is None:
        return None
    if sealer is None:
        raise ValueError("tier 2 needs a sealer: nothing readable leaves the process")
    return SharedTier(valkey, sealer, on_event=on_event)


def _name(key: CacheKey, written_order: bytes) -> bytes:
    """What a seal is bound to: the key with its view, and the version that tier 2 compares."""
    return key.text.encode() + b"\0" + written_order
