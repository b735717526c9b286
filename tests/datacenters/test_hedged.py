"""Two of a kind, one answer, and nothing left under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from datacenters.hedged import first_answer


class Final(Exception):
    pass


class Race:
    """The two runners are futures that a test ends; `cancelled` names those that were sent away."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ends = {"first": loop.create_future(), "second": loop.create_future()}
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.won = 0
        self.hedging = True
        self.second_begun = asyncio.Event()

    def runner(self, name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def run() -> str:
            self.begun.append(name)
            if name == "second":
                self.second_begun.set()
            try:
                answer: str = await asyncio.shield(self.ends[name])
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            return answer

        return run

    def run(self, *, after_s: float = 0.0) -> asyncio.Task[str]:
        def won() -> None:
            self.won += 1

        return asyncio.create_task(
            first_answer(
                self.runner("first"),
                self.runner("second"),
                after_s=after_s,
                may_hedge=lambda: self.hedging,
                on_won=won,
                final=Final,
            )
        )


async def test_a_quick_first_one_is_alone() -> None:
    race = Race()
    race.ends["first"].set_result("answer")
    assert await race.run(after_s=5.0) == "answer"
    assert (race.begun, race.won) == (["first"], 0)


async def test_without_leave_there_is_no_second_one() -> None:
    race = Race()
    race.hedging = False
    running = race.run()
    asyncio.get_running_loop().call_later(0.05, race.ends["first"].set_result, "answer")
    assert await running == "answer"
    assert race.begun == ["first"]


@pytest.mark.parametrize(("winner", "loser"), [("first", "second"), ("second", "first")])
async def test_the_loser_is_cancelled(winner: str, loser: str) -> None:
    race = Race()
    running = race.run()
    await race.second_begun.wait()
    race.ends[winner].set_result(winner)
    assert await running == winner
    assert (race.cancelled, race.won) == ([loser], int(winner == "second"))


@pytest.mark.parametrize("kind", [OSError, TimeoutError])
@pytest.mark.parametrize(("failing", "other"), [("first", "second"), ("second", "first")])
async def test_a_failure_waits_for_the_other_one(failing: str, other: str, kind: type[Exception]) -> None:
    race = Race()
    running = race.run()
    await race.second_begun.wait()
    race.ends[failing].set_exception(kind(failing))
    await asyncio.wait([running], timeout=0.02)
    assert not running.done()
    race.ends[other].set_result(other)
    assert await running == other


async def test_when_both_fail_it_is_the_first_ones_failure() -> None:
    race = Race()
    running = race.run()
    await race.second_begun.wait()
    race.ends["second"].set_exception(OSError("second"))
    race.ends["first"].set_exception(OSError("first"))
    with pytest.raises(OSError, match="first"):
        await running
    assert race.won == 0


@pytest.mark.parametrize("failing", ["first", "second"])
async def test_a_final_failure_waits_for_nobody(failing: str) -> None:
    race = Race()
    running = race.run()
    await race.second_begun.wait()
    race.ends[failing].set_exception(Final())
    with pytest.raises(Final):
        await running
    assert len(race.cancelled) == 1


async def test_who_leaves_takes_both_along() -> None:
    race = Race()
    running = race.run()
    await race.second_begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(race.cancelled) == ["first", "second"]
