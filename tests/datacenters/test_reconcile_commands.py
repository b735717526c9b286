"""Parked writes as an operator lists and resolves them."""

from __future__ import annotations

from datacenters import reconciling
from datacenters.commands import dc
from datacenters.etcd import Etcd
from tests.datacenters.test_reconciling import park
from tests.datacenters.typing_in import installed, invoke, said


async def test_nothing_waiting_is_said_with_exit_code_zero(etcd: Etcd) -> None:
    where = await installed(etcd)
    shown = await invoke(dc, "reconcile", *where)
    assert (shown.exit_code, "nothing waits" in shown.output) == (0, True)


async def test_what_waits_is_listed_and_resolved_with_a_reason(etcd: Etcd) -> None:
    where = await installed(etcd)
    await park(etcd, "aaa1", 7, 8)
    await park(etcd, "aaa2", 9)
    shown = await invoke(dc, "reconcile", *where)
    assert shown.exit_code == 1
    assert "2 ordering keys wait for a human" in shown.output
    assert "aaa1  2 records, 1-7 to 1-8" in shown.output
    assert (await invoke(dc, "reconcile", "aaa1", "--discard", *where)).exit_code == 2
    unclear = await said(dc, "reconcile", "aaa", "--discard", "--reason", "x", *where)
    assert "must begin one waiting ordering key; 2 of them do" in unclear["refusal"]
    dry = await said(dc, "reconcile", "aaa1", "--discard", "--reason", "x", "--dry-run", *where)
    assert dry["done"] == "would discard 2 records of aaa1; nothing was done"
    assert len(await reconciling.waiting(etcd)) == 2
    done = await invoke(dc, "reconcile", "aaa1", "--discard", "--reason", "entered again", *where)
    assert (done.exit_code, "declared lost and removed" in done.output) == (0, True)
    assert [one.ordering for one in await reconciling.waiting(etcd)] == ["aaa2"]
    retried = await invoke(dc, "reconcile", "aaa2", "--retry", "--reason", "x", *where)
    assert (retried.exit_code, "judged once more" in retried.output) == (0, True)
