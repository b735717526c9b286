"""The whole examination against a real etcd, with and without its majority."""

from __future__ import annotations

from pathlib import Path

from datacenters import control, doctor, etcd_keys
from datacenters.checkup import Check, State
from datacenters.etcd import Etcd
from sandbox.etcd import EtcdServer
from tests.datacenters.examined import well
from tests.datacenters.typing_in import installed
from tests.datacenters.worlds import NOW, all_well


def test_every_check_is_made_and_the_wrong_ones_come_first() -> None:
    assert set(doctor.CHECKS) == set(Check)
    found = doctor.findings(well())
    assert {one.check for one in found} == set(Check)
    assert not doctor.is_wrong(found)
    spoiled = doctor.findings(well(chain=None, keys=None))
    assert [one.state for one in spoiled[:2]] == [State.WRONG, State.NOTICE]
    assert spoiled[0].runbook == "docs/runbooks/audit-broken.md"
    assert doctor.is_wrong(spoiled)


async def test_a_real_etcd_is_examined_in_one_go(etcd: Etcd, tmp_path: Path) -> None:
    await installed(etcd, all_well())
    await etcd.put(f"{etcd_keys.JOURNAL}{1:010d}/{1:020d}/x", b"sealed")
    seen = await doctor.examine(etcd._urls, keys=tmp_path / "none", sandbox=True)
    assert (seen.majority, seen.journal_bytes, seen.situation is not None) == (True, 6, True)
    assert set(seen.expected) == {"datacenters", "rabat", "marrakech"}
    assert seen.chain is not None
    assert seen.chain.whole
    assert seen.keys is not None
    assert seen.keys[0].problem == "cannot be listed (FileNotFoundError)"


async def test_one_surviving_member_is_examined_too(etcd_trio: tuple[EtcdServer, ...]) -> None:
    urls = [server.url for server in etcd_trio]
    client = Etcd(urls, timeout_s=5.0)
    await control.bootstrap(client, active="rabat", now=NOW)
    await client.aclose()
    survivor = Etcd(urls[2:], timeout_s=5.0)
    assert await control.read(survivor) is not None
    await survivor.aclose()
    for server in etcd_trio[:2]:
        server.process.kill()
    seen = await doctor.examine(urls, keys=None, sites=("rabat",))
    assert not seen.majority
    assert seen.situation is not None
    assert seen.situation.record.active == "rabat"
    wrong = {one.check for one in doctor.findings(seen) if one.state is State.WRONG}
    assert wrong >= {Check.ETCD_MAJORITY_LOST, Check.ETCD_MEMBER_AWAY, Check.DIRECTOR_SILENT}


async def test_nothing_there_at_all_is_all_findings_and_no_error() -> None:
    seen = await doctor.examine(["http://127.0.0.1:1"], keys=None)
    assert doctor.is_wrong(doctor.findings(seen))
