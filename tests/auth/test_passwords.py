"""Passwords: the same price for everybody, behind the event loop, a bounded number at once for a bounded time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from auth.passwords import (
    DIGEST_BYTES,
    ITERATIONS,
    LANES,
    MEMORY_KIB,
    NICENESS,
    NOBODYS_HASH,
    RETRY_AFTER_S,
    SALT_BYTES,
    Passwords,
    hash_password,
)
from auth.refusals import Overloaded
from tests.auth.people import CHEAP_HASH, PASSWORD
from tests.waiting import eventually


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    """Two at once, as by default."""
    passwords = Passwords()
    yield passwords
    passwords.close()


async def test_a_password_opens_its_own_hash_alone(passwords: Passwords) -> None:
    assert await passwords.verify(CHEAP_HASH, PASSWORD)
    assert not await passwords.verify(CHEAP_HASH, PASSWORD + " ")
    assert not await passwords.verify(CHEAP_HASH, "")


async def test_new_hashes_are_argon2id_with_the_stated_parameters(passwords: Passwords) -> None:
    stored = await passwords.hash("ⴰⵣⵓⵍ مرحبا")
    parameters = extract_parameters(stored)
    assert parameters.type is Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        MEMORY_KIB,
        ITERATIONS,
        LANES,
    )
    assert (parameters.hash_len, parameters.salt_len) == (DIGEST_BYTES, SALT_BYTES)
    assert await passwords.verify(stored, "ⴰⵣⵓⵍ مرحبا")
    assert extract_parameters(hash_password("x")) == parameters


async def test_nobody_costs_what_somebody_costs_and_is_never_right(passwords: Passwords) -> None:
    assert extract_parameters(NOBODYS_HASH) == extract_parameters(hash_password("x"))
    assert not await passwords.verify(None, "")
    assert not await passwords.verify(None, PASSWORD)


class Noting(Passwords):
    """Passwords that note which encoded hash each computation was for."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[str] = []
        outer = self

        class NotingHasher(PasswordHasher):
            def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - its name
                outer.computed.append(str(hash))
                return super().verify(hash, password)

        self._hasher = NotingHasher()


@pytest.mark.parametrize("stored", ["not a hash", "", "$argon2id$v=19$m=8,t=1,p=1$c2hvcnQ$x"])
async def test_a_stored_hash_that_is_none_opens_nothing_at_full_price(stored: str) -> None:
    passwords = Noting()
    assert not await passwords.verify(stored, PASSWORD)
    assert passwords.computed == [stored, NOBODYS_HASH]
    passwords.close()


async def test_right_wrong_and_nobody_cost_one_computation_each() -> None:
    passwords = Noting()
    assert await passwords.verify(CHEAP_HASH, PASSWORD)
    assert not await passwords.verify(CHEAP_HASH, "wrong")
    assert not await passwords.verify(None, PASSWORD)
    assert passwords.computed == [CHEAP_HASH, CHEAP_HASH, NOBODYS_HASH]
    passwords.close()


async def test_any_text_can_be_tried(passwords: Passwords) -> None:
    for text in ("", "\x00", "\ud800", "p" * 10_000):
        assert not await passwords.verify(CHEAP_HASH, text)


async def test_the_event_loop_goes_on_meanwhile(passwords: Passwords) -> None:
    verifying = asyncio.ensure_future(passwords.verify(None, "slow"))
    turns = 0
    while not verifying.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 5
    assert not await verifying


class Held(Passwords):
    """Passwords whose threads wait at a gate, so that the line can be looked at."""

    def __init__(self, *, concurrent_max: int, waiting_max: int, wait_max_s: float = 60.0) -> None:
        super().__init__(concurrent_max=concurrent_max, waiting_max=waiting_max, wait_max_s=wait_max_s)
        self.gate = threading.Event()
        self.computed: list[str] = []
        self.inside = 0
        self.inside_most = 0
        self._counting = threading.Lock()

    def _matches(self, stored: str | None, password: str) -> bool:
        with self._counting:
            self.inside += 1
            self.inside_most = max(self.inside_most, self.inside)
            self.computed.append(password)
        self.gate.wait(10)
        with self._counting:
            self.inside -= 1
        return super()._matches(stored, password)


async def test_the_line_is_bounded_and_so_is_what_runs_at_once() -> None:
    passwords = Held(concurrent_max=2, waiting_max=3)
    line = [asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD)) for _ in range(5)]
    await eventually(lambda: passwords.inside == 2, within_s=20)
    with pytest.raises(Overloaded) as full:
        await passwords.verify(CHEAP_HASH, PASSWORD)
    assert full.value.retry_after_s == RETRY_AFTER_S
    passwords.gate.set()
    assert await asyncio.gather(*line) == [True] * 5
    assert passwords.inside_most == 2
    assert await passwords.verify(CHEAP_HASH, PASSWORD)
    passwords.close()


