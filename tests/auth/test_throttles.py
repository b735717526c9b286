"""Throttles: ten guesses on a device, fifty on an account, in fifteen minutes, however they come."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import AttemptRow, transaction
from auth.principal import App
from auth.refusals import TooManyAttempts
from auth.throttles import (
    PER_ACCOUNT_MAX,
    PER_DEVICE_MAX,
    SWEEP_MAX,
    WINDOW_S,
    Reservation,
    Throttles,
    attempt_key,
)
from tests.auth.people import Clock

LOGIN = "r130000001@taalim.ma"


class Guesser:
    """Somebody who tries, one transaction each."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.throttles = Throttles()

    async def guess(self, device: str = "phone", *, login: str = LOGIN, app: App = App.WALIYE) -> Reservation:
        """Reserve one attempt."""
        async with transaction(self.engine) as connection:
            return await self.throttles.reserve(
                connection, app=app, login=login, device_id=device, now=self.clock()
            )

    async def was_right(self, reservation: Reservation) -> None:
        """Give the attempt back."""
        async with transaction(self.engine) as connection:
            await self.throttles.give_back(connection, reservation)

    async def rows(self) -> int:
        """How many counts are kept."""
        async with self.engine.connect() as connection:
            return (await connection.execute(select(func.count()).select_from(AttemptRow))).scalar_one()


@pytest.fixture
def guesser(engine: AsyncEngine, clock: Clock) -> Guesser:
    """Nobody has guessed yet."""
    return Guesser(engine, clock)


async def test_the_eleventh_guess_on_a_device_waits_for_the_window(guesser: Guesser, clock: Clock) -> None:
    for _ in range(PER_DEVICE_MAX):
        await guesser.guess()
        clock.advance(1)
    with pytest.raises(TooManyAttempts) as refused:
        await guesser.guess()
    assert refused.value.retry_after_s == WINDOW_S - PER_DEVICE_MAX
    clock.advance(WINDOW_S - PER_DEVICE_MAX - 1)
    with pytest.raises(TooManyAttempts) as refused:
        await guesser.guess()
    assert refused.value.retry_after_s == 1.0
    clock.advance(1)
    for _ in range(PER_DEVICE_MAX):
        await guesser.guess()
    with pytest.raises(TooManyAttempts):
        await guesser.guess()


async def test_another_device_account_or_app_is_not_held_up(guesser: Guesser) -> None:
    for _ in range(PER_DEVICE_MAX):
        await guesser.guess()
    await guesser.guess("tablet")
    await guesser.guess(login="somebody@taalim.ma")
    await guesser.guess(app=App.MOUTAMADRIS)
    with pytest.raises(TooManyAttempts):
        await guesser.guess()


async def test_the_fifty_first_guess_on_an_account_waits_whatever_the_device(
    guesser: Guesser, clock: Clock
) -> None:
    for number in range(PER_ACCOUNT_MAX):
        await guesser.guess(f"phone-{number}")
    for device in ("phone-0", "another"):
        with pytest.raises(TooManyAttempts):
            await guesser.guess(device)
    clock.advance(WINDOW_S)
    await guesser.guess("another")


async def test_a_guess_the_account_refuses_does_not_count_on_the_device(guesser: Guesser) -> None:
    for number in range(PER_ACCOUNT_MAX):
        await guesser.guess(f"phone-{number}")
    rows = await guesser.rows()
    for _ in range(3):
        with pytest.raises(TooManyAttempts):
            await guesser.guess("another")
    assert await guesser.rows() == rows


async def test_being_right_gives_the_attempt_back(guesser: Guesser) -> None:
    for _ in range(3 * PER_ACCOUNT_MAX):
        await guesser.was_right(await guesser.guess())
    for _ in range(PER_DEVICE_MAX - 1):
        await guesser.guess()
    await guesser.was_right(await guesser.guess())
    await guesser.guess()
    with pytest.raises(TooManyAttempts):
        await guesser.guess()


async def test_an_attempt_is_given_back_to_its_own_window_alone(guesser: Guesser, clock: Clock) -> None:
    old = await guesser.guess()
    clock.advance(WINDOW_S)
    await guesser.guess()
    await guesser.was_right(old)
    for _ in range(PER_DEVICE_MAX - 1):
        await guesser.guess()
    with pytest.raises(TooManyAttempts):
        await guesser.guess()


async def test_guesses_at_once_cannot_pass_together(guesser: Guesser) -> None:
    outcomes = await asyncio.gather(*(guesser.guess() for _ in range(40)), return_exceptions=True)
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == PER_DEVICE_MAX
    assert sum(isinstance(outcome, TooManyAttempts) for outcome in outcomes) == 30


async def test_guesses_at_once_from_many_devices_cannot_pass_together(guesser: Guesser) -> None:
    guesses = (guesser.guess(f"phone-{number % 30}") for number in range(90))
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == PER_ACCOUNT_MAX
    assert sum(isinstance(outcome, TooManyAttempts) for outcome in outcomes) == 40


async def test_windows_that_are_over_are_forgotten_as_new_ones_come(guesser: Guesser, clock: Clock) -> None:
    for number in range(4 * SWEEP_MAX):
        await guesser.guess(login=f"nobody-{number}")
    assert await guesser.rows() == 8 * SWEEP_MAX
    clock.advance(WINDOW_S)
    for number in range(20):
        await guesser.guess(login=f"somebody-{number}")
    assert await guesser.rows() == 40


async def test_rolling_over_at_once_neither_loses_counts_nor_locks_up(guesser: Guesser, clock: Clock) -> None:
    for number in range(20):
        await guesser.guess(login=f"login-{number % 4}", device=f"phone-{number}")
    clock.advance(WINDOW_S)
    guesses = (
        guesser.guess(login=f"login-{number % 4}", device=f"phone-{number % 20}") for number in range(60)
    )
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Reservation] * 60


def test_keys_are_digests_that_no_two_guesses_share() -> None:
    parts = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc", ""),
        ("abc", None),
        ("", "abc"),
        ("\ud800", None),
        ("\x00", None),
    ]
    digests = {attempt_key(App.WALIYE, login, device) for login, device in parts}
    digests |= {attempt_key(App.MOUDARIS, login, device) for login, device in parts}
    assert len(digests) == 14
    assert all(len(digest) == 32 for digest in digests)
