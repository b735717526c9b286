"""Hard and soft purges as readers meet them; what generations and tier 2 do with hard ones is in test_store.py."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from cache.generations import EVERYTHING
from cache.policy import RELATIONS, M, Policy
from cache.purging import SOFTENED_TAGS_MAX
from cache.reading import State
from cache.valkey import ValkeyTier
from sandbox.valkey import ValkeyServer
from tests.cache.building import KEY, KEYS, NOW, TAG, Away, Datacenter, NotFound, Switching, World
from tests.cache.conftest import TierAt
from tests.waiting import eventually

MINUTE_S = 60.0


@pytest.fixture
def world() -> World:
    world = World()
    world.cache.go_by(lambda: True)
    return world


@pytest.fixture
def origin() -> Datacenter:
    return Datacenter(b"before")


async def read(world: World, origin: Datacenter, each: Policy = M) -> tuple[State, bytes]:
    reading = await world.cache.read(KEY, policy=each, tags=(TAG,), fetch=origin.fetch)
    return reading.state, reading.entry.body


def shown(world: World) -> bool:
    return world.cache.peek(KEY.text, world.clock.now) is not None


async def softened_later(world: World, origin: Datacenter, each: Policy = M) -> None:
    """An entry of a minute's age, softened; the datacenter says something else by now."""
    assert await read(world, origin, each) == (State.MISS, b"before")
    world.clock.now += 50.0
    assert shown(world)
    origin.now(b"after", position=(1, 101))
    world.cache.soften([TAG], world.clock.now)
    world.clock.now += 0.5


# Soft purges


async def test_what_is_softened_is_shown_at_once_while_it_is_asked_about_behind(
    world: World, origin: Datacenter
) -> None:
    await softened_later(world, origin)
    assert not shown(world), "the edge must not call it fresh"
    reading = await world.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch)
    assert (reading.state, reading.entry.body, reading.age_s) == (State.REVALIDATING, b"before", 50.5)
    await eventually(lambda: shown(world), within_s=2)
    assert await read(world, origin) == (State.HIT, b"after")
    assert origin.asked == 2


