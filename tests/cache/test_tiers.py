"""What the tiers hold and may show at once: to whoever asks by key, and to whoever remembers an entry."""

from __future__ import annotations

import random

from cache.memory import Held
from cache.policy import S
from cache.reading import Reading, State
from tests.cache.building import KEY, NOW, TAG, Datacenter, World

HOUR_S = 3600.0


async def read(world: World, origin: Datacenter) -> Reading:
    return await world.cache.read(KEY, policy=S, tags=(TAG,), fetch=origin.fetch)


async def test_peek_shows_what_read_kept_and_carries_what_the_edge_prepared(
    world: World, origin: Datacenter
) -> None:
    assert world.cache.peek(KEY.text, NOW) is None
    reading = await read(world, origin)
    held = world.cache.peek(KEY.text, NOW)
    assert held is not None
    assert held.entry is reading.entry
    assert held.prepared is None
    held.prepared = headers = ((b"etag", held.entry.etag),)
    world.clock.now += 3
    await read(world, origin)
    again = world.cache.peek(KEY.text, world.clock.now)
    assert again is not None
    assert again.prepared is headers


async def test_peek_ends_with_the_window_of_tier_1_and_with_freshness(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin)
    assert world.cache.peek(KEY.text, NOW + 2.99) is not None
    assert world.cache.peek(KEY.text, NOW + 3) is None
    world.clock.now = NOW + 59
    await read(world, origin)
    assert world.cache.peek(KEY.text, NOW + 59.9) is not None
    assert world.cache.peek(KEY.text, NOW + 60) is None
    assert origin.asked == 1


async def test_while_every_purge_is_heard_tier_1_shows_what_is_fresh_without_asking_tier_2(
    world: World, origin: Datacenter
) -> None:
    heard = True
    world.cache.go_by(lambda: heard)
    await read(world, origin)
    assert world.cache.peek(KEY.text, NOW + 59.9) is not None
    heard = False
    assert world.cache.peek(KEY.text, NOW + 2.99) is not None
    assert world.cache.peek(KEY.text, NOW + 3) is None
    heard = True
    assert world.cache.peek(KEY.text, NOW + 3) is not None
    assert world.cache.peek(KEY.text, NOW + 60) is None, "freshness ends all the same"


async def test_a_purge_that_is_heard_ends_what_tier_1_would_have_shown_for_long(
    world: World, origin: Datacenter
) -> None:
    world.cache.go_by(lambda: True)
    await read(world, origin)
    assert world.cache.peek(KEY.text, NOW + 30) is not None
    world.cache.purge_memory([TAG], 5)
    assert world.cache.peek(KEY.text, NOW + 30) is None
    assert world.cache.peek(KEY.text, NOW + 30) is None


async def test_peek_does_not_trust_a_clock_that_was_set_back(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    assert world.cache.peek(KEY.text, NOW - 1) is not None
    assert world.cache.peek(KEY.text, NOW - HOUR_S) is None
    world.clock.now = NOW - HOUR_S
    assert (await read(world, origin)).state is State.MISS


async def test_peek_knows_a_purge_at_once(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    world.cache.purge_memory(["another:tag"], 4)
    assert world.cache.peek(KEY.text, NOW) is not None
    world.cache.purge_memory([TAG], 5)
    assert world.cache.peek(KEY.text, NOW) is None
    assert world.cache.peek(KEY.text, NOW) is None
    assert (await read(world, origin)).state is State.MISS
    assert world.cache.peek(KEY.text, NOW) is not None


async def test_an_entry_under_other_tags_is_not_shown_to_who_asks_under_these(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin)
    reading = await world.cache.read(KEY, policy=S, tags=("another:tag",), fetch=origin.fetch)
    assert (reading.state, origin.asked) == (State.MISS, 2)


# Entries that somebody remembers


async def test_who_remembers_an_entry_may_show_it_exactly_while_it_is_what_peek_would_show(
    world: World, origin: Datacenter
) -> None:
    """Whatever is heard, whatever the clock does: `still` of a remembered entry and `peek` of its key say the same."""
    drawn = random.Random(20_261_123)
    heard = True
    world.cache.go_by(lambda: heard)
    remembered: list[Held] = []
    shown = hidden = 0
    for number in range(600):
        match drawn.randrange(9):
            case 0:
                origin.now(b"answer %d" % number, position=(1, 100 + number))
                world.cache.purge_memory([drawn.choice((TAG, "another:tag"))], None)
            case 1 | 2:
                world.clock.now += drawn.choice((0.5, 2.9, 20.0, -1.0))
            case 3:
                heard = not heard
            case 4:
                world.cache.soften([drawn.choice((TAG, "another:tag"))], world.clock.now)
            case 5 if drawn.random() < 0.3:
                world.cache.clear_memory()
            case 6 if drawn.random() < 0.2:
                world.cache.set_epoch(number // 100, None)
                origin.now(epoch=number // 100)
            case _:
                await read(world, origin)
        now = world.clock.now
        held = world.cache.peek(KEY.text, now)
        if held is not None and held not in remembered:
            remembered.append(held)
        for one in remembered:
            may = world.cache.still(one, now, hears_purges=heard)
            assert may == (world.cache.peek(KEY.text, now) is one), number
            shown, hidden = shown + may, hidden + (not may)
    assert min(shown, hidden, len(remembered)) > 20


async def test_what_is_remembered_counts_as_used_when_it_is_shown(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    held = world.cache.peek(KEY.text, NOW)
    assert held is not None
    before = held.uses
    assert world.cache.still(held, NOW, hears_purges=True)
    assert held.uses == before + 1
