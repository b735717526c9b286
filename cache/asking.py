"""One read of the cache and what the tiers know of it; which answers they allow, as pure judgement.

Invariant: nothing is allowed here that `freshness` distrusts; a stale entry is shown only within its class's windows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from cache.cache_key import CacheKey
from cache.entries import Entry, Position
from cache.freshness import Epochs, Verdict, fresh_until, judge, may_survive
from cache.policy import Policy, is_failure, nobody_answers
from cache.reading import Fetched, State

Fetch = Callable[[Entry | None], Awaitable[Fetched]]


class Ask(msgspec.Struct, frozen=True):
    """One read: what is wanted and how to get it."""

    key: CacheKey
    text: str
    policy: Policy
    tags: tuple[str, ...]
    fetch: Fetch
    not_before: Position


class Known(msgspec.Struct, frozen=True):
    """What the tiers hold: `best` may be shown if its age allows, `previous` only helps to revalidate.

    `answered`: tier 2 said something.
    """

    best: Entry | None = None
    tier: int = 0
    previous: Entry | None = None
    answered: bool = False


def at_once(ask: Ask, known: Known, now: float, *, epochs: Epochs) -> State | None:
    """How what is known may be shown before anybody is asked; None where somebody must be asked first."""
    best = known.best
    if best is None or best.position < ask.not_before:
        return None
    verdict = judge(best, ask.policy, now, epochs=epochs)
    if verdict is Verdict.FRESH:
        return State.HIT
    stale_s = now - fresh_until(best, ask.policy)
    behind = verdict is Verdict.STALE and stale_s < ask.policy.stale_while_revalidate_s
    return State.REVALIDATING if behind else None


def instead(ask: Ask, known: Known, error: BaseException, now: float, *, epochs: Epochs) -> State | None:
    """How what is known may stand in for a failed fetch; None where the error is the answer."""
    best = known.best
    if best is None or not is_failure(error) or best.position < ask.not_before:
        return None
    if judge(best, ask.policy, now, epochs=epochs) is Verdict.STALE:
        return State.STALE
    survives = nobody_answers(error) and may_survive(best, ask.policy, now, epochs=epochs)
    return State.SURVIVAL if survives else None
