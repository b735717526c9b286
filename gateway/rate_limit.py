"""How fast one principal may go, so that one phone in a loop does not slow a class.

Invariant: decided in this process without waiting; per worker, so the true bound is that times the workers.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar

PRINCIPALS_MAX = 100_000
# Less than any rate's interval, and more than what sums of intervals lose beside the uptime of years.
_ROUNDING_S = 1e-6


class RateLimited(Exception):
    """One principal asks too fast."""

    slug: ClassVar[str] = "rate-limited"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class RateLimit:
    """`burst` requests at once and `per_s` a second from then on, for each of the PRINCIPALS_MAX seen last.

    Source: the generic cell rate algorithm by virtual scheduling, ITU-T I.371 annex A.
    """

    def __init__(self, *, per_s: int, burst: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / per_s
        self._ahead_max_s = burst / per_s + _ROUNDING_S
        self._monotonic = monotonic
        # When each would be through with all his requests so far, had he sent them evenly.
        self._through_at: OrderedDict[str, float] = OrderedDict()

    def admit(self, subject: str) -> None:
        """Count one request of `subject`. Raises: RateLimited, and then it is not counted."""
        now = self._monotonic()
        through_at = max(now, self._through_at.get(subject, now)) + self._interval_s
        early_s = through_at - now - self._ahead_max_s
        if early_s > 0:
            raise RateLimited(max(1.0, early_s))
        self._through_at[subject] = through_at
        self._through_at.move_to_end(subject)
        if len(self._through_at) > PRINCIPALS_MAX:
            self._through_at.popitem(last=False)
