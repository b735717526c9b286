"""A record is kept at its own epoch or not at all, what waits together goes together, and nobody reads it in etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from datacenters import control, etcd_keys, journal, record
from datacenters.control import Held
from datacenters.etcd import Delete, Etcd, EtcdUnavailable, KeyValue, Put, Transaction
from datacenters.feeds import Publisher, decode_purge
from datacenters.journal import (
    EpochMoved,
    Journal,
    JournalFull,
    JournalRecord,
    Kept,
    Kind,
    RecordTooLarge,
    opened,
    sealed,
)
from datacenters.journal_seal import JournalKeys, JournalSeal, SealBroken
from datacenters.position import Position
from datacenters.record import Protection, Record
from sandbox.etcd import EtcdServer
from tests.datacenters.listening import Proxy
from tests.datacenters.worlds import NOW
from tests.waiting import eventually

SEAL = JournalSeal(JournalKeys(current=0, keys={0: b"\x07" * 32}))
AT: Position = (1, 5000)
EPOCH = 1  # of an installation
SECRET = b"13.25 for Synthetique"


class Counting(Etcd):
    """A real client that remembers its transactions; it sends them once `free`, and tells of them once `telling`."""

    def __init__(self, urls: Sequence[str], **options: Any) -> None:
        super().__init__(urls, **options)
        self.sent: list[tuple[Put, ...]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.telling = asyncio.Event()
        self.telling.set()

    async def transact(
        self,
        *,
        unchanged: dict[str, bytes | None],
        puts: Sequence[Put] = (),
        deletes: Sequence[Delete] = (),
        else_read: Sequence[str] = (),
        repeatable: bool = False,
    ) -> Transaction:
        self.sent.append(tuple(puts))
        await self.free.wait()
        done = await super().transact(
            unchanged=unchanged, puts=puts, deletes=deletes, else_read=else_read, repeatable=repeatable
        )
        await self.telling.wait()
        return done


class Worker:
    """A gateway worker's journal, and what it left in etcd."""

    def __init__(self, etcd: Counting) -> None:
        self.etcd = etcd
        self.publisher = Publisher(etcd)
        self.journal = Journal(etcd, self.publisher, SEAL)

    async def keep(self, one: JournalRecord, *, at: Position = AT, epoch: int = EPOCH) -> Kept:
        return await self.journal.keep(one, epoch=epoch, at=at)

    async def waiting(self, count: int) -> list[asyncio.Task[Kept]]:
        """That many records behind two transactions that are held back."""
        self.etcd.free.clear()
        first = []
        for number in range(journal.TRANSACTIONS_MAX):
            first.append(asyncio.create_task(self.keep(written(f"first {number}"))))
            await eventually(partial(self._sent, number + 1), within_s=2)
        return first + [
            asyncio.create_task(self.keep(written(f"k{number}"), at=(1, 6000 + number)))
            for number in range(count)
        ]

    def _sent(self, count: int) -> bool:
        return len(self.etcd.sent) >= count

    async def lying(self, prefix: str = etcd_keys.JOURNAL) -> tuple[KeyValue, ...]:
        return (await self.etcd.range(prefix, prefix=True)).items

    async def records(self) -> list[str]:
        """The idempotency keys of the records, by position."""
        return [read(item).key for item in await self.lying()]


def written(key: str = "k", **changes: Any) -> JournalRecord:
    return msgspec.structs.replace(
        JournalRecord(
            kind=Kind.DATACENTER,
            subject="t" * 16,
            role="teacher",
            method="PUT",
            target="/v1/gradebooks/c/MATH/1/entries",
            body=SECRET,
            key=key,
            ordering_key="gradebook:c:MATH:1",
            status=200,
            digest=b"d" * 32,
            decided_at=NOW,
            order=4000,
            tags=("grades:c:MATH",),
        ),
        **changes,
    )


def read(item: KeyValue) -> JournalRecord:
    return opened(item.value, item.key.rpartition("/")[2], SEAL)


@asynccontextmanager
async def working(urls: Sequence[str], **options: Any) -> AsyncIterator[Worker]:
    etcd = Counting(urls, **options)
    worker = Worker(etcd)
    try:
        yield worker
    finally:
        await worker.journal.aclose()
        await etcd.aclose()


@pytest.fixture
async def worker(etcd: Etcd, own_etcd: EtcdServer) -> AsyncIterator[Worker]:
    """A worker of an installation at epoch 1."""
    await control.bootstrap(etcd, active="rabat", now=NOW)
    async with working([own_etcd.url], timeout_s=5.0) as made:
        yield made


async def standing(etcd: Etcd) -> Held:
    held = await control.read(etcd)
    assert held is not None
    return held


