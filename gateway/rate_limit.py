"""How fast one principal may go, so that one phone in a loop does not slow a class.

Invariant: decided in this process without waiting; per worker, so the true bound is that times the workers.
"""

from __future__ import annotations

from typing import ClassVar

from throttled import Throttled
from throttled.constants import RateLimiterType
from throttled.rate_limiter import per_sec
from throttled.store import MemoryStore

PRINCIPALS_MAX = 100_000


class RateLimited(Exception):
    """One principal asks too fast."""

    slug: ClassVar[str] = "rate-limited"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class RateLimit:
    """A GCRA bucket per principal in this process, at most PRINCIPALS_MAX of them (least recently used go)."""

    def __init__(self, *, per_s: int, burst: int) -> None:
        # The limiter itself: what `Throttled` does around it is for keys and waits that we do not have.
        self._limiter = Throttled(
            using=RateLimiterType.GCRA.value,
            quota=per_sec(per_s, burst=burst),
            store=MemoryStore(options={"MAX_SIZE": PRINCIPALS_MAX}),
        ).limiter

    def admit(self, subject: str) -> None:
        """Count one request of `subject`. Raises: RateLimited."""
        verdict = self._limiter.limit(subject)
        if verdict.limited:
            raise RateLimited(max(1.0, verdict.state.retry_after))
