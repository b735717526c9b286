"""How long an answer may be shown: the freshness classes that routes declare.

Invariant: pure values. Nothing an origin says makes a window here longer, only shorter, and relations are
never shown because an error happened: only because no datacenter answers at all.
"""

from __future__ import annotations

import msgspec

MINUTE_S = 60.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

# Longest time that tier 1 may go without asking tier 2 for newer generations where purges may have been missed.
TIER1_RECHECK_MAX_S = 3.0
ENTRY_LIFE_MAX_S = 7 * DAY_S
# A generation outlives every entry that recorded it, so that no entry can wait until its purge is forgotten.
GENERATION_LIFE_S = ENTRY_LIFE_MAX_S + DAY_S
# Under pressure Valkey drops first what would end first: so long is kept what is shared, and nothing personal for as long.
SHARED_LIFE_MIN_S = 3 * DAY_S

# What these say is "nobody knows", so an older answer may stand in. Every other slug is an answer.
FAILURE_SLUGS = frozenset({
    "datacenters-unavailable",
    "outcome-unknown",
    "overloaded",
    "position-not-reached",
    "read-only",
    "switching",
})  # fmt: skip


class Policy(msgspec.Struct, frozen=True):
    """One freshness class.

    `fresh_s`: served without asking anybody. `tier1_s`: served from the process without asking tier 2 while purges
    may have been missed.
    `ahead_s`: at most so long before the end of freshness a reader's visit has the answer fetched anew behind him.
    `stale_while_revalidate_s`, `stale_if_error_s`: counted from the end of freshness. `survival_s`: from the fetch.
    `decoded`: its readers keep it decoded beside its bytes. `stored` false: nothing is kept.
    """

    name: str
    fresh_s: float = 0.0
    tier1_s: float = TIER1_RECHECK_MAX_S
    ahead_s: float = 0.0
    stale_while_revalidate_s: float = 0.0
    stale_if_error_s: float = 0.0
    survival_s: float = 0.0
    decoded: bool = False
    stored: bool = True

    @property
    def life_s(self) -> float:
        """Seconds from the fetch after which no rule of this class can show the entry."""
        return max(self.fresh_s + self.stale_if_error_s, self.survival_s)


N = Policy(name="N", stored=False)
S = Policy(
    name="S",
    fresh_s=MINUTE_S,
    stale_while_revalidate_s=MINUTE_S,
    stale_if_error_s=10 * MINUTE_S,
    survival_s=12 * HOUR_S,
)
M = Policy(
    name="M",
    fresh_s=15 * MINUTE_S,
    stale_while_revalidate_s=5 * MINUTE_S,
    stale_if_error_s=HOUR_S,
    survival_s=DAY_S,
)
D = Policy(
    name="D",
    fresh_s=6 * HOUR_S,
    stale_while_revalidate_s=HOUR_S,
    stale_if_error_s=DAY_S,
    survival_s=2 * DAY_S,
)
R = Policy(
    name="R",
    fresh_s=ENTRY_LIFE_MAX_S - DAY_S,
    stale_while_revalidate_s=DAY_S,
    stale_if_error_s=DAY_S,
    survival_s=ENTRY_LIFE_MAX_S,
)
# Sealed until its release instant: while nothing here knows that instant, nothing is kept.
X = Policy(name="X", stored=False)
CLASSES = {policy.name: policy for policy in (N, S, M, D, R, X)}

# Who may see which child. Wrong is worse than absent, so an error never prolongs it, and nothing stale is shown while it
# is fetched: who is there all the time has it fetched before.
RELATIONS = Policy(name="relations", fresh_s=MINUTE_S, ahead_s=15.0, survival_s=4 * HOUR_S, decoded=True)


def is_failure(error: BaseException) -> bool:
    """Tell "nobody knows" from an answer: only the first may be covered by an older entry.

    A datacenter's own "not found" is an answer and is always shown. Source: RFC 5861 §4.
    """
    if nobody_answers(error):
        return True
    slug = getattr(error, "slug", None)
    if slug is not None:
        return slug in FAILURE_SLUGS
    return isinstance(error, OSError)  # sockets and time-outs; a programming error is shown as one


def nobody_answers(error: BaseException) -> bool:
    """Whether the error says that no datacenter answers, which opens the survival windows."""
    return getattr(error, "datacenters_away", False) is True
