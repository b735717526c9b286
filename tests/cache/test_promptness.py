"""What took long is told from what came while this process was busy with something else."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import pytest

from cache.promptness import PUNCTUAL_S, Waited, begin_request, patience_is_spent, spend_patience

LONG_S = 0.03


class Loop:
    """A loop whose time a test moves on, and whose timers run when it says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cancelled = False
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Loop:
        self._due.append((when, callback))
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def run(self, now: float) -> None:
        self.now = now
        due, self._due = self._due, []
        for when, callback in due:
            assert when <= now
            callback()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_what_comes_in_time_did_not_take_long(loop: Loop) -> None:
    waited = Waited(LONG_S)
    assert not waited.long()
    assert loop.cancelled, "nothing is left behind"


def test_what_is_not_there_when_a_free_process_looks_took_long(loop: Loop) -> None:
    waited = Waited(LONG_S)
    loop.run(100.0 + LONG_S + PUNCTUAL_S / 2)
    assert waited.long()


def test_what_came_while_the_process_was_busy_is_not_blamed_for_that(loop: Loop) -> None:
    waited = Waited(LONG_S)
    loop.run(100.0 + LONG_S + 2 * PUNCTUAL_S)
    assert not waited.long()


async def test_patience_is_spent_for_one_request_and_whatever_is_done_on_its_behalf() -> None:
    async def request(*, slow: bool) -> tuple[bool, bool]:
        begin_request()
        before = patience_is_spent()
        if slow:
            await asyncio.create_task(_spent())
        return before, patience_is_spent()

    requests = [asyncio.create_task(request(slow=slow)) for slow in (True, False)]
    assert await asyncio.gather(*requests) == [(False, True), (False, False)]


async def test_outside_a_request_nothing_is_noted() -> None:
    assert not await asyncio.create_task(_spent(), context=contextvars.Context())


async def _spent() -> bool:
    spend_patience()
    return patience_is_spent()
