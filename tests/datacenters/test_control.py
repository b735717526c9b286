"""One transaction per change: it compares everything, and leaves its audit row."""

from __future__ import annotations

import asyncio

import pytest

from datacenters import control, etcd_keys, record
from datacenters.control import Held
from datacenters.etcd import Etcd
from datacenters.record import Phase, Protection, Record
from tests.datacenters.worlds import NOW, declared

CLAIMERS = 12


def claimed(held: Held, *, by: str = "director:marrakech", now: float = NOW + 1) -> Record:
    after = record.claim(
        held.record, target="marrakech", reason="it burns", evidence={"a": 1}, now=now, by=by
    )
    assert isinstance(after, Record)
    return after


async def installed(etcd: Etcd) -> Held:
    await control.bootstrap(etcd, active="rabat", now=NOW)
    held = await control.read(etcd)
    assert held is not None
    return held


async def test_installation_happens_once_and_is_audited(etcd: Etcd) -> None:
    first = await control.bootstrap(etcd, active="rabat", now=NOW)
    second = await control.bootstrap(etcd, active="marrakech", now=NOW + 5)
    assert first == second
    assert (first.epoch, first.active, first.phase) == (1, "rabat", Phase.ACTIVE)
    epoch = await etcd.read(etcd_keys.EPOCH)
    assert epoch is not None
    assert epoch.value == b"1"
    assert [(row.before, row.after) for row in await control.audit(etcd)] == [(None, first)]


async def test_before_installation_there_is_no_record(etcd: Etcd) -> None:
    assert await control.read(etcd) is None


async def test_a_change_moves_record_epoch_and_audit_together(etcd: Etcd) -> None:
    held = await installed(etcd)
    after = claimed(held)
    assert await control.change(etcd, held, after)
    items = {item.key: item for item in (await etcd.range("massar/", prefix=True)).items}
    assert items[etcd_keys.EPOCH].value == b"2"
    assert record.decode(items[etcd_keys.CONTROL].value) == after
    written = (
        etcd_keys.EPOCH,
        etcd_keys.CONTROL,
        etcd_keys.PROTECTION,
        etcd_keys.AUDIT_HEAD,
        etcd_keys.audit(2),
    )
    assert len({items[key].revision for key in written}) == 1
    rows = await control.audit(etcd)
    assert (rows[-1].before, rows[-1].after) == (held.record, after)
    assert rows[-1].after.evidence == {"a": 1}


async def test_writes_find_beside_the_epoch_whether_they_have_to_leave_a_record(etcd: Etcd) -> None:
    async def standing() -> Held:
        held = await control.read(etcd)
        assert held is not None
        return held

    async def told() -> bytes | None:
        found = await etcd.read(etcd_keys.PROTECTION)
        return None if found is None else found.value

    await installed(etcd)
    assert await told() == control.PROTECTED
    for protection, value in (
        (Protection.NONE, control.UNPROTECTED),
        (Protection.RETURNING, control.PROTECTED),
        (Protection.JOURNAL, control.PROTECTED),
    ):
        held = await standing()
        after = record.protect(
            held.record,
            protection=protection,
            reason="full",
            now=held.record.decided_at + 1,
            by="director:rabat",
        )
        assert isinstance(after, Record)
        assert await control.change(etcd, held, after)
        assert await told() == value


async def test_of_concurrent_claims_from_the_same_record_exactly_one_stands(etcd: Etcd) -> None:
    held = await installed(etcd)
    claims = [claimed(held, by=f"director:{n}", now=NOW + n) for n in range(CLAIMERS)]
    done = await asyncio.gather(*(control.change(etcd, held, after) for after in claims))
    assert sum(done) == 1
    standing = await control.read(etcd)
    assert standing is not None
    assert standing.record == claims[done.index(True)]
    assert len(await control.audit(etcd)) == 2


async def test_a_decision_from_a_stale_record_is_not_written(etcd: Etcd) -> None:
    held = await installed(etcd)
    kept = record.hold(held.record, reason="exam", now=NOW + 1, by="operator:a")
    assert isinstance(kept, Record)
    assert await control.change(etcd, held, kept)
    assert not await control.change(etcd, held, claimed(held, now=NOW + 2))
    standing = await control.read(etcd)
    assert standing is not None
    assert standing.record == kept


