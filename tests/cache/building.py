"""What the cache's tests build with: a clock that obeys, entries, a datacenter that answers on command."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec

from cache.cache_key import CacheKey, resource
from cache.entries import Entry, Position, make_etag
from cache.generations import EVERYTHING, Generations
from cache.memory import MemoryTier
from cache.reading import Event, Fetched
from cache.sealing import Sealer, SealingKeys
from cache.store import Cache
from cache.valkey import ValkeyTier

NOW = 1_795_000_000.0
KEYS = SealingKeys(current=1, keys={1: b"\x01" * 32})
PUPIL = "abcdefgh23456722"
TAG = "grades:classclassclass22"
KEY = CacheKey(resource("v1", "pupils", PUPIL, "grades", query={"year": 2026, "session": 1}), "family")


class Clock:
    """Wall seconds that move only when told."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Away(Exception):
    """No datacenter answers."""

    slug = "datacenters-unavailable"
    datacenters_away = True


class Switching(Exception):
    """A failure, but somebody still answers."""

    slug = "switching"


class NotFound(Exception):
    """An answer."""

    slug = "not-found"


class Datacenter:
    """Answers with `body` at `position`, or raises `error`; counts how often it was asked."""

    def __init__(
        self, body: bytes = b'{"average":"13.80"}', *, epoch: int = 1, position: Position = (1, 100)
    ) -> None:
        self.answer = Fetched(body=body, epoch=epoch, position=position)
        self.error: Exception | None = None
        self.asked = 0
        self.previous: Entry | None = None
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    def now(self, body: bytes | None = None, **changes: object) -> None:
        """Answer otherwise from now on."""
        if body is not None:
            changes["body"] = body
        self.answer = msgspec.structs.replace(self.answer, **changes)

    async def fetch(self, previous: Entry | None) -> Fetched:
        self.asked += 1
        self.previous = previous
        answer, error = self.answer, self.error
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if error is not None:
            raise error
        return answer


class World:
    """A cache with its clock and what it told."""

    def __init__(
        self, *, valkey: ValkeyTier | None = None, clock: Clock | None = None, **options: float
    ) -> None:
        self.clock = clock or Clock()
        self.memory = MemoryTier(max_bytes=4_000_000)
        self.generations = Generations(max_tags=1000)
        self.events: Counter[Event] = Counter()
        self.cache = Cache(
            memory=self.memory,
            generations=self.generations,
            clock=self.clock,
            valkey=valkey,
            sealer=None if valkey is None else Sealer(KEYS),
            on_event=self._count,
            **options,
        )

    def _count(self, event: Event) -> None:
        self.events[event] += 1


def entry(
    body: bytes = b"{}",
    *,
    stored_at: float = NOW,
    epoch: int = 1,
    position: Position = (1, 100),
    tags: tuple[str, ...] = (EVERYTHING, TAG),
    generations: tuple[int, ...] | None = None,
    max_age_s: float | None = None,
) -> Entry:
    """An entry where only what matters is said."""
    return Entry(
        body=body,
        etag=make_etag("family", body),
        stored_at=stored_at,
        epoch=epoch,
        position=position,
        tags=tags,
        generations=(0,) * len(tags) if generations is None else generations,
        max_age_s=max_age_s,
    )
