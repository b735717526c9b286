"""What an app does after each answer to a write: the table of docs/apps.md as code; pure.

Invariant: a write leaves the outbox only by a verdict. Whatever is no verdict is asked again under the same key, and
never sooner than the answer said.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

WAIT_FIRST_S = 0.5
WAIT_MAX_S = 30.0
# What a server may make an app wait; beyond it the app comes back by itself.
RETRY_AFTER_MAX_S = 120.0
# A site that put the app off so often in a row is left for the next: it may be the site, and not the whole.
PUT_OFF_MAX = 2


class Then(StrEnum):
    """What comes next: only DONE, REFUSED and ASK end a write."""

    DONE = "done"
    REFUSED = "refused"
    ASK = "ask"
    AGAIN = "again"
    REFRESH = "refresh"
    SIGN_IN = "sign-in"


class Step(msgspec.Struct, frozen=True):
    """What to do, after `wait_s` at least, and whether to ask another site then."""

    then: Then
    wait_s: float = 0.0
    elsewhere: bool = False


# The write was refused for now, and nothing was said about it.
_NOT_YET = frozenset({"idempotency-key-in-progress", "request-timeout", "rate-limited"})
_OTHERWISE = {"token-expired": Then.REFRESH, "idempotency-key-expired": Then.ASK}


def after(status: int | None, slug: str, *, retry_after: str | None, tries: int, put_off: int) -> Step:
    """The step after an answer to a write, or after none (`status` None).

    `tries` counts what was sent so far, `put_off` how often in a row this site put the app off. What carries no slug
    is not the gateway's word (a proxy's page, a redirect of a waiting room's network) and no verdict.
    """
    wait_s = waits(retry_after, tries)
    if status is None:
        return Step(Then.AGAIN, wait_s, elsewhere=True)
    if 200 <= status < 300:
        return Step(Then.DONE)
    if slug in _OTHERWISE:
        return Step(_OTHERWISE[slug], wait_s)
    if status >= 500 or not slug or slug in _NOT_YET:
        return Step(Then.AGAIN, wait_s, elsewhere=status >= 500 and put_off + 1 >= PUT_OFF_MAX)
    return Step(Then.SIGN_IN if status == 401 else Then.REFUSED)


def waits(retry_after: str | None, tries: int) -> float:
    """Seconds until the next try: what the answer said, else twice as long each time."""
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= 6:
        return min(float(retry_after), RETRY_AFTER_MAX_S)
    return min(WAIT_FIRST_S * 2.0 ** min(max(tries - 1, 0), 16), WAIT_MAX_S)


def spread(wait_s: float, jitter: float) -> float:
    """The wait, up to half as long again: never sooner than asked, and not all phones at once (`jitter` in [0, 1))."""
    return wait_s * (1.0 + jitter / 2)
