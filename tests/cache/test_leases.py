"""Workers of a site take turns at filling: one asks for all, whatever becomes of it, and nobody waits for the dead."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from cache import leases, shared
from cache.asking import FetchTimedOut
from cache.bounded_valkey import BoundedValkey, CacheUnavailable
from cache.cache_key import sealed_name
from cache.coalescing import Overloaded
from cache.leases import LEASE_S, RETRY_AFTER_MAX_S, Heard, Lease, Leases, TurnFailed
from cache.policy import M
from cache.reading import Reading, State
from cache.valkey import Found, Put, ValkeyTier
from sandbox.valkey import ValkeyServer
from tests.cache.building import KEY, KEYS, TAG, Away, Datacenter, NotFound, World
from tests.cache.conftest import MortalValkey, TierAt
from tests.waiting import eventually

READERS = 10_000
HEARD = Heard((0, 0), 0)


class Worker:
    """One worker's cache over the site's Valkey."""

    def __init__(self, tier: ValkeyTier, **options: Any) -> None:
        self.world = World(valkey=tier, **options)
        self.leases = tier.leases

    async def read(self, datacenter: Datacenter, not_before: tuple[int, int] = (0, 0)) -> Reading:
        return await self.world.cache.read(
            KEY, policy=M, tags=(TAG,), fetch=datacenter.fetch, not_before=not_before
        )


@pytest.fixture
async def workers(valkey_server: ValkeyServer, raw: Redis) -> AsyncIterator[tuple[Worker, Worker]]:
    assert await raw.ping()
    tiers = [
        ValkeyTier(
            valkey_server.url, name_secret=KEYS.name_secret, monotonic=time.monotonic, operation_max_s=5
        )
        for _ in range(2)
    ]
    one, other = map(Worker, tiers)
    yield one, other
    for worker in (one, other):
        await worker.world.cache.aclose()


class Later(Away):
    """An error that says when to come again."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


@pytest.fixture
def slow() -> Datacenter:
    """A datacenter that answers when its gate opens."""
    made = Datacenter()
    made.gate = asyncio.Event()
    return made


async def begun(workers: tuple[Worker, Worker], slow: Datacenter) -> list[asyncio.Task[Reading]]:
    """Both workers read; the first one has asked, the second one waits for its turn."""
    one, other = workers
    first = asyncio.create_task(one.read(slow))
    await slow.entered.wait()
    second = asyncio.create_task(other.read(slow))
    name = sealed_name(KEYS.name_secret, "lease", KEY.text)
    asked = other.leases._valkey
    await eventually(lambda: asked.connections and not second.done(), within_s=5)
    assert await asked.values([name]) != [None]
    return [first, second]


def opened(slow: Datacenter) -> None:
    assert slow.gate is not None
    slow.gate.set()


