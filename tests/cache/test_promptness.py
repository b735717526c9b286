"""What took long is told from what came while this process was busy with something else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cache.promptness import STEP_S, Waited

LONG_S = 0.03


class Loop:
    """A loop whose time a test moves on; each time it runs the timers that are due by then, once."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Loop:
        self._due.append((self.now + delay, callback))
        return self

    def cancel(self) -> None:
        self._due.clear()

    def run(self, now: float) -> None:
        self.now = now
        due = [callback for when, callback in self._due if when <= now]
        self._due = [(when, callback) for when, callback in self._due if when > now]
        for callback in due:
            callback()

    def turn_every(self, seconds: float, until: float) -> None:
        while self.now < until:
            self.run(self.now + seconds)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_what_comes_in_time_did_not_take_long(loop: Loop) -> None:
    waited = Waited(LONG_S)
    loop.turn_every(0.001, until=100.0 + LONG_S - STEP_S)
    assert not waited.long()
    assert not loop._due, "nothing is left behind"


def test_what_is_not_there_when_a_free_process_looks_took_long(loop: Loop) -> None:
    waited = Waited(LONG_S)
    loop.turn_every(0.001, until=100.0 + 1.5 * LONG_S)
    assert waited.long()
    assert not loop._due


@pytest.mark.parametrize("turn_s", [0.02, 0.05, 1.0])
def test_what_came_while_the_process_was_busy_is_not_blamed_for_that(loop: Loop, turn_s: float) -> None:
    waited = Waited(LONG_S)
    loop.run(loop.now + turn_s)
    loop.run(loop.now + turn_s)
    assert not waited.long()
