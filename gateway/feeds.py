"""What etcd tells every worker: sign-outs, purges, the record; joined here with auth and cache.

Invariant: a purge heard from etcd outdates this process at once and tier 2 soon after, a soft one ends freshness at once;
a listing that may have missed purges outdates everything that was filled before it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import structlog

from auth.denials import Denials
from cache.freshness import CLOCK_SKEW_MAX_S
from cache.generations import EVERYTHING
from cache.store import Cache
from datacenters import etcd_keys, position
from datacenters.directory import Directory
from datacenters.etcd import Etcd, KeyValue
from datacenters.feeds import PURGE_TTL_S, PrefixFeed, decode_purge
from datacenters.record import Record
from gateway.standing import PURGES_SILENT_MAX_S

ERRANDS_MAX = 1024
# A purge lives PURGE_TTL_S in etcd; who heard nothing for half of it may have missed one.
HEARD_LIFE_S = PURGE_TTL_S / 2
HEARD_EVERY_S = 10.0

_log = structlog.get_logger()


class Feeds:
    """Starts and stops the worker's feeds and applies what they bring."""

    def __init__(
        self,
        etcd: Etcd,
        directory: Directory,
        denials: Denials,
        cache: Cache,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._denials = denials
        self._cache = cache
        self._clock = clock
        self._errands: set[asyncio.Task[None]] = set()
        self._noting: asyncio.Task[None] | None = None
        self._listed = False
        self._purge_revision = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._denial_feed = PrefixFeed(
            etcd,
            etcd_keys.DENIALS,
            on_reset=self._reset_denials,
            on_put=self._put_denial,
            on_delete=denials.forget,
            monotonic=monotonic,
        )
        self._purge_feed = PrefixFeed(
            etcd,
            etcd_keys.PURGES,
            on_reset=self._reset_purges,
            on_put=self._put_purge,
            on_delete=lambda _name: None,
            monotonic=monotonic,
        )
        directory.on_change(self._moved)
        cache.go_by(self._hears_purges)

    async def start(self) -> None:
        """Begin to follow; goes on in the background when etcd does not answer yet."""
        await asyncio.gather(self._directory.start(), self._denial_feed.start(), self._purge_feed.start())
        if self._errands:
            await asyncio.wait(
                self._errands
            )  # what tier 2 missed while nobody listened, before anything is served
        self._noting = asyncio.get_running_loop().create_task(self._note_heard())

    async def stop(self) -> None:
        """End all feeds and what they set going."""
        await asyncio.gather(self._directory.stop(), self._denial_feed.stop(), self._purge_feed.stop())
        ending = [*self._errands, *filter(None, [self._noting])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def denials_silent_for_s(self) -> float:
        """Seconds since sign-outs could last be heard."""
        return self._denial_feed.silent_for_s()

    def purges_silent_for_s(self) -> float:
        """Seconds since all purges until then have been applied here; infinite before the first listing."""
        return self._purge_feed.silent_for_s() if self._listed else math.inf

    def _hears_purges(self) -> bool:
        # What came in a short gap is seen by the poll that ends it, what came in a longer one by a new listing; the feed
        # counts as heard again only with that.
        return self.purges_silent_for_s() <= PURGES_SILENT_MAX_S

    def _moved(self, record: Record) -> None:
        switch = None if record.switch_position is None else position.parse(record.switch_position)
        self._cache.set_epoch(record.epoch, switch)

    def _reset_denials(self, items: tuple[KeyValue, ...]) -> None:
        self._denials.replace({item.key: _until(item.value) for item in items}, self._clock())

    def _put_denial(self, item: KeyValue) -> None:
        self._denials.deny(item.key, _until(item.value), self._clock())

    def _reset_purges(self, items: tuple[KeyValue, ...]) -> None:
        # Purges live under a lease: a listing after a longer silence may have missed some, and one whose
        # revisions are lower than those heard comes from a restored etcd, whose numbers mean nothing here.
        silent = self._purge_feed.unheard_s > HEARD_LIFE_S
        listed, heard = self._purge_feed.listed_revision, self._purge_revision
        followed = self._listed
        self._purge_revision = listed
        if listed < heard:
            _log.error("etcd was put back", revision=listed, before=heard)
            self._cache.begin_era()
            self._run(self._cache.purge((EVERYTHING,), None), always=True)
        elif silent:
            self._cache.purge_memory((EVERYTHING,), listed)
            self._run(self._cache.purge((EVERYTHING,), listed), always=True)
        elif not self._listed:
            self._cache.clear_memory()  # filled while nobody here listened
            self._catching_up = self._run(self._cache.catch_up(listed), always=True)
        self._listed = True
        for item in items:
            # Some of what is listed was ordered long ago, and what was stored since then is not to suffer from it.
            self._put_purge(item, by_its_order=not followed or item.revision <= heard)

    def _put_purge(self, item: KeyValue, *, by_its_order: bool = False) -> None:
        """`by_its_order`: a soft purge counts from when it was ordered, by that clock, and not from now by this one."""
        self._purge_revision = max(self._purge_revision, item.revision)
        try:
            purge = decode_purge(item.value)
        except msgspec.MsgspecError:
            _log.error("purge unreadable", revision=item.revision)
            return
        if purge.by and not by_its_order:
            _log.info(
                "purge ordered",
                by=purge.by,
                tags=len(purge.tags),
                soft=purge.softened_at is not None,
                revision=item.revision,
            )
        if purge.softened_at is not None:
            # What was stored by a clock that is ahead seems to be from after it.
            now = self._clock()
            at = min(purge.softened_at, now) if by_its_order else now
            self._cache.soften(purge.tags, at + CLOCK_SKEW_MAX_S)
            return
        self._cache.purge_memory(purge.tags, item.revision)
        if self._catching_up is None or self._catching_up.done():
            self._run(self._cache.purge(purge.tags, item.revision))
        else:
            self._run(self._purge_after(self._catching_up, purge.tags, item.revision))

    async def _purge_after(self, catching_up: asyncio.Task[None], tags: Sequence[str], place: int) -> None:
        """Only then is it known in which era tier 2 counts places."""
        await asyncio.wait([catching_up])
        if place <= self._purge_revision:  # else etcd was put back meanwhile, which outdates everything
            await self._cache.purge(tags, place)

    async def _note_heard(self) -> None:
        """Tell the workers that start later how recently somebody of this site heard every purge."""
        while True:
            if self._listed and self._purge_feed.silent_for_s() < HEARD_EVERY_S:
                await self._cache.note_heard(HEARD_LIFE_S)
            await asyncio.sleep(HEARD_EVERY_S)

    def _run(self, errand: Coroutine[Any, Any, None], *, always: bool = False) -> asyncio.Task[None] | None:
        """`always`: a listing's own errand, of which there is one at a time."""
        if len(self._errands) >= ERRANDS_MAX and not always:
            # Tier 1 is purged already; tier 2 hears of it from another worker or ends by its freshness.
            errand.close()
            return None
        task = asyncio.get_running_loop().create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task


def _until(value: bytes) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")  # a denial that cannot be read holds
