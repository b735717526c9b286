"""The doctor as an operator asks for it, and as an alarm does."""

from __future__ import annotations

from pathlib import Path

from datacenters.doctor_commands import doctor
from datacenters.etcd import Etcd
from sandbox import keys
from tests.datacenters.typing_in import installed, invoke, said
from tests.datacenters.worlds import all_well


async def test_findings_name_their_runbooks_and_decide_the_exit_code(etcd: Etcd, tmp_path: Path) -> None:
    where = await installed(etcd, all_well())
    folder = tmp_path / "keys"
    keys.make(folder, sites=("rabat", "marrakech"))
    shown = await invoke(doctor, *where, "--keys", str(folder), "--site", "rabat")
    # An etcd of one member survives no loss, so there is something to find.
    assert shown.exit_code == 1
    assert shown.output.startswith("WRONG")
    assert "docs/runbooks/etcd-member-away.md" in shown.output
    assert "ok      key-files" in shown.output
    assert shown.output.endswith("doctor: something needs you\n")
    few = await invoke(doctor, *where, "--keys", str(folder), "--wrong-only")
    assert "ok      " not in few.output
    found = await said(doctor, *where, "--keys", str(folder))
    assert found["wrong"] is True
    assert {one["state"] for one in found["findings"]} >= {"wrong", "ok"}


async def test_without_any_etcd_it_still_reports() -> None:
    shown = await invoke(doctor, "--etcd", "http://127.0.0.1:1")
    assert shown.exit_code == 1
    assert "no majority: 0 of 1 members answer" in shown.output
