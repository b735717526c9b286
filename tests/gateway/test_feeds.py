"""What etcd tells a worker, heard through a real etcd: sign-outs, purges, the record."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from auth.denials import Denials
from cache.freshness import CLOCK_SKEW_MAX_S
from cache.generations import EVERYTHING
from cache.policy import CLASSES, RELATIONS, TIER1_RECHECK_MAX_S, M
from cache.purging import SOFTENED_TAGS_MAX
from datacenters import etcd_keys
from datacenters.directory import Directory
from datacenters.etcd import Etcd, KeyValue
from datacenters.feeds import PURGE_TAGS_MAX, SOFT_PURGE_TTL_S, SOFT_PURGES_MAX, Publisher, Purge
from datacenters.purge_commands import KINDS, malformed
from gateway import feeds as gateway_feeds
from gateway.feeds import Feeds
from gateway.reading import CALENDAR
from gateway.relations import _tags as relation_tags
from gateway.router import endpoints
from gateway.standing import PURGES_SILENT_MAX_S
from routes import timetables as endpoint
from routes.announcements import CLASS_ANNOUNCEMENTS
from routes.endpoint import CachedRead
from routes.homework import CLASS_HOMEWORK, HOMEWORK_DONE
from routes.me import PROFILE
from sandbox.etcd import EtcdServer
from tests.cache import building
from tests.datacenters.listening import Proxy
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import CLASS, CLASSMATE, OTHER_CLASS, PARENT, PUPIL, SCHOOL
from tests.gateway.world import SID, World, declare
from tests.waiting import eventually

GRADES = f"/v1/pupils/{PUPIL}/grades"
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"
HEARD_WITHIN_S = 10.0
HOUR_S = 3600.0
HIT, MISS = "massar; hit; detail=memory", "massar; fwd=miss; stored"


@pytest.fixture
def publisher(etcd_client: Etcd, world: World) -> Publisher:
    """Another worker, of whichever site."""
    return Publisher(etcd_client, clock=world.clock)


async def status(world: World, who: str = PUPIL) -> tuple[int, str | None]:
    answer = await world.get(GRADES, who)
    return answer.status_code, answer.json().get("slug")


def becomes(expected: Any, ask: Callable[[], Awaitable[Any]]) -> Awaitable[object]:
    async def is_so() -> bool:
        return bool(await ask() == expected)

    return eventually(is_so, within_s=HEARD_WITHIN_S, what=str(expected))


async def cache_status(world: World, target: str = GRADES, who: str = PUPIL) -> str:
    return (await world.get(target, who)).headers["cache-status"]


# Sign-outs


async def deny(publisher: Publisher, etcd: Etcd, sid: str) -> None:
    await etcd.transact(unchanged={}, puts=(await publisher.denial(sid, ttl_s=660),))


async def test_a_session_ended_anywhere_is_refused_here(
    world: World, publisher: Publisher, etcd_client: Etcd
) -> None:
    assert await status(world) == (200, None)
    await deny(publisher, etcd_client, SID)
    await becomes((401, "session-ended"), lambda: status(world))
    other = {"authorization": world.authorization(PUPIL, sid="sidbbbbbbbbbbbbb")}
    assert (await world.ask("GET", GRADES, headers=other)).status_code == 200


async def test_a_session_that_ended_never_comes_back(
    world: World, publisher: Publisher, etcd_client: Etcd
) -> None:
    await deny(publisher, etcd_client, SID)
    await becomes((401, "session-ended"), lambda: status(world))
    await etcd_client.delete(etcd_keys.DENIALS + SID)
    await deny(publisher, etcd_client, "sidbbbbbbbbbbbbb")  # the feed has passed the deletion
    other = {"authorization": world.authorization(PUPIL, sid="sidbbbbbbbbbbbbb")}

    async def other_status() -> int:
        return (await world.ask("GET", GRADES, headers=other)).status_code

    await becomes(401, other_status)
    assert await status(world) == (401, "session-ended")


async def test_a_denial_that_cannot_be_read_holds(world: World, etcd_client: Etcd) -> None:
    await etcd_client.put(etcd_keys.DENIALS + SID, b"tomorrow")
    await becomes((401, "session-ended"), lambda: status(world))


async def test_denials_from_before_the_start_are_known_at_the_start(
    make_world: MakeWorld, etcd_client: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keeping(etcd: Etcd, **changes: Any) -> None:
        await declare(etcd, **changes)
        await etcd.put(etcd_keys.DENIALS + SID, b"1900000000")

    monkeypatch.setattr("tests.gateway.conftest.declare", keeping)
    world = await make_world()
    assert await status(world) == (401, "session-ended")


# Purges


async def test_a_purge_heard_outdates_what_it_names_and_nothing_else(
    world: World, publisher: Publisher
) -> None:
    for target in (GRADES, TIMETABLE):
        await world.get(target, PUPIL)
    await publisher.publish_purge((f"grades:{CLASS}",), epoch=1, position="1-2000")
    await becomes(MISS, lambda: cache_status(world))
    assert await cache_status(world, TIMETABLE) == HIT
    assert await cache_status(world) == HIT


async def test_relations_purged_are_asked_for_again_at_once(world: World, publisher: Publisher) -> None:
    assert await status(world, PARENT) == (200, None)
    world.rabat.say(f"/v1/people/{PARENT}/relations", subject=PARENT, generation=2, pupils={}, classes={})
    assert await status(world, PARENT) == (200, None)
    await publisher.publish_purge((f"relations:{PARENT}",), epoch=1, position="1-2000")
    await becomes((404, "not-found"), lambda: status(world, PARENT))


def soft(*tags: str, at: float) -> Purge:
    return Purge(tags=tags, epoch=0, position="0-0", softened_at=at, by="operator:amina")


async def test_a_soft_purge_heard_shows_what_is_kept_once_more_and_asks_behind(
    world: World, publisher: Publisher
) -> None:
    for target in (GRADES, TIMETABLE):
        await world.get(target, PUPIL)
    asked = world.rabat.count("/grades")
    world.clock.advance(30)
    assert await cache_status(world) == HIT
    await publisher.order_purge(soft(f"grades:{CLASS}", at=world.clock()))
    await softly_purged(world)
    world.clock.advance(1)
    answer = await world.get(GRADES, PUPIL)
    assert (answer.status_code, answer.headers["massar-data-age"]) == (200, "31")
    await eventually(lambda: world.rabat.count("/grades") == asked + 1, within_s=HEARD_WITHIN_S)
    await eventually(lambda: not world.app._warm_reads._cache._flights, within_s=HEARD_WITHIN_S)
    world.clock.advance(CLOCK_SKEW_MAX_S)
    assert (await world.get(GRADES, PUPIL)).headers["massar-data-age"] == "2", (
        "stored as the clocks may differ"
    )
    await eventually(lambda: not world.app._warm_reads._cache._flights, within_s=HEARD_WITHIN_S)
    assert await cache_status(world) == HIT
    assert world.rabat.count("/grades") == asked + 2
    assert await cache_status(world, TIMETABLE) == HIT


async def softly_purged(world: World) -> None:
    """Wait until this worker has heard of it."""
    await eventually(
        lambda: world.app._warm_reads._reads._cache._softened.serial == 1, within_s=HEARD_WITHIN_S
    )


async def test_everything_purged_by_an_operator_is_fetched_anew(world: World, publisher: Publisher) -> None:
    for target in (GRADES, TIMETABLE):
        await world.get(target, PUPIL)
    await publisher.order_purge(Purge(tags=(EVERYTHING,), epoch=0, position="0-0", by="operator:amina"))
    for target in (GRADES, TIMETABLE):
        await becomes(MISS, partial(cache_status, world, target))


async def test_relations_softly_purged_are_asked_for_before_anybody_is_let_in(
    world: World, publisher: Publisher
) -> None:
    assert await status(world, PARENT) == (200, None)
    world.rabat.say(f"/v1/people/{PARENT}/relations", subject=PARENT, generation=2, pupils={}, classes={})
    world.clock.advance(1)
    assert await status(world, PARENT) == (200, None)
    await publisher.order_purge(soft(f"relations:{PARENT}", at=world.clock()))
    await softly_purged(world)
    world.clock.advance(1)
    assert await status(world, PARENT) == (404, "not-found"), "not once more"


async def test_a_worker_that_starts_later_knows_the_soft_purges_of_before(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, cached = alone
    ordered = msgspec.json.encode(soft(building.TAG, at=building.NOW - 60))
    feeds._purge_feed.listed_revision = 7
    feeds._reset_purges((KeyValue(key="soft/1", value=ordered, revision=7),))
    counted = building.NOW - 60 + CLOCK_SKEW_MAX_S
    for stored_at, known in ((counted, True), (counted + 1, False)):
        since = cached.cache._softened.since((building.TAG,), stored_at)
        assert (since == counted) is known, "what was fetched since then is fresh"
    shown = await filled(cached)
    feeds._reset_purges((KeyValue(key="soft/1", value=ordered, revision=7),))
    assert shown(), "each listing tells of it again"


async def test_a_soft_purge_counts_from_when_it_is_heard_however_the_operators_clock_goes(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, cached = alone
    feeds._reset_purges(())
    for number, at in enumerate((building.NOW - HOUR_S, building.NOW + HOUR_S)):
        cached.clock.now += 10
        shown = await filled(cached)
        cached.clock.now += 10
        assert shown()
        value = msgspec.json.encode(soft(building.TAG, at=at))
        feeds._put_purge(KeyValue(key="soft/1", value=value, revision=8 + number))
        assert not shown()
        cached.clock.now += CLOCK_SKEW_MAX_S + 1
        await cached.cache.read(
            building.KEY, policy=RELATIONS, tags=(building.TAG,), fetch=building.Datacenter().fetch
        )
        assert shown()


async def test_what_a_faster_clock_stored_before_a_soft_purge_is_asked_about_too(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, cached = alone
    feeds._reset_purges(())
    value = msgspec.json.encode(soft(building.TAG, at=building.NOW))
    feeds._put_purge(KeyValue(key="soft/1", value=value, revision=8))
    since = cached.cache._softened.since
    assert since((building.TAG,), cached.clock.now + CLOCK_SKEW_MAX_S) < math.inf
    assert since((building.TAG,), cached.clock.now + CLOCK_SKEW_MAX_S + 0.1) == math.inf


async def test_an_order_by_a_clock_that_is_hours_ahead_counts_from_now(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, cached = alone
    value = msgspec.json.encode(soft(building.TAG, at=building.NOW + HOUR_S))
    feeds._purge_feed.listed_revision = 7
    feeds._reset_purges((KeyValue(key="soft/1", value=value, revision=7),))
    assert (
        cached.cache._softened.since((building.TAG,), cached.clock.now + CLOCK_SKEW_MAX_S + 0.1) == math.inf
    )


async def test_a_soft_purge_that_came_in_a_gap_counts_from_when_it_is_heard(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, cached = alone
    feeds._reset_purges(())
    shown = await filled(cached)
    value = msgspec.json.encode(soft(building.TAG, at=building.NOW - HOUR_S))
    feeds._purge_feed.unheard_s, feeds._purge_feed.listed_revision = 6.0, 9
    feeds._reset_purges((KeyValue(key="soft/1", value=value, revision=8),))
    assert not shown()


async def test_a_hard_purge_of_the_same_tags_stays_hard(alone: tuple[Feeds, building.World]) -> None:
    feeds, cached = alone
    feeds._reset_purges(())
    await filled(cached)
    hard = b'{"tags":["%s"],"epoch":1,"position":"1-1"}' % building.TAG.encode()
    feeds._put_purge(KeyValue(key="x", value=hard, revision=8))
    value = msgspec.json.encode(soft(building.TAG, at=building.NOW))
    feeds._put_purge(KeyValue(key="soft/1", value=value, revision=9))
    origin = building.Datacenter()
    origin.error = building.Away()
    with pytest.raises(building.Away):
        await cached.cache.read(building.KEY, policy=M, tags=(building.TAG,), fetch=origin.fetch)


async def test_an_operators_purge_is_told_to_the_log_once_and_names_nobody(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, _ = alone
    feeds._reset_purges(())
    value = msgspec.json.encode(soft(f"relations:{PARENT}", at=building.NOW))
    item = KeyValue(key="soft/1", value=value, revision=8)
    feeds._purge_feed.listed_revision = 8
    with capture_logs() as told:
        feeds._put_purge(item)
        feeds._reset_purges((item,))
    (line,) = [line for line in told if line["event"] == "purge ordered"]
    assert (line["by"], line["soft"], line["tags"], line["revision"]) == ("operator:amina", True, 1, 8)
    assert PARENT not in str(told)


def test_a_soft_purge_is_listed_for_as_long_as_any_entry_from_before_it_could_count_as_fresh() -> None:
    assert max(each.fresh_s for each in (*CLASSES.values(), RELATIONS)) <= SOFT_PURGE_TTL_S
    assert SOFT_PURGES_MAX * PURGE_TAGS_MAX <= SOFTENED_TAGS_MAX


async def test_a_purge_that_cannot_be_read_ends_nothing(
    world: World, publisher: Publisher, etcd_client: Etcd
) -> None:
    await world.get(GRADES, PUPIL)
    await etcd_client.put(etcd_keys.PURGES + "odd", b"\xff not JSON")
    await publisher.publish_purge((f"grades:{CLASS}",), epoch=1, position="1-2000")
    await becomes(MISS, lambda: cache_status(world))


# The record


async def test_a_new_record_is_followed(world: World, etcd_client: Etcd) -> None:
    await world.get(GRADES, PUPIL)
    world.marrakech.epoch, world.marrakech.position = 2, "2-1500"
    await declare(etcd_client, epoch=2, active="marrakech", switch_position="1-2000")

    async def epoch() -> str:
        return (await world.get("/v1/status")).headers["massar-epoch"]

    await becomes("2", epoch)
    assert (await world.get("/v1/status")).json()["datacenter"]["fr"] == "Marrakech"
    assert await cache_status(world) == HIT  # from before the switch: the new history contains it
    assert await cache_status(world, f"/v1/pupils/{CLASSMATE}/grades", CLASSMATE) == MISS
    assert world.marrakech.count("/grades") == 1


async def test_what_lies_beyond_the_switch_is_not_shown_again(world: World, etcd_client: Etcd) -> None:
    await world.get(GRADES, PUPIL)  # at position 1-1000
    world.marrakech.epoch, world.marrakech.position = 2, "2-1500"
    await declare(etcd_client, epoch=2, active="marrakech", switch_position="1-999")
    await becomes(MISS, lambda: cache_status(world))
    assert world.marrakech.count("/grades") == 1


# Silence


@pytest.mark.parametrize(("silent_s", "expected"), [(31.0, MISS), (5.0, HIT)])
async def test_a_listing_after_a_long_silence_outdates_all_and_after_a_short_one_nothing(
    make_world: MakeWorld,
    proxy: tuple[Proxy, str],
    etcd_client: Etcd,
    silent_s: float,
    expected: str,
) -> None:
    line, url = proxy
    world = await make_world(etcd_urls=(url,))
    for target in (GRADES, TIMETABLE):
        await world.get(target, PUPIL)
    line.cut()
    world.monotonic.advance(silent_s)
    line.mend()
    publisher = Publisher(etcd_client, clock=world.clock)
    await publisher.publish_purge((f"timetable:{CLASS}",), epoch=1, position="1-2000")
    await becomes(MISS, lambda: cache_status(world, TIMETABLE))  # the feed is there again
    assert await cache_status(world) == expected


async def test_tier_1_goes_on_without_tier_2_while_purges_are_heard_and_no_longer(
    make_world: MakeWorld, proxy: tuple[Proxy, str], etcd_client: Etcd
) -> None:
    line, url = proxy
    world = await make_world(etcd_urls=(url,))
    week = (await world.get(TIMETABLE, PUPIL)).json()["week"]
    warm, timetable = world.app._warm_reads, endpoint.TIMETABLE.read
    assert isinstance(timetable, CachedRead)
    ask = warm._reads.ask(timetable, {"class_id": CLASS, "week": week})

    def shown(after_s: float) -> bool:
        return warm._cache.peek_for(ask, world.clock() + after_s) is not None

    assert shown(HOUR_S)
    line.cut()
    world.monotonic.advance(PURGES_SILENT_MAX_S + 0.1)
    assert shown(1.0)
    assert not shown(TIER1_RECHECK_MAX_S)
    publisher = Publisher(etcd_client, clock=world.clock)
    await publisher.publish_purge((f"timetable:{CLASS}",), epoch=1, position="1-2000")
    line.mend()
    await eventually(lambda: world.app._standing._purges_silent_for_s() < PURGES_SILENT_MAX_S, within_s=10)
    assert not shown(0.0), "what was missed counts before the feed counts as heard"
    await world.get(TIMETABLE, PUPIL)
    assert shown(HOUR_S)


@pytest.fixture
async def alone(own_etcd: EtcdServer) -> AsyncIterator[tuple[Feeds, building.World]]:
    """Feeds that were never started, over a cache of the cache's own tests."""
    etcd = Etcd([own_etcd.url])
    cached = building.World()
    feeds = Feeds(
        etcd,
        Directory(etcd, site="rabat", sites={}),
        Denials(),
        cached.cache,
        clock=cached.clock,
        monotonic=lambda: 0.0,
    )
    yield feeds, cached
    await feeds.stop()
    await etcd.aclose()