async def move(etcd: Etcd) -> int:
    """Claim the next epoch."""
    held = await standing(etcd)
    after = record.claim(held.record, target="marrakech", reason="it burns", evidence={}, now=NOW + 1, by="d")
    assert isinstance(after, Record)
    assert await control.change(etcd, held, after)
    return after.epoch


async def protect(etcd: Etcd, protection: Protection) -> None:
    held = await standing(etcd)
    after = record.protect(
        held.record, protection=protection, reason="full", now=held.record.decided_at + 1, by="d"
    )
    assert isinstance(after, Record)
    assert await control.change(etcd, held, after)


# --- kept, or the epoch moved ------------------------------------------------------------------------------------


async def test_a_record_is_kept_under_its_position_and_read_back(worker: Worker) -> None:
    one = written()
    kept = await worker.keep(one)
    (item,) = await worker.lying()
    assert (item.key, item.revision, item.lease) == (etcd_keys.journal(AT, one.name), kept.revision, 0)
    assert kept.protected
    assert read(item) == one


async def test_after_a_claim_nothing_of_the_old_epoch_is_kept(worker: Worker) -> None:
    epoch = await move(worker.etcd)
    with pytest.raises(EpochMoved) as moved:
        await worker.keep(written())
    assert moved.value.epoch == epoch
    assert await worker.lying(etcd_keys.JOURNAL) == ()
    assert await worker.lying(etcd_keys.PURGES) == ()
    assert (await worker.keep(written(), epoch=epoch)).protected


async def test_a_claim_between_two_records_parts_them(worker: Worker) -> None:
    await worker.keep(written("before"))
    await move(worker.etcd)
    with pytest.raises(EpochMoved):
        await worker.keep(written("after"))
    assert await worker.records() == ["before"]


async def test_what_else_belongs_to_the_write_stands_or_falls_with_it(worker: Worker) -> None:
    puts = (Put("massar/denials/s", b"1"),)
    kept = await worker.journal.keep(written(), epoch=EPOCH, at=AT, puts=puts)
    found = await worker.etcd.read("massar/denials/s")
    assert found is not None
    assert found.revision == kept.revision
    with pytest.raises(EpochMoved):
        await worker.journal.keep(written("k2"), epoch=9, at=AT, puts=(Put("massar/denials/t", b"1"),))
    assert await worker.etcd.read("massar/denials/t") is None


async def test_the_same_write_answered_twice_at_one_position_is_one_record(worker: Worker) -> None:
    waiting = await worker.waiting(0)
    twice = [asyncio.create_task(worker.keep(written("same"))) for _ in range(2)]
    await asyncio.sleep(0)
    worker.etcd.free.set()
    assert len(await asyncio.gather(*waiting, *twice)) == 4
    assert sorted(await worker.records()) == ["first 0", "first 1", "same"]


# --- what waits together -----------------------------------------------------------------------------------------


async def test_what_waits_together_goes_in_one_transaction(worker: Worker) -> None:
    tasks = await worker.waiting(30)
    await asyncio.sleep(0)
    worker.etcd.free.set()
    kept = await asyncio.gather(*tasks)
    assert len(worker.etcd.sent) == journal.TRANSACTIONS_MAX + 1
    assert len({one.revision for one in kept[journal.TRANSACTIONS_MAX :]}) == 1
    assert len(await worker.lying()) == journal.TRANSACTIONS_MAX + 30


async def test_more_than_etcd_takes_at_once_goes_in_several(worker: Worker) -> None:
    large = [written(f"large {n}", body=b"x" * 200_000) for n in range(12)]
    many = [written(f"many {n}", body=b"", tags=tuple(f"{n}:{tag}" for tag in range(65))) for n in range(100)]
    tasks = await worker.waiting(0)
    tasks += [asyncio.create_task(worker.keep(one)) for one in (*large, *many)]
    await asyncio.sleep(0)
    worker.etcd.free.set()
    await asyncio.gather(*tasks)
    assert len(await worker.lying()) == len(tasks)
    assert max(map(len, worker.etcd.sent)) <= journal.OPERATIONS_PER_TRANSACTION


async def test_of_records_that_wait_together_each_goes_by_its_own_epoch(worker: Worker) -> None:
    tasks = await worker.waiting(1)
    stale = asyncio.create_task(worker.keep(written("stale"), epoch=EPOCH - 1))
    later = asyncio.create_task(worker.keep(written("later"), at=(1, 9000)))
    await asyncio.sleep(0)
    worker.etcd.free.set()
    await asyncio.gather(*tasks, later)
    with pytest.raises(EpochMoved):
        await stale
    assert "stale" not in await worker.records()


