"""One fill per key, owned by no reader, waited for within bounds."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar

import pytest

from cache.coalescing import Overloaded, SingleFlight
from tests.waiting import eventually


def flights(**options: float) -> SingleFlight[str]:
    bounds = {"flights_max": 10, "waiters_max": 100, "wait_max_s": 5.0} | options
    return SingleFlight(
        flights_max=int(bounds["flights_max"]),
        waiters_max=int(bounds["waiters_max"]),
        wait_max_s=bounds["wait_max_s"],
    )


class Fill:
    """A fill that ends when told, and counts its runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.runs = 0
        self.ended = 0
        self.error = error

    async def __call__(self) -> str:
        self.runs += 1
        await self.gate.wait()
        self.ended += 1
        if self.error is not None:
            raise self.error
        return "filled"


async def test_many_readers_one_fill() -> None:
    single, fill = flights(), Fill()
    readers = [asyncio.create_task(single.run("k", fill)) for _ in range(50)]
    await eventually(lambda: fill.runs, within_s=1)
    fill.gate.set()
    outcomes = await asyncio.gather(*readers)
    assert fill.runs == 1
    assert [joined for _, joined in outcomes].count(False) == 1
    assert {outcome for outcome, _ in outcomes} == {"filled"}
    assert len(single) == 0


async def test_other_keys_do_not_wait() -> None:
    single, slow, quick = flights(), Fill(), Fill()
    waiting = asyncio.create_task(single.run("slow", slow))
    quick.gate.set()
    assert await single.run("quick", quick) == ("filled", False)
    slow.gate.set()
    await waiting


async def test_a_reader_who_leaves_does_not_end_the_fill_for_the_others() -> None:
    single, fill = flights(), Fill()
    first = asyncio.create_task(single.run("k", fill))
    await eventually(lambda: fill.runs, within_s=1)
    second = asyncio.create_task(single.run("k", fill))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    fill.gate.set()
    assert await second == ("filled", True)
    assert fill.runs == 1


async def test_a_fill_ends_even_when_everybody_left_and_its_error_disturbs_nobody() -> None:
    single, fill = flights(), Fill(error=ConnectionError("gone"))
    only = asyncio.create_task(single.run("k", fill))
    await eventually(lambda: fill.runs, within_s=1)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    fill.gate.set()
    await eventually(lambda: len(single) == 0, within_s=1)
    assert fill.ended == 1
    gc.collect()  # an exception nobody looked at would be reported here, and warnings are errors


async def test_an_error_is_shared_by_all_who_waited_and_not_kept() -> None:
    single, fill = flights(), Fill(error=ConnectionError("gone"))
    readers = [asyncio.create_task(single.run("k", fill)) for _ in range(20)]
    await eventually(lambda: fill.runs, within_s=1)
    fill.gate.set()
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert fill.runs == 1
    assert {id(outcome) for outcome in outcomes} == {id(fill.error)}
    again = Fill()
    again.gate.set()
    assert await single.run("k", again) == ("filled", False)


async def test_waiting_has_an_end() -> None:
    single, fill = flights(wait_max_s=0.02), Fill()
    with pytest.raises(Overloaded, match="too long"):
        await single.run("k", fill)
    fill.gate.set()
    await eventually(lambda: len(single) == 0, within_s=1)


async def test_a_time_out_of_the_fills_own_is_not_taken_for_ours() -> None:
    single, fill = flights(), Fill(error=TimeoutError("the fill's"))
    fill.gate.set()
    with pytest.raises(TimeoutError, match="the fill's"):
        await single.run("k", fill)


async def test_too_many_waiters_are_turned_away() -> None:
    single, fill = flights(waiters_max=2), Fill()
    readers = [asyncio.create_task(single.run("k", fill)) for _ in range(3)]
    done, _ = await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
    (turned_away,) = done
    refusal = turned_away.exception()
    assert isinstance(refusal, Overloaded)
    assert (refusal.slug, refusal.retry_after_s) == ("overloaded", 1.0)
    fill.gate.set()
    await asyncio.wait(readers)


async def test_too_many_fills_are_turned_away() -> None:
    single, fill = flights(flights_max=1), Fill()
    running = asyncio.create_task(single.run("k", fill))
    await eventually(lambda: fill.runs, within_s=1)
    with pytest.raises(Overloaded, match="too many fills"):
        await single.run("other", fill)
    fill.gate.set()
    await running


async def test_closing_gives_up_fills_and_tells_those_who_wait() -> None:
    single, fill = flights(), Fill()
    reader = asyncio.create_task(single.run("k", fill))
    await eventually(lambda: fill.runs, within_s=1)
    await single.aclose()
    with pytest.raises(Overloaded, match="given up"):
        await reader
    assert len(single) == 0
    await single.aclose()


async def test_what_runs_for_nobody_notes_nothing_in_the_context_that_began_it() -> None:
    noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)
    noted.set([])
    single = flights()
    found: list[object] = []

    async def fill() -> str:
        found.append(noted.get())
        return "filled"

    assert single.begin("key", fill)
    await eventually(lambda: not len(single), within_s=5)
    await single.run("key", fill)
    assert found == [None, []]


async def test_a_begin_says_whether_there_was_room() -> None:
    single, gate = flights(flights_max=2), asyncio.Event()

    async def fill() -> str:
        await gate.wait()
        return "filled"

    assert single.begin("one", fill)
    assert single.begin("one", fill)
    assert not single.begin("two", fill)
    gate.set()
    await eventually(lambda: not len(single), within_s=5)
