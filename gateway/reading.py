"""Cached reads: from (resource, view) to bytes, through both tiers, the active datacenter and, when it is away,
the standby.

Invariant: the datacenter is asked for a view, never on behalf of a person, so who shares a key gets the same bytes;
what it answers is checked against the view's Struct before anybody sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from auth.refusals import NotFound
from cache import asking
from cache.asking import NOT_LOOKED, Ask, Found
from cache.cache_key import CacheKey
from cache.coding import Coded, encode
from cache.entries import Entry
from cache.memory import Held
from cache.policy import S
from cache.reading import Fetched, Reading, State
from cache.store import Cache
from datacenters.attempts import Answer
from datacenters.directory import Directory
from datacenters.forwarding import Forwarder
from datacenters.position import NOWHERE, Position
from datacenters.unanswered import DatacentersUnavailable
from gateway import validators
from gateway.standing import Standing
from routes.endpoint import Answered, CachedRead, Calendar, Reads, Source

# Fresh for no time: a standby's answer is shown to who waited for it and never kept.
FROM_STANDBY_MAX_AGE_S = 0.0

# What is larger takes a millisecond and more to code: not while others wait for the loop.
CODED_HERE_BYTES_MAX = 65_536

_encode = msgspec.json.Encoder().encode
_STATUS_WORDS = {
    "hit": "massar; hit",
    "revalidated": "massar; hit; fwd=stale; fwd-status=304",
    "miss": "massar; fwd=miss",
    "collapsed": "massar; fwd=miss; collapsed",
    "revalidating": "massar; hit; detail=stale-while-revalidate",
    "stale": "massar; hit; fwd=stale; detail=stale-if-error",
    "survival": "massar; hit; detail=survival",
}
_TIERS = {1: "memory", 2: "valkey"}


class AnswerUnusable(Exception):
    """A datacenter's answer is not of the declared shape, or not one a read may have."""

    slug: ClassVar[str] = "datacenters-unavailable"
    retry_after_s: ClassVar[float] = 2.0


class DenialsUnavailable(Exception):
    """Sign-outs could not be heard for too long to show anybody's record."""

    slug: ClassVar[str] = "denials-unavailable"
    retry_after_s: ClassVar[float] = 2.0


def calendar_source(_params: Mapping[str, str]) -> Source:
    """The school calendar is one entry for all."""
    return Source("calendar", "public", "/v1/calendar?view=public", ("calendar",))


CALENDAR = CachedRead(freshness=S, source=calendar_source, answer=Calendar, shared=True, part=True)