async def test_who_gives_up_waiting_leaves_room() -> None:
    passwords = Held(concurrent_max=1, waiting_max=1)
    first = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await eventually(lambda: passwords.inside == 1, within_s=20)
    second = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await passwords.verify(CHEAP_HASH, PASSWORD)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await asyncio.sleep(0)
    passwords.gate.set()
    assert await first
    assert await third
    passwords.close()


async def test_who_has_gone_is_not_computed_for() -> None:
    passwords = Held(concurrent_max=1, waiting_max=2)
    first = asyncio.ensure_future(passwords.verify(CHEAP_HASH, "first"))
    await eventually(lambda: passwords.inside == 1, within_s=20)
    gone = asyncio.ensure_future(passwords.verify(CHEAP_HASH, "gone"))
    last = asyncio.ensure_future(passwords.verify(CHEAP_HASH, "last"))
    await asyncio.sleep(0)
    gone.cancel()
    passwords.gate.set()
    assert not await first
    assert not await last
    assert gone.cancelled()
    assert passwords.computed == ["first", "last"]
    passwords.close()


async def test_who_goes_while_it_is_computed_for_leaves_the_turn_when_the_thread_is_done() -> None:
    passwords = Held(concurrent_max=1, waiting_max=1)
    gone = asyncio.ensure_future(passwords.verify(CHEAP_HASH, "gone"))
    await eventually(lambda: passwords.inside == 1, within_s=20)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    following = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await passwords.verify(CHEAP_HASH, PASSWORD)
    passwords.gate.set()
    assert await following
    assert passwords.inside_most == 1
    passwords.close()


async def test_the_wait_in_line_is_bounded() -> None:
    passwords = Held(concurrent_max=1, waiting_max=2, wait_max_s=0.05)
    first = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await eventually(lambda: passwords.inside == 1, within_s=20)
    line = [asyncio.ensure_future(passwords.verify(CHEAP_HASH, "late")) for _ in range(2)]
    refusals = await asyncio.wait_for(asyncio.gather(*line, return_exceptions=True), 20)
    for refusal in refusals:
        assert isinstance(refusal, Overloaded)
        assert refusal.retry_after_s == RETRY_AFTER_S
    passwords.gate.set()
    assert await first
    assert await passwords.verify(CHEAP_HASH, PASSWORD)
    assert "late" not in passwords.computed
    passwords.close()


async def test_a_computation_is_not_cut_short_by_the_bound_of_the_wait() -> None:
    passwords = Held(concurrent_max=1, waiting_max=1, wait_max_s=0.01)
    first = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await eventually(lambda: passwords.inside == 1, within_s=20)
    with pytest.raises(Overloaded):
        await passwords.verify(CHEAP_HASH, PASSWORD)
    passwords.gate.set()
    assert await first
    passwords.close()


async def test_nothing_is_computed_after_the_close() -> None:
    passwords = Held(concurrent_max=1, waiting_max=1)
    first = asyncio.ensure_future(passwords.verify(CHEAP_HASH, PASSWORD))
    await eventually(lambda: passwords.inside == 1, within_s=20)
    second = asyncio.ensure_future(passwords.verify(CHEAP_HASH, "late"))
    await asyncio.sleep(0)
    passwords.close()
    passwords.gate.set()
    assert await first
    with pytest.raises(Overloaded):
        await second
    assert passwords.computed == [PASSWORD]


class Ranked(Passwords):
    """Passwords that note the priority their thread has."""

    niceness: int | None = None

    def _matches(self, stored: str | None, password: str) -> bool:
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return super()._matches(stored, password)


async def test_the_threads_stand_back_behind_the_event_loop() -> None:
    passwords, loops = Ranked(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert await passwords.verify(CHEAP_HASH, PASSWORD)
    assert passwords.niceness == max(NICENESS, loops)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == loops
    passwords.close()


async def test_a_system_that_refuses_priorities_computes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def refuse(which: int, who: int, priority: int) -> None:
        asked.append(priority)
        raise PermissionError(which, who)

    monkeypatch.setattr(os, "setpriority", refuse)
    passwords = Passwords()
    assert await passwords.verify(CHEAP_HASH, PASSWORD)
    assert asked == [NICENESS]
    passwords.close()