async def test_ten_thousand_readers_at_two_sites_of_two_workers_are_one_request_a_site(
    workers: tuple[Worker, Worker], mortal_valkey: MortalValkey
) -> None:
    tiers = [
        ValkeyTier(
            mortal_valkey.url, name_secret=KEYS.name_secret, monotonic=time.monotonic, operation_max_s=5
        )
        for _ in range(2)
    ]
    sites = [workers, tuple(map(Worker, tiers))]
    datacenters = [Datacenter(), Datacenter()]
    for datacenter in datacenters:
        datacenter.gate = asyncio.Event()
    reads = [
        asyncio.create_task(sites[number % 2][number // 2 % 2].read(datacenters[number % 2]))
        for number in range(READERS)
    ]
    for datacenter in datacenters:
        await datacenter.entered.wait()
        opened(datacenter)
    assert {one.entry.body for one in await asyncio.gather(*reads)} == {datacenters[0].answer.body}
    assert [datacenter.asked for datacenter in datacenters] == [1, 1]
    for worker in sites[1]:
        await worker.world.cache.aclose()


async def test_who_waited_finds_what_the_other_one_fetched(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    tasks = await begun(workers, slow)
    opened(slow)
    first, second = await asyncio.gather(*tasks)
    assert (first.state, second.state, second.tier, slow.asked) == (State.MISS, State.HIT, 2, 1)


async def test_a_failure_is_shared_by_who_waited_and_asked_about_again_by_who_comes_later(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    slow.error = Away()
    first, second = await begun(workers, slow)
    opened(slow)
    with pytest.raises(Away):
        await first
    with pytest.raises(TurnFailed) as failed:
        await second
    assert (failed.value.slug, failed.value.datacenters_away) == (Away.slug, True)
    assert slow.asked == 1
    slow.error = None
    assert (await workers[1].read(slow)).state is State.MISS


async def test_an_answer_that_nothing_is_there_is_shared_as_well(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    slow.error = NotFound()
    first, second = await begun(workers, slow)
    opened(slow)
    with pytest.raises(NotFound):
        await first
    with pytest.raises(TurnFailed) as failed:
        await second
    assert (failed.value.slug, slow.asked) == (NotFound.slug, 1)


async def test_an_error_without_a_name_is_nobody_elses(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    slow.error = ZeroDivisionError()
    first, second = await begun(workers, slow)
    opened(slow)
    for task in (first, second):
        with pytest.raises(ZeroDivisionError):
            await task
    assert slow.asked == 2


async def test_what_may_not_be_kept_everybody_asks_for_himself(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    slow.now(cacheable=False)
    tasks = await begun(workers, slow)
    opened(slow)
    assert [one.state for one in await asyncio.gather(*tasks)] == [State.MISS, State.MISS]
    assert slow.asked == 2


async def test_a_slow_holder_keeps_its_lease_for_as_long_as_it_asks(
    workers: tuple[Worker, Worker], slow: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 1.5)
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    tasks = await begun(workers, slow)
    asyncio.get_running_loop().call_later(2.0, opened, slow)
    await asyncio.gather(*tasks)
    assert slow.asked == 1


async def test_a_holder_that_died_holds_nobody_up_for_longer_than_its_lease(
    workers: tuple[Worker, Worker], raw: Redis
) -> None:
    dead = await workers[0].leases.turn(KEY, HEARD, within_s=1)
    assert dead._renewing is not None
    dead._renewing.cancel()
    began = time.monotonic()
    datacenter = Datacenter()
    assert (await workers[1].read(datacenter)).state is State.MISS
    assert time.monotonic() - began < LEASE_S + 2.0
    await dead.done()
    assert datacenter.asked == 1


async def test_a_lease_that_was_lost_ends_nobody_elses(workers: tuple[Worker, Worker], raw: Redis) -> None:
    lost = await workers[0].leases.turn(KEY, HEARD, within_s=1)
    (name,) = await raw.keys()
    await raw.delete(name)
    held = await workers[1].leases.turn(KEY, HEARD, within_s=1)
    await lost.done()
    assert await raw.exists(name)
    await held.done()
    assert not await raw.exists(name)


async def test_a_turn_that_comes_too_late_is_given_back(workers: tuple[Worker, Worker], raw: Redis) -> None:
    with pytest.raises(TimeoutError):
        await workers[0].leases.turn(KEY, HEARD, within_s=0.0)
    assert not await raw.keys()


@pytest.mark.parametrize(("said", "told"), [(-5.0, 0.0), (7.5, 7.5), (1e9, RETRY_AFTER_MAX_S), (None, None)])
async def test_an_error_is_shared_however_long_it_says_to_wait(
    workers: tuple[Worker, Worker], slow: Datacenter, said: float | None, told: float | None
) -> None:
    slow.error = Later(said)
    first, second = await begun(workers, slow)
    opened(slow)
    with pytest.raises(Later):
        await first
    with pytest.raises(TurnFailed) as failed:
        await second
    assert (failed.value.retry_after_s, slow.asked) == (told, 1)


async def test_a_turn_that_ended_is_renewed_no_more(workers: tuple[Worker, Worker]) -> None:
    for end in (Lease.done, Lease.each, lambda lease: lease.failed(NotFound())):
        held = await workers[0].leases.turn(KEY, Heard((0, 0), 1), within_s=1)
        handed = held.handed_on()
        renewing = handed._renewing
        assert renewing is not None
        renewing._begin()
        assert renewing._task is not None
        await end(handed)
        await asyncio.wait([renewing._task], timeout=1)
        assert renewing._timer.cancelled()
        assert renewing._task.cancelled()


async def test_nobody_waits_longer_than_a_fetch_may_take(valkey_server: ValkeyServer, raw: Redis) -> None:
    tier = ValkeyTier(valkey_server.url, name_secret=KEYS.name_secret, monotonic=time.monotonic)
    worker = Worker(tier, fetch_max_s=0.1)
    held = await worker.leases.turn(KEY, HEARD, within_s=1)
    with pytest.raises(FetchTimedOut):
        await worker.read(Datacenter())
    await held.done()
    await worker.world.cache.aclose()
    assert await raw.ping()


async def test_waiting_and_fetching_together_last_no_longer_than_a_fetch_may(
    valkey_server: ValkeyServer, raw: Redis, slow: Datacenter
) -> None:
    tier = ValkeyTier(
        valkey_server.url, name_secret=KEYS.name_secret, monotonic=time.monotonic, operation_max_s=5
    )
    worker = Worker(tier, fetch_max_s=2.0)
    assert await raw.ping()
    held = await worker.leases.turn(KEY, HEARD, within_s=1)
    began = time.monotonic()
    reading = asyncio.create_task(worker.read(slow))
    asyncio.get_running_loop().call_later(1.5, asyncio.create_task, held.done())
    with pytest.raises(FetchTimedOut):
        await reading
    assert time.monotonic() - began < 3.0, "not both of them in full"
    await worker.world.cache.aclose()


async def test_who_heard_of_a_purge_waits_for_nothing_that_was_asked_before_it(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    first = asyncio.create_task(workers[0].read(slow))
    await slow.entered.wait()
    await workers[1].world.cache.purge([TAG], 1)
    assert (await workers[1].read(Datacenter(b"after"))).entry.body == b"after"
    opened(slow)
    await first


async def test_who_heard_of_an_epoch_waits_for_nothing_that_was_asked_before_it(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    first = asyncio.create_task(workers[0].read(slow))
    await slow.entered.wait()
    workers[1].world.cache.set_epoch(2, None)
    assert (await workers[1].read(Datacenter(b"after", epoch=2))).entry.body == b"after"
    opened(slow)
    await first


async def test_a_workers_own_overload_is_nobody_elses(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    slow.error = Overloaded("this worker")
    first, second = await begun(workers, slow)
    opened(slow)
    with pytest.raises(Overloaded):
        await first
    with pytest.raises(Overloaded):
        await second
    assert slow.asked == 2, "each heard its own"


async def test_what_could_not_be_stored_everybody_asks_for_at_once(
    workers: tuple[Worker, Worker], slow: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> Put:
        raise CacheUnavailable

    monkeypatch.setattr(ValkeyTier, "put", away)
    tasks = await begun(workers, slow)
    opened(slow)
    assert [one.state for one in await asyncio.gather(*tasks)] == [State.MISS, State.MISS]
    name = sealed_name(KEYS.name_secret, "lease", KEY.text)
    assert await eventually(lambda: _gone(workers[0], name), within_s=2)


async def test_a_turn_whose_end_there_is_no_room_for_ends_by_itself(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "ERRANDS_MAX", 0)
    datacenter = Datacenter()
    began = time.monotonic()
    for worker in workers:
        assert (await worker.read(datacenter)).state is State.MISS
    assert time.monotonic() - began < LEASE_S + 2.0


async def test_a_tier_that_does_not_answer_is_not_asked_for_turns(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> Found:
        raise CacheUnavailable

    monkeypatch.setattr(ValkeyTier, "get", away)
    held = await workers[0].leases.turn(KEY, HEARD, within_s=1)
    began = time.monotonic()
    assert (await workers[1].read(Datacenter())).state is State.MISS
    assert time.monotonic() - began < LEASE_S / 2
    await held.done()


async def _gone(worker: Worker, name: bytes) -> bool:
    return await worker.leases._valkey.values([name]) == [None]


async def test_who_wants_to_see_his_own_write_asks_at_once(
    workers: tuple[Worker, Worker], slow: Datacenter
) -> None:
    first, second = await begun(workers, slow)
    assert (await workers[1].read(Datacenter(position=(1, 200)), not_before=(1, 150))).state is State.MISS
    opened(slow)
    await asyncio.gather(first, second)


@pytest.mark.parametrize("garbage", [b"", b"nonsense", b"h", b"hnonsense", b"o\x80"])
async def test_garbage_where_a_lease_should_be_holds_nobody_up(
    garbage: bytes, workers: tuple[Worker, Worker], raw: Redis
) -> None:
    await raw.set(sealed_name(KEYS.name_secret, "lease", KEY.text), garbage)
    assert (await workers[0].read(Datacenter())).state is State.MISS


async def test_without_valkey_everybody_has_his_turn_at_once(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    worker = Worker(tier_at(mortal_valkey.url))
    mortal_valkey.kill()
    assert (await worker.read(Datacenter())).state is State.MISS
    assert isinstance(worker.leases, Leases)
    await worker.world.cache.aclose()


NONSENSE = [
    5,
    [],
    None,
    b"h",
    b"h\xc1",
    b"o\x80",
    b"h" + msgspec.msgpack.encode({"token": "a", "heard": 5}),
    b"?",
]
UNREADABLE = b"h\x82\xa5token\xa2\xff\xfe\xa5heard\x92\x90\x00"
NEVER = b"o" + msgspec.msgpack.encode({"heard": [[], 0], "slug": "overloaded", "retry_after_s": math.nan})


@pytest.mark.parametrize("reply", [*NONSENSE, UNREADABLE, NEVER])
async def test_whatever_a_confused_valkey_says_of_a_lease_the_reader_has_his_turn(
    tier: ValkeyTier, monkeypatch: pytest.MonkeyPatch, reply: object
) -> None:
    async def said(*_: object) -> object:
        return reply

    with monkeypatch.context() as confused:
        confused.setattr(BoundedValkey, "run", said)
        lease = await tier.leases.turn(KEY, HEARD, within_s=5)
        assert lease.held
        await lease.done()