class CachedReads:
    """Answers `CachedRead`s; `ask` is what the edge uses, `read` what handlers use."""

    def __init__(
        self,
        cache: Cache,
        forwarder: Forwarder,
        directory: Directory,
        standing: Standing,
        *,
        show_cache_status: bool,
        clock: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._forwarder = forwarder
        self._directory = directory
        self._standing = standing
        self._show_cache_status = show_cache_status
        self._clock = clock
        self._decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}
        self._calendar = msgspec.json.Decoder(Calendar)

    def known_calendar(self, now: float) -> tuple[Held, Calendar] | None:
        """The calendar's entry and the calendar if this process may go by what it holds, without waiting."""
        held = self._cache.peek(_CALENDAR_KEY, now)
        if held is None:
            return None
        if not isinstance(held.prepared, Calendar):
            held.prepared = self._calendar.decode(held.entry.body)
        return held, held.prepared

    async def calendar(self) -> Calendar:
        """The current school calendar."""
        known = self.known_calendar(self._clock())
        if known is not None:
            return known[1]
        return self._calendar.decode((await self.read(CALENDAR, {})).body)

    def after(self, position: Position) -> Reads:
        """These reads for a caller who wants to see the write that was answered with `position`."""
        return self if position == NOWHERE else _ReadsAfter(self, position)

    async def read(
        self, read: CachedRead, params: Mapping[str, str], *, not_before: Position = NOWHERE
    ) -> Answered:
        """The bytes of one view, showing the write that was answered with the position `not_before`.

        Raises: NotFound, DenialsUnavailable, AnswerUnusable and the forwarder's errors.
        """
        return await self.answer(self.ask(read, params, not_before=not_before))

    def ask(self, read: CachedRead, params: Mapping[str, str], *, not_before: Position = NOWHERE) -> Ask:
        """The question that `read` puts to the cache. Raises: DenialsUnavailable."""
        if not (read.shared or self._standing.now().hears_denials):
            raise DenialsUnavailable
        source = read.source(params)

        async def fetch(previous: Entry | None) -> Fetched:
            return await self._fetched(read, source, previous, not_before)

        return asking.ask(
            _key(read, source),
            read.freshness,
            source.tags,
            fetch,
            not_before=not_before,
            shared=read.shared,
        )

    async def answer(self, ask: Ask, found: Found = NOT_LOOKED) -> Answered:
        """What the cache says to a question; `found` is what `Cache.find` has said to it just now.

        Raises: NotFound, AnswerUnusable and the forwarder's errors.
        """
        reading, look = found
        if reading is None:
            reading = await self._cache.answer(ask, look)
        if reading.state is State.SURVIVAL:  # as this worker has heard itself, or another one that asked
            self._standing.note_away()
        return self._answered(reading)

    async def _fetched(
        self, read: CachedRead, source: Source, previous: Entry | None, not_before: Position
    ) -> Fetched:
        held_etag = previous.origin_etag if previous is not None else None
        answer = await self._ask(source.target, held_etag, not_before)
        unchanged = answer.status == 304 and held_etag is not None
        body = b"" if unchanged else self._checked(read, answer)
        standby = answer.from_standby
        cacheable = not standby and self._may_fill()
        return Fetched(
            body=body,
            not_modified=unchanged,
            origin_etag=validators.entity_tag(answer.headers.get("etag")),
            epoch=answer.epoch,
            position=answer.position,
            last_modified=validators.date(answer.headers.get("last-modified"), self._clock()),
            cacheable=cacheable,
            coded=await _coded(body) if cacheable and not read.part else (),
            age_s=(answer.data_age_s or 0.0) if standby else 0.0,
            max_age_s=FROM_STANDBY_MAX_AGE_S if standby else None,
        )

    async def _ask(self, target: str, held_etag: str | None, not_before: Position) -> Answer:
        try:
            answer = await self._forwarder.read(target, if_none_match=held_etag, not_before=not_before)
        except DatacentersUnavailable as error:
            if error.datacenters_away:
                self._standing.note_away()
            raise
        self._standing.note_answered()
        return answer

    def _may_fill(self) -> bool:
        # While a move is under way, or one was heard of, nobody knows yet which history counts.
        record = self._directory.record
        return record is not None and record.serving is not None and not self._directory.behind

    def _checked(self, read: CachedRead, answer: Answer) -> bytes:
        if answer.status == 404:
            raise NotFound
        if answer.status != 200:
            raise AnswerUnusable
        decoder = self._decoders.get(read.answer)
        if decoder is None:
            decoder = self._decoders[read.answer] = msgspec.json.Decoder(read.answer)
        try:
            return _encode(decoder.decode(answer.body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise AnswerUnusable from None

    def _answered(self, reading: Reading) -> Answered:
        entry, state = reading.entry, reading.state
        mode = self._standing.mode
        data_age_s: float | None = None
        if state in ("revalidating", "stale", "survival"):
            data_age_s = reading.age_s
        elif entry.max_age_s == FROM_STANDBY_MAX_AGE_S:
            mode, data_age_s = "read-only", reading.age_s
        words = _STATUS_WORDS[state]
        if state == "miss" and mode == "normal":
            words += "; stored"
        if state == "hit":
            words += f"; detail={_TIERS[reading.tier]}"
        return Answered(
            body=entry.body,
            etag=entry.etag,
            cache_status=words if self._show_cache_status else "",
            age_s=reading.age_s,
            mode=mode,
            last_modified=entry.last_modified,
            data_age_s=data_age_s,
            outcome=str(state),
            coded=entry.coded,
        )


class _ReadsAfter:
    """Reads that all show one write; the calendar, which nobody writes through here, as it is."""

    def __init__(self, reads: CachedReads, position: Position) -> None:
        self._reads = reads
        self._position = position

    async def calendar(self) -> Calendar:
        return await self._reads.calendar()

    async def read(self, read: CachedRead, params: Mapping[str, str]) -> Answered:
        return await self._reads.read(read, params, not_before=self._position)


async def _coded(body: bytes) -> Coded:
    if len(body) > CODED_HERE_BYTES_MAX:
        return await asyncio.to_thread(encode, body)
    return encode(body)


def _key(read: CachedRead, source: Source) -> CacheKey:
    return CacheKey(resource=source.resource, view=source.view, schema=read.schema)


_CALENDAR_KEY = _key(CALENDAR, calendar_source({})).text