async def test_who_comes_at_the_moment_when_all_writers_end_does_not_wait_for_them(worker: Worker) -> None:
    async def twice() -> Kept:
        await worker.keep(written("first"))
        return await worker.keep(written("again"))

    worker.etcd.telling.clear()
    coming = asyncio.create_task(twice())
    await eventually(lambda: _lie(worker, "first"), within_s=2)
    other = asyncio.create_task(worker.keep(written("other")))
    await eventually(lambda: _lie(worker, "first", "other"), within_s=2)
    worker.etcd.telling.set()
    await asyncio.gather(coming, other)
    assert await _lie(worker, "first", "other", "again")


async def test_one_after_the_other_all_are_kept_in_time(worker: Worker) -> None:
    async def several(name: str) -> None:
        for number in range(20):
            await worker.keep(written(f"{name} {number}"))

    async with asyncio.timeout(journal.KEEP_WITHIN_S):
        await asyncio.gather(*(several(name) for name in "abcdef"))
    assert len(await worker.lying()) == 120


# --- protection --------------------------------------------------------------------------------------------------


async def test_unprotected_writes_leave_no_record_and_say_so_until_they_are_protected_again(
    worker: Worker,
) -> None:
    await worker.keep(written("before"))
    await protect(worker.etcd, Protection.NONE)
    assert not (await worker.keep(written("without"))).protected
    sent = len(worker.etcd.sent)
    assert not (await worker.keep(written("without either"))).protected
    assert len(worker.etcd.sent) == sent + 1  # it has learnt
    await protect(worker.etcd, Protection.RETURNING)
    assert (await worker.keep(written("after"), at=(1, 7000))).protected
    assert await worker.records() == ["before", "after"]
    assert len(await worker.lying(etcd_keys.PURGES)) == 4


async def test_transactions_under_way_while_protection_changes_each_leave_what_they_say(
    worker: Worker, etcd: Etcd
) -> None:
    for protection in (Protection.NONE, Protection.RETURNING, Protection.NONE):
        tasks = await worker.waiting(5)
        await protect(etcd, protection)
        worker.etcd.free.set()
        kept = await asyncio.gather(*tasks)
        assert {one.protected for one in kept} == {protection is not Protection.NONE}
        assert len(await worker.lying()) == (len(tasks) if protection is not Protection.NONE else 0)
        for item in await worker.lying():
            await worker.etcd.delete(item.key)
        worker.etcd.sent.clear()


async def test_a_claim_is_told_whatever_protection_was_thought_to_be(worker: Worker) -> None:
    await protect(worker.etcd, Protection.NONE)
    await worker.etcd.put(etcd_keys.EPOCH, b"9")
    with pytest.raises(EpochMoved) as moved:
        await worker.keep(written())
    assert moved.value.epoch == 9


async def test_a_lease_granted_while_protection_returns_does_not_lose_the_record(worker: Worker) -> None:
    await protect(worker.etcd, Protection.NONE)
    await worker.keep(written("learnt", tags=()))
    await worker.publisher._granting.acquire()
    waits = asyncio.create_task(worker.keep(written("waits for its lease")))
    await eventually(lambda: bool(worker.publisher._granting._waiters), within_s=2)
    await protect(worker.etcd, Protection.RETURNING)
    assert (await worker.keep(written("without tags", tags=()), at=(1, 4000))).protected
    worker.publisher._granting.release()
    assert (await waits).protected
    assert await worker.records() == ["without tags", "waits for its lease"]


# --- bounds ------------------------------------------------------------------------------------------------------


