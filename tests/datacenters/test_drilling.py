"""A drill goes there and back, or says where it stopped and who is active."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from datacenters import control, drilling, etcd_keys
from datacenters.drilling import Pace
from datacenters.etcd import Etcd
from tests.datacenters.stepping import directors
from tests.datacenters.typing_in import installed
from tests.datacenters.worlds import NOW, all_well, primary, rabat_lost, seen, standby

PACE = Pace(rest_s=0.0, rejoin_within_s=20.0, switch_within_s=20.0)


async def roles_follow_the_record(etcd: Etcd, *, until_epoch: int = 99) -> None:
    """Observations as directors publish them: whoever is declared is seen as the primary."""
    while True:
        held = await control.read(etcd)
        assert held is not None
        if held.record.epoch >= until_epoch:
            return
        looks = (primary(), standby()) if held.record.active == "rabat" else (standby(), primary())
        for site in ("rabat", "marrakech", "witness"):
            await etcd.put(etcd_keys.observation(site), msgspec.json.encode(seen(site, *looks)))
        await asyncio.sleep(0.1)


async def test_readiness_is_every_rule_and_the_times_that_matter(etcd: Etcd) -> None:
    assert await drilling.readiness(etcd, None) is None
    await installed(etcd, all_well())
    ready = await drilling.readiness(etcd, None)
    assert ready is not None
    assert (ready.target, ready.ready, ready.lag_s, ready.receipt_age_s) == ("marrakech", True, 0.0, 0.2)
    assert ready.record_read_ms > 0


async def test_a_drill_goes_there_and_back_with_its_times(etcd: Etcd) -> None:
    await installed(etcd, all_well())
    played = [
        asyncio.create_task(directors(etcd, now=NOW + 9)),
        asyncio.create_task(roles_follow_the_record(etcd)),
    ]
    lines: list[str] = []
    report = await drilling.drill(etcd, None, reason="announced", pace=PACE, told=lines.append)
    for task in played:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert report is not None
    assert report.failure is None
    assert report.there is not None
    assert report.back is not None
    assert report.rejoin_s is not None
    assert report.ready_again_s is not None
    held = await control.read(etcd)
    assert held is not None
    assert (held.record.active, held.record.epoch) == ("rabat", 3)
    assert lines[0] == "drill     rabat -> marrakech -> rabat: announced"


async def test_a_standby_that_is_not_ready_is_not_drilled_with(etcd: Etcd) -> None:
    await installed(etcd, rabat_lost())
    report = await drilling.drill(etcd, None, reason="announced", pace=PACE, told=lambda _: None)
    assert report is not None
    assert report.there is None
    assert report.failure is not None
    assert "marrakech is not ready" in report.failure


async def test_an_old_site_that_does_not_follow_again_leaves_the_role_where_it_is(etcd: Etcd) -> None:
    await installed(etcd, all_well())
    played = asyncio.create_task(directors(etcd, now=NOW + 9))
    short = Pace(rest_s=0.0, rejoin_within_s=0.0, switch_within_s=20.0)
    report = await drilling.drill(etcd, "marrakech", reason="x", pace=short, told=lambda _: None)
    played.cancel()
    with suppress(asyncio.CancelledError):
        await played
    assert report is not None
    assert report.failure is not None
    assert "rabat is not ready for the way back" in report.failure
    assert "marrakech stays active" in report.failure


async def test_a_drill_that_leaves_nobody_to_take_over_has_failed(etcd: Etcd) -> None:
    await installed(etcd, all_well())
    played = [
        asyncio.create_task(directors(etcd, now=NOW + 9)),
        asyncio.create_task(roles_follow_the_record(etcd, until_epoch=3)),
    ]
    short = msgspec.structs.replace(PACE, rejoin_within_s=3.0)
    report = await drilling.drill(etcd, None, reason="announced", pace=short, told=lambda _: None)
    for task in played:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert report is not None
    assert (report.back is not None, report.ready_again_s) == (True, None)
    assert report.failure is not None
    assert report.failure.startswith("marrakech could not take over again: ")
    assert "marrakech says it is a primary" in report.failure
