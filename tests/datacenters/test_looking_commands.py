"""What an operator sees before he changes anything."""

from __future__ import annotations

from datacenters import etcd_keys
from datacenters.commands import dc
from datacenters.etcd import Etcd
from tests.datacenters.typing_in import installed, invoke, said
from tests.datacenters.worlds import all_well, rabat_lost


async def test_status_shows_the_declared_beside_the_observed(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    shown = await invoke(dc, "status", *where)
    assert shown.exit_code == 0
    assert "epoch 1, ACTIVE, active rabat" in shown.output
    assert (
        "witness    sees marrakech  standby epoch 1 position 1-9 lag 0.0 s received 0.2 s ago" in shown.output
    )
    found = await said(dc, "status", *where)
    assert found["record"]["active"] == "rabat"
    assert set(found["observations"]) == {"rabat", "marrakech", "witness"}


async def test_explain_says_what_would_happen_and_why(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())
    shown = await invoke(dc, "explain", *where)
    assert "so        marrakech takes over from rabat at its director's next look" in shown.output
    found = await said(dc, "explain", *where)
    assert (found["verdict"], found["would_move"]) == ("dead", True)
    assert {rule["name"] for rule in found["rules"]} >= {
        "verdict-allows",
        "target-is-standby",
        "dwell",
        "auto",
    }


async def test_a_plan_judges_both_moves_and_says_what_is_at_risk(etcd: Etcd) -> None:
    where = await installed(etcd, all_well())
    shown = await invoke(dc, "plan", *where)
    assert shown.exit_code == 0, shown.output
    assert "switchover  to marrakech would begin" in shown.output
    assert "NO   active-is-away     rabat still answers: a planned switchover loses nothing" in shown.output
    assert "at risk     marrakech lacks 0 bytes" in shown.output
    found = await said(dc, "plan", "marrakech", *where, "--dry-run")
    assert (found["switchover_allowed"], found["failover_allowed"]) == (True, True)


async def test_a_plan_that_would_be_refused_exits_with_one(etcd: Etcd) -> None:
    where = await installed(etcd, rabat_lost())
    await etcd.put(f"{etcd_keys.PARKED}abc/{1:010d}/{1:020d}/x", b"sealed")
    shown = await invoke(dc, "plan", *where)
    assert shown.exit_code == 1
    assert "switchover  to marrakech is REFUSED" in shown.output
    assert "failover    to marrakech could be ordered" in shown.output
    assert "parked      1 records wait for a human" in shown.output


async def test_without_any_observation_the_target_must_be_named(etcd: Etcd) -> None:
    where = await installed(etcd)
    assert "name the target" in (await invoke(dc, "plan", *where)).output
    assert (await invoke(dc, "plan", "marrakech", *where)).exit_code == 1
