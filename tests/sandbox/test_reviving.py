"""What was killed comes back on its own files, and the command returns when the site stands as the record says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sandbox import asking, proc, reviving
from sandbox.reviving import NothingToRevive
from tests.countries import RunningCountry, running_country
from tests.journeys.breaking import declared, kill, server
from tests.waiting import eventually


@pytest.fixture(scope="module")
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningCountry]:
    async with running_country(tmp_path_factory.mktemp("revived")) as country:
        yield country


async def _revived(country: RunningCountry, target: str) -> str:
    code, said = await country.massar("sandbox", "revive", target)
    assert code == 0, said
    return said


async def test_a_single_process_comes_back_in_its_own_place(broken: RunningCountry) -> None:
    before = broken.table()
    kill(before, "rabat-director")
    said = await _revived(broken, "rabat-director")
    assert "rabat-director runs again (pid" in said
    assert "rabat is active at epoch 1" in said
    after = broken.table()
    assert [row.name for row in after.living()].count("rabat-director") == 1
    assert server(after, "rabat-director") != server(before, "rabat-director")
    assert {row.name for row in after.processes} == {row.name for row in before.processes}
    assert after.gateways == before.gateways


async def test_a_standby_that_was_lost_follows_again(broken: RunningCountry) -> None:
    code, _ = await broken.massar("sandbox", "kill", "marrakech")
    assert code == 0
    said = await _revived(broken, "marrakech")
    assert "marrakech is a standby that follows rabat at epoch 1" in said
    assert len([row for row in broken.table().living() if row.site == "marrakech"]) == 6
    assert (await declared(broken.addresses.etcd)).epoch == 1


async def test_the_witness_comes_back_with_its_vote(broken: RunningCountry) -> None:
    code, _ = await broken.massar("sandbox", "kill", "witness")
    assert code == 0
    assert "witness: everything runs" in await _revived(broken, "witness")


async def test_valkeys_come_back_under_their_passwords(broken: RunningCountry) -> None:
    before = broken.table().valkey
    code, _ = await broken.massar("sandbox", "kill", "valkey")
    assert code == 0
    await _revived(broken, "valkey")
    assert broken.table().valkey == before


async def test_etcd_comes_back_from_the_loss_of_all_its_members(broken: RunningCountry) -> None:
    members = [f"{site}-etcd" for site in ("rabat", "marrakech", "witness")]
    kill(broken.table(), *members)
    # One alone finds no majority; it is asked for all the same, and the site stands once the others are back.
    first, *others = (asyncio.create_task(_revived(broken, name)) for name in members)
    for waiting in (first, *others):
        await waiting
    assert (await declared(broken.addresses.etcd)).epoch == 1


async def test_what_runs_is_left_alone_and_strangers_are_unknown(broken: RunningCountry) -> None:
    before = broken.table().processes
    for target, reason in (("rabat", "all of rabat runs"), ("casablanca", "neither a site nor a process")):
        code, said = await broken.massar("sandbox", "revive", target)
        assert code == 1
        assert reason in said
    assert broken.table().processes == before
    assert all(proc.alive(row.who) for row in before)


async def test_a_site_that_lost_its_role_comes_back_as_a_standby(broken: RunningCountry) -> None:
    """The last one of this file: it moves the active role to Marrakech."""
    code, _ = await broken.massar("sandbox", "kill", "rabat")
    assert code == 0

    async def moved() -> bool:
        return (await declared(broken.addresses.etcd)).serving == "marrakech"

    await eventually(moved, within_s=30)
    # A stranger's wish is no reason: the record says who is active.
    refused = await asyncio.to_thread(_rejoined, broken, "marrakech", "rabat")
    assert "the record does not say that rabat is active" in refused
    began = time.monotonic()
    said = await _revived(broken, "rabat")
    print(f"\nrevived as a standby within {time.monotonic() - began:.1f} s")
    assert "rabat is a standby that follows marrakech at epoch 2" in said
    assert len([row for row in broken.table().living() if row.site == "rabat"]) == 6
    reports = broken.directory / "quarantine" / "rabat"

    async def settled() -> bool:
        _, shown = await broken.massar("dc", "status")
        return "rabat      REJOINED: " in shown

    await eventually(settled, within_s=15)
    (report,) = reports.iterdir()
    assert report.stat().st_mode & 0o777 == 0o600
    after = await declared(broken.addresses.etcd)
    assert (after.epoch, after.active) == (2, "marrakech"), "the role stays"


def _rejoined(country: RunningCountry, site: str, active: str) -> str:
    try:
        return "\n".join(asking.ask(country.directory, asking.Rejoin(site=site, active=active), within_s=30))
    except asking.Failed as failure:
        return str(failure)


def test_a_target_is_a_site_a_process_or_both_valkeys() -> None:
    assert [kind for _, kind in reviving.wanted("rabat")] == [
        "etcd", "valkey", "postgres", "datacenter", "gateway", "director",
    ]  # fmt: skip
    assert reviving.wanted("witness-etcd") == [("witness", "etcd")]
    assert reviving.wanted("valkey") == [("rabat", "valkey"), ("marrakech", "valkey")]
    for target in ("", "etcd", "rabat-", "witness-postgres"):
        with pytest.raises(NothingToRevive):
            reviving.wanted(target)
