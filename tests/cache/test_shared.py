"""Tier 2 behind its seal, and the whole cache while Valkey is killed, hung or filled with garbage."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Mapping

import msgspec
import pytest
from redis.asyncio import Redis

from cache import asking, promptness, store
from cache import shared as shared_module
from cache.asking import Ask
from cache.bounded_valkey import OPERATION_MAX_S
from cache.cache_key import CacheKey, resource
from cache.entries import Entry
from cache.generations import EVERYTHING
from cache.policy import M
from cache.reading import Event, State
from cache.request import Places, begin_request, patience_is_spent
from cache.sealing import Sealer
from cache.shared import Looked, SharedTier
from cache.valkey import ValkeyTier
from sandbox import ports
from sandbox.valkey import ValkeyServer
from tests.cache.building import KEY, KEYS, PUPIL, TAG, Datacenter, World, entry
from tests.cache.conftest import MortalValkey, TierAt
from tests.waiting import eventually

TAGS = ("*", TAG)
LOOKED_WITHIN_S = 10.0
TEACHERS = CacheKey(KEY.resource, "teacher")
OTHER = CacheKey(resource("v1", "pupils", "zzzzzzzzzzzzzzzz", "grades"), "family")


class Shared:
    """A shared tier and what it told."""

    def __init__(self, valkey: ValkeyTier) -> None:
        self.events: Counter[Event] = Counter()
        self.tier = SharedTier(valkey, Sealer(KEYS), on_event=lambda event: self.events.update([event]))

    async def store(self, key: CacheKey, one: Entry) -> None:
        self.tier.offer(key, one, life_s=60)
        await eventually(lambda: self._is_there(key, one), within_s=2)

    async def _is_there(self, key: CacheKey, one: Entry) -> bool:
        return (await self.tier.look(key, one.tags)).entry == one


@pytest.fixture
def shared(tier: ValkeyTier) -> Shared:
    return Shared(tier)


async def test_an_entry_comes_back_whole(shared: Shared) -> None:
    one = entry(b'{"average":"13.80"}', generations=(0, 7))
    await shared.store(KEY, one)
    looked = await shared.tier.look(KEY, TAGS)
    assert (looked.answered, looked.entry, looked.generations) == (True, one, (0, 7))


async def test_an_entry_with_a_generation_unknown_does_not_come_back(shared: Shared, raw: Redis) -> None:
    await shared.store(KEY, entry())
    for name in await raw.keys("*"):
        if name != KEY.sealed_name(KEYS.name_secret):
            await raw.delete(name)
    looked = await shared.tier.look(KEY, TAGS)
    assert (looked.answered, looked.entry) == (True, None)


async def test_an_entry_under_other_tags_than_asked_does_not_come_back(shared: Shared) -> None:
    await shared.store(KEY, entry())
    assert (await shared.tier.look(KEY, ("*",))).entry is None


async def value_of(raw: Redis, name: bytes) -> bytes:
    value = await raw.get(name)
    assert isinstance(value, bytes)
    return value


async def flipped(raw: Redis, name: bytes) -> bytes:
    value = bytearray(await value_of(raw, name))
    value[-1] ^= 1
    return bytes(value)


async def cut(raw: Redis, name: bytes) -> bytes:
    return (await value_of(raw, name))[:-3]


async def reordered(raw: Redis, name: bytes) -> bytes:
    """A version made higher than it is, so that nothing could replace it."""
    return b"9" * 50 + (await value_of(raw, name))[50:]


async def of_another_key(raw: Redis, name: bytes) -> bytes:
    assert name
    return await value_of(raw, OTHER.sealed_name(KEYS.name_secret))


async def of_another_view(raw: Redis, name: bytes) -> bytes:
    """What teachers see of it."""
    assert name
    return await value_of(raw, TEACHERS.sealed_name(KEYS.name_secret))


async def garbage(raw: Redis, name: bytes) -> bytes:
    assert raw is not None
    return b"garbage" + name * 9


async def short(raw: Redis, name: bytes) -> bytes:
    assert raw is not None
    return name[:3]


@pytest.mark.parametrize(
    "tampering", [flipped, cut, reordered, of_another_key, of_another_view, garbage, short]
)
async def test_what_was_tampered_with_is_a_counted_miss_and_is_removed(
    shared: Shared, raw: Redis, tampering: object
) -> None:
    await shared.store(KEY, entry(b"mine"))
    await shared.store(OTHER, entry(b"somebody else's"))
    await shared.store(TEACHERS, entry(b"with the teacher's remarks"))
    name = KEY.sealed_name(KEYS.name_secret)
    assert callable(tampering)
    await raw.set(name, await tampering(raw, name))
    looked = await shared.tier.look(KEY, TAGS)
    assert (looked.answered, looked.entry) == (True, None)
    assert shared.events[Event.SEAL_BROKEN] == 1
    await eventually(lambda: gone(raw, name), within_s=2)
    await shared.store(KEY, entry(b"mine"))


async def gone(raw: Redis, name: bytes) -> bool:
    return not await raw.exists(name)


async def test_a_dump_of_valkey_shows_no_name_no_tag_and_no_body(shared: Shared, raw: Redis) -> None:
    secret = b'{"name":"Salma Bennani","average":"13.80"}'
    await shared.store(KEY, entry(secret))
    await shared.tier.purge(["relations:" + PUPIL], 12)
    dump = b""
    async for name in raw.scan_iter():
        dump += name + b"\n" + await value_of(raw, name) + b"\n" + await raw.dump(name) + b"\n"
    assert len(dump) > len(secret)
    for word in (
        b"Salma",
        b"13.80",
        b"average",
        b"pupils",
        b"grades",
        b"family",
        b"relations",
        PUPIL.encode(),
        TAG.encode(),
    ):
        assert word not in dump


async def test_older_and_purged_offers_are_counted_and_change_nothing(shared: Shared) -> None:
    newest = entry(b"new", position=(1, 200))
    await shared.store(KEY, newest)
    shared.tier.offer(KEY, entry(b"old", position=(1, 100)), life_s=60)
    await eventually(lambda: shared.events[Event.REFUSED_OLDER], within_s=2)
    assert (await shared.tier.look(KEY, TAGS)).entry == newest
    await shared.tier.purge([TAG], 3)
    shared.tier.offer(KEY, entry(b"newer", position=(1, 300)), life_s=60)
    await eventually(lambda: shared.events[Event.PURGED_IN_FLIGHT], within_s=2)


async def test_an_entry_at_the_end_of_its_life_is_not_offered(shared: Shared, raw: Redis) -> None:
    shared.tier.offer(KEY, entry(), life_s=0)
    await shared.tier.look(KEY, TAGS)
    assert await raw.dbsize() == 0


async def test_an_entry_that_cannot_be_written_down_is_counted_and_disturbs_nobody(shared: Shared) -> None:
    shared.tier.offer(KEY, entry(position=(10**11, 0)), life_s=60)
    await eventually(lambda: shared.events[Event.ERRAND_FAILED], within_s=2)


async def test_errands_are_bounded(shared: Shared) -> None:
    for number in range(shared_module.ERRANDS_MAX + 5):
        shared.tier.offer(KEY, entry(position=(1, number)), life_s=60)
    assert shared.events[Event.ERRAND_SKIPPED] == 5
    await shared.tier.aclose()


# The whole cache over it


async def read(world: World, origin: Datacenter, key: CacheKey = KEY) -> State:
    reading = await world.cache.read(key, policy=M, tags=(TAG,), fetch=origin.fetch)
    assert reading.entry.body == origin.answer.body
    return reading.state


def key_of(number: int) -> CacheKey:
    return CacheKey(resource("v1", "pupils", f"pupil{number}", "grades"), "family")


def counts(events: Mapping[Event, int], *wanted: Event) -> list[int]:
    return [events[event] for event in wanted]


async def test_a_second_worker_finds_what_the_first_one_fetched(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt
) -> None:
    assert await raw.ping()
    first, second = (World(valkey=tier_at(valkey_server.url)) for _ in range(2))
    origin = Datacenter()
    assert await read(first, origin) is State.MISS
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    reading = await second.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch)
    assert (reading.state, reading.tier, origin.asked) == (State.HIT, 2, 1)
    assert second.events == Counter({Event.HIT_TIER2: 1})
    assert second.cache.peek(KEY.text, second.clock.now) is not None


async def test_a_worker_that_missed_a_purge_shows_the_old_answer_three_seconds_at_most(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt
) -> None:
    assert await raw.ping()
    hearing, deaf = (World(valkey=tier_at(valkey_server.url)) for _ in range(2))
    origin = Datacenter(b"before")
    await read(deaf, origin)
    origin.now(b"after", position=(1, 101))
    await hearing.cache.purge([TAG], 50)
    assert deaf.cache.peek(KEY.text, deaf.clock.now) is not None
    deaf.clock.now += 3
    assert deaf.cache.peek(KEY.text, deaf.clock.now) is None
    assert await read(deaf, origin) is State.MISS


async def stored_by_another(valkey_url: str, raw: Redis, tier_at: TierAt, origin: Datacenter) -> World:
    """A worker that has not looked for anything yet; what `origin` says is in tier 2."""
    assert await read(World(valkey=tier_at(valkey_url)), origin) is State.MISS
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    await raw.config_resetstat()
    return World(valkey=tier_at(valkey_url))


async def asked_of_valkey(raw: Redis) -> int:
    return int((await raw.info("commandstats")).get("cmdstat_mget", {"calls": 0})["calls"])


async def test_many_who_want_what_tier_2_has_cost_one_look_and_no_task(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Datacenter()
    world = await stored_by_another(valkey_server.url, raw, tier_at, origin)
    flights = world.cache._flights
    monkeypatch.setattr(flights, "run", None)  # whoever begins a fill fails
    async with asyncio.timeout(LOOKED_WITHIN_S):
        readings = await asyncio.gather(
            *[world.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch) for _ in range(50)]
        )
    assert {(reading.state, reading.tier) for reading in readings} == {(State.HIT, 2)}
    assert (await asked_of_valkey(raw), origin.asked) == (1, 1)
    assert counts(world.events, Event.HIT_TIER2, Event.COLLAPSED) == [1, 49]
    assert not world.cache._looks


async def test_who_leaves_while_he_looks_takes_nothing_from_the_others(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt
) -> None:
    origin = Datacenter()
    world = await stored_by_another(valkey_server.url, raw, tier_at, origin)
    readers = [asyncio.create_task(read(world, origin)) for _ in range(5)]
    await asyncio.sleep(0)
    assert world.cache._looks
    readers[0].cancel()
    readers[2].cancel()
    async with asyncio.timeout(LOOKED_WITHIN_S):
        said = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(one) for one in said].count(asyncio.CancelledError) == 2
    assert {one for one in said if not isinstance(one, BaseException)} == {State.HIT}
    assert origin.asked == 1
    assert not world.cache._looks


@pytest.mark.parametrize(("heard", "in_all"), [(True, 2), (False, 3)])
async def test_a_miss_looks_once_and_once_more_when_it_has_the_turn_and_when_it_is_home_if_no_purge_is_heard(
    tier: ValkeyTier, monkeypatch: pytest.MonkeyPatch, heard: bool, in_all: int
) -> None:
    world, origin, looks = World(valkey=tier), Datacenter(), 0
    look = world.cache._look_shared

    async def counting(ask: Ask) -> Looked:
        nonlocal looks
        looks += 1
        return await look(ask)

    monkeypatch.setattr(world.cache, "_look_shared", counting)
    ask = asking.ask(KEY, M, (TAG,), origin.fetch)
    reading, first = await world.cache.find(ask)
    assert (reading, looks) == (None, 1)
    world.cache.go_by(lambda: heard)
    assert (await world.cache.answer(ask, first)).state is State.MISS
    assert looks == in_all


@pytest.mark.parametrize(("heard", "heard_again"), [(True, False), (False, False), (False, True)])
async def test_who_joins_a_fetch_after_a_purge_gets_what_was_asked_for_after_it(
    tier_at: TierAt, valkey_server: ValkeyServer, raw: Redis, heard: bool, heard_again: bool
) -> None:
    assert await raw.ping()
    world, other = (World(valkey=tier_at(valkey_server.url)) for _ in range(2))
    world.cache.go_by(lambda: heard)
    origin = Datacenter(b"before")
    origin.gate = asyncio.Event()
    early = asyncio.create_task(world.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch))
    await origin.entered.wait()
    origin.now(b"after", position=(1, 101))
    await other.cache.purge((TAG,), 60)
    if heard:
        world.cache.purge_memory((TAG,), 60)
    late = [
        asyncio.create_task(world.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch))
        for _ in range(3)
    ]
    await asyncio.sleep(0)  # they have joined it
    if heard_again:
        world.cache.purge_memory((TAG,), 60)
        world.cache.go_by(lambda: True)
    origin.gate.set()
    assert (await early).entry.body == b"before", "he came before the purge"
    assert {(await one).entry.body for one in late} == {b"after"}
    assert origin.asked == 2
    await world.cache.aclose()
    await other.cache.aclose()


async def test_what_a_look_finds_that_was_under_way_at_a_purge_is_not_shown(
    valkey_server: ValkeyServer, raw: Redis, tier_at: TierAt
) -> None:
    origin = Datacenter(b"before")
    world = await stored_by_another(valkey_server.url, raw, tier_at, origin)
    early = asyncio.create_task(world.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch))
    await asyncio.sleep(0)
    assert world.cache._looks
    origin.now(b"after", position=(1, 101))
    world.cache.purge_memory([TAG], 60)
    late = await world.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch)
    await early
    assert late.entry.body == b"after"


async def test_what_valkey_holds_is_not_offered_again(tier: ValkeyTier, raw: Redis) -> None:
    world, origin = World(valkey=tier), Datacenter()
    assert await read(world, origin, key_of(0)) is State.MISS
    await eventually(lambda: world.cache._shared is not None and not world.cache._shared._errands, within_s=5)
    await raw.config_resetstat()
    world.clock.now += 4  # tier 1 asks again
    assert await read(world, origin, key_of(0)) is State.HIT
    await eventually(lambda: world.cache._shared is not None and not world.cache._shared._errands, within_s=5)
    asked = await raw.info("commandstats")
    assert not [name for name in asked if "evalsha" in name or name == "cmdstat_set"]


async def test_what_valkey_lost_is_offered_again_by_who_still_has_it(tier: ValkeyTier, raw: Redis) -> None:
    world, origin = World(valkey=tier), Datacenter()
    await read(world, origin)
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    await raw.flushall()
    world.clock.now += 4
    assert await read(world, origin) is State.HIT
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    assert origin.asked == 1


@pytest.mark.parametrize("fault", ["killed", "hung"])
async def test_without_valkey_every_read_is_answered_with_a_bounded_wait(
    mortal_valkey: MortalValkey, tier_at: TierAt, fault: str
) -> None:
    world, origin = World(valkey=tier_at(mortal_valkey.url)), Datacenter()
    assert await read(world, origin, key_of(0)) is State.MISS
    if fault == "killed":
        mortal_valkey.kill()
    else:
        mortal_valkey.signal(signal.SIGSTOP)
    waits = []
    for number in range(1, 30):
        began = time.monotonic()
        assert await read(world, origin, key_of(number)) is State.MISS
        waits.append(time.monotonic() - began)
        assert await read(world, origin, key_of(number)) is State.HIT
    assert max(waits) < OPERATION_MAX_S + 2.0
    assert sum(waits) < 4 * OPERATION_MAX_S + 1.5, "the breaker spares all but the first few"
    world.clock.now += 4
    assert await read(world, origin, key_of(1)) is State.HIT, "tier 1 goes on by what it heard itself"
    began = time.monotonic()
    await world.cache.purge([TAG], 60)
    assert time.monotonic() - began < OPERATION_MAX_S + 2.0
    assert world.cache.peek(key_of(1).text, world.clock.now) is None
    assert counts(world.events, Event.SEAL_BROKEN, Event.ERRAND_FAILED) == [0, 0]
    assert world.events[Event.UNAVAILABLE] > 0


@pytest.mark.parametrize("fault", ["killed", "hung"])
async def test_many_readers_at_once_without_valkey_wait_together_not_in_a_row(
    mortal_valkey: MortalValkey, tier_at: TierAt, fault: str
) -> None:
    world, origin = World(valkey=tier_at(mortal_valkey.url)), Datacenter()
    if fault == "killed":
        mortal_valkey.kill()
    else:
        mortal_valkey.signal(signal.SIGSTOP)
    began = time.monotonic()
    states = await asyncio.gather(*[read(world, origin, key_of(number)) for number in range(200)])
    assert set(states) == {State.MISS}
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("fault", ["killed", "hung"])
async def test_valkey_is_used_again_by_itself(
    mortal_valkey: MortalValkey, tier_at: TierAt, fault: str
) -> None:
    first, origin = World(valkey=tier_at(mortal_valkey.url)), Datacenter(b"before")
    await read(first, origin)
    if fault == "killed":
        mortal_valkey.kill()
    else:
        mortal_valkey.signal(signal.SIGSTOP)
    await first.cache.purge([TAG], 70)
    origin.now(b"after", position=(1, 101))
    await read(first, origin)
    if fault == "killed":
        await mortal_valkey.start()
    else:
        mortal_valkey.signal(signal.SIGCONT)
    key = key_of(1)

    async def reaches_a_new_worker() -> bool:
        """A worker that never heard the purge finds the new answer in Valkey once one that did reached it."""
        first.clock.now += 4
        await read(first, origin, key)
        await read(first, origin)
        newborn = World(valkey=tier_at(mortal_valkey.url), clock=first.clock)
        reading = await newborn.cache.read(KEY, policy=M, tags=(TAG,), fetch=origin.fetch)
        return (reading.entry.body, reading.tier) == (b"after", 2)

    assert await eventually(reaches_a_new_worker, within_s=5)


async def test_a_valkey_full_of_garbage_costs_only_misses(tier: ValkeyTier, raw: Redis) -> None:
    world, origin = World(valkey=tier), Datacenter()
    await read(world, origin)
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)
    async for name in raw.scan_iter():
        await raw.set(name, b"\x00garbage" * 20)
    world.memory.clear()
    assert await read(world, origin) is State.MISS
    assert world.events[Event.SEAL_BROKEN] == 1
    origin.answer = msgspec.structs.replace(origin.answer, position=(1, 102))
    world.memory.clear()
    await eventually(lambda: raw.exists(KEY.sealed_name(KEYS.name_secret)), within_s=2)


NONSENSE = [
    b":5\r\n",
    b"*1\r\n:5\r\n",
    b"*3\r\n:1\r\n:2\r\n:3\r\n",
    b"*0\r\n",
    b"+OK\r\n",
    b"*-1\r\n",
    b"$-1\r\n",
    b"*3\r\n*0\r\n*0\r\n*0\r\n",
]


@pytest.mark.parametrize("reply", NONSENSE)
async def test_a_valkey_that_answers_another_question_costs_only_misses(
    tier_at: TierAt, reply: bytes
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, ports.LOOPBACK, 0)
    async with server:
        tier = tier_at(f"redis://{ports.LOOPBACK}:{server.sockets[0].getsockname()[1]}/0")
        world, origin = World(valkey=tier), Datacenter()
        for number in range(5):
            assert await read(world, origin, key_of(number)) is State.MISS
        assert world.events[Event.HIT_TIER2] == 0
        await world.cache.aclose()


@pytest.mark.parametrize("slow", [False, True])
async def test_a_valkey_that_is_slow_to_say_what_it_holds_is_not_asked_for_a_turn(
    tier: ValkeyTier, raw: Redis, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    class Told:
        def __init__(self, long_s: float) -> None:
            assert long_s == store.PROMPT_MAX_S

        def long(self) -> bool:
            return slow

    monkeypatch.setattr(store, "Waited", Told)
    world, origin = World(valkey=tier), Datacenter()
    await raw.config_resetstat()
    assert await read(world, origin, key_of(0)) is State.MISS
    asked = await raw.info("commandstats")
    assert ("cmdstat_get" in asked) == (not slow), "a turn is got and set"
    assert origin.asked == 1


@pytest.mark.parametrize(("slow", "heard"), [(False, True), (True, True), (True, False)])
async def test_a_request_that_a_slow_valkey_kept_waiting_does_not_wait_for_it_again_where_purges_are_heard(
    tier_at: TierAt,
    valkey_server: ValkeyServer,
    raw: Redis,
    monkeypatch: pytest.MonkeyPatch,
    slow: bool,
    heard: bool,
) -> None:
    monkeypatch.setattr(promptness.Waited, "long", lambda _: slow)
    assert await raw.ping()
    filled, world = (World(valkey=tier_at(valkey_server.url)) for _ in range(2))
    origin = Datacenter()
    for number in range(3):
        await read(filled, origin, key_of(number))
    await filled.cache.aclose()

    async def request(*numbers: int) -> list[State]:
        begin_request(Places(working_max=1, waiting_max=0))
        return [await read(world, origin, key_of(number)) for number in numbers]

    world.cache.go_by(lambda: heard)
    skips = slow and heard
    first = await asyncio.create_task(request(0, 1))
    assert first == [State.HIT, State.MISS if skips else State.HIT]
    assert world.events[Event.LOOK_SKIPPED] == skips
    assert await asyncio.create_task(request(2)) == [State.HIT], "the next request asks again"


async def test_those_who_wait_for_anothers_look_were_kept_waiting_too(
    tier: ValkeyTier, raw: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promptness.Waited, "long", lambda _: True)
    assert await raw.ping()
    world, origin = World(valkey=tier), Datacenter()

    async def request() -> bool:
        begin_request(Places(working_max=1, waiting_max=0))
        await read(world, origin, key_of(0))
        return patience_is_spent()

    assert await asyncio.gather(*[asyncio.create_task(request()) for _ in range(3)]) == [True] * 3


@pytest.mark.parametrize("heard", [False, True])
async def test_who_starts_after_etcd_was_put_back_counts_as_tier_2_does(
    tier_at: TierAt, valkey_server: ValkeyServer, raw: Redis, heard: bool
) -> None:
    assert await raw.ping()
    before, origin = World(valkey=tier_at(valkey_server.url)), Datacenter(b"old")
    await before.cache.purge((EVERYTHING,), 900)
    before.cache.begin_era()  # as its feed does then
    await before.cache.purge((EVERYTHING,), None)
    await read(before, origin)
    if heard:
        await before.cache.note_heard(30)
    await before.cache.aclose()
    origin.now(b"new", position=(1, 200))
    started = World(valkey=tier_at(valkey_server.url))
    await started.cache.catch_up(1_000)
    await started.cache.purge((TAG,), 1_001)
    assert await read(started, origin) is State.MISS
    assert origin.asked == 2