async def test_a_quiet_night_is_no_silence(alone: tuple[Feeds, building.World]) -> None:
    feeds, cached = alone
    feeds._reset_purges(())  # the first listing of a worker's life
    await eventually(lambda: not feeds._errands, within_s=HEARD_WITHIN_S)
    feeds._purge_feed.unheard_s = 1.0
    before = cached.generations.serial
    feeds._reset_purges(())
    assert cached.generations.serial == before
    assert not feeds._errands


async def filled(cached: building.World) -> Callable[[], bool]:
    """Whether tier 1 shows an entry that it holds."""
    await cached.cache.read(building.KEY, policy=M, tags=(building.TAG,), fetch=building.Datacenter().fetch)
    return lambda: cached.cache.peek(building.KEY.text, cached.clock.now) is not None


async def test_the_first_listing_clears_what_was_filled_while_nobody_listened(
    alone: tuple[Feeds, building.World],
) -> None:
    feeds, cached = alone
    shown = await filled(cached)
    assert shown()
    feeds._reset_purges(())
    assert not shown()


@pytest.mark.parametrize("errands_max", [0, 1024])
async def test_a_listing_after_a_long_silence_clears_tier_1_in_the_same_turn_however_busy(
    alone: tuple[Feeds, building.World], monkeypatch: pytest.MonkeyPatch, errands_max: int
) -> None:
    feeds, cached = alone
    feeds._reset_purges(())
    await eventually(lambda: not feeds._errands, within_s=HEARD_WITHIN_S)
    shown = await filled(cached)
    monkeypatch.setattr(gateway_feeds, "ERRANDS_MAX", errands_max)
    feeds._purge_feed.unheard_s, feeds._purge_feed.listed_revision = 31.0, 20
    feeds._reset_purges(())
    assert not shown()
    assert len(feeds._errands) == 1, "tier 2 hears of it, too"


