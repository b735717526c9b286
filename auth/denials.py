"""The sessions that are signed out while their access tokens still run.

Invariant: a denial that was heard is never forgotten while a token of it could live. When the set is full the
one that finds no room makes every token issued until now run out instead: each phone then exchanges its refresh
token, and the accounts database, which knows every ended session, decides. So the bound costs exchanges, never
a token that outlives its sign-out.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

from auth.tokens import ACCESS_TTL_S, CLOCK_LEEWAY_S

DENIALS_MAX = 200_000
DENIAL_MARGIN_S = 60


class Denials:
    """A local set of session ids fed from outside.

    Times are Unix seconds, but for `heard` and `silent_for_s`, which compare readings of one monotonic clock.
    """

    def __init__(self, max_entries: int = DENIALS_MAX, *, access_ttl_s: int = ACCESS_TTL_S) -> None:
        self._max_entries = max_entries
        self._access_ttl_s = access_ttl_s
        # In the order heard, which is nearly the order in which they run out: room is made at the front.
        self._sids: OrderedDict[str, float] = OrderedDict()
        self._heard_at = -math.inf
        self.overflows = 0
        self.expiry_floor = 0.0
        """Tokens that expire at or before this are to be exchanged (raised by an overflow)."""

    def __len__(self) -> int:
        return len(self._sids)

    def deny(self, sid: str, until: float, now: float) -> None:
        """Refuse the tokens of `sid` until `until`, the instant at which the last of them has run out."""
        held = self._sids
        if sid in held:
            held[sid] = max(held[sid], until)
            return
        if len(held) >= self._max_entries:
            self._drop_expired(now)
        if len(held) >= self._max_entries:
            self.overflows += 1
            self.expiry_floor = max(self.expiry_floor, now + self._access_ttl_s + CLOCK_LEEWAY_S)
            return
        held[sid] = until

    def forget(self, sid: str) -> None:
        """Change nothing: a session that ended never comes back, whatever the feed no longer names."""

    def replace(self, entries: Mapping[str, float], now: float) -> None:
        """Take `entries` (sid to until) as all there is to hear; sessions already denied stay so."""
        for sid, until in entries.items():
            self.deny(sid, until, now)

    def denied(self, sid: str) -> bool:
        """Whether the session is signed out."""
        return sid in self._sids

    def heard(self, now: float) -> None:
        """Note that the feed was alive at `now` (monotonic seconds)."""
        self._heard_at = max(self._heard_at, now)

    def silent_for_s(self, now: float) -> float:
        """Seconds since the feed was last alive; infinite when it never was."""
        return now - self._heard_at

    def _drop_expired(self, now: float) -> None:
        held = self._sids
        while held and next(iter(held.values())) <= now:
            held.popitem(last=False)
