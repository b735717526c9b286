"""An order is judged on the record it changes, written once, and followed to its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from datacenters import control, etcd_keys, ordering, record
from datacenters.etcd import Etcd, EtcdUnavailable, Transaction
from datacenters.ordering import Judged
from datacenters.preflight import Situation
from datacenters.record import Phase, Record, Refusal
from tests.datacenters.stepping import aborts, directors
from tests.datacenters.typing_in import installed
from tests.datacenters.worlds import NOW, all_well, declared


def held_by(seen: Situation, now: float) -> Judged:
    return Judged(record.hold(seen.record, reason="exam", now=now, by="operator:a"))


async def frozen(etcd: Etcd) -> Record:
    held = await control.read(etcd)
    assert held is not None
    begun = record.freeze(held.record, target="marrakech", reason="drill", evidence={"a": 1}, now=NOW, by="o")
    assert isinstance(begun, Record)
    assert await control.change(etcd, held, begun)
    return begun


async def test_the_situation_is_the_record_and_what_stands_beside_it(etcd: Etcd) -> None:
    assert await ordering.situation(etcd) == (None, None)
    await installed(etcd, all_well())
    for n in range(3):
        await etcd.put(f"{etcd_keys.JOURNAL}{1:010d}/{n:020d}/x", b"sealed")
    await etcd.put(f"{etcd_keys.PARKED}abc/{1:010d}/{1:020d}/x", b"sealed")
    held, seen = await ordering.situation(etcd)
    assert held is not None
    assert seen is not None
    assert (seen.journal_records, seen.parked, seen.target()) == (3, 1, "marrakech")
    assert seen.record == held.record


async def test_an_order_is_written_once_and_a_dry_run_not_at_all(etcd: Etcd) -> None:
    assert await ordering.give(etcd, "hold", held_by, dry_run=False) is None
    await installed(etcd)
    dry = await ordering.give(etcd, "hold", held_by, dry_run=True)
    assert dry is not None
    assert (dry.written, dry.after and dry.after.phase) == (False, Phase.HOLD)
    assert (await control.chain(etcd)).walked().rows == 1
    done = await ordering.give(etcd, "hold", held_by, dry_run=False)
    assert done is not None
    assert done.written
    refused = await ordering.give(etcd, "hold", held_by, dry_run=False)
    assert refused is not None
    assert (refused.written, refused.after, "only an active record" in (refused.refusal or "")) == (
        False,
        None,
        True,
    )


async def test_an_order_that_somebody_overtakes_is_judged_again(etcd: Etcd) -> None:
    await installed(etcd)
    overtaken = []

    def judge(seen: Situation, now: float) -> Judged:
        overtaken.append(seen.record.decided_at)
        return held_by(seen, now)

    class Slow(Etcd):
        async def transact(self, **asked: Any) -> Transaction:
            if len(overtaken) <= meddle:
                held = await control.read(etcd)
                assert held is not None
                other = record.stop_writes(held.record, reason="x", now=NOW + len(overtaken), by="o")
                if isinstance(other, Refusal):
                    other = record.allow_writes(held.record, reason="x", now=NOW + len(overtaken), by="o")
                assert isinstance(other, Record)
                assert await control.change(etcd, held, other)
            return await super().transact(**asked)

    slow = Slow(etcd._urls, timeout_s=5.0)
    meddle = 1
    refused = await ordering.give(slow, "hold", judge, dry_run=False)
    assert refused is not None
    assert refused.refusal == "only an active record can be held (phase READ_ONLY)"
    assert len(overtaken) == 2
    await slow.aclose()


async def test_an_order_of_unknown_outcome_is_looked_up(etcd: Etcd) -> None:
    await installed(etcd)

    class Forgetful(Etcd):
        async def transact(self, **asked: Any) -> Transaction:
            await super().transact(**asked)
            raise EtcdUnavailable("the answer was lost", maybe_applied=True)

    forgetful = Forgetful(etcd._urls, timeout_s=5.0)
    done = await ordering.give(forgetful, "hold", held_by, dry_run=False)
    await forgetful.aclose()
    assert done is not None
    assert done.written
    assert (await control.chain(etcd)).walked().rows == 2


async def test_a_switchover_is_followed_through_its_phases(etcd: Etcd) -> None:
    await installed(etcd)
    begun = await frozen(etcd)
    phases: list[Phase] = []
    played = asyncio.create_task(directors(etcd, now=NOW + 9))
    followed = await ordering.follow(
        etcd, begun, within_s=20, told=lambda change: phases.append(change.phase)
    )
    played.cancel()
    with suppress(asyncio.CancelledError):
        await played
    assert followed.failure is None
    assert phases[-1] is Phase.ACTIVE
    assert Phase.SEALING in phases
    assert followed.pause_s == followed.changes[-1].after_s


async def test_an_aborted_one_tells_why_and_who_goes_on(etcd: Etcd) -> None:
    await installed(etcd)
    begun = await frozen(etcd)
    played = asyncio.create_task(aborts(etcd, now=NOW + 9))
    followed = await ordering.follow(etcd, begun, within_s=20, told=lambda _: None)
    played.cancel()
    with suppress(asyncio.CancelledError):
        await played
    assert followed.failure == "aborted: not within 3 s; rabat goes on at epoch 2"


async def test_waiting_is_bounded(etcd: Etcd) -> None:
    await installed(etcd)
    begun = await frozen(etcd)
    followed = await ordering.follow(etcd, begun, within_s=0.2, told=lambda _: None)
    assert followed.failure is not None
    assert "still FREEZING after 0 s" in followed.failure
    assert ordering.turns_back(begun)


@pytest.mark.parametrize("phase", [Phase.ACTIVE, Phase.PROMOTING, Phase.REPLAYING])
def test_only_a_frozen_move_turns_back_by_itself(phase: Phase) -> None:
    assert not ordering.turns_back(declared(phase=phase))