async def test_other_tags_stay_fresh(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    world.cache.soften(["timetable:another"], NOW + 1)
    assert shown(world)


async def test_everything_is_softened_at_once(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    world.cache.soften([EVERYTHING], NOW)
    assert not shown(world)
    assert (await read(world, origin))[0] is State.REVALIDATING


async def test_relations_softened_are_fetched_before_anybody_is_answered(
    world: World, origin: Datacenter
) -> None:
    await softened_later(world, origin, RELATIONS)
    assert not shown(world)
    assert await read(world, origin, RELATIONS) == (State.MISS, b"after")


async def test_relations_softened_are_not_shown_because_a_fetch_failed(
    world: World, origin: Datacenter
) -> None:
    await softened_later(world, origin, RELATIONS)
    origin.error = Switching()
    with pytest.raises(Switching):
        await read(world, origin, RELATIONS)
    origin.error = Away()  # nobody answers at all: as after any end of freshness
    assert await read(world, origin, RELATIONS) == (State.SURVIVAL, b"before")


@pytest.mark.parametrize(
    ("after_s", "error", "state"),
    [
        (6 * MINUTE_S, Switching(), State.STALE),
        (59 * MINUTE_S, Switching(), State.STALE),
        (60 * MINUTE_S, Switching(), None),
        (60 * MINUTE_S, Away(), State.SURVIVAL),
        (6 * MINUTE_S, NotFound(), None),
    ],
)
async def test_stale_windows_count_from_the_soft_purge(
    world: World, origin: Datacenter, after_s: float, error: Exception, state: State | None
) -> None:
    await read(world, origin)
    world.cache.soften([TAG], NOW + 1)
    world.clock.now = NOW + 1 + after_s
    origin.error = error
    if state is None:
        with pytest.raises(type(error)):
            await read(world, origin)
    else:
        assert await read(world, origin) == (state, b"before")


async def test_beyond_the_window_behind_the_reader_it_is_fetched_before_he_is_answered(
    world: World, origin: Datacenter
) -> None:
    await softened_later(world, origin)
    world.clock.now += (
        5 * MINUTE_S
    )  # class M: shown for five minutes from then, not from the end of its fifteen
    assert await read(world, origin) == (State.MISS, b"after")


async def test_what_a_datacenter_confirms_is_fresh_again(world: World, origin: Datacenter) -> None:
    origin.now(origin_etag='"1"')
    await read(world, origin)
    world.clock.now += 5
    world.cache.soften([TAG], world.clock.now)
    world.clock.now += M.stale_while_revalidate_s + 1
    origin.now(not_modified=True)
    assert await read(world, origin) == (State.REVALIDATED, b"before")
    assert shown(world)


async def test_a_fetch_that_began_before_the_soft_purge_makes_nothing_fresh(
    world: World, origin: Datacenter
) -> None:
    origin.gate = asyncio.Event()
    reading = asyncio.create_task(read(world, origin, RELATIONS))
    await origin.entered.wait()
    world.clock.now += 1
    world.cache.soften([TAG], world.clock.now)
    world.clock.now += 1
    origin.now(b"after", position=(1, 101))
    origin.entered.clear()
    later = asyncio.create_task(read(world, origin, RELATIONS))
    # Who comes after it is not given what was asked for before it.
    await eventually(origin.entered.is_set, within_s=2)
    origin.gate.set()
    assert await reading == (State.MISS, b"before")
    assert await later == (State.MISS, b"after")
    assert shown(world)


async def test_a_soft_purge_of_what_is_stale_already_lengthens_nothing(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin)
    world.cache.soften([TAG], NOW + M.fresh_s + M.stale_while_revalidate_s)
    world.clock.now = NOW + M.fresh_s + M.stale_while_revalidate_s + 1
    origin.now(b"after", position=(1, 101))
    assert await read(world, origin) == (State.MISS, b"after")


async def test_a_clock_that_is_set_back_makes_nothing_fresh_again(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    world.cache.soften([TAG], NOW + 60)
    world.clock.now = NOW + 30
    assert not shown(world)
    assert (await read(world, origin))[0] is State.REVALIDATING


async def test_a_soft_purge_heard_again_disturbs_nobody(world: World, origin: Datacenter) -> None:
    world.cache.soften([TAG], NOW - 1)
    await read(world, origin)
    held = world.cache.peek(KEY.text, NOW)
    serial = world.cache._heard_serial
    world.cache.soften([TAG], NOW - 1)
    world.cache.soften([TAG], NOW - 9)
    assert world.cache._heard_serial == serial
    assert world.cache.peek(KEY.text, NOW) is held is not None


# Hard and soft ones


@pytest.mark.parametrize("hard_first", [True, False])
async def test_a_hard_purge_stays_hard_whatever_soft_one_comes(
    world: World, origin: Datacenter, *, hard_first: bool
) -> None:
    await read(world, origin)
    for hard in (hard_first, not hard_first):
        if hard:
            world.cache.purge_memory([TAG], 5)
        else:
            world.cache.soften([TAG], NOW + 1)
    world.clock.now = NOW + 2
    assert not shown(world)
    origin.error = Away()
    with pytest.raises(Away):
        await read(world, origin)
    origin.error = None
    origin.now(b"after")
    assert await read(world, origin) == (State.MISS, b"after")


async def test_what_is_kept_of_soft_purges_is_bounded(world: World) -> None:
    for number in range(SOFTENED_TAGS_MAX + 2):
        world.cache.soften([f"grades:{number}"], NOW)
    assert len(world.cache._softened) <= SOFTENED_TAGS_MAX
    assert world.cache._softened.since(("grades:0",), NOW - 1) == NOW


SOFT, HARD, READ, TICK = "soft", "hard", "read", "tick"


@given(st.lists(st.sampled_from([SOFT, HARD, READ, TICK]), max_size=30))
def test_nothing_from_before_a_purge_is_called_fresh_nor_from_before_a_hard_one_shown(
    steps: list[str],
) -> None:
    """Every body says how many soft and hard purges came before its fetch."""

    async def story() -> None:
        world, origin, place, soft, hard = World(), Datacenter(), 0, 0, 0
        world.cache.go_by(lambda: True)
        for step in steps:
            world.clock.now += 1
            if step == SOFT:
                world.cache.soften([TAG], world.clock.now)
                soft += 1
            elif step == HARD:
                place, hard = place + 1, hard + 1
                world.cache.purge_memory([TAG], place)
            elif step == TICK:
                world.clock.now += 200
            else:
                origin.now(b"%d %d" % (soft, hard), position=(1, 100 + soft + hard))
                state, body = await read(world, origin)
                seen_soft, seen_hard = map(int, body.split())
                assert seen_hard == hard
                assert seen_soft == soft or state is State.REVALIDATING
            if (held := world.cache.peek(KEY.text, world.clock.now)) is not None:
                assert tuple(map(int, held.entry.body.split())) == (soft, hard)
        await world.cache.aclose()

    asyncio.run(story())


# Tier 2


async def test_what_another_worker_kept_before_the_soft_purge_is_stale_and_what_it_fetches_later_is_fresh(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt
) -> None:
    assert await raw.ping()
    first, second = (World(valkey=tier_at(valkey_server.url)) for _ in range(2))
    origin = Datacenter(b"before")
    await read(first, origin)
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    for world in (first, second):
        world.clock.now += 5
        world.cache.soften([TAG], world.clock.now)
        world.clock.now += 1
    origin.now(b"after", position=(1, 101))
    assert await read(second, origin) == (State.REVALIDATING, b"before")
    await eventually(lambda: shown(second), within_s=2)
    await eventually(lambda: origin.asked == 2 and not _errands(second), within_s=2)
    assert await read(first, origin) == (State.HIT, b"after"), "found in tier 2"
    assert origin.asked == 2


async def test_relations_from_tier_2_are_not_shown_once_softened(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt
) -> None:
    assert await raw.ping()
    first, second = (World(valkey=tier_at(valkey_server.url)) for _ in range(2))
    origin = Datacenter(b"before")
    await read(first, origin, RELATIONS)
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    origin.now(b"after")
    second.cache.soften([TAG], NOW)
    second.clock.now += 1
    assert await read(second, origin, RELATIONS) == (State.MISS, b"after")


async def test_a_soft_purge_asks_tier_2_nothing(tier: ValkeyTier, raw: Redis) -> None:
    world = World(valkey=tier)
    await read(world, Datacenter())
    await eventually(lambda: not _errands(world), within_s=2)
    await raw.config_resetstat()
    world.cache.soften([TAG, EVERYTHING], math.nextafter(NOW, math.inf))
    asked = {
        name
        for name in await raw.info("commandstats")
        if name not in {"cmdstat_info", "cmdstat_config|resetstat"}
    }
    assert asked == set()


def _errands(world: World) -> bool:
    return world.cache._shared is not None and bool(world.cache._shared._errands)
