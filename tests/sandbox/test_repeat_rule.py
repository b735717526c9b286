"""What an app does after each answer, and how long it waits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routes.problems import PROBLEMS
from sandbox.repeat_rule import (
    PUT_OFF_MAX,
    RETRY_AFTER_MAX_S,
    WAIT_FIRST_S,
    WAIT_MAX_S,
    Then,
    after,
    spread,
    waits,
)

PAGE = Path(__file__).parent.parent.parent / "docs" / "apps.md"
# Every slug that does not end a write; each other one below 500 is its verdict.
OTHER_THAN_A_VERDICT = {
    "token-missing": Then.SIGN_IN,
    "token-invalid": Then.SIGN_IN,
    "session-ended": Then.SIGN_IN,
    "credentials-invalid": Then.SIGN_IN,
    "refresh-invalid": Then.SIGN_IN,
    "refresh-reused": Then.SIGN_IN,
    "token-expired": Then.REFRESH,
    "idempotency-key-expired": Then.ASK,
    "idempotency-key-in-progress": Then.AGAIN,
    "request-timeout": Then.AGAIN,
    "rate-limited": Then.AGAIN,
    "too-many-attempts": Then.REFUSED,
}


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_has_its_step(slug: str) -> None:
    status = PROBLEMS[slug].status
    expected = OTHER_THAN_A_VERDICT.get(slug, Then.AGAIN if status >= 500 else Then.REFUSED)
    assert after(status, slug, retry_after=None, tries=1, put_off=0).then is expected


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_verdict_ends_it(status: int) -> None:
    assert after(status, "", retry_after="5", tries=1, put_off=0).then is Then.DONE


@pytest.mark.parametrize("status", [None, 302, 400, 404, 408, 425, 429, 500, 502, 503, 504])
def test_what_is_not_the_gateways_word_is_no_verdict(status: int | None) -> None:
    assert after(status, "", retry_after=None, tries=1, put_off=0).then is Then.AGAIN


def test_a_site_that_puts_off_again_and_again_is_left() -> None:
    steps = [
        after(503, "read-only", retry_after="1", tries=put_off + 1, put_off=put_off)
        for put_off in range(PUT_OFF_MAX)
    ]
    assert [step.elsewhere for step in steps] == [False] * (PUT_OFF_MAX - 1) + [True]
    assert not after(429, "rate-limited", retry_after="1", tries=9, put_off=9).elsewhere
    assert after(None, "", retry_after=None, tries=1, put_off=0).elsewhere


@pytest.mark.parametrize(
    ("retry_after", "tries", "seconds"),
    [
        ("3", 7, 3.0),
        ("0", 7, 0.0),
        ("999999", 1, RETRY_AFTER_MAX_S),
        ("9999999", 2, 2 * WAIT_FIRST_S),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1, WAIT_FIRST_S),
        ("-1", 1, WAIT_FIRST_S),
        ("٣", 1, WAIT_FIRST_S),
        (None, 1, WAIT_FIRST_S),
        (None, 2, 2 * WAIT_FIRST_S),
        (None, 10_000, WAIT_MAX_S),
    ],
)
def test_the_wait_is_what_was_said_or_doubles(retry_after: str | None, tries: int, seconds: float) -> None:
    assert waits(retry_after, tries) == seconds


@given(wait_s=st.floats(0, RETRY_AFTER_MAX_S), jitter=st.floats(0, 1, exclude_max=True))
def test_nobody_comes_back_sooner_than_asked(wait_s: float, jitter: float) -> None:
    assert wait_s <= spread(wait_s, jitter) <= 1.5 * wait_s


def test_the_page_for_app_teams_names_every_slug_that_is_no_verdict() -> None:
    page = PAGE.read_text("utf-8")
    writes = set(OTHER_THAN_A_VERDICT) - {"credentials-invalid", "too-many-attempts"}
    assert writes <= set(re.findall(r"`([a-z-]+)`", page))
