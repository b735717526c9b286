"""A planned switchover: writes wait, none fails; a standby that cannot follow ends it where it began; both ways, again.

After each the other site follows whoever is active, so that the next one may come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from datacenters import control, record
from datacenters.promotion import PromotionFailed
from datacenters.record import Phase, Record
from datacenters.taking_over import Takeover
from tests.failover.clerk import Clerk, nothing_is_missing, school, standing_marks
from tests.failover.pair import SITES, Pair, running_pair
from tests.failover.test_journal import ready, replication_stopped
from tests.failover.test_return import REJOINED_WITHIN_S, Following, caught_up, serves
from tests.waiting import eventually

OVER_WITHIN_S = 15.0
WRITERS = 4


@pytest.fixture
async def pair(tmp_path: Path, logs: Path) -> AsyncIterator[Pair]:
    async with running_pair(folder=tmp_path, logs=logs) as made:
        await school(made)
        yield made


async def order(pair: Pair, target: str = "marrakech") -> None:
    held = await pair.held()
    after = record.freeze(
        held.record, target=target, reason="works", evidence={}, now=time.time(), by="operator:tests"
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


async def test_the_role_goes_there_and_back_twice_and_the_other_site_follows_each_time(pair: Pair) -> None:
    hooks = await _ready_to_return(pair)
    async with Clerk(pair, site="rabat") as clerk:
        for epoch, target in enumerate(("marrakech", "rabat", "marrakech", "rabat"), 2):
            await _move(pair, clerk, to=target, epoch=epoch)
    rewound = [f"{site}: rewinding to the history of the active database" for site in SITES]
    assert [hooks[site].done.count(said) for site, said in zip(SITES, rewound, strict=True)] == [2, 2]
    assert not any("base backup" in said for hook in hooks.values() for said in hook.done)


async def test_a_target_that_was_promoted_before_the_switchover_was_given_up_follows_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The abort wins after the promotion: there are two primaries, of which the record names one."""
    await _ready_to_return(pair)
    promote, promoted = Takeover._promote, asyncio.Event()

    async def unheard(*args: Any, **kwargs: Any) -> Any:
        await promote(*args, **kwargs)
        promoted.set()
        raise PromotionFailed("planted: nobody hears of it")

    async with Clerk(pair, site="rabat") as clerk:
        await clerk.write_all("9.00")
        with monkeypatch.context() as patch:
            patch.setattr(Takeover, "_promote", unheard)
            await order(pair)
            await asyncio.wait_for(promoted.wait(), OVER_WITHIN_S)
            await eventually(lambda: serves(pair, "rabat", epoch=3), within_s=OVER_WITHIN_S)
        assert "given up" in (await pair.record()).reason
        await clerk.write_all("10.00")
        await _follows(pair, "marrakech", clerk)
        await _move(pair, clerk, to="marrakech", epoch=4)


async def _ready_to_return(pair: Pair) -> dict[str, Following]:
    hooks = {site: Following(pair, site) for site in SITES}
    pair.hooks.update(hooks)
    await ready(pair)
    return hooks


async def _move(pair: Pair, clerk: Clerk, *, to: str, epoch: int) -> None:
    """Switch over, write there, and wait until the site that was left follows."""
    await order(pair, to)
    await eventually(lambda: serves(pair, to, epoch=epoch), within_s=OVER_WITHIN_S)
    await clerk.write_all(f"{epoch}.25")
    (left,) = (site for site in SITES if site != to)
    await _follows(pair, left, clerk)


async def _follows(pair: Pair, standby: str, clerk: Clerk) -> None:
    """The standby has everything and tells no history of its own."""
    await eventually(lambda: caught_up(pair, standby), within_s=REJOINED_WITHIN_S)

    async def arrived() -> bool:
        standing = await standing_marks(pair, standby)
        return all(standing.get(pupil, ("", 0))[1] == version for pupil, version in clerk.versions.items())

    await eventually(arrived, within_s=OVER_WITHIN_S)
    await nothing_is_missing(pair, standby, clerk)
