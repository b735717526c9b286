"""How old a stored response is and how long it is fresh (RFC 9111 §4.2).

Invariant: pure; what is invalid or says two things makes a response stale, never fresh.
"""

from __future__ import annotations

import math

import msgspec

from cache.http.fields import (
    Directives,
    Fields,
    delta_seconds,
    directives,
    http_date,
    targeted_directives,
)
from cache.http.messages import Stored

# Statuses that may be kept without a word on freshness (RFC 9110 §15.1).
HEURISTIC_STATUSES = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
# A tenth of the time since it was changed is the usual guess (RFC 9111 §4.2.2); nothing is guessed beyond a day.
HEURISTIC_SHARE = 0.1
HEURISTIC_MAX_S = 86_400.0


class Manner(msgspec.Struct, frozen=True):
    """How this cache behaves where the standards leave a choice.

    `targeted`: fields that speak to this cache alone, the first valid one replaces Cache-Control and Expires
    (RFC 9213).
    `passes_conditions`: without it an origin is asked about no validator that a client holds and this cache does not: a
    validator made for one visitor would know him again.
    """

    shared: bool = True
    targeted: tuple[str, ...] = ()
    keep_set_cookie: bool = True
    passes_conditions: bool = True
    name: str = "massar"


def response_directives(of: Fields, manner: Manner) -> tuple[Directives, bool]:
    """What a response says of caching, and whether a targeted field says it, so that Expires does not count."""
    for name in manner.targeted:
        if (said := targeted_directives(of.get(name))) is not None:
            return said, True
    return directives(of.get("cache-control")), False


def current_age(stored: Stored, now: float) -> float:
    """Seconds since the origin made or validated it (RFC 9111 §4.2.3); infinite where Age cannot be believed."""
    values = stored.fields.all("age")
    # Of a list the first member might be taken (§5.1); but who says two things is not believed, and asking is safe.
    told = delta_seconds(values[0]) if len(values) == 1 else None
    if values and told is None:
        return math.inf
    date = http_date(stored.fields.get("date"), stored.received_at)
    apparent = max(0.0, stored.received_at - date) if date is not None else 0.0
    corrected = (told or 0) + max(0.0, stored.received_at - stored.requested_at)
    return max(apparent, corrected) + max(0.0, now - stored.received_at)


def explicit_lifetime(of: Fields, received_at: float, manner: Manner) -> float | None:
    """The freshness lifetime that the response itself gives, in seconds; None when it gives none (§4.2.1)."""
    said, targeted = response_directives(of, manner)
    if manner.shared and (shared := said.seconds("s-maxage")) is not None:
        return float(shared)
    if (for_all := said.seconds("max-age")) is not None:
        return float(for_all)
    expiries = of.all("expires")
    if targeted or not expiries:
        return None
    expires = http_date(expiries[0], received_at) if len(set(expiries)) == 1 else None
    if expires is None:
        return 0.0
    date = http_date(of.get("date"), received_at)
    return max(0.0, expires - (date if date is not None else received_at))


def lifetime(status: int, of: Fields, received_at: float, manner: Manner) -> float:
    """The freshness lifetime in seconds, guessed where it may be and must be (§4.2.2)."""
    explicit = explicit_lifetime(of, received_at, manner)
    if explicit is not None:
        return explicit
    said, _ = response_directives(of, manner)
    if status not in HEURISTIC_STATUSES and "public" not in said:
        return 0.0
    changed = http_date(of.get("last-modified"), received_at)
    if changed is None:
        return 0.0
    date = http_date(of.get("date"), received_at)
    since = (date if date is not None else received_at) - changed
    return min(max(0.0, HEURISTIC_SHARE * since), HEURISTIC_MAX_S)


def freshness_left(stored: Stored, now: float, manner: Manner) -> float:
    """Seconds for which it is fresh yet; negative when it is stale."""
    return lifetime(stored.status, stored.fields, stored.received_at, manner) - current_age(stored, now)
