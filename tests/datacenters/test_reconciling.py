"""Parked records are listed by ordering key, and resolved only with a row in the audit chain."""

from __future__ import annotations

from datacenters import control, etcd_keys, reconciling, record
from datacenters.etcd import Etcd
from datacenters.reconciling import Decision, Resolution
from datacenters.record import Record, Refusal
from tests.datacenters.typing_in import installed
from tests.datacenters.worlds import NOW

DECISION = Decision(by="operator:a", reason="the teacher entered it again", now=NOW + 5)


async def park(etcd: Etcd, ordering: str, *lsns: int) -> None:
    for lsn in lsns:
        await etcd.put(f"{etcd_keys.PARKED}{ordering}/{1:010d}/{lsn:020d}/n{lsn}", b"sealed")


async def test_parked_records_are_listed_by_ordering_key_in_their_order(etcd: Etcd) -> None:
    await park(etcd, "bbb", 30, 4)
    await park(etcd, "aaa", 7)
    await etcd.put(etcd_keys.PARKED + "nonsense", b"x")
    found = await reconciling.waiting(etcd)
    assert [(one.ordering, [parked.lsn for parked in one.records]) for one in found] == [
        ("aaa", [7]),
        ("bbb", [4, 30]),
    ]
    assert found[0].records[0].name == "n7"


async def test_discarding_leaves_a_row_and_removes_that_ordering_key_alone(etcd: Etcd) -> None:
    await installed(etcd)
    await park(etcd, "aaa", 7, 8)
    await park(etcd, "bbb", 9)
    first, _ = await reconciling.waiting(etcd)
    said = await reconciling.RESOLUTIONS[Resolution.DISCARD](etcd, first, DECISION)
    assert said == "2 records of aaa are declared lost and removed"
    assert [one.ordering for one in await reconciling.waiting(etcd)] == ["bbb"]
    row = (await control.audit(etcd))[-1]
    assert row.after.evidence == {"discarded": ["1-7/n7", "1-8/n8"], "ordering": "aaa"}
    assert (row.after.decided_by, row.after.epoch) == ("operator:a", 1)
    assert (await control.chain(etcd)).walked().whole


async def test_retrying_leaves_a_row_and_hands_that_ordering_key_to_the_director(etcd: Etcd) -> None:
    await installed(etcd)
    await park(etcd, "aaa", 7, 8)
    await park(etcd, "bbb", 9)
    first, other = await reconciling.waiting(etcd)
    said = await reconciling.RESOLUTIONS[Resolution.RETRY](etcd, first, DECISION)
    assert said == "2 records of aaa are judged once more; what mismatches is parked again"
    assert await reconciling.waiting(etcd) == (other,)
    handed = [item.key for item in (await etcd.range(etcd_keys.RETRIED, prefix=True)).items]
    assert handed == [etcd_keys.retried("aaa", parked.key) for parked in first.records]
    row = (await control.audit(etcd))[-1]
    assert row.after.evidence == {"retried": ["1-7/n7", "1-8/n8"], "ordering": "aaa"}


async def test_during_a_move_nothing_is_resolved(etcd: Etcd) -> None:
    await installed(etcd)
    await park(etcd, "aaa", 7)
    held = await control.read(etcd)
    assert held is not None
    moving = record.failover(held.record, target="marrakech", reason="x", evidence={"a": 1}, now=NOW, by="o")
    assert isinstance(moving, Record)
    assert await control.change(etcd, held, moving)
    (one,) = await reconciling.waiting(etcd)
    refused = await reconciling.discard(etcd, one, DECISION)
    assert refused == Refusal("a move is under way (phase PROMOTING); wait for its end")
    assert await reconciling.waiting(etcd) == (one,)


async def test_without_an_installation_nothing_is_resolved(etcd: Etcd) -> None:
    await park(etcd, "aaa", 7)
    (one,) = await reconciling.waiting(etcd)
    assert isinstance(await reconciling.discard(etcd, one, DECISION), Refusal)


def test_every_resolution_has_its_function() -> None:
    assert set(reconciling.RESOLUTIONS) == set(Resolution)
