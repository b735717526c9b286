"""What one site sees becomes looks, what its users suffer becomes a time, and old news is no news."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import observations
from datacenters.observations import Board, Counts, Looks, Prober, Users
from datacenters.users_met import USERS_WINDOW_S
from datacenters.verdict import FAILED_PROBES_MIN, Health, Observation
from tests.datacenters.origin import CUT, HANG, Echo, Pouring, Reply, origins

HEALTH = Health(role="primary", epoch=1, position="1-5", writable=True)


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    made = Prober(timeout_s=60.0)
    yield made
    await made.aclose()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo("rabat")
    await made.start()
    yield made
    await made.stop()


async def test_health_is_what_the_datacenter_says_now(prober: Prober, echo: Echo) -> None:
    found = await prober.health("rabat", echo.url)
    assert found == Health(
        role="standby", epoch=4, position="1-7", receipt_age_s=0.5, lag_s=None, writable=False
    )
    await prober.health("rabat", echo.url)
    assert echo.seen[0].target != echo.seen[1].target


@pytest.mark.parametrize(
    "changes", [{"nonce": "another"}, {"site": "marrakech"}, {"epoch": "x"}, {"role": None}, {"position": 5}]
)
async def test_an_answer_to_another_question_is_no_answer(
    prober: Prober, echo: Echo, changes: dict[str, Any]
) -> None:
    echo.changes = changes
    assert await prober.health("rabat", echo.url) is None


@pytest.mark.parametrize("reply", [CUT, Reply(status=503), Reply(body=b"x" * 20_000), Reply(body=b"{")])
async def test_anything_but_a_good_answer_is_none(prober: Prober, reply: Reply) -> None:
    async with origins("rabat") as (origin,):
        origin.reply(reply)
        assert await prober.health("rabat", origin.url) is None
        assert await prober.outcomes(origin.url) is None


async def test_an_answer_without_an_end_is_none_at_once_and_no_coding_is_asked_for_or_undone(
    prober: Prober,
) -> None:
    async with Pouring().open() as origin:
        assert await prober.health("rabat", origin.url) is None
    async with origins("rabat") as (coder,):
        coder.reply(Reply(headers={"content-encoding": "gzip"}, body=gzip.compress(b"{}")))
        assert await prober.outcomes(coder.url) is None
        assert coder.seen[0].headers["accept-encoding"] == "identity"


async def test_no_answer_in_time_is_none() -> None:
    hasty = Prober(timeout_s=0.1)
    async with origins("rabat") as (origin,):
        origin.reply(HANG)
        assert await hasty.health("rabat", origin.url) is None
        assert await hasty.outcomes(origin.url) is None
        origin.released.set()
    await hasty.aclose()


async def test_nobody_there_is_none(prober: Prober) -> None:
    assert await prober.health("rabat", "http://127.0.0.1:1") is None


async def test_outcomes_are_counts_by_datacenter(prober: Prober) -> None:
    async with origins("gateway") as (origin,):
        origin.reply(Reply(body=b'{"rabat":{"ok":5,"failed":2}}'))
        assert await prober.outcomes(origin.url + "/") == {"rabat": Counts(ok=5, failed=2)}
        assert origin.seen[0].target == "/internal/outcomes"


def test_looks_count_failures_and_silence_and_keep_the_last_health() -> None:
    looks = Looks(["rabat"], now=0.0)
    first = looks.at(1.0)["rabat"]
    assert (first.failures, first.silent_s, first.health, first.answered) == (0, 1.0, None, False)
    looks.note("rabat", HEALTH, now=2.0)
    assert looks.at(2.5)["rabat"].answered
    for at in (3.0, 3.25, 3.5):
        looks.note("rabat", None, now=at)
    last = looks.at(3.5)["rabat"]
    assert (last.failures, last.silent_s, last.health, last.answered) == (3, 1.5, HEALTH, False)
    looks.note("rabat", HEALTH, now=4.0)
    assert looks.at(4.0)["rabat"].failures == 0


@given(st.lists(st.booleans(), max_size=40))
def test_failures_are_those_since_the_last_answer(answers: list[bool]) -> None:
    looks = Looks(["rabat"], now=0.0)
    for turn, answered in enumerate(answers):
        looks.note("rabat", HEALTH if answered else None, now=float(turn))
    trailing = next((n for n, answered in enumerate(reversed(answers)) if answered), len(answers))
    assert looks.at(50.0)["rabat"].failures == trailing
    assert (trailing >= FAILED_PROBES_MIN) == (
        not any(answers[-FAILED_PROBES_MIN:]) and len(answers) >= FAILED_PROBES_MIN
    )


def users_over(*seconds: Counts | None) -> tuple[Users, float]:
    users = Users()
    for at, counts in enumerate(seconds):
        users.note(None if counts is None else {"rabat": counts}, now=float(at))
    return users, float(len(seconds) - 1)


def test_users_fail_from_when_most_of_their_requests_do() -> None:
    users, now = users_over(*(Counts(ok=100, failed=10 * n) for n in range(13)))
    assert users.failing_s(now) == {"rabat": 11.0}


def test_half_of_them_succeeding_is_not_failing() -> None:
    users, now = users_over(*(Counts(ok=10 * n, failed=10 * n) for n in range(13)))
    assert users.failing_s(now) == {}


def test_a_recovery_ends_it() -> None:
    failing = [Counts(ok=0, failed=10 * n) for n in range(6)]
    users, now = users_over(*failing, *(Counts(ok=50 * n, failed=50) for n in range(1, 6)))
    assert users.failing_s(now) == {}


def test_too_few_requests_prove_nothing() -> None:
    users, now = users_over(*(Counts(ok=0, failed=n // 3) for n in range(40)))
    assert users.failing_s(now) == {}
    assert users.failed() == {"rabat": 3}


def test_few_users_for_a_while_do_not_end_what_many_have_shown() -> None:
    window = int(USERS_WINDOW_S)
    users, now = users_over(*(Counts(ok=0, failed=0 if n == 0 else 12) for n in range(2 * window)))
    assert users.failing_s(now) == {"rabat": now - 1.0}
    assert users.failed() == {"rabat": 0}
    users, now = users_over(*(Counts(ok=0, failed=0 if n == 0 else 12) for n in range(2 * window + 1)))
    assert users.failing_s(now) == {}


def test_the_window_is_no_longer_than_a_user_counts_once() -> None:
    window = int(USERS_WINDOW_S)
    users, _ = users_over(*(Counts(ok=0, failed=1 + n // window) for n in range(4 * window)))
    assert users.failed() == {"rabat": 0}
    for length in range(1, 4 * window):
        users, _ = users_over(*(Counts(ok=0, failed=1 + n // window) for n in range(length)))
        assert users.failed()["rabat"] <= 1


def test_a_gateway_that_began_again_or_says_nothing_proves_nothing() -> None:
    users, now = users_over(*(Counts(ok=0, failed=100 + 10 * n) for n in range(8)), Counts(ok=0, failed=3))
    assert users.failing_s(now) == {}
    users, now = users_over(*(Counts(ok=0, failed=10 * n) for n in range(8)), None)
    assert (users.failing_s(now), users.failed()) == ({}, {})


def test_what_is_remembered_of_users_is_bounded() -> None:
    users = Users()
    for turn in range(1000):
        users.note({"rabat": Counts(ok=turn)}, now=turn / 1000)
    assert len(users._snapshots) <= observations.USERS_SNAPSHOTS_MAX


def observation(site: str, sequence: int) -> Observation:
    return Observation(site=site, sequence=sequence, looks={})


def test_what_lay_there_already_counts_only_once_it_changes() -> None:
    board = Board(fresh_s=1.5)
    board.note(observation("witness", 7), now=0.0)
    board.note(observation("witness", 7), now=0.25)
    assert board.fresh(0.25) == {}
    board.note(observation("witness", 8), now=0.5)
    assert set(board.fresh(0.5)) == {"witness"}


def test_a_site_that_falls_silent_is_left_out_though_its_words_are_read_again() -> None:
    board = Board(fresh_s=1.5)
    for sequence, now in ((1, 0.0), (2, 0.25), (2, 1.0), (2, 1.75)):
        board.note(observation("witness", sequence), now=now)
    assert set(board.fresh(1.75)) == {"witness"}
    assert board.fresh(1.76) == {}


def test_a_director_that_began_again_is_heard_though_it_counts_from_one() -> None:
    board = Board(fresh_s=1.5)
    for sequence, now in ((90, 0.0), (91, 0.25), (1, 5.0)):
        board.note(observation("witness", sequence), now=now)
    assert board.fresh(5.0)["witness"].sequence == 1