async def test_a_listing_from_a_restored_etcd_outdates_all(alone: tuple[Feeds, building.World]) -> None:
    feeds, cached = alone

    def purge(revision: int) -> KeyValue:
        value = b'{"tags":["grades:x"],"epoch":1,"position":"1-1"}'
        return KeyValue(key=f"{revision}", value=value, revision=revision)

    feeds._put_purge(purge(500))
    before = cached.generations.current("timetable:x")
    feeds._reset_purges((purge(7),))
    await eventually(lambda: not feeds._errands, within_s=HEARD_WITHIN_S)
    assert cached.generations.current("timetable:x") > before
    for revision in (8, 9):
        before = cached.generations.current("grades:x")
        feeds._put_purge(purge(revision))
        assert cached.generations.current("grades:x") > before, "what comes after it is heard"


async def test_errands_to_tier_2_are_bounded(
    alone: tuple[Feeds, building.World], monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds, cached = alone
    monkeypatch.setattr(gateway_feeds, "ERRANDS_MAX", 2)
    for revision in range(1, 6):
        value = b'{"tags":["grades:%d"],"epoch":1,"position":"1-1"}' % revision
        feeds._put_purge(KeyValue(key="x", value=value, revision=revision))
    assert len(feeds._errands) == 2
    assert [cached.generations.current(f"grades:{number}") for number in range(1, 6)] == [
        cached.generations.at(revision) for revision in range(1, 6)
    ]


async def test_tier_2_hears_of_purges_once_it_is_known_in_which_era_it_counts(
    alone: tuple[Feeds, building.World], monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds, cached = alone
    known, told = asyncio.Event(), list[int | None]()

    async def catch_up(_place: int) -> None:
        await known.wait()

    async def purge(_tags: object, place: int | None) -> None:
        told.append(place)

    monkeypatch.setattr(cached.cache, "catch_up", catch_up)
    monkeypatch.setattr(cached.cache, "purge", purge)

    def purged(revision: int) -> KeyValue:
        value = b'{"tags":["grades:x"],"epoch":1,"position":"1-1"}'
        return KeyValue(key=f"{revision}", value=value, revision=revision)

    feeds._purge_feed.listed_revision = 7
    feeds._reset_purges((purged(6),))
    feeds._put_purge(purged(8))
    assert cached.generations.current("grades:x") == cached.generations.at(8), "here it counts at once"
    await asyncio.sleep(0)
    assert told == []
    known.set()
    await eventually(lambda: told == [6, 8], within_s=HEARD_WITHIN_S)
    feeds._put_purge(purged(9))
    await eventually(lambda: told == [6, 8, 9], within_s=HEARD_WITHIN_S)


async def test_a_pupil_who_changed_class_is_not_shown_what_was_kept_for_the_other_one(
    world: World, publisher: Publisher
) -> None:
    assert await cache_status(world) == MISS
    moved = {PUPIL: {"relation": "self", "class_id": OTHER_CLASS, "school": SCHOOL}}
    world.rabat.say(f"/v1/people/{PUPIL}/relations", subject=PUPIL, generation=2, pupils=moved, classes={})
    await publisher.publish_purge((f"relations:{PUPIL}",), epoch=1, position="1-2000")
    # Purges of his new class say nothing of what was kept under the old one's tag.
    await becomes(2, lambda: _asked(world))


async def _asked(world: World) -> int:
    await world.get(GRADES, PUPIL)
    return world.rabat.count("/grades")


def test_an_operator_may_purge_every_tag_that_an_entry_carries() -> None:
    params = defaultdict[str, str](lambda: PUPIL)
    reads = [made.read for made in endpoints() if made.read is not None]
    parts = [CALENDAR, CLASS_ANNOUNCEMENTS, CLASS_HOMEWORK, HOMEWORK_DONE, PROFILE]
    carried = {tag for read in [*reads, *parts] for tag in read.source(params).tags} | {*relation_tags(PUPIL)}
    assert malformed(sorted(carried)) is None
    assert {tag.partition(":")[0] for tag in carried} == KINDS.keys()
