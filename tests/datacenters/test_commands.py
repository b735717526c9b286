"""What an operator types, sees and changes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from datacenters import control, etcd_keys
from datacenters.commands import dc, director
from datacenters.etcd import Etcd
from datacenters.record import Phase
from tests.datacenters.worlds import NOW, all_well, rabat_lost


async def invoke(command: click.Command, *arguments: str, **environment: str) -> Result:
    """Run a command as its own program would: its own event loop, only this environment."""
    clean = {"MASSAR_ETCD_URLS": "", "MASSAR_SITE": "", "MASSAR_SITES": "", **environment}
    return await asyncio.to_thread(CliRunner().invoke, command, list(arguments), env=clean)


async def installed(etcd: Etcd, observations: dict[str, Any] | None = None) -> list[str]:
    await control.bootstrap(etcd, active="rabat", now=NOW)
    for site, seen in (observations or {}).items():
        await etcd.put(etcd_keys.observation(site), msgspec.json.encode(seen))
    return ["--etcd", etcd._urls[0]]


async def test_status_shows_the_declared_beside_the_observed(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    shown = await invoke(dc, "status", *where)
    assert shown.exit_code == 0
    assert "epoch 1, ACTIVE, active rabat" in shown.output
    assert (
        "witness    sees marrakech  standby epoch 1 position 1-9 lag 0.0 s received 0.2 s ago" in shown.output
    )
    said = json.loads((await invoke(dc, "status", *where, "--json")).output)
    assert said["record"]["active"] == "rabat"
    assert set(said["observations"]) == {"rabat", "marrakech", "witness"}


async def test_explain_says_what_would_happen_and_why(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())
    shown = await invoke(dc, "explain", *where)
    assert "so        marrakech takes over from rabat at its director's next look" in shown.output
    said = json.loads((await invoke(dc, "explain", *where, "--json")).output)
    assert (said["verdict"], said["would_move"]) == ("dead", True)
    assert {rule["name"] for rule in said["rules"]} >= {
        "verdict-allows",
        "target-is-standby",
        "dwell",
        "auto",
    }


async def test_hold_and_release_change_the_record_and_leave_audit_rows(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())
    held = await invoke(dc, "hold", *where, "--reason", "exam week", "--json")
    assert held.exit_code == 0
    said = json.loads(held.output)
    assert (said["phase"], said["reason"], said["epoch"]) == ("HOLD", "exam week", 1)
    assert said["decided_by"].startswith("operator:")
    explained = json.loads((await invoke(dc, "explain", *where, "--json")).output)
    assert explained["would_move"] is False
    assert "not-held" in explained["conclusion"]
    again = await invoke(dc, "hold", *where)
    assert again.exit_code == 1
    assert "only an active record can be held" in again.output
    released = await invoke(dc, "hold", *where, "--release")
    assert "epoch 1, ACTIVE, active rabat: released by an operator" in released.output
    phases = [row.after.phase for row in await control.audit(etcd)]
    assert phases == [Phase.ACTIVE, Phase.HOLD, Phase.ACTIVE]


async def test_release_without_a_hold_is_refused(etcd: Etcd) -> None:
    where = await installed(etcd)
    refused = await invoke(dc, "hold", *where, "--release")
    assert (refused.exit_code, "nothing is held" in refused.output) == (1, True)


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


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "MASSAR_SITE"),
        ({"MASSAR_SITE": "rabat"}, "MASSAR_SITES"),
        ({"MASSAR_SITE": "rabat", "MASSAR_SITES": "{"}, "MASSAR_SITES"),
        (
            {"MASSAR_SITE": "rabat", "MASSAR_SITES": '{"rabat":{"datacenter_url":"http://r"}}'},
            "MASSAR_ETCD_URLS",
        ),
        (
            {
                "MASSAR_SITE": "witness",
                "MASSAR_SITES": '{"rabat":{"datacenter_url":"http://r"}}',
                "MASSAR_ETCD_URLS": "http://e",
                "MASSAR_DIRECTOR_DSN": "postgresql://x",
            },
            "MASSAR_DIRECTOR_DSN",
        ),
    ],
)
async def test_a_wrong_setting_stops_the_director_and_is_named(
    environment: dict[str, str], named: str
) -> None:
    refused = await invoke(director, **environment)
    assert refused.exit_code == 1
    assert f"Error: {named}" in refused.output
