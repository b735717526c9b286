"""How fast one principal may go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import rate_limit
from gateway.rate_limit import RateLimit, RateLimited
from tests.auth.people import Clock


def admitted(limit: RateLimit, subject: str = "pupil") -> bool:
    try:
        limit.admit(subject)
    except RateLimited:
        return False
    return True


def test_a_burst_is_let_through_and_what_follows_is_told_how_long_to_wait() -> None:
    clock = Clock(100.0)
    limit = RateLimit(per_s=1, burst=5, monotonic=clock)
    for _ in range(5):
        limit.admit("pupil")
    with pytest.raises(RateLimited) as refused:
        limit.admit("pupil")
    assert refused.value.slug == "rate-limited"
    assert refused.value.retry_after_s == pytest.approx(1.0)
    clock.advance(1.0)
    assert admitted(limit)
    assert not admitted(limit)


def test_one_principal_in_a_loop_slows_nobody_else() -> None:
    limit = RateLimit(per_s=1, burst=1, monotonic=Clock(100.0))
    limit.admit("pupil")
    for _ in range(100):
        with pytest.raises(RateLimited):
            limit.admit("pupil")
    limit.admit("parent")


def test_refusals_do_not_count() -> None:
    clock = Clock(100.0)
    limit = RateLimit(per_s=2, burst=1, monotonic=clock)
    assert admitted(limit)
    for _ in range(1000):
        assert not admitted(limit)
    clock.advance(0.5)
    assert admitted(limit)


@given(
    per_s=st.integers(1, 50),
    burst=st.integers(1, 20),
    pauses=st.lists(st.integers(0, 2_000), max_size=80),
)
def test_it_lets_through_what_a_bucket_of_tokens_would(per_s: int, burst: int, pauses: list[int]) -> None:
    clock = Clock(0.0)
    limit = RateLimit(per_s=per_s, burst=burst, monotonic=clock)
    tokens, milliseconds = float(burst), 0
    for pause in pauses:
        milliseconds += pause
        clock.now = milliseconds / 1000
        tokens = min(float(burst), tokens + pause * per_s / 1000)
        if abs(tokens - 1) > 1e-6:  # nobody can say on the very edge
            assert admitted(limit) == (tokens >= 1)
            tokens -= tokens >= 1
        else:
            tokens -= admitted(limit)


def test_who_was_not_seen_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "PRINCIPALS_MAX", 3)
    limit = RateLimit(per_s=1, burst=1, monotonic=Clock(100.0))
    for subject in ("a", "b", "c", "d"):
        limit.admit(subject)
    assert len(limit._through_at) == 3
    assert not admitted(limit, "b")
    assert admitted(limit, "a"), "forgotten, and so begins anew"


@pytest.mark.parametrize("uptime_s", [0.0, 86_400.1, 1_036_800.123, 31_536_000.3])
@pytest.mark.parametrize(("per_s", "burst"), [(50, 200), (3, 7), (7, 1_000), (1, 1)])
def test_a_burst_is_whole_however_long_the_machine_has_been_up(
    uptime_s: float, per_s: int, burst: int
) -> None:
    limit = RateLimit(per_s=per_s, burst=burst, monotonic=Clock(uptime_s))
    assert [admitted(limit) for _ in range(burst + 1)] == [True] * burst + [False]
