"""A feed misses nothing: not across compaction, a cut connection, or a watch that lies silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from datacenters import etcd_keys, feeds
from datacenters.etcd import Etcd, KeyValue
from datacenters.feeds import PrefixFeed, Publisher, Purge, decode_purge, encode_purge
from sandbox.etcd import EtcdServer
from tests.datacenters.listening import Heard, Proxy, deny
from tests.waiting import eventually

PREFIX = "massar/feed/"


@asynccontextmanager
async def following(etcd: Etcd, **options: Any) -> AsyncIterator[tuple[PrefixFeed, Heard]]:
    heard = Heard()
    feed = PrefixFeed(etcd, PREFIX, on_reset=heard.reset, on_put=heard.put, on_delete=heard.delete, **options)
    try:
        yield feed, heard
    finally:
        await feed.stop()


@asynccontextmanager
async def through_a_proxy(own_etcd: EtcdServer) -> AsyncIterator[tuple[Proxy, Etcd]]:
    proxy = Proxy(own_etcd.member.client_port)
    client = Etcd([await proxy.start()], timeout_s=0.5)
    try:
        yield proxy, client
    finally:
        await client.aclose()
        await proxy.stop()


async def test_the_listing_comes_first_and_changes_follow(etcd: Etcd) -> None:
    await etcd.put(PREFIX + "a", b"1")
    async with following(etcd) as (feed, heard):
        assert await feed.start()
        assert heard.now == {"a": b"1"}
        await etcd.put(PREFIX + "b", b"2")
        await etcd.delete(PREFIX + "a")
        await eventually(lambda: heard.now == {"b": b"2"}, within_s=2)
        assert heard.resets == 1


async def test_an_exact_feed_hears_of_its_key_alone(etcd: Etcd) -> None:
    heard = Heard()
    feed = PrefixFeed(
        etcd, "massar/one", exact=True, on_reset=heard.reset, on_put=heard.put, on_delete=heard.delete
    )
    try:
        await feed.start()
        await etcd.put("massar/one-more", b"no")
        await etcd.put("massar/one", b"yes")
        await eventually(lambda: heard.now == {"": b"yes"}, within_s=2)
    finally:
        await feed.stop()


async def test_a_refresh_has_been_applied_when_it_returns_and_is_shared(etcd: Etcd) -> None:
    async with following(etcd, poll_s=60.0) as (feed, heard):
        await feed.start()
        for turn in range(10):
            await etcd.put(PREFIX + "k", str(turn).encode())
            assert all(await asyncio.gather(*(feed.refresh(within_s=2) for _ in range(5))))
            assert heard.now == {"k": str(turn).encode()}


async def test_a_watch_that_lies_silent_is_replaced_within_a_poll(etcd: Etcd, own_etcd: EtcdServer) -> None:
    async with through_a_proxy(own_etcd) as (proxy, client), following(client, poll_s=0.2) as (feed, heard):
        await feed.start()
        await etcd.put(PREFIX + "k", b"1")
        await eventually(lambda: heard.now == {"k": b"1"}, within_s=2)
        proxy.hold_open_ones()
        # The pooled connections of earlier calls are silent as well, as after a broken link.
        await etcd.put(PREFIX + "k", b"2")
        await eventually(lambda: heard.now == {"k": b"2"}, within_s=5)


async def test_after_a_long_silence_everything_is_listed_again_though_no_poll_shows_a_change(
    etcd: Etcd, own_etcd: EtcdServer
) -> None:
    now, silences = 100.0, []
    async with through_a_proxy(own_etcd) as (proxy, client):

        class Watching(Heard):
            def reset(self, items: tuple[KeyValue, ...]) -> None:
                super().reset(items)
                silences.append(feed.silent_for_s())

        heard = Watching()
        feed = PrefixFeed(
            client,
            PREFIX,
            on_reset=heard.reset,
            on_put=heard.put,
            on_delete=heard.delete,
            poll_s=0.05,
            monotonic=lambda: now,
        )
        try:
            await feed.start()
            proxy.go_silent()
            await eventually(lambda: _unheard(feed), within_s=10)
            now += 90.0
            await etcd.put(PREFIX + "purge", b"1")
            await etcd.delete(PREFIX + "purge")  # as its lease would have ended it
            assert feed.silent_for_s() == 90.0
            proxy.mend()
            await eventually(lambda: heard.resets == 2, within_s=10)
            assert feed.unheard_s == 90.0
            await eventually(lambda: feed.silent_for_s() == 0.0, within_s=10)
        finally:
            await feed.stop()
    assert silences[1] == 90.0, "heard again only with what was listed"


async def test_changes_during_a_cut_are_made_up_for(etcd: Etcd, own_etcd: EtcdServer) -> None:
    async with through_a_proxy(own_etcd) as (proxy, client), following(client, poll_s=0.2) as (feed, heard):
        await etcd.put(PREFIX + "old", b"1")
        await feed.start()
        proxy.cut()
        await etcd.delete(PREFIX + "old")
        await etcd.put(PREFIX + "new", b"2")
        assert not await feed.refresh(within_s=0.3)
        assert heard.now == {"old": b"1"}
        proxy.mend()
        await eventually(lambda: heard.now == {"new": b"2"}, within_s=5)
        assert heard.resets > 1


async def test_compacted_history_ends_in_a_new_listing(etcd: Etcd, own_etcd: EtcdServer) -> None:
    async with through_a_proxy(own_etcd) as (proxy, client), following(client, poll_s=60.0) as (feed, heard):
        await etcd.put(PREFIX + "k", b"0")
        await feed.start()
        proxy.cut()
        for turn in range(1, 5):
            revision = await etcd.put(PREFIX + "k", str(turn).encode())
            response = await etcd._watches.post(
                f"{own_etcd.url}/v3/kv/compaction", json={"revision": str(revision), "physical": True}
            )
            assert response.status_code == 200
        proxy.mend()
        await eventually(lambda: heard.now == {"k": b"4"}, within_s=5)


async def test_silence_is_counted_from_the_last_answer(etcd: Etcd, own_etcd: EtcdServer) -> None:
    now = 100.0
    async with (
        through_a_proxy(own_etcd) as (proxy, client),
        following(client, poll_s=0.05, monotonic=lambda: now) as (feed, _heard),
    ):
        now = 103.0
        assert feed.silent_for_s() == 3.0
        await feed.start()
        assert feed.silent_for_s() == 0.0
        proxy.cut()
        await eventually(lambda: _unheard(feed), within_s=2)
        now = 110.0
        assert feed.silent_for_s() == 7.0
        proxy.mend()
        await eventually(lambda: feed.silent_for_s() == 0.0, within_s=5)


async def _unheard(feed: PrefixFeed) -> bool:
    return not await feed.refresh(within_s=0.5)


async def test_a_feed_without_etcd_starts_and_goes_on_trying() -> None:
    client = Etcd(["http://127.0.0.1:1"])
    try:
        async with following(client) as (feed, heard):
            assert not await feed.start(within_s=0.2)
            assert heard.resets == 0
    finally:
        await client.aclose()


async def test_a_consumer_that_fails_does_not_end_the_feed(etcd: Etcd) -> None:
    seen: list[bytes] = []

    def fussy(item: Any) -> None:
        if item.value == b"bad":
            raise ValueError(item)
        seen.append(item.value)

    feed = PrefixFeed(etcd, PREFIX, on_reset=lambda _items: None, on_put=fussy, on_delete=lambda _name: None)
    try:
        await feed.start()
        await etcd.put(PREFIX + "k", b"bad")
        await eventually(lambda: _heard_after(etcd, seen), within_s=5)
    finally:
        await feed.stop()


async def _heard_after(etcd: Etcd, seen: list[bytes]) -> bool:
    await etcd.put(PREFIX + "other", b"good")
    return b"good" in seen


async def test_stopping_leaves_no_task_and_no_callback(etcd: Etcd) -> None:
    before = asyncio.all_tasks()
    async with following(etcd) as (feed, heard):
        await feed.start()
        await feed.stop()
        await etcd.put(PREFIX + "k", b"1")
        assert await etcd.read(PREFIX + "k")
        assert heard.now == {}
    await eventually(lambda: asyncio.all_tasks() <= before, within_s=2)


async def test_a_purge_reaches_every_follower_with_its_place_in_history(etcd: Etcd) -> None:
    heard = Heard()
    feed = PrefixFeed(etcd, etcd_keys.PURGES, on_reset=heard.reset, on_put=heard.put, on_delete=heard.delete)
    try:
        await feed.start()
        revision = await Publisher(etcd).publish_purge(["grades:c", "gradebook:c"], epoch=3, position="1-77")
        await eventually(lambda: heard.revisions == [revision], within_s=2)
        (purge,) = map(decode_purge, heard.now.values())
        assert (purge.tags, purge.epoch, purge.position) == (("grades:c", "gradebook:c"), 3, "1-77")
    finally:
        await feed.stop()


async def test_a_denial_says_until_when_and_lives_that_long(etcd: Etcd) -> None:
    publisher = Publisher(etcd, clock=lambda: 1000.5)
    await deny(etcd, publisher, "sid-1", ttl_s=660)
    found = await etcd.read(etcd_keys.DENIALS + "sid-1")
    assert found is not None
    assert found.value == b"1661"
    assert found.lease
    response = await etcd._watches.post(f"{etcd._urls[0]}/v3/lease/timetolive", json={"ID": str(found.lease)})
    assert 660 <= int(response.json()["grantedTTL"]) <= 660 + feeds.LEASE_SHARED_S


async def test_many_keys_share_a_lease_until_it_is_rotated(etcd: Etcd) -> None:
    now = 0.0
    publisher = Publisher(etcd, monotonic=lambda: now)
    for name in "abc":
        await deny(etcd, publisher, name, ttl_s=600 + ord(name) % 3)
    now = feeds.LEASE_SHARED_S
    await deny(etcd, publisher, "d", ttl_s=601)
    leases = [item.lease for item in (await etcd.range(etcd_keys.DENIALS, prefix=True)).items]
    assert len(set(leases[:3])) <= 2
    assert leases[3] not in leases[:3]


async def test_a_lease_that_is_gone_is_replaced_once(etcd: Etcd) -> None:
    publisher = Publisher(etcd)
    await publisher.publish_purge(["a"], epoch=1, position="1-1")
    (found,) = (await etcd.range(etcd_keys.PURGES, prefix=True)).items
    await etcd.revoke(found.lease)
    await publisher.publish_purge(["b"], epoch=1, position="1-1")
    (again,) = (await etcd.range(etcd_keys.PURGES, prefix=True)).items
    assert decode_purge(again.value).tags == ("b",)


@pytest.mark.parametrize("count", [0, 1, feeds.PURGE_TAGS_MAX, 3 * feeds.PURGE_TAGS_MAX + 1])
async def test_any_number_of_tags_is_purged_in_one_transaction(etcd: Etcd, count: int) -> None:
    tags = {f"t{number}" for number in range(count)}
    await etcd.transact(unchanged={}, puts=await Publisher(etcd).purges(tags, epoch=3, position="1-9"))
    items = (await etcd.range(etcd_keys.PURGES, prefix=True)).items
    purged = [decode_purge(item.value) for item in items]
    assert {tag for purge in purged for tag in purge.tags} == tags
    assert all(len(purge.tags) <= feeds.PURGE_TAGS_MAX and purge.epoch == 3 for purge in purged)
    assert all(item.lease for item in items)


async def test_shared_leases_stay_few(etcd: Etcd) -> None:
    publisher = Publisher(etcd)
    for minutes in range(1, feeds.LEASES_MAX + 5):
        await deny(etcd, publisher, f"s{minutes}", ttl_s=minutes * 60)
    assert len(publisher._leases) == feeds.LEASES_MAX


@pytest.mark.parametrize("count", [0, feeds.PURGE_TAGS_MAX + 1])
async def test_a_purge_beyond_its_bounds_is_refused(etcd: Etcd, count: int) -> None:
    with pytest.raises(ValueError, match="tags"):
        await Publisher(etcd).publish_purge(["t"] * count, epoch=1, position="1-1")


def test_a_purge_is_read_back_as_it_was_written() -> None:
    raw = encode_purge(["grades:c", "gradebook:c"], epoch=3, position="1-77")
    assert decode_purge(raw) == Purge(tags=("grades:c", "gradebook:c"), epoch=3, position="1-77")


def test_a_soft_purge_is_read_back_and_a_hard_one_takes_no_more_room_than_before() -> None:
    soft = Purge(tags=("grades:c",), epoch=0, position="0-0", softened_at=1000.5, by="operator:amina")
    assert decode_purge(msgspec.json.encode(soft)) == soft
    assert (
        encode_purge(["grades:c"], epoch=3, position="1-77")
        == b'{"tags":["grades:c"],"epoch":3,"position":"1-77"}'
    )


def test_who_does_not_know_soft_purges_takes_them_for_hard_ones() -> None:
    class Before(msgspec.Struct):
        tags: tuple[str, ...]
        epoch: int
        position: str

    soft = Purge(tags=("grades:c",), epoch=0, position="0-0", softened_at=1000.5, by="operator:amina")
    assert msgspec.json.decode(msgspec.json.encode(soft), type=Before).tags == ("grades:c",)


async def test_an_ordered_purge_lives_in_etcd_as_long_as_it_matters(etcd: Etcd) -> None:
    publisher = Publisher(etcd)
    hard = Purge(tags=("grades:a",), epoch=0, position="0-0")
    soft = msgspec.structs.replace(hard, softened_at=1000.5)
    for purge, ttl_s in ((hard, feeds.PURGE_TTL_S), (soft, feeds.SOFT_PURGE_TTL_S)):
        revision = await publisher.order_purge(purge)
        items = (await etcd.range(etcd_keys.PURGES, prefix=True)).items
        (found,) = [item for item in items if item.revision == revision]
        assert decode_purge(found.value) == purge
        asked = {"ID": str(found.lease)}
        response = await etcd._watches.post(f"{etcd._urls[0]}/v3/lease/timetolive", json=asked)
        assert ttl_s <= int(response.json()["grantedTTL"]) <= ttl_s + feeds.LEASE_SHARED_S


async def test_a_soft_purge_ordered_again_takes_the_place_of_its_older_self(etcd: Etcd) -> None:
    publisher = Publisher(etcd)
    for tags, at in ((("a", "b"), 1.0), (("b", "a"), 2.0), (("a",), 3.0)):
        await publisher.order_purge(Purge(tags=tags, epoch=0, position="0-0", softened_at=at))
    items = (await etcd.range(etcd_keys.SOFT_PURGES, prefix=True)).items
    assert sorted(decode_purge(item.value).softened_at or 0 for item in items) == [2.0, 3.0]


async def test_a_lease_lives_as_long_as_asked_at_least_and_is_granted_anew_when_forgotten(etcd: Etcd) -> None:
    publisher = Publisher(etcd)
    lease = await publisher.lease(30)
    assert await publisher.lease(feeds.LEASE_STEP_S) == lease
    response = await etcd._watches.post(f"{etcd._urls[0]}/v3/lease/timetolive", json={"ID": str(lease)})
    assert int(response.json()["grantedTTL"]) >= feeds.LEASE_STEP_S
    publisher.forget_leases()
    assert await publisher.lease(30) != lease
