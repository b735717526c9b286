"""The orders a human gives: what they write, what they refuse, what they say it may cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from click.testing import CliRunner

from datacenters import control, order_commands
from datacenters.commands import dc
from datacenters.etcd import Etcd
from datacenters.record import Phase, Record
from tests.datacenters.stepping import aborts, directors
from tests.datacenters.test_redeclaring import MOVED
from tests.datacenters.typing_in import installed, invoke, said
from tests.datacenters.worlds import NOW, all_well, rabat_lost


async def record_in(etcd: Etcd) -> Record:
    held = await control.read(etcd)
    assert held is not None
    return held.record


@asynccontextmanager
async def played(work: Callable[..., Awaitable[None]], etcd: Etcd) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work(etcd, now=NOW + 9))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("order", "phase", "reason"),
    [
        ("hold", Phase.HOLD, "held by an operator"),
        ("freeze", Phase.READ_ONLY, "writes stopped by an operator"),
    ],
)
async def test_what_is_ordered_is_released_again(etcd: Etcd, order: str, phase: Phase, reason: str) -> None:
    where = await installed(etcd, rabat_lost())
    dry = await invoke(dc, order, *where, "--dry-run")
    assert dry.exit_code == 0
    assert (
        f"would be  epoch 1, ACTIVE, active rabat -> epoch 1, {phase}, active rabat: {reason}" in dry.output
    )
    assert "nothing was written" in dry.output
    assert (await record_in(etcd)).phase is Phase.ACTIVE
    done = await said(dc, order, *where, "--reason", "exam week")
    assert (done["written"], done["after"]["phase"], done["after"]["reason"]) == (True, phase, "exam week")
    assert done["after"]["decided_by"].startswith("operator:")
    assert (await said(dc, "explain", *where))["would_move"] is False
    again = await invoke(dc, order, *where)
    assert again.exit_code == 1
    assert "REFUSED" in again.output
    released = await invoke(dc, order, *where, "--release")
    assert "written   epoch 1" in released.output
    assert (await record_in(etcd)).phase is Phase.ACTIVE
    nothing = await invoke(dc, order, *where, "--release")
    assert nothing.exit_code == 1
    phases = [row.after.phase for row in await control.audit(etcd)]
    assert phases == [Phase.ACTIVE, phase, Phase.ACTIVE]


async def test_abort_needs_a_move(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    refused = await invoke(dc, "abort", *where)
    assert (refused.exit_code, "no move is under way" in refused.output) == (1, True)


async def test_a_switchover_is_told_phase_by_phase_to_its_end(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    async with played(directors, etcd):
        shown = await invoke(dc, "switchover", "marrakech", *where, "--reason", "flood warning")
    assert shown.exit_code == 0, shown.output
    assert "epoch 1 FREEZING, active rabat" in shown.output
    assert "epoch 2 ACTIVE, active marrakech" in shown.output
    assert "done      writes waited" in shown.output
    now = await record_in(etcd)
    assert (now.active, now.epoch, now.reason) == ("marrakech", 2, "flood warning")
    assert (await control.chain(etcd)).walked().whole  # the epoch has its evidence


async def test_an_aborted_switchover_exits_with_one_and_the_reason(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    async with played(aborts, etcd):
        shown = await invoke(dc, "switchover", "marrakech", *where)
    assert shown.exit_code == 1
    assert "FAILED    aborted: not within 3 s; rabat goes on at epoch 2" in shown.output


async def test_a_switchover_that_no_director_takes_up_is_turned_back(etcd: Etcd) -> None:
    await installed(etcd, all_well())
    lines: list[str] = []
    switched = await order_commands.switch(
        etcd, "marrakech", reason="drill", dry_run=False, wait_s=20, told=lines.append, give_up_s=0.2
    )
    assert switched.followed is not None
    assert switched.followed.failure == "aborted: no director went on within 0 s; rabat goes on at epoch 2"
    now = await record_in(etcd)
    assert (now.phase, now.active, now.epoch) == (Phase.ACTIVE, "rabat", 2)


async def test_a_switchover_that_breaks_a_rule_is_refused_with_every_sentence(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())
    refused = await invoke(dc, "switchover", "marrakech", *where)
    assert refused.exit_code == 1
    assert "REFUSED   the directors of rabat and marrakech must both publish" in refused.output
    assert (await record_in(etcd)).phase is Phase.ACTIVE
    dry = await said(dc, "switchover", "marrakech", *where, "--dry-run")
    assert dry["followed"] is None
    assert {rule["name"] for rule in dry["ordered"]["rules"] if not rule["holds"]} >= {"directors"}


async def test_a_failover_says_what_may_be_lost_before_it_asks(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())

    def answer(word: str) -> object:
        return CliRunner().invoke(dc, ["failover", "marrakech", *where], input=f"{word}\n")

    declined = await asyncio.to_thread(answer, "n")
    assert "at risk   marrakech lacks 0 bytes of write-ahead log" in declined.output  # type: ignore[attr-defined]  # click's result
    assert declined.exit_code == 1  # type: ignore[attr-defined]  # click's result
    assert (await record_in(etcd)).epoch == 1
    accepted = await asyncio.to_thread(answer, "y")
    assert accepted.exit_code == 0  # type: ignore[attr-defined]  # click's result
    now = await record_in(etcd)
    assert (now.epoch, now.phase, now.target) == (2, Phase.PROMOTING, "marrakech")
    assert now.evidence["at_risk"]["target"] == "marrakech"
    assert (await control.chain(etcd)).walked().whole
    aborted = await said(dc, "abort", *where, "--reason", "rabat is back")
    assert (aborted["after"]["epoch"], aborted["after"]["active"]) == (3, "rabat")


async def test_a_failover_to_nobody_is_refused_and_json_asks_nobody(etcd: Etcd) -> None:
    where = await installed(etcd)
    refused = await said(dc, "failover", "marrakech", *where, "--yes")
    assert refused["refusal"] == "marrakech's director does not see its datacenter answer"
    assert (await invoke(dc, "failover", "marrakech", *where, "--json")).exit_code == 2
    dry = await invoke(dc, "failover", "marrakech", *where, "--dry-run", "--json")
    assert json.loads(dry.stdout)["written"] is False


async def test_before_installation_every_order_says_so(etcd: Etcd) -> None:
    for order in (
        ["hold"],
        ["freeze"],
        ["abort"],
        ["switchover", "marrakech"],
        ["failover", "marrakech", "--yes"],
    ):
        shown = await invoke(dc, *order, "--etcd", etcd._urls[0])
        assert (shown.exit_code, "nothing was ever declared" in shown.output) == (1, True), order


async def test_after_a_restore_the_site_that_has_the_role_goes_on(etcd: Etcd) -> None:
    where = await installed(etcd, {one.site: one for one in MOVED[1:]})
    assert (
        "PUT BACK  etcd declares epoch 1 and the sites know 2" in (await invoke(dc, "status", *where)).output
    )
    refused = await invoke(dc, "redeclare", *where)
    assert refused.exit_code == 1
    assert "nothing tells what rabat knows" in refused.output
    done = await said(dc, "redeclare", *where, "--without", "rabat")
    assert (done["written"], done["after"]["epoch"], done["after"]["active"]) == (True, 3, "marrakech")
    assert (await record_in(etcd)).evidence["known_epoch"] == 2
    assert "PUT BACK" not in (await invoke(dc, "status", *where)).output
