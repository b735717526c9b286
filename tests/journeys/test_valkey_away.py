"""Valkey hung, back again, then gone for good: the cache fails open, everything still works, nobody waits long."""

from __future__ import annotations

import time

from tests.journeys.breaking import Broken, Classroom, Load, Phase, counted, days_of_the_year, stopped
from tests.journeys.lines import Line, lines
from tests.waiting import eventually

ROUNDS = 40
HUNG_S = 2.0
ADDED_WAIT_MAX_S = (
    2.0  # a client left to its defaults waits seconds for each read; a busy machine adds tenths
)


async def test_nobody_notices_that_valkey_hangs_comes_back_and_dies(worn: Broken) -> None:
    load = Load()
    classroom = Classroom(worn, load)
    rabat = worn.only("rabat")
    table = worn.country.table()
    async with lines(rabat) as warm, lines(rabat) as cold, lines(rabat) as writing, lines(rabat) as probing:
        steps = (
            await classroom.read_warm(warm),
            await classroom.read_cold(cold),
            await classroom.write_and_read(writing),
        )
        async with load.running(*steps):
            await load.more(ROUNDS)
            steady = load.phase()
            before = await _unavailable(worn)
            with stopped(table, "rabat-valkey") as at:
                await load.more(ROUNDS)
                await eventually(lambda: time.monotonic() >= at + HUNG_S, within_s=HUNG_S)
            hung = load.phase()
            await eventually(lambda: _felt(worn, before), within_s=2, what="the workers felt the silence")
            recovered_s = await _shared_again(worn, *probing)
            recovering = load.phase()
            before = await _unavailable(worn)
            code, told = await worn.country.massar("sandbox", "kill", "valkey")
            assert code == 0, told
            await load.more(ROUNDS)
            gone = load.phase()
            await eventually(lambda: _felt(worn, before), within_s=2, what="the workers felt the loss")
    print(
        f"\nsteady: {steady}\nhung: {hung}\nback: {recovering}; shared again after {recovered_s:.2f} s\ngone: {gone}"
    )
    for phase in (steady, hung, recovering, gone):
        assert phase.wrong == []
        assert set(phase.statuses) == {200}
    for phase in (hung, gone):
        assert _added_s(phase, steady) <= ADDED_WAIT_MAX_S


def _added_s(phase: Phase, steady: Phase) -> float:
    return phase.percentile_s(0.99) - steady.percentile_s(0.5)


async def _shared_again(worn: Broken, one: Line, other: Line) -> float:
    """Seconds until what one worker fetched is a hit from Valkey at the other."""
    began = time.monotonic()
    token, pupil = worn.token("classmate"), worn.people.classmate.pupil_id  # of whom the load reads nothing
    days = days_of_the_year()

    async def shared() -> bool:
        path = f"/v1/pupils/{pupil}/absences?from={next(days)}"
        first, second = await one.get(path, token), await other.get(path, token)
        assert (first.status_code, second.status_code) == (200, 200)
        return "detail=valkey" in second.headers["cache-status"]

    await eventually(shared, within_s=5, what="a hit from Valkey at the other worker")
    return time.monotonic() - began


async def _unavailable(worn: Broken) -> float:
    """How often the workers of Rabat found no Valkey."""
    return await counted(
        worn.country.addresses.metrics["rabat"], 'massar_cache_events_total{event="unavailable"}'
    )


async def _felt(worn: Broken, before: float) -> bool:
    return await _unavailable(worn) > before
