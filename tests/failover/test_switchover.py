"""A planned switchover: writes wait, none fails, and a standby that cannot follow ends it where it began."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datacenters import control, record
from datacenters.record import Phase, Record
from tests.failover.clerk import Clerk, nothing_is_missing, school
from tests.failover.pair import Pair, running_pair
from tests.failover.test_journal import ready, replication_stopped
from tests.waiting import eventually

OVER_WITHIN_S = 15.0
WRITERS = 4


@pytest.fixture
async def pair(tmp_path: Path, logs: Path) -> AsyncIterator[Pair]:
    async with running_pair(folder=tmp_path, logs=logs) as made:
        await school(made)
        yield made


async def order(pair: Pair) -> None:
    held = await pair.held()
    after = record.freeze(
        held.record, target="marrakech", reason="works", evidence={}, now=time.time(), by="operator:tests"
    )
    assert isinstance(after, Record)
    assert await pair.change(held, after)


class Writers:
    """Teachers who go on writing until told to stop; the longest wait of any of them."""

    def __init__(self, clerk: Clerk) -> None:
        self.clerk = clerk
        self.longest_s = 0.0
        self.stop = asyncio.Event()
        self.wrote = asyncio.Event()
        self.running = asyncio.create_task(self._run())

    async def write_more(self) -> None:
        """Return when one more write has been acknowledged; raises what made a writer stop."""
        self.wrote.clear()
        wrote = asyncio.create_task(self.wrote.wait())
        await asyncio.wait({wrote, self.running}, return_when=asyncio.FIRST_COMPLETED)
        if not wrote.done():
            wrote.cancel()
            await self.running

    async def end(self) -> None:
        """Let every writer finish."""
        self.stop.set()
        await self.running

    async def _run(self) -> None:
        pupils = list(self.clerk.versions)[:WRITERS]
        async with asyncio.TaskGroup() as group:
            for pupil in pupils:
                group.create_task(self._write(pupil))

    async def _write(self, pupil: str) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            began = time.monotonic()
            await self.clerk.write(pupil, f"{number % 20}.50")
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.wrote.set()


async def _epoch_serves(pair: Pair, epoch: int) -> bool:
    found = await pair.record()
    return found.epoch == epoch and found.serving is not None


async def test_a_switchover_under_load_fails_no_write_and_loses_none(pair: Pair) -> None:
    await ready(pair)
    async with Clerk(pair, site="rabat") as clerk:
        writers = Writers(clerk)
        await writers.write_more()
        await order(pair)
        await eventually(lambda: _epoch_serves(pair, 2), within_s=OVER_WITHIN_S)
        assert (await pair.record()).serving == "marrakech"
        await writers.write_more()
        await writers.end()
        print(f"{len(clerk.acknowledged)} writes, the longest took {writers.longest_s:.2f} s")
        await nothing_is_missing(pair, "marrakech", clerk)
    phases = [(row.after.epoch, row.after.phase) for row in await control.audit(pair.etcd)]
    assert phases == [
        (1, Phase.ACTIVE),
        (1, Phase.FREEZING),
        (1, Phase.SEALING),
        (2, Phase.PROMOTING),
        (2, Phase.REPLAYING),
        (2, Phase.ACTIVE),
    ]
    fence = await pair.ask("rabat", "SELECT epoch, site FROM fence")
    assert tuple(fence) == (2, "marrakech")


async def test_a_standby_that_cannot_catch_up_ends_the_switchover_at_the_same_site_under_a_new_epoch(
    pair: Pair,
) -> None:
    await ready(pair)
    async with Clerk(pair, site="rabat") as clerk:
        with replication_stopped(pair):
            await clerk.write_all("10.00")
            await order(pair)
            writers = Writers(clerk)
            await eventually(lambda: _epoch_serves(pair, 2), within_s=OVER_WITHIN_S)
            now = await pair.record()
            assert (now.serving, now.phase) == ("rabat", Phase.ACTIVE)
            assert "given up" in now.reason
            await writers.write_more()
            await writers.end()
        await nothing_is_missing(pair, "rabat", clerk)


async def test_the_active_site_dies_in_the_middle_and_the_other_takes_over_all_the_same(pair: Pair) -> None:
    await ready(pair)
    async with Clerk(pair) as clerk:
        with replication_stopped(pair):
            await clerk.write_all("16.00")
            await order(pair)
            await pair.kill_rabat()
        await eventually(lambda: _active_at(pair, "marrakech"), within_s=2 * OVER_WITHIN_S)
        await nothing_is_missing(pair, "marrakech", clerk)
    assert (await pair.record()).epoch == 3, "given up first, then claimed"


async def _active_at(pair: Pair, site: str) -> bool:
    return (await pair.record()).serving == site
