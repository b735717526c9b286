"""The words between the cache and who asks it: what a fetch brings, what a reading is, what is counted.

Invariant: an entry made here carries the generations that were read before its fetch began, and the instant at
which the fetch began, never the one at which it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from cache.cache_key import CacheKey
from cache.coding import Coded
from cache.entries import Entry, Position, make_etag


class State(StrEnum):
    """How a reading came about."""

    HIT = "hit"
    MISS = "miss"
    REVALIDATED = "revalidated"
    COLLAPSED = "collapsed"  # another reader's miss answered this one
    REVALIDATING = "revalidating"  # stale, and asked about behind the reader's back
    STALE = "stale"  # the fetch failed; within the class's window
    SURVIVAL = "survival"  # no datacenter answers


class Event(StrEnum):
    """What `on_event` is told, once each time. `peek` tells nothing: its caller counts."""

    HIT_TIER1 = "hit_tier1"
    HIT_TIER2 = "hit_tier2"
    MISS = "miss"
    REVALIDATED = "revalidated"
    REVALIDATING = "revalidating"
    STALE = "stale"
    SURVIVAL = "survival"
    COLLAPSED = "collapsed"
    SEAL_BROKEN = "seal_broken"
    UNAVAILABLE = "unavailable"
    LOOK_SKIPPED = "look_skipped"
    REFUSED_OLDER = "refused_older"
    PURGED_IN_FLIGHT = "purged_in_flight"
    ERRAND_SKIPPED = "errand_skipped"
    ERRAND_FAILED = "errand_failed"


class Fetched(msgspec.Struct, frozen=True):
    """What a fetch brings home.

    `age_s`: how old the data already is (a standby's lag). `max_age_s`: the origin's own limit on freshness.
    `not_modified`: the entry handed to the fetch still holds; `body` and `coded` are ignored. `coded`: the body in other
    content codings (`cache.coding.encode`).
    """

    body: bytes
    epoch: int
    position: Position
    cacheable: bool = True
    not_modified: bool = False
    origin_etag: str | None = None
    last_modified: str | None = None
    status: int = 200
    age_s: float = 0.0
    max_age_s: float | None = None
    coded: Coded = ()


class Reading(msgspec.Struct, frozen=True):
    """An answer: the entry, how it came about, from which tier (0: the datacenter), how old it is in seconds."""

    entry: Entry
    state: State
    tier: int
    age_s: float


def reading_of(entry: Entry, state: State, tier: int, now: float) -> Reading:
    """The reading of an entry at `now` (Unix seconds)."""
    return Reading(entry=entry, state=state, tier=tier, age_s=max(0.0, now - entry.stored_at))


def made_of(
    fetched: Fetched,
    *,
    key: CacheKey,
    tags: tuple[str, ...],
    generations: Sequence[int],
    begun_at: float,
    previous: Entry | None,
) -> Entry:
    """The entry that a fetch begun at `begun_at` (Unix seconds) makes; `previous` is what it may have confirmed."""
    if not fetched.not_modified:
        body, status = _fitted(fetched.body), fetched.status
        coded = tuple([(coding, _fitted(content)) for coding, content in fetched.coded])
        etag = make_etag(key.view, body)
        last_modified, origin_etag = fetched.last_modified, fetched.origin_etag
    elif previous is not None:
        body, coded, status = previous.body, previous.coded, previous.status
        etag = previous.etag
        last_modified = fetched.last_modified or previous.last_modified
        origin_etag = fetched.origin_etag or previous.origin_etag
    else:
        raise ValueError("not modified, but there was nothing to revalidate")
    return Entry(
        body=body,
        etag=etag,
        stored_at=begun_at - fetched.age_s,
        epoch=fetched.epoch,
        position=fetched.position,
        tags=tags,
        generations=tuple(generations),
        last_modified=last_modified,
        status=status,
        origin_etag=origin_etag,
        max_age_s=fetched.max_age_s,
        coded=coded,
    )


def _fitted(content: bytes) -> bytes:
    """The same bytes without the room that an encoder left behind them (zstandard: a kilobyte behind 200 bytes)."""
    return bytes(memoryview(content))
