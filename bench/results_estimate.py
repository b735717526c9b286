"""The arithmetic of the results hour: what a person asks for, what that costs, and how many cores and nodes it takes.

The estimate: 1.5 million people, five requests each within ten minutes. What they ask for is assumed, and stands here.

Invariant: pure; every share and rate is a named constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

from bench.figures import Figure, interval

PEOPLE = 1_500_000
SPAN_S = 600.0
HOUR_S = 3_600.0
# What a core may be busy at the peak: the rest is for a node that is lost, and for waits that stay short.
UTILISATION = 0.6
# One worker is one core; who ends TLS before the workers shares their cores.
NODE_WORKERS = 2
NODE_CORES = 16

# Of the people: whose refresh token no longer lives (30 days since the app was opened last, a new phone, signed out).
SIGN_IN_SHARE = 0.1
# Of the first reads: a pupil's results are read by the pupil and two guardians (half a million candidates, 1.5 million
# people), and the first of the three has them fetched from the datacenter.
COLD_SHARE = 1 / 3
# The results again, and once more after a look elsewhere.
WARM_READS = 2
# The app opened again within the ten minutes asks by the entity tag that it has.
CONDITIONAL_READS = 1


class Kind(StrEnum):
    """What a person does that costs processor time."""

    HANDSHAKE = "handshake"
    REFRESH = "refresh"
    SIGN_IN = "sign-in"
    COLD = "cold"
    FIRST_SEEN = "first-seen"
    WARM = "warm"
    CONDITIONAL = "conditional"


TITLES: Mapping[Kind, str] = {
    Kind.HANDSHAKE: "TLS 1.3 handshake, full, new connection",
    Kind.REFRESH: "exchange of a refresh token",
    Kind.SIGN_IN: "sign-in by password (argon2id)",
    Kind.COLD: "first read, person and answer not held",
    Kind.FIRST_SEEN: "first read with a new token, answer held",
    Kind.WARM: "warm read",
    Kind.CONDITIONAL: "If-None-Match, 304",
}
# How many of each there are for one person. An access token lives ten minutes, so everybody's has run out: one request
# brings another, and the read after it shows a token that the worker has never seen. Phones come anew: one connection each.
EACH: Mapping[Kind, float] = {
    Kind.HANDSHAKE: 1.0,
    Kind.REFRESH: 1 - SIGN_IN_SHARE,
    Kind.SIGN_IN: SIGN_IN_SHARE,
    Kind.COLD: COLD_SHARE,
    Kind.FIRST_SEEN: 1 - COLD_SHARE,
    Kind.WARM: float(WARM_READS),
    Kind.CONDITIONAL: float(CONDITIONAL_READS),
}
# The same when no worker holds an answer for whoever asks first: the least that caching does here.
EACH_COLD: Mapping[Kind, float] = {**EACH, Kind.COLD: 1.0, Kind.FIRST_SEEN: 0.0}


def requests_each(each: Mapping[Kind, float] = EACH) -> float:
    """How many requests a person makes; a handshake is none."""
    return sum(count for kind, count in each.items() if kind is not Kind.HANDSHAKE)


def falls(number: int, share: float) -> bool:
    """Whether the person of this number, from 0, belongs to a share of all: evenly spread, and exact over whole cycles."""
    return math.floor((number + 1) * share + 1e-9) > math.floor(number * share + 1e-9)


def cpu_s_a_person(cpu_us: Mapping[Kind, float], each: Mapping[Kind, float] = EACH) -> float:
    """Seconds of processor time for one person, by microseconds of each kind."""
    return sum(count * cpu_us[kind] for kind, count in each.items()) / 1e6


def cores(cpu_s: float, *, idle: float, share: float = 1.0, span_s: float = SPAN_S) -> float:
    """Cores for a share of the people within a span, each person `cpu_s` of processor time.

    `idle`: the share of its core that a worker takes when nobody asks.
    """
    return PEOPLE * share * cpu_s / span_s / (UTILISATION - idle)


def nodes(of: Figure, cores_each: int) -> str:
    """How many nodes for so many cores, as `shown` would."""
    median, low, high = (math.ceil(number / cores_each) for number in (of.median, of.low, of.high))
    return f"{median:,} ({low:,} - {high:,})"


def cores_interval(
    cpu_s: Sequence[float], idle: Sequence[float], *, share: float = 1.0, span_s: float = SPAN_S
) -> Figure:
    """The interval of `cores`, round by round."""
    pairs = zip(cpu_s, idle, strict=True)
    return interval([cores(each, idle=idly, share=share, span_s=span_s) for each, idly in pairs])
