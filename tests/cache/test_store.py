"""The rules between the tiers: what is shown, in which state, and what is never shown."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from cache import policy, store
from cache.asking import FetchTimedOut
from cache.cache_key import CacheKey
from cache.coalescing import Overloaded
from cache.entries import NOWHERE, Entry, Position
from cache.generations import EVERYTHING, Generations
from cache.memory import Held, MemoryTier
from cache.policy import RELATIONS, M, N, Policy, S, X
from cache.reading import Event, Fetched, Reading, State
from cache.store import AHEAD_MAX, Cache
from cache.valkey import ValkeyTier
from sandbox.valkey import ValkeyServer
from tests.cache.building import KEY, NOW, TAG, Away, Datacenter, NotFound, Switching, World
from tests.cache.interleavings import Interleavings
from tests.waiting import eventually

HOUR_S = 3600.0


async def read(
    world: World,
    origin: Datacenter,
    each: Policy = S,
    tag: str = TAG,
    *,
    not_before: Position = NOWHERE,
) -> Reading:
    return await world.cache.read(KEY, policy=each, tags=(tag,), fetch=origin.fetch, not_before=not_before)


# Hits and misses


async def test_the_first_read_is_a_miss_and_the_next_a_hit(world: World, origin: Datacenter) -> None:
    first = await read(world, origin)
    second = await read(world, origin)
    assert (first.state, first.tier, first.age_s) == (State.MISS, 0, 0.0)
    assert (second.state, second.tier) == (State.HIT, 1)
    assert second.entry is first.entry
    assert origin.asked == 1


@pytest.mark.parametrize("each", [N, X])
async def test_classes_that_are_not_stored_are_fetched_every_time(
    world: World, origin: Datacenter, each: Policy
) -> None:
    for _ in range(2):
        reading = await read(world, origin, each)
        assert (reading.state, reading.entry.body) == (State.MISS, b"first")
    assert origin.asked == 2
    assert len(world.memory) == 0
    origin.error = Away()
    with pytest.raises(Away):
        await read(world, origin, each)


async def test_an_answer_that_is_not_cacheable_is_given_and_not_kept(
    world: World, origin: Datacenter
) -> None:
    origin.now(cacheable=False)
    assert (await read(world, origin)).entry.body == b"first"
    assert len(world.memory) == 0


async def test_an_expired_entry_is_revalidated_by_what_the_origin_called_it(
    world: World, origin: Datacenter
) -> None:
    origin.now(origin_etag='"o1"')
    first = await read(world, origin)
    assert origin.previous is None
    world.clock.now += 121
    origin.now(b"", not_modified=True, position=(1, 150))
    second = await read(world, origin)
    assert origin.previous is first.entry
    assert (second.state, second.entry.body, second.entry.stored_at) == (
        State.REVALIDATED,
        b"first",
        NOW + 121,
    )
    assert (await read(world, origin)).state is State.HIT


async def test_age_runs_from_the_beginning_of_the_fetch(world: World) -> None:
    async def slow(_: Entry | None) -> Fetched:
        world.clock.now += 2
        return Fetched(body=b"x", epoch=1, position=(1, 1))

    reading = await world.cache.read(KEY, policy=S, tags=(TAG,), fetch=slow)
    assert reading.age_s == 2
    assert world.cache.peek(KEY.text, NOW + 2.9) is not None
    assert world.cache.peek(KEY.text, NOW + 3.1) is None, "what tier 2 said was asked before the fetch"


async def test_too_many_tags_are_refused(world: World, origin: Datacenter) -> None:
    with pytest.raises(ValueError, match="tags"):
        await world.cache.read(KEY, policy=S, tags=("t",) * 17, fetch=origin.fetch)


def test_tier_2_without_a_sealer_is_refused(tier: ValkeyTier) -> None:
    with pytest.raises(ValueError, match="sealer"):
        Cache(
            memory=MemoryTier(max_bytes=1),
            generations=Generations(max_tags=2),
            clock=lambda: NOW,
            valkey=tier,
        )


# Readers who want to see a write


async def test_an_entry_from_before_the_write_is_fetched_again_and_its_successor_kept(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin)
    assert (await read(world, origin, not_before=(1, 100))).state is State.HIT
    origin.now(b"second", position=(1, 101))
    assert (await read(world, origin, not_before=(1, 101))).entry.body == b"second"
    assert (await read(world, origin, not_before=(1, 101))).state is State.HIT
    assert (await read(world, origin)).entry.body == b"second"
    assert origin.asked == 2


async def test_who_wants_to_see_a_write_does_not_wait_for_a_fill_from_before_it(
    world: World, origin: Datacenter
) -> None:
    origin.gate = asyncio.Event()
    before = asyncio.create_task(read(world, origin))
    await origin.entered.wait()
    origin.now(b"second", position=(1, 101))
    after = asyncio.create_task(read(world, origin, not_before=(1, 101)))
    await eventually(lambda: origin.asked == 2, within_s=1)
    origin.gate.set()
    assert (await before).entry.body == b"first"
    assert (await after).entry.body == b"second"


@pytest.mark.parametrize("error", [Switching(), Away()])
async def test_nothing_from_before_the_write_stands_in_for_a_failed_fetch(
    world: World, origin: Datacenter, error: Exception
) -> None:
    await read(world, origin)
    origin.error = error
    world.clock.now += 121
    assert (await read(world, origin, not_before=(1, 100))).state is State.STALE
    with pytest.raises(type(error)):
        await read(world, origin, not_before=(1, 101))
    world.clock.now += HOUR_S
    with pytest.raises(type(error)):
        await read(world, origin, not_before=(1, 101))


# Stale, and asked about behind the reader's back (RFC 5861 §3)


async def test_a_stale_entry_is_shown_while_one_asks_behind_the_readers(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin)
    origin.now(b"second", position=(1, 101))
    origin.gate = asyncio.Event()
    world.clock.now += 61
    for _ in range(5):
        reading = await read(world, origin)
        assert (reading.state, reading.age_s, reading.entry.body) == (State.REVALIDATING, 61, b"first")
    await eventually(lambda: origin.asked == 2, within_s=1)
    origin.gate.set()

    async def fresh() -> bool:
        reading = await read(world, origin)
        return (reading.state, reading.entry.body) == (State.HIT, b"second")

    assert await eventually(fresh, within_s=1)
    assert origin.asked == 2


async def test_the_window_of_asking_behind_has_an_end(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    origin.now(b"second", position=(1, 101))
    world.clock.now += S.fresh_s + S.stale_while_revalidate_s
    assert (await read(world, origin)).entry.body == b"second"


async def test_those_asked_for_behind_leave_room_for_those_somebody_waits_for(
    origin: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FLIGHTS_MAX", 4)
    world, keys = World(), [CacheKey(f"/r/{number}", "v") for number in range(8)]
    for key in keys:
        await world.cache.read(key, policy=S, tags=(TAG,), fetch=origin.fetch)
    origin.gate = asyncio.Event()
    world.clock.now += 61
    for key in keys:
        reading = await world.cache.read(key, policy=S, tags=(TAG,), fetch=origin.fetch)
        assert reading.state is State.REVALIDATING
    assert 0 < len(world.cache._flights) <= 2
    origin.gate.set()
    await world.cache.aclose()


async def test_relations_are_never_shown_while_somebody_asks(world: World, origin: Datacenter) -> None:
    await read(world, origin, RELATIONS)
    origin.now(b"second", position=(1, 101))
    world.clock.now += 60.1
    assert (await read(world, origin, RELATIONS)).entry.body == b"second"


async def test_what_was_purged_or_is_older_than_a_write_is_not_shown_while_somebody_asks(
    world: World, origin: Datacenter
) -> None:
    await read(world, origin)
    origin.now(b"second", position=(1, 101))
    world.clock.now += 61
    assert (await read(world, origin, not_before=(1, 101))).entry.body == b"second"
    origin.now(b"third", position=(1, 102))
    world.clock.now += 61
    await world.cache.purge([TAG], 1)
    assert (await read(world, origin)).entry.body == b"third"


# Failures of the fetch


@pytest.mark.parametrize("error", [Switching(), Away(), ConnectionResetError("reset")])
async def test_a_failed_fetch_is_covered_by_a_stale_entry_of_the_class(
    world: World, origin: Datacenter, error: Exception
) -> None:
    await read(world, origin)
    origin.error = error
    world.clock.now += 121
    reading = await read(world, origin)
    assert (reading.state, reading.tier, reading.age_s, reading.entry.body) == (State.STALE, 1, 121, b"first")
    assert world.events[Event.STALE] == 1


async def test_an_answer_of_the_datacenter_is_never_covered(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    origin.error = NotFound()
    world.clock.now += 121
    with pytest.raises(NotFound):
        await read(world, origin)


@pytest.mark.parametrize("error", [Switching(), ConnectionResetError("reset"), TimeoutError("slow")])
async def test_relations_are_never_shown_stale_because_of_an_error(
    world: World, origin: Datacenter, error: Exception
) -> None:
    await read(world, origin, RELATIONS)
    origin.error = error
    world.clock.now += 60.1
    with pytest.raises(type(error)):
        await read(world, origin, RELATIONS)


async def test_a_fetch_that_hangs_is_given_up(origin: Datacenter) -> None:
    world = World(fetch_max_s=0.02)
    origin.gate = asyncio.Event()
    with pytest.raises(FetchTimedOut):
        await read(world, origin)
    origin.gate = None
    await read(world, origin)
    origin.gate = asyncio.Event()
    world.clock.now += 121
    assert (await read(world, origin)).state is State.STALE


async def test_a_time_out_of_the_fetchs_own_keeps_its_name(world: World, origin: Datacenter) -> None:
    origin.error = TimeoutError("the fetch's own")
    with pytest.raises(TimeoutError, match="own"):
        await read(world, origin)


# Coalescing


async def test_many_readers_of_a_cold_key_cause_one_fetch(world: World, origin: Datacenter) -> None:
    origin.gate = asyncio.Event()
    readers = [asyncio.create_task(read(world, origin)) for _ in range(100)]
    await origin.entered.wait()
    readers[0].cancel()
    origin.gate.set()
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    states = [outcome.state for outcome in outcomes if isinstance(outcome, Reading)]
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert states == [State.COLLAPSED] * 99
    assert (origin.asked, world.events[Event.COLLAPSED], world.events[Event.MISS]) == (1, 99, 1)


async def test_an_error_reaches_all_who_waited_and_asks_once(world: World, origin: Datacenter) -> None:
    origin.gate, origin.error = asyncio.Event(), Away()
    readers = [asyncio.create_task(read(world, origin)) for _ in range(50)]
    await origin.entered.wait()
    origin.gate.set()
    outcomes = await asyncio.gather(*readers, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Away}
    assert origin.asked == 1


async def test_closing_tells_who_waits(world: World, origin: Datacenter) -> None:
    origin.gate = asyncio.Event()
    reader = asyncio.create_task(read(world, origin))
    await origin.entered.wait()
    await world.cache.aclose()
    with pytest.raises(Overloaded):
        await reader


# Purges beside a fill


async def test_a_purge_while_a_fill_runs_outdates_what_it_brings(world: World, origin: Datacenter) -> None:
    origin.gate = asyncio.Event()
    reader = asyncio.create_task(read(world, origin))
    await origin.entered.wait()
    await world.cache.purge([TAG], 3)
    origin.gate.set()
    assert (await reader).entry.body == b"first", "it began before the purge"
    assert world.cache.peek(KEY.text, NOW) is None
    origin.now(b"second", position=(1, 101))
    assert (await read(world, origin)).entry.body == b"second"
    assert world.events[Event.PURGED_IN_FLIGHT] == 1


@pytest.mark.parametrize("overtaken", [False, True])
async def test_what_a_fill_has_shown_is_not_followed_by_less_though_it_was_purged_in_flight(
    world: World, origin: Datacenter, *, overtaken: bool
) -> None:
    """Two fills, a purge between them; the earlier one arrives later and brings a write that nobody announced yet."""
    slow, later = origin, Datacenter(b"first")
    slow.now(b"second", position=(1, 101))
    slow.gate, later.gate = asyncio.Event(), asyncio.Event()
    earlier = asyncio.create_task(read(world, slow))
    await slow.entered.wait()
    await world.cache.purge([TAG], 3)
    fill = asyncio.create_task(read(world, later))
    await later.entered.wait()
    for gate, reader in [(later.gate, fill), (slow.gate, earlier)][:: -1 if overtaken else 1]:
        gate.set()
        await reader
    assert earlier.result().entry.body == b"second"
    assert (await read(world, Datacenter(b"second", position=(1, 101)))).entry.body == b"second"


async def test_who_comes_after_a_purge_does_not_wait_for_a_fill_from_before_it(
    world: World, origin: Datacenter
) -> None:
    origin.gate = asyncio.Event()
    before = asyncio.create_task(read(world, origin))
    await origin.entered.wait()
    origin.now(b"second", position=(1, 101))
    await world.cache.purge([TAG], 3)
    after = asyncio.create_task(read(world, origin))
    await eventually(lambda: origin.asked == 2, within_s=1)
    origin.gate.set()
    assert (await before).entry.body == b"first"
    assert (await after).entry.body == b"second"
    held = world.cache.peek(KEY.text, NOW)
    assert held is not None
    assert held.entry.body == b"second"


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_purge_without_a_place_in_the_feed_comes_after_all_that_was_heard(
    world: World, origin: Datacenter, *, everywhere: bool
) -> None:
    world.cache.purge_memory([TAG, "other"], 90)
    await read(world, origin)
    assert world.cache.peek(KEY.text, NOW) is not None
    if everywhere:
        await world.cache.purge([TAG], None)
    else:
        world.cache.purge_memory([TAG], None)
    assert world.cache.peek(KEY.text, NOW) is None
    heard = world.generations.at(90)
    assert heard < world.generations.current(TAG) < world.generations.at(91), (
        "the next one in the feed counts"
    )


async def test_an_own_purge_counts_though_the_feed_has_begun_again_further_down(
    world: World, origin: Datacenter
) -> None:
    world.cache.purge_memory([TAG], 90)
    await read(world, origin)
    await world.cache.purge_own([TAG], 7)
    assert world.cache.peek(KEY.text, NOW) is None


async def test_in_a_new_era_low_places_are_heard_again(world: World, origin: Datacenter) -> None:
    world.cache.purge_memory([TAG], 90)
    await read(world, origin)
    world.cache.begin_era()
    assert world.cache.peek(KEY.text, NOW) is None
    await read(world, origin)
    await world.cache.purge([TAG], 7)
    assert world.cache.peek(KEY.text, NOW) is None


async def test_a_purge_of_everything_outdates_everything(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    await world.cache.purge([EVERYTHING], 3)
    assert world.cache.peek(KEY.text, NOW) is None


async def test_clearing_forgets_tier_1(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    world.cache.clear_memory()
    assert (await read(world, origin)).state is State.MISS


async def test_views_of_one_resource_are_two_entries(world: World, origin: Datacenter) -> None:
    await read(world, origin)
    other = CacheKey(KEY.resource, "teacher")
    origin.now(b"for teachers")
    reading = await world.cache.read(other, policy=S, tags=(TAG,), fetch=origin.fetch)
    assert reading.entry.body == b"for teachers"
    assert (await read(world, origin)).entry.body == b"first"


def test_bounds_fit_one_another() -> None:
    assert store.FETCH_MAX_S < store.WAIT_MAX_S
    assert policy.TIER1_RECHECK_MAX_S <= 3


async def test_not_modified_out_of_nothing_is_a_fault_that_everybody_sees(
    world: World, origin: Datacenter
) -> None:
    origin.answer = msgspec.structs.replace(origin.answer, not_modified=True)
    with pytest.raises(ValueError, match="nothing to revalidate"):
        await read(world, origin)


def test_however_writes_purges_fills_and_reads_interleave_nothing_purged_is_shown(
    valkey_server: ValkeyServer,
) -> None:
    machine = type("OverThisValkey", (Interleavings,), {"url": valkey_server.url})
    run_state_machine_as_test(machine, settings=settings(max_examples=400, stateful_step_count=40))


# Fetching ahead

HURRIED = Policy(name="hurried", fresh_s=60.0, tier1_s=60.0, ahead_s=20.0)


def held_of(world: World) -> Held:
    held = world.cache.peek(KEY.text, world.clock.now)
    assert held is not None
    return held


def ahead(world: World, origin: Datacenter, held: Held) -> None:
    world.cache.ahead(held, KEY, policy=HURRIED, tags=(TAG,), fetch=origin.fetch)


async def test_an_entry_is_worth_fetching_anew_in_the_last_part_of_its_freshness(world: World) -> None:
    await world.cache.read(KEY, policy=HURRIED, tags=(TAG,), fetch=Datacenter().fetch)
    assert NOW + 40 <= held_of(world).ahead_at <= NOW + 50


async def test_an_entry_of_another_class_never_is(world: World) -> None:
    await world.cache.read(KEY, policy=M, tags=(TAG,), fetch=Datacenter().fetch)
    assert held_of(world).ahead_at == math.inf


async def test_what_is_fetched_ahead_takes_the_entrys_place_with_a_new_freshness(world: World) -> None:
    origin = Datacenter(b"one")
    await world.cache.read(KEY, policy=HURRIED, tags=(TAG,), fetch=origin.fetch)
    world.clock.now += 50
    origin.now(b"two")
    ahead(world, origin, held_of(world))
    assert held_of(world).entry.body == b"one"
    await eventually(lambda: held_of(world).entry.body == b"two", within_s=10)
    world.clock.now += 59
    assert held_of(world).entry.body == b"two"
    assert origin.asked == 2


async def test_many_readers_have_it_fetched_ahead_once(world: World) -> None:
    origin = Datacenter()
    await world.cache.read(KEY, policy=HURRIED, tags=(TAG,), fetch=origin.fetch)
    world.clock.now += 50
    origin.gate = asyncio.Event()
    for _ in range(5):
        if held_of(world).ahead_at <= world.clock.now:
            ahead(world, origin, held_of(world))
        await asyncio.sleep(0)
    ahead(world, origin, held_of(world))
    origin.gate.set()
    await eventually(lambda: not world.cache._ahead, within_s=10)
    assert origin.asked == 2


async def test_no_more_than_a_few_are_fetched_ahead_at_once(world: World) -> None:
    origin = Datacenter()
    keys = [CacheKey(resource=f"people/{number}", view="gateway") for number in range(AHEAD_MAX + 5)]
    for key in keys:
        await world.cache.read(key, policy=HURRIED, tags=(TAG,), fetch=origin.fetch)
    world.clock.now += 50
    origin.gate, before = asyncio.Event(), origin.asked
    for key in keys:
        held = world.cache.peek(key.text, world.clock.now)
        assert held is not None
        world.cache.ahead(held, key, policy=HURRIED, tags=(TAG,), fetch=origin.fetch)
    assert len(world.cache._ahead) == AHEAD_MAX
    origin.gate.set()
    await eventually(lambda: not world.cache._ahead, within_s=10)
    assert origin.asked - before == AHEAD_MAX


async def test_what_was_purged_while_it_was_fetched_ahead_is_not_shown(world: World) -> None:
    origin = Datacenter(b"one")
    await world.cache.read(KEY, policy=HURRIED, tags=(TAG,), fetch=origin.fetch)
    world.clock.now += 50
    origin.gate = asyncio.Event()
    origin.entered.clear()
    ahead(world, origin, held_of(world))
    await origin.entered.wait()
    world.cache.purge_memory((TAG,), 5)
    origin.gate.set()
    await eventually(lambda: not world.cache._ahead, within_s=10)
    assert world.cache.peek(KEY.text, world.clock.now) is None