async def test_the_epoch_is_compared_by_its_own_value_too(etcd: Etcd) -> None:
    held = await installed(etcd)
    await etcd.put(etcd_keys.EPOCH, b"9")
    assert not await control.change(etcd, held, claimed(held))


async def held_now(etcd: Etcd) -> Held:
    held = await control.read(etcd)
    assert held is not None
    return held


async def changed(etcd: Etcd, times: int) -> None:
    """So many changes, one after the other."""
    for n in range(times):
        held = await held_now(etcd)
        step = record.release if held.record.phase is Phase.HOLD else record.hold
        after = step(held.record, reason=f"exam {n}", now=NOW + n, by="operator:a")
        assert isinstance(after, Record)
        assert await control.change(etcd, held, after)


async def test_an_audit_row_is_never_written_over(etcd: Etcd) -> None:
    held = await installed(etcd)
    await etcd.put(etcd_keys.audit(2), b"{}")
    kept = record.hold(held.record, reason="exam", now=NOW, by="operator:a")
    assert isinstance(kept, Record)
    assert not await control.change(etcd, held, kept)


async def test_every_change_extends_one_chain_that_ends_in_the_record(etcd: Etcd) -> None:
    await installed(etcd)
    await changed(etcd, 4)
    walk = (await control.chain(etcd)).walked()
    assert (walk.whole, walk.rows, walk.head.sequence) == (True, 5, 5)
    assert walk.last == (await held_now(etcd)).record
    assert (await control.chain(etcd, serializable=True)).walked() == walk


async def test_a_chain_extended_elsewhere_meanwhile_takes_no_second_row_of_the_same_number(
    etcd: Etcd,
) -> None:
    """The head is compared in the transaction: a copy of the head from before does not get in."""
    held = await installed(etcd)
    kept = record.hold(held.record, reason="exam", now=NOW, by="operator:a")
    assert isinstance(kept, Record)
    done = await asyncio.gather(*(control.change(etcd, held, kept) for _ in range(CLAIMERS)))
    assert sum(done) == 1
    assert (await control.chain(etcd)).walked().rows == 2


@pytest.mark.parametrize("spoiled", [None, b"{"])
async def test_a_lost_head_stops_no_move_and_the_chain_goes_on_from_its_last_row(
    etcd: Etcd, spoiled: bytes | None
) -> None:
    await installed(etcd)
    await changed(etcd, 2)
    if spoiled is None:
        await etcd.delete(etcd_keys.AUDIT_HEAD)
    else:
        await etcd.put(etcd_keys.AUDIT_HEAD, spoiled)
    await changed(etcd, 1)
    walk = (await control.chain(etcd)).walked()
    assert (walk.whole, walk.rows) == (True, 4)


async def test_what_somebody_changes_in_etcd_by_hand_is_found(etcd: Etcd) -> None:
    held = await installed(etcd)
    await changed(etcd, 3)
    whole = await control.chain(etcd)
    await etcd.put(etcd_keys.CONTROL, held.raw)
    broken = (await control.chain(etcd)).walked().broken
    assert broken is not None
    assert "not the one the last row declared" in broken.sentence
    await etcd.put(etcd_keys.CONTROL, record.encode(whole.walked().last or held.record))
    await etcd.put(etcd_keys.audit(2), whole.rows[1].replace(b"exam 0", b"flood!"))
    broken = (await control.chain(etcd)).walked().broken
    assert broken is not None
    assert broken.sequence == 3
    await etcd.put(etcd_keys.audit(2), whole.rows[1])
    await etcd.delete(etcd_keys.audit(4))
    broken = (await control.chain(etcd)).walked().broken
    assert broken is not None
    assert "cut off" in broken.sentence


async def test_an_epoch_cannot_fall(etcd: Etcd) -> None:
    held = Held(record=declared(epoch=5), raw=b"")
    with pytest.raises(ValueError, match="never fall"):
        await control.change(etcd, held, declared(epoch=4))


async def test_an_epoch_without_a_record_is_no_installation(etcd: Etcd) -> None:
    await etcd.put(etcd_keys.EPOCH, b"7")
    with pytest.raises(RuntimeError, match="without a record"):
        await control.bootstrap(etcd, active="rabat", now=NOW)
