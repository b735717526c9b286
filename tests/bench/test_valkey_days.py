"""Every bad day of the measurement is one: reads go on, and what is told is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import machine, valkey_days
from bench.valkey_days import FAULTS, Day, Result, table
from cache.reading import Event


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_bad_day_keeps_tier_2_away_and_readers_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    for name, value in (
        ("PAGES", 60),
        ("RATE_PER_S", 50),
        ("HEALTHY_S", 0.2),
        ("FAULT_S", 1.0),
        ("TIER1_BYTES", 8_000),
    ):
        monkeypatch.setattr(valkey_days, name, value)
    async with valkey_days._ground(tmp_path) as ground:
        for page in range(60):
            await ground.read(page)
        ground.cache.clear_memory()
        before = ground.events.copy()
        day = await valkey_days._day(ground, fault)
        bad = ground.events - before
    assert (day.fault, day.reads, day.wrong, day.failed) == (fault, 50, 0, 0)
    assert 0 <= day.back_s < valkey_days.BACK_WITHIN_S
    assert bad[Event.HIT_TIER2] > 0, "it was used before or after"
    if "slow" not in fault and fault != "full":
        assert bad[Event.UNAVAILABLE] > 0


def test_the_table_has_a_line_for_every_day() -> None:
    day = Day(
        fault="killed",
        reads=1500,
        wrong=0,
        failed=1,
        healthy_p99_ms=1.25,
        p99_ms=20.0,
        longest_ms=30.0,
        back_s=0.5,
    )
    where = machine.Machine("P", 2, "6.1", "3.11.7", {}, 0.1)
    last = table(Result(where, [day])).splitlines()[-1]
    assert last.split() == ["killed", "1500", "0", "1", "1.2", "20.0", "30.0", "0.50"]
