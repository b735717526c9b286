"""Cached reads while datacenters fail: what survival shows, and what an epoch change takes away."""

from __future__ import annotations

import asyncio

import pytest

from cache.policy import RELATIONS, D, M, Policy, S
from cache.reading import Event, Reading, State
from tests.cache.building import KEY, NOW, TAG, Away, Datacenter, Switching, World

HOUR_S = 3600.0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def origin() -> Datacenter:
    return Datacenter(b"first")


async def read(world: World, origin: Datacenter, each: Policy = S) -> Reading:
    return await world.cache.read(KEY, policy=each, tags=(TAG,), fetch=origin.fetch)


# Survival


@pytest.mark.parametrize(("age_s", "state"), [(700, State.SURVIVAL), (12 * HOUR_S - 1, State.SURVIVAL)])
async def test_survival_shows_hours_old_entries_while_no_datacenter_answers(
    world: World, origin: Datacenter, age_s: float, state: State
) -> None:
    await read(world, origin)
    origin.error = Away()
    world.clock.now += age_s
    assert (await read(world, origin)).state is state
    assert world.events[Event.SURVIVAL] == 1


async def test_beyond_the_window_of_survival_there_is_nothing(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    origin.error = Away()
    world.clock.now += 12 * HOUR_S
    with pytest.raises(Away):
        await read(world, origin)


async def test_survival_is_closed_while_a_datacenter_answers(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    origin.error = Switching()
    world.clock.now += 700
    with pytest.raises(Switching):
        await read(world, origin)


async def test_relations_survive_four_hours_while_no_datacenter_answers(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin, RELATIONS)
    origin.error = Away()
    world.clock.now += 4 * HOUR_S - 1
    assert (await read(world, origin, RELATIONS)).state is State.SURVIVAL
    world.clock.now += 1
    with pytest.raises(Away):
        await read(world, origin, RELATIONS)


@pytest.mark.parametrize("each", [S, M, D, RELATIONS])
@pytest.mark.parametrize("age_s", [0, 30, 70, 700, 3 * HOUR_S])
async def test_a_purged_entry_is_not_shown_again_in_any_state(
    world: World, origin: Datacenter, each: Policy, age_s: float
) -> None:
    await read(world, origin, each)
    await world.cache.purge([TAG], 9)
    origin.error = Away()
    world.clock.now += age_s
    with pytest.raises(Away):
        await read(world, origin, each)


# Versions and epochs


async def test_a_lagging_datacenter_does_not_take_back_what_was_shown(
    world: World, origin: Datacenter
) -> None:
    origin.now(b"newer", position=(1, 200))
    await read(world, origin)
    world.clock.now += 121
    origin.now(b"older", position=(1, 150))
    reading = await read(world, origin)
    assert (reading.entry.body, reading.state) == (b"newer", State.STALE)
    assert world.events[Event.REFUSED_OLDER] == 1


async def test_relations_from_a_lagging_datacenter_are_shown_but_not_kept(
    world: World, origin: Datacenter
) -> None:
    origin.now(b"newer", position=(1, 200))
    await read(world, origin, RELATIONS)
    world.clock.now += 61
    origin.now(b"older", position=(1, 150))
    assert (await read(world, origin, RELATIONS)).entry.body == b"older"
    held = world.memory.get(KEY.text)
    assert held is not None
    assert held.entry.body == b"newer"


async def test_a_fill_that_ends_late_does_not_replace_a_newer_entry(world: World, origin: Datacenter) -> None:
    """The slow one saw position 100; meanwhile another fill brought 101."""
    origin.gate = asyncio.Event()
    slow = asyncio.create_task(read(world, origin))
    await origin.entered.wait()
    world.cache.set_epoch(1, None)  # hearing of an epoch parts later readers from earlier fills
    quick = Datacenter(b"newer", position=(1, 101))
    await read(world, quick)
    origin.gate.set()
    assert (await slow).entry.body == b"first"
    held = world.memory.get(KEY.text)
    assert held is not None
    assert held.entry.body == b"newer"
    assert world.events[Event.REFUSED_OLDER] == 1


async def test_an_entry_beyond_the_switch_position_is_never_shown_again(
    world: World, origin: Datacenter
) -> None:
    origin.now(b"lost", position=(1, 900), origin_etag='"lost"')
    await read(world, origin, D)
    world.cache.set_epoch(2, None)
    assert world.cache.peek(KEY.text, NOW) is not None, "nothing says yet what was lost"
    world.cache.set_epoch(2, (1, 850))
    assert world.cache.peek(KEY.text, NOW) is None
    origin.error = Away()
    for age_s in (0, 10, 7 * HOUR_S):
        world.clock.now = NOW + age_s
        with pytest.raises(Away):
            await read(world, origin, D)
        assert origin.previous is None, "not even asked about"
    origin.error = None
    origin.now(b"kept", epoch=2, position=(1, 850))
    assert (await read(world, origin, D)).entry.body == b"kept"
    assert world.cache.peek(KEY.text, world.clock.now) is not None


async def test_an_entry_up_to_the_switch_position_goes_on(world: World, origin: Datacenter) -> None:
    await read(world, origin, D)
    world.cache.set_epoch(2, (1, 100))
    assert world.cache.peek(KEY.text, NOW) is not None
    world.cache.set_epoch(1, (0, 0))
    assert world.cache.peek(KEY.text, NOW) is not None, "a lower epoch is not heard"


async def test_a_fill_from_an_older_epoch_is_not_kept_beyond_the_switch(
    world: World, origin: Datacenter
) -> None:
    origin.gate = asyncio.Event()
    origin.now(position=(1, 900))
    reader = asyncio.create_task(read(world, origin))
    await origin.entered.wait()
    world.cache.set_epoch(2, (1, 850))
    origin.gate.set()
    await reader
    assert len(world.memory) == 0


async def test_an_entry_from_an_epoch_long_past_gives_way_to_an_older_version(
    world: World, origin: Datacenter
) -> None:
    """Distrusted, so its higher version defends nothing."""
    origin.now(b"lost", epoch=3, position=(1, 900))
    await read(world, origin)
    world.cache.set_epoch(5, None)
    origin.now(b"restored", epoch=2, position=(1, 10))
    assert (await read(world, origin)).entry.body == b"restored"
