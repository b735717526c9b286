"""The drill as an operator announces and reads it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from datacenters import control
from datacenters.commands import dc
from datacenters.etcd import Etcd
from tests.datacenters.stepping import directors
from tests.datacenters.test_drilling import roles_follow_the_record
from tests.datacenters.typing_in import installed, invoke, said
from tests.datacenters.worlds import NOW, all_well, rabat_lost


async def test_only_checking_says_how_ready_the_standby_is(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    shown = await invoke(dc, "drill", "--only-check", *where)
    assert shown.exit_code == 0
    assert "readiness marrakech is ready" in shown.output
    assert "replay lag 0.00 s, last received 0.20 s ago, 0 records in the journal" in shown.output
    assert (await said(dc, "drill", "--dry-run", *where))["ready"] is True
    assert (await control.chain(etcd)).walked().rows == 1


async def test_an_unready_standby_exits_with_one(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())
    assert (await invoke(dc, "drill", "--only-check", *where)).exit_code == 1
    shown = await invoke(dc, "drill", "--yes", "--reason", "announced", *where)
    assert (shown.exit_code, "FAILED    marrakech is not ready" in shown.output) == (1, True)


async def test_a_drill_is_announced_and_confirmed(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    assert (await invoke(dc, "drill", "--yes", *where)).exit_code == 2
    assert (await invoke(dc, "drill", "--json", "--reason", "x", *where)).exit_code == 2
    assert (await invoke(dc, "drill", "--reason", "x", *where)).exit_code == 1
    assert (await control.chain(etcd)).walked().rows == 1


async def test_a_whole_drill_is_reported_with_its_times(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    played = [
        asyncio.create_task(directors(etcd, now=NOW + 9)),
        asyncio.create_task(roles_follow_the_record(etcd)),
    ]
    shown = await invoke(dc, "drill", "--yes", "--reason", "announced", "--rest-s", "0", *where)
    for task in played:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert shown.exit_code == 0, shown.output
    assert "there     rabat -> marrakech: writes waited" in shown.output
    assert "back      marrakech -> rabat: writes waited" in shown.output
    assert "whole     marrakech could take over again after" in shown.output
    assert shown.output.endswith("drill: ok\n")


async def test_without_anywhere_to_go_that_is_said(etcd: Etcd) -> None:
    where = await installed(etcd)
    shown = await invoke(dc, "drill", "--only-check", *where)
    assert (shown.exit_code, "no other datacenter is observed" in shown.output) == (1, True)
