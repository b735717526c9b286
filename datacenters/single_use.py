"""A bounded memory of tokens that may be used once, so that a recorded message cannot be played again.

Invariant: a token admitted once is never admitted again before it expires; a full memory admits nothing new.
"""

from __future__ import annotations

from collections import OrderedDict

ENTRIES_MAX = 200_000


class SingleUse:
    """Admits each token once until it expires; at most `entries_max` unexpired tokens are held."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def admit(self, token: str, *, until: float, now: float) -> bool:
        """True the first time `token` is seen; False when repeated, or when the memory is full (fails closed).

        `until` and `now` are Unix seconds.
        """
        self._forget_expired(now)
        if token in self._until or len(self._until) >= self._entries_max:
            return False
        self._until[token] = until
        return True

    def _forget_expired(self, now: float) -> None:
        # Lifetimes differ by seconds only, so insertion order is expiry order but for a bounded remainder,
        # which leaves as soon as what stands before it has expired.
        while self._until:
            token, until = next(iter(self._until.items()))
            if until > now:
                return
            del self._until[token]
