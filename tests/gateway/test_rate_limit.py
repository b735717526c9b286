"""How fast one principal may go."""

from __future__ import annotations

import pytest

from gateway.rate_limit import RateLimit, RateLimited


def test_a_burst_is_let_through_and_what_follows_is_told_how_long_to_wait() -> None:
    limit = RateLimit(per_s=1, burst=5)
    for _ in range(5):
        limit.admit("pupil")
    with pytest.raises(RateLimited) as refused:
        limit.admit("pupil")
    assert refused.value.slug == "rate-limited"
    assert 1.0 <= refused.value.retry_after_s <= 5.0


def test_one_principal_in_a_loop_slows_nobody_else() -> None:
    limit = RateLimit(per_s=1, burst=1)
    limit.admit("pupil")
    for _ in range(100):
        with pytest.raises(RateLimited):
            limit.admit("pupil")
    limit.admit("parent")
