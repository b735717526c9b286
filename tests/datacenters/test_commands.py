"""What an operator types, sees and changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datacenters import etcd_keys
from datacenters.commands import dc
from datacenters.etcd import Etcd
from tests.datacenters.typing_in import installed, invoke


async def test_a_sandbox_is_found_by_its_folder(etcd: Etcd, tmp_path: Path) -> None:
    await installed(etcd)
    (tmp_path / "sandbox.json").write_text(json.dumps({"etcd": [etcd._urls[0]], "other": 1}))
    shown = await invoke(dc, "status", "--dir", str(tmp_path))
    assert "epoch 1, ACTIVE, active rabat" in shown.output
    assert "no director publishes" in shown.output


async def test_the_environment_names_etcd_when_nothing_else_does(etcd: Etcd) -> None:
    await installed(etcd)
    assert (await invoke(dc, "status", MASSAR_ETCD_URLS=etcd._urls[0])).exit_code == 0


async def test_before_any_installation_that_is_said(etcd: Etcd) -> None:
    shown = await invoke(dc, "status", "--etcd", etcd._urls[0])
    assert (shown.exit_code, "nothing was ever declared" in shown.output) == (1, True)


async def test_an_unreadable_record_is_said(etcd: Etcd) -> None:
    await etcd.put(etcd_keys.CONTROL, b"{}")
    shown = await invoke(dc, "status", "--etcd", etcd._urls[0])
    assert (shown.exit_code, "unreadable" in shown.output) == (1, True)


async def test_without_etcd_it_is_said_what_still_holds() -> None:
    shown = await invoke(dc, "status", "--etcd", "http://127.0.0.1:1")
    assert shown.exit_code == 1
    assert "reads go on, nothing is decided" in shown.output


@pytest.mark.parametrize("content", [None, "{", '{"etcd": 5}'])
async def test_a_folder_without_a_running_sandbox_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "sandbox.json").write_text(content)
    shown = await invoke(dc, "status", "--dir", str(tmp_path))
    assert (shown.exit_code, "sandbox.json" in shown.output) == (1, True)
