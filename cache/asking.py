"""One read of the cache and what the tiers know of it; which answers they allow, as pure judgement.

Invariant: nothing is allowed here that `freshness` distrusts; a stale entry is shown only within its class's windows.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, TypeAlias

import msgspec

from cache.cache_key import CacheKey
from cache.entries import NOWHERE, Entry, Position
from cache.freshness import CLOCK_SKEW_MAX_S, Epochs, Verdict, fresh_until, judge, may_survive
from cache.generations import EVERYTHING
from cache.memory import Held
from cache.policy import SHARED_LIFE_MIN_S, Policy, is_failure, nobody_answers
from cache.reading import Fetched, Reading, State, made_of
from cache.softened import Softened

TAGS_PER_ENTRY_MAX = 16

Fetch = Callable[[Entry | None], Awaitable[Fetched]]


class FetchTimedOut(Exception):
    """The fetch did not end within its deadline and nothing older may stand in."""

    slug: ClassVar[str] = "datacenters-unavailable"
    retry_after_s: float | None = 1.0


class Ask(msgspec.Struct, frozen=True):
    """One read: what is wanted and how to get it. `shared`: about no single person."""

    key: CacheKey
    text: str
    policy: Policy
    tags: tuple[str, ...]
    fetch: Fetch
    not_before: Position
    shared: bool

    @property
    def kept_s(self) -> float:
        """How long tier 2 keeps the entry from its fetch on, whatever may be shown of it by then."""
        return max(self.policy.life_s, SHARED_LIFE_MIN_S) if self.shared else self.policy.life_s


def ask(
    key: CacheKey,
    policy: Policy,
    tags: Sequence[str],
    fetch: Fetch,
    *,
    not_before: Position = NOWHERE,
    shared: bool = False,
) -> Ask:
    """One read of `key`. Raises ValueError for more than TAGS_PER_ENTRY_MAX tags."""
    if len(tags) > TAGS_PER_ENTRY_MAX:
        raise ValueError(f"an entry has at most {TAGS_PER_ENTRY_MAX} tags")
    return Ask(
        key=key,
        text=key.text,
        policy=policy,
        tags=(EVERYTHING, *tags),
        fetch=fetch,
        not_before=not_before,
        shared=shared,
    )


def made(
    ask: Ask, fetched: Fetched, begun_at: float, previous: Entry | None, generations: Sequence[int]
) -> Entry:
    """The entry that a fetch of `ask` makes: `made_of`."""
    return made_of(
        fetched, key=ask.key, tags=ask.tags, generations=generations, begun_at=begun_at, previous=previous
    )


def held(ask: Ask, entry: Entry, *, looked_at: float, now: float, lot: float, softened: Softened) -> Held:
    """The entry for tier 1; its window counts from when tier 2 was asked, before the fetch, not from the answer.

    By `lot` (0 to 1) entries that were filled together part when they are fetched anew behind their readers.
    """
    policy, fresh_until_s = ask.policy, fresh_until(entry, ask.policy, softened)
    return Held(
        entry,
        key=ask.text,
        from_s=now - CLOCK_SKEW_MAX_S,
        until_s=min(fresh_until_s, looked_at + policy.tier1_s),
        fresh_until_s=fresh_until_s,
        ahead_at=fresh_until_s - policy.ahead_s * (1 + lot) / 2 if policy.ahead_s else math.inf,
        shared=ask.shared,
        decoded=policy.decoded,
    )


class Known(msgspec.Struct, frozen=True):
    """What the tiers hold: `best` may be shown if its age allows, `previous` only helps to revalidate.

    `answered`: tier 2 said something.
    """

    best: Entry | None = None
    tier: int = 0
    previous: Entry | None = None
    answered: bool = False


class Look(msgspec.Struct, frozen=True):
    """One look at both tiers: what they held, from when on (Unix seconds), and whether tier 2 said so in good time."""

    known: Known
    at: float
    prompt: bool


# What may be shown before anybody is asked, else what the look brought (None: it was somebody else's).
Found: TypeAlias = tuple[Reading | None, Look | None]
NOT_LOOKED: Found = (None, None)


def at_once(ask: Ask, known: Known, now: float, *, epochs: Epochs, softened: Softened) -> State | None:
    """How what is known may be shown before anybody is asked; None where somebody must be asked first."""
    best = known.best
    if best is None or best.position < ask.not_before:
        return None
    verdict = judge(best, ask.policy, now, epochs=epochs, softened=softened)
    if verdict is Verdict.FRESH:
        return State.HIT
    stale_s = max(
        0.0, now - fresh_until(best, ask.policy, softened)
    )  # a soft purge may lie ahead of this clock
    behind = verdict is Verdict.STALE and stale_s < ask.policy.stale_while_revalidate_s
    return State.REVALIDATING if behind else None


def instead(
    ask: Ask, known: Known, error: BaseException, now: float, *, epochs: Epochs, softened: Softened
) -> State | None:
    """How what is known may stand in for a failed fetch; None where the error is the answer."""
    best = known.best
    if best is None or not is_failure(error) or best.position < ask.not_before:
        return None
    if judge(best, ask.policy, now, epochs=epochs, softened=softened) is Verdict.STALE:
        return State.STALE
    survives = nobody_answers(error) and may_survive(best, ask.policy, now, epochs=epochs)
    return State.SURVIVAL if survives else None