async def test_a_full_journal_takes_no_more_and_keeps_what_it_took(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WAITING_MAX", 10)
    tasks = await worker.waiting(10)
    assert not worker.journal.full
    await asyncio.sleep(0)
    assert worker.journal.full
    with pytest.raises(JournalFull):
        await worker.keep(written("too many"))
    worker.etcd.free.set()
    await asyncio.gather(*tasks)
    assert not worker.journal.full
    assert "too many" not in await worker.records()


async def test_a_record_beyond_the_bound_is_refused_before_anything_is_sent(worker: Worker) -> None:
    with pytest.raises(RecordTooLarge):
        await worker.keep(written(body=b"x" * journal.RECORD_BYTES_MAX))
    assert worker.etcd.sent == []
    largest = written(body=b"x" * journal.BODY_BYTES_MAX, tags=tuple(f"{n:0128}" for n in range(64)))
    assert (await worker.keep(largest)).protected


# --- what else is told in the transaction ------------------------------------------------------------------------


async def test_what_it_outdates_is_told_in_the_same_transaction_and_for_a_while_only(worker: Worker) -> None:
    tasks = await worker.waiting(0)
    tasks += [
        asyncio.create_task(worker.keep(written(f"k{n}", tags=("a", f"b{n}")), at=(1, 6000 + n)))
        for n in range(3)
    ]
    await asyncio.sleep(0)
    worker.etcd.free.set()
    kept = await asyncio.gather(*tasks)
    (purge,) = [item for item in await worker.lying(etcd_keys.PURGES) if item.revision == kept[-1].revision]
    told = decode_purge(purge.value)
    assert (told.tags, told.epoch, told.position) == (("a", "b0", "b1", "b2"), EPOCH, "1-6002")
    assert purge.lease


async def test_a_write_that_outdates_nothing_tells_nothing(worker: Worker) -> None:
    await worker.keep(written(tags=()))
    assert await worker.lying(etcd_keys.PURGES) == ()


async def test_a_lease_that_is_gone_is_replaced_and_the_record_kept(worker: Worker) -> None:
    await worker.keep(written("one"))
    (purge,) = await worker.lying(etcd_keys.PURGES)
    await worker.etcd.revoke(purge.lease)
    await worker.keep(written("two"), at=(1, 6000))
    assert await worker.records() == ["one", "two"]
    (again,) = await worker.lying(etcd_keys.PURGES)
    assert again.lease not in {0, purge.lease}


# --- secrecy -----------------------------------------------------------------------------------------------------


async def test_nothing_of_a_write_can_be_read_in_etcd(worker: Worker) -> None:
    await worker.keep(written("a telling key"))
    (item,) = await worker.lying()
    lies = item.key.encode() + item.value
    for secret in (SECRET, b"Synthetique", b"t" * 16, b"MATH", b"gradebook", b"telling", b"PUT", b"teacher"):
        assert secret not in lies


def test_a_record_opens_under_its_own_name_alone() -> None:
    one, other = written("one"), written("other")
    value = sealed(one, SEAL)
    assert opened(value, one.name, SEAL) == one
    with pytest.raises(SealBroken):
        opened(value, other.name, SEAL)
    with pytest.raises(SealBroken):
        opened(SEAL.seal(msgspec.msgpack.encode(other), one.name.encode()), one.name, SEAL)


def test_a_write_has_one_name_wherever_and_however_it_came_out() -> None:
    assert written(status=409, body=b"", order=9, decided_at=1.0, tags=()).name == written().name
    differing: list[dict[str, Any]] = [
        {"kind": Kind.ACCOUNTS}, {"subject": "u"}, {"method": "POST"}, {"target": "/v1/x"}, {"key": "l"},
    ]  # fmt: skip
    assert len({written().name, *(written(**changes).name for changes in differing)}) == 6


# --- silence and departures --------------------------------------------------------------------------------------


async def test_a_silent_etcd_may_have_kept_it(etcd: Etcd, own_etcd: EtcdServer) -> None:
    await control.bootstrap(etcd, active="rabat", now=NOW)
    proxy = Proxy(own_etcd.member.client_port)
    url = await proxy.start()
    try:
        async with working([url], timeout_s=0.3) as worker:
            await worker.keep(written("before"))
            proxy.hold_open_ones()
            with pytest.raises(EtcdUnavailable) as failure:
                await worker.keep(written("unknown"))
            assert failure.value.maybe_applied
            assert (await worker.keep(written("after"), at=(1, 9000))).protected
    finally:
        await proxy.stop()


async def test_an_etcd_that_is_not_there_is_unavailable() -> None:
    async with working(["http://127.0.0.1:1"]) as worker:
        with pytest.raises(EtcdUnavailable):
            await worker.keep(written())


async def test_an_answer_that_never_comes_is_waited_for_within_the_bound(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEEP_WITHIN_S", 0.05)
    tasks = await worker.waiting(3)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, EtcdUnavailable) and one.maybe_applied for one in outcomes)
    monkeypatch.undo()
    worker.etcd.free.set()
    assert (await worker.keep(written("next"))).protected


async def test_who_goes_away_while_waiting_leaves_nothing_and_the_others_are_kept(worker: Worker) -> None:
    tasks = await worker.waiting(4)
    await asyncio.sleep(0)
    for gone in tasks[2:4]:
        gone.cancel()
    tasks[0].cancel()  # on its way already: it may be kept, and is
    await asyncio.gather(*tasks[2:4], tasks[0], return_exceptions=True)
    worker.etcd.free.set()
    await asyncio.gather(tasks[1], *tasks[4:])
    await eventually(lambda: _lie(worker, "first 0", "first 1", "k2", "k3"), within_s=2)


async def _lie(worker: Worker, *keys: str) -> bool:
    return sorted(await worker.records()) == sorted(keys)


async def test_a_worker_that_ends_leaves_nobody_waiting(worker: Worker) -> None:
    tasks = await worker.waiting(3)
    await asyncio.sleep(0)
    await worker.journal.aclose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one.maybe_applied for one in outcomes if isinstance(one, EtcdUnavailable)] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert not worker.journal._writing
