"""Replaying the journal: in order, once, re-keyed or parked, and never under an epoch that is over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import etcd_keys, replay
from datacenters.etcd import Etcd, EtcdUnavailable
from datacenters.feeds import Publisher, decode_purge
from datacenters.journal import JournalRecord, Kind, opened, sealed
from datacenters.journal_seal import JournalKeys, JournalSeal
from datacenters.position import Position
from datacenters.replay import Done, Mismatch, Replay, ReplayFailed, Report

SEAL = JournalSeal(JournalKeys(current=0, keys={0: b"k" * 32}))
EPOCH = 2


def record(
    key: str, *, ordering_key: str = "/book", order: int = 1, tags: tuple[str, ...] = ()
) -> JournalRecord:
    return JournalRecord(
        kind=Kind.DATACENTER,
        subject="teacher",
        role="teacher",
        method="PUT",
        target=ordering_key,
        body=b"{}",
        key=key,
        ordering_key=ordering_key,
        status=200,
        digest=hashlib.sha256(b"{}").digest(),
        decided_at=1.0,
        order=order,
        tags=tags,
    )


class Site:
    """A write path that remembers what it was given; `refuses` are the keys that come out otherwise."""

    def __init__(self, *, refuses: frozenset[str] = frozenset(), fails: int = 0) -> None:
        self.done: list[str] = []
        self.refuses = refuses
        self.fails = fails
        self.at = 1000
        self.under_way = 0
        self.under_way_most = 0

    async def replay(self, record: JournalRecord, *, epoch: int) -> Done:
        assert epoch == EPOCH
        self.under_way += 1
        self.under_way_most = max(self.under_way_most, self.under_way)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if self.fails:
                self.fails -= 1
                raise ReplayFailed("the datacenter is still starting")
            if record.key in self.refuses:
                raise Mismatch("409 replay-mismatch")
            repeated = record.key in self.done
            if not repeated:
                self.done.append(record.key)
            self.at += 10
            return Done(at=(2, self.at), order=self.at - 5, repeated=repeated)
        finally:
            self.under_way -= 1


async def put(etcd: Etcd, *records: tuple[Position, JournalRecord]) -> None:
    await etcd.put(etcd_keys.EPOCH, str(EPOCH).encode())
    for at, one in records:
        await etcd.put(etcd_keys.journal(at, one.name), sealed(one, SEAL))


def into(etcd: Etcd, site: Site) -> Replay:
    return Replay(etcd, Publisher(etcd), SEAL, {Kind.DATACENTER: site})


async def kept(etcd: Etcd, prefix: str = etcd_keys.JOURNAL) -> dict[str, JournalRecord]:
    listing = await etcd.range(prefix, prefix=True)
    return {
        item.key.removeprefix(prefix): opened(item.value, item.key.rsplit("/", 1)[1], SEAL)
        for item in listing.items
    }


async def test_writes_of_one_ordering_key_are_done_in_their_order_though_their_answers_crossed(
    etcd: Etcd,
) -> None:
    await put(
        etcd,
        ((1, 900), record("third", order=30)),
        ((1, 800), record("second", order=20)),
        ((1, 950), record("first", order=10)),
    )
    site = Site()
    assert await into(etcd, site).run(epoch=EPOCH) == Report(done=3, repeated=0, parked=0)
    assert site.done == ["first", "second", "third"]


async def test_an_older_timeline_comes_first_whatever_its_numbers(etcd: Etcd) -> None:
    await put(etcd, ((2, 100), record("new", order=5)), ((1, 900), record("old", order=90)))
    site = Site()
    await into(etcd, site).run(epoch=EPOCH)
    assert site.done == ["old", "new"]


async def test_ordering_keys_do_not_wait_for_each_other_but_for_a_bound(etcd: Etcd) -> None:
    await put(etcd, *(((1, n), record(f"k{n}", ordering_key=f"/book/{n}")) for n in range(30)))
    site = Site()
    await into(etcd, site).run(epoch=EPOCH)
    assert len(site.done) == 30
    assert 1 < site.under_way_most <= replay.PARALLEL_MAX


async def test_a_replayed_record_stays_in_the_journal_at_its_new_position_and_order(etcd: Etcd) -> None:
    await put(etcd, ((1, 900), record("only", tags=("grades:a", "gradebook:a"))))
    await into(etcd, Site()).run(epoch=EPOCH)
    ((key, one),) = (await kept(etcd)).items()
    assert key.startswith("0000000002/00000000000000001010/")
    assert (one.key, one.order) == ("only", 1005)
    (purge,) = (await etcd.range(etcd_keys.PURGES, prefix=True)).items
    assert decode_purge(purge.value).tags == ("gradebook:a", "grades:a")
    assert purge.lease


async def test_what_is_there_already_is_not_counted_as_done(etcd: Etcd) -> None:
    await put(etcd, ((1, 900), record("there")), ((1, 901), record("new", order=2)))
    site = Site()
    site.done.append("there")
    assert await into(etcd, site).run(epoch=EPOCH) == Report(done=1, repeated=1, parked=0)


async def test_a_mismatch_parks_it_and_what_follows_under_its_ordering_key_and_nothing_else(
    etcd: Etcd,
) -> None:
    await put(
        etcd,
        ((1, 1), record("good", order=1)),
        ((1, 2), record("bad", order=2)),
        ((1, 3), record("after", order=3)),
        ((1, 4), record("elsewhere", ordering_key="/other", order=4)),
    )
    site = Site(refuses=frozenset({"bad"}))
    assert await into(etcd, site).run(epoch=EPOCH) == Report(done=2, repeated=0, parked=2)
    assert sorted(site.done) == ["elsewhere", "good"]
    assert {one.key for one in (await kept(etcd)).values()} == {"good", "elsewhere"}
    assert {one.key for one in (await kept(etcd, etcd_keys.PARKED)).values()} == {"bad", "after"}
    # The next move must not overtake what a human has not looked at yet.
    later = record("later", order=9)
    await etcd.put(etcd_keys.journal((2, 5000), later.name), sealed(later, SEAL))
    again = await into(etcd, site).run(epoch=EPOCH)
    assert again.parked == 2, "the replayed one of that ordering key waits as well"
    assert "later" not in site.done


async def test_what_a_human_has_taken_up_again_is_done_or_parked_again(etcd: Etcd) -> None:
    await put(etcd)
    for at, one in (
        ((1, 5), record("good", order=5)),
        ((1, 6), record("bad", ordering_key="/other", order=6)),
    ):
        key = etcd_keys.retried(replay.ordering(one.ordering_key), etcd_keys.journal(at, one.name))
        await etcd.put(key, sealed(one, SEAL))
    site = Site(refuses=frozenset({"bad"}))
    assert await into(etcd, site).retry(epoch=EPOCH) == Report(done=1, repeated=0, parked=1)
    assert site.done == ["good"]
    assert {one.key for one in (await kept(etcd)).values()} == {"good"}
    assert {one.key for one in (await kept(etcd, etcd_keys.PARKED)).values()} == {"bad"}
    assert await etcd.count(etcd_keys.RETRIED) == 0


async def test_an_unreadable_record_is_parked_and_stops_nobody(etcd: Etcd) -> None:
    await put(etcd, ((1, 2), record("good")))
    await etcd.put(etcd_keys.journal((1, 1), "f" * 32), b"not sealed by us at all, but long enough to be")
    site = Site()
    assert await into(etcd, site).run(epoch=EPOCH) == Report(done=1, repeated=0, parked=1)
    (item,) = (await etcd.range(etcd_keys.PARKED, prefix=True)).items
    assert item.key.startswith(f"{etcd_keys.PARKED}unreadable/")


async def test_a_failure_leaves_the_journal_and_beginning_again_finishes(etcd: Etcd) -> None:
    await put(etcd, *(((1, n), record(f"k{n}", order=n)) for n in range(1, 4)))
    site = Site(fails=1)
    with pytest.raises(ReplayFailed):
        await into(etcd, site).run(epoch=EPOCH)
    assert len(await kept(etcd)) == 3
    assert await into(etcd, site).run(epoch=EPOCH) == Report(done=3, repeated=0, parked=0)
    assert site.done == ["k1", "k2", "k3"]


async def test_under_an_epoch_that_is_over_no_record_moves(etcd: Etcd) -> None:
    await put(etcd, ((1, 900), record("only")))
    before = await kept(etcd)
    await etcd.put(etcd_keys.EPOCH, b"3")
    with pytest.raises(EtcdUnavailable, match="epoch 2 is over"):
        await into(etcd, Site()).run(epoch=EPOCH)
    assert await kept(etcd) == before


async def test_more_records_than_fit_one_page_or_transaction_are_all_replayed(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAGE_KEYS", 7)
    monkeypatch.setattr(replay, "MOVES_PER_TRANSACTION", 4)
    await put(etcd, *(((1, n), record(f"k{n:02}", order=n)) for n in range(1, 24)))
    site = Site()
    assert await into(etcd, site).run(epoch=EPOCH) == Report(done=23, repeated=0, parked=0)
    assert site.done == [f"k{n:02}" for n in range(1, 24)]
    assert all(key.startswith("0000000002/") for key in await kept(etcd))


@given(st.text(max_size=40), st.text(max_size=40))
def test_an_ordering_key_is_named_by_its_digest(one: str, other: str) -> None:
    name: Callable[[str], str] = replay.ordering
    assert (name(one) == name(other)) == (one == other)
    assert len(name(one)) == 32
    assert msgspec.json.encode(name(one)).isascii()
