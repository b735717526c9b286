"""Tier 2 over a real Valkey: one round trip, versions and generations in order, and silence borne in bounds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from cache.bounded_valkey import FAILURES_MAX, OPERATION_MAX_S, BoundedValkey, CacheUnavailable, Script
from cache.cache_key import CacheKey, sealed_name
from cache.entries import Entry, Position
from cache.policy import SHARED_LIFE_MIN_S, D
from cache.valkey import OWED_MAX, RECENT_S, Found, Put, ValkeyTier, order
from tests.cache.building import KEY, KEYS, TAG, entry
from tests.cache.conftest import MortalValkey, TierAt
from tests.waiting import eventually

TAGS = ("*", TAG)
# What one operation may cost when Valkey is silent, with room for a machine that does other things.
SILENCE_MAX_S = OPERATION_MAX_S + 2.0
AT_ONCE = 200


def generation_name(tag: str) -> bytes:
    return sealed_name(KEYS.name_secret, "generation", tag)


def versioned(epoch: int, position: Position, *generations: int) -> Entry:
    return entry(epoch=epoch, position=position, tags=TAGS, generations=generations or (0, 0))


async def offer(tier: ValkeyTier, one: Entry, sealed: bytes = b"sealed") -> Put:
    return await tier.put(KEY, sealed, entry=one, life_s=60)


async def test_what_was_put_is_found_with_its_order_and_generations(tier: ValkeyTier) -> None:
    one = versioned(3, (1, 77), 0, 12)
    assert await offer(tier, one) is Put.STORED
    found = await tier.get(KEY, TAGS)
    assert (found.sealed, found.order, found.generations) == (b"sealed", order(one), (0, 12))


async def test_nothing_there_means_unknown_generations_not_zero(tier: ValkeyTier) -> None:
    found = await tier.get(KEY, TAGS)
    assert (found.sealed, found.generations) == (None, (None, None))


@given(*[st.integers(0, 2**63 - 1)] * 2, *[st.integers(0, 2**32 - 1)] * 2, *[st.integers(0, 2**64 - 1)] * 2)
def test_order_compares_as_epoch_timeline_and_lsn_do(
    epoch: int, epoch_2: int, timeline: int, timeline_2: int, lsn: int, lsn_2: int
) -> None:
    one, other = (epoch, (timeline, lsn)), (epoch_2, (timeline_2, lsn_2))
    assert (order(versioned(*one)) > order(versioned(*other))) == (one > other)


def test_a_position_out_of_range_is_not_written_down() -> None:
    with pytest.raises(ValueError, match="out of range"):
        order(versioned(1, (10**10, 0)))


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ((1, (1, 100)), (1, (1, 99)), Put.OLDER),
        ((1, (1, 100)), (1, (1, 100)), Put.STORED),
        ((1, (1, 99)), (1, (1, 100)), Put.STORED),
        ((2, (1, 50)), (1, (1, 900)), Put.OLDER),
        ((1, (1, 900)), (2, (1, 50)), Put.STORED),
        ((1, (2, 5)), (1, (1, 900)), Put.OLDER),
        ((1, (1, 2**64 - 1)), (1, (1, 2**64 - 2)), Put.OLDER),
    ],
)
async def test_an_older_version_never_replaces_a_newer_one(
    tier: ValkeyTier, first: tuple[int, Position], second: tuple[int, Position], outcome: Put
) -> None:
    await offer(tier, versioned(*first), b"first")
    assert await offer(tier, versioned(*second), b"second") is outcome
    found = await tier.get(KEY, TAGS)
    assert found.sealed == (b"first" if outcome is Put.OLDER else b"second")


async def test_an_entry_purged_while_it_was_fetched_is_not_stored(tier: ValkeyTier) -> None:
    await tier.raise_generations([TAG], 5)
    assert await offer(tier, versioned(1, (1, 1), 0, 4)) is Put.PURGED
    assert (await tier.get(KEY, TAGS)).sealed is None
    assert await offer(tier, versioned(1, (1, 1), 0, 5)) is Put.STORED


async def test_generations_never_fall(tier: ValkeyTier) -> None:
    for value in (10, 9, 2**62, 2**62 - 1, 3):
        await tier.raise_generations([TAG], value)
    found = await tier.get(KEY, (TAG,))
    assert found.generations == (2**62,)


async def test_an_evicted_generation_hides_the_entry(tier: ValkeyTier, raw: Redis) -> None:
    await offer(tier, versioned(1, (1, 1), 0, 4))
    await raw.delete(generation_name(TAG))
    found = await tier.get(KEY, TAGS)
    assert found.generations == (0, None)


@pytest.mark.parametrize("garbage", [b"", b"-1", b"1e9", b"nonsense", b"9" * 40, b"\xff\x00"])
async def test_a_generation_that_is_no_number_is_unknown_and_can_be_raised(
    tier: ValkeyTier, raw: Redis, garbage: bytes
) -> None:
    await raw.set(generation_name(TAG), garbage)
    found = await tier.get(KEY, (TAG,))
    assert found.generations == (None,)
    if len(garbage) < 20:
        await tier.raise_generations([TAG], 8)
        assert (await tier.get(KEY, (TAG,))).generations == (8,)


async def test_garbage_and_other_types_under_our_names_are_replaced(tier: ValkeyTier, raw: Redis) -> None:
    name = KEY.sealed_name(KEYS.name_secret)
    await raw.set(name, b"short")
    assert (await tier.get(KEY, TAGS)).order == b""
    assert await offer(tier, versioned(1, (1, 1))) is Put.STORED
    await raw.delete(name, generation_name(TAG))
    await raw.rpush(name, b"a list")
    await raw.rpush(generation_name(TAG), b"a list")
    assert (await tier.get(KEY, TAGS)).sealed is None
    assert await offer(tier, versioned(1, (1, 1))) is Put.STORED


async def test_an_entry_ends_with_its_life_and_a_generation_outlives_it(tier: ValkeyTier, raw: Redis) -> None:
    await offer(tier, versioned(1, (1, 1)))
    await tier.raise_generations(["other"], 3)
    life_ms = await raw.pttl(KEY.sealed_name(KEYS.name_secret))
    assert 55_000 < life_ms <= 60_000
    for tag in (TAG, "*", "other"):
        assert await raw.pttl(generation_name(tag)) > 7 * 24 * 3600 * 1000


async def test_a_dropped_entry_is_gone(tier: ValkeyTier) -> None:
    await offer(tier, versioned(1, (1, 1)))
    await tier.drop(KEY)
    assert (await tier.get(KEY, TAGS)).sealed is None


async def test_body_and_generations_come_in_one_round_trip_and_a_connection_opens_without_chatter(
    tier: ValkeyTier, raw: Redis
) -> None:
    await raw.config_resetstat()
    await tier.get(KEY, TAGS)
    asked = set(await raw.info("commandstats"))
    assert asked - {"cmdstat_config|resetstat"} == {"cmdstat_auth", "cmdstat_mget"}


async def test_a_purge_costs_the_same_whether_one_entry_has_the_tag_or_thousands(
    tier: ValkeyTier, raw: Redis
) -> None:
    asked = []
    for generation, entries in enumerate((1, 3_000), start=1):
        one = versioned(1, (1, 1), 0, generation - 1)
        keys = [
            msgspec.structs.replace(KEY, resource=f"{KEY.resource}/{number}") for number in range(entries)
        ]
        for first in range(0, entries, AT_ONCE):
            some = keys[first : first + AT_ONCE]
            await asyncio.gather(*[tier.put(key, b"sealed", entry=one, life_s=60) for key in some])
        await raw.config_resetstat()
        await tier.raise_generations([TAG], generation)
        asked.append({name: stat["calls"] for name, stat in (await raw.info("commandstats")).items()})
        assert (await tier.get(keys[-1], TAGS)).generations == (0, generation)
    assert asked[0] == asked[1]
    assert not [name for name in asked[1] if "scan" in name or "keys" in name or "members" in name]


async def test_scripts_come_back_after_valkey_forgot_them(tier: ValkeyTier, raw: Redis) -> None:
    await offer(tier, versioned(1, (1, 1)))
    await raw.script_flush()
    assert await offer(tier, versioned(1, (1, 2))) is Put.STORED


async def test_an_offer_is_one_script_where_all_names_are_in_one_place(tier: ValkeyTier, raw: Redis) -> None:
    await offer(tier, versioned(1, (1, 1)))
    await raw.config_resetstat()
    assert await offer(tier, versioned(1, (1, 2))) is Put.STORED
    asked = {name: stat["calls"] for name, stat in (await raw.info("commandstats")).items()}
    assert asked["cmdstat_evalsha"] == 1


async def test_an_older_offer_says_the_generations_that_were_lost_all_the_same(
    tier: ValkeyTier, raw: Redis
) -> None:
    await offer(tier, versioned(1, (1, 2), 0, 4), b"newer")
    await raw.delete(generation_name(TAG))
    assert await offer(tier, versioned(1, (1, 1), 0, 4), b"older") is Put.OLDER
    found = await tier.get(KEY, TAGS)
    assert (found.sealed, found.generations) == (b"newer", (0, 4))


async def test_an_offer_of_a_purged_entry_says_the_other_generations_all_the_same(
    tier: ValkeyTier, raw: Redis
) -> None:
    await tier.raise_generations([TAG], 5)
    assert await offer(tier, versioned(1, (1, 1), 3, 4)) is Put.PURGED
    assert (await tier.get(KEY, TAGS)).generations == (3, 5)


async def test_an_entry_whose_tags_and_generations_differ_in_number_is_not_offered(tier: ValkeyTier) -> None:
    for generations in ((0,), (0, 0, 0)):
        with pytest.raises(ValueError, match="differ in number"):
            await offer(tier, versioned(1, (1, 1), *generations))
    assert (await tier.get(KEY, TAGS)).sealed is None


async def test_an_offer_keeps_the_generations_alive_and_says_them_where_they_were_lost(
    tier: ValkeyTier, raw: Redis
) -> None:
    await tier.raise_generations([TAG], 4)
    await raw.pexpire(generation_name(TAG), 1_000)
    await raw.delete(generation_name("*"))
    assert await offer(tier, versioned(1, (1, 1), 3, 4)) is Put.STORED
    assert (await tier.get(KEY, TAGS)).generations == (3, 4)
    for tag in (TAG, "*"):
        assert await raw.pttl(generation_name(tag)) > 7 * 24 * 3600 * 1000


@pytest.mark.parametrize("known", [True, False], ids=["generations-known", "generations-unknown"])
async def test_a_refusal_is_unavailable_but_does_not_open_the_breaker(
    tier: ValkeyTier, raw: Redis, *, known: bool
) -> None:
    if known:  # what is written first must be what takes room: after that a full Valkey lets a script go on
        for tag in TAGS:
            await raw.set(generation_name(tag), 0)
    await raw.config_set("maxmemory", "1")
    await raw.config_set("maxmemory-policy", "noeviction")
    try:
        for position in range(FAILURES_MAX + 2):
            with pytest.raises(CacheUnavailable):
                await offer(tier, versioned(1, (1, position)))
        assert (await tier.get(KEY, TAGS)).sealed is None
    finally:
        await raw.config_set("maxmemory", str(64 * 1024 * 1024))
        await raw.config_set("maxmemory-policy", "volatile-ttl")


async def test_under_pressure_what_is_shared_outlives_what_is_personal(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    body = bytes(2048)

    async def offered(kind: str, number: int, life_s: float) -> CacheKey:
        key = CacheKey(resource=f"{kind}/{number}", view="family")
        await tier.put(key, body, entry=versioned(1, (1, 1)), life_s=life_s)
        return key

    async with Redis.from_url(mortal_valkey.url) as raw:
        shared = [await offered("classes", number, SHARED_LIFE_MIN_S) for number in range(100)]
        used = (await raw.info("memory"))["used_memory"]
        await raw.config_set("maxmemory-policy", "volatile-ttl")
        await raw.config_set("maxmemory", str(used + 1024 * 1024))
        personal = [await offered("pupils", number, D.life_s) for number in range(2_000)]
        assert (await raw.info("stats"))["evicted_keys"] > 500
    assert (await tier.get(personal[-1], TAGS)).generations == (0, 0), "generations stay"
    gone = [key for key in shared if (await tier.get(key, TAGS)).sealed is None]
    assert len(gone) <= 5, "Valkey chooses among a few at random"


async def test_nobody_listening_is_unavailable_at_once(tier_at: TierAt) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        tier = tier_at(f"redis://127.0.0.1:{unheard.getsockname()[1]}/0")
        for _ in range(FAILURES_MAX + 1):
            with pytest.raises(CacheUnavailable):
                await tier.get(KEY, TAGS)


async def test_a_hung_valkey_costs_three_time_outs_then_nothing_until_the_next_probe(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    await offer(tier, versioned(1, (1, 1)))
    mortal_valkey.signal(signal.SIGSTOP)
    for _ in range(FAILURES_MAX):
        began = time.monotonic()
        with pytest.raises(CacheUnavailable, match=r"says nothing|TimeoutError"):
            await tier.get(KEY, TAGS)
        assert time.monotonic() - began < SILENCE_MAX_S
    began = time.monotonic()
    for _ in range(200):
        with pytest.raises(CacheUnavailable, match="not asked"):
            await tier.get(KEY, TAGS)
    assert time.monotonic() - began < SILENCE_MAX_S, "two hundred reads cost less than a handful of time-outs"
    mortal_valkey.signal(signal.SIGCONT)
    assert await eventually(lambda: answered(tier), within_s=5)


async def test_a_killed_valkey_is_used_again_once_it_is_back(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    await offer(tier, versioned(1, (1, 1)))
    mortal_valkey.kill()
    with pytest.raises(CacheUnavailable):
        await tier.get(KEY, TAGS)
    await mortal_valkey.start()
    assert await eventually(lambda: answered(tier), within_s=5)
    assert await offer(tier, versioned(1, (1, 1))) is Put.STORED


async def test_who_answers_in_valkeys_place_is_told_what_was_purged_a_moment_ago(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    now = [0.0]
    tier = ValkeyTier(mortal_valkey.url, name_secret=KEYS.name_secret, monotonic=lambda: now[0])
    await tier.raise_generations(["long ago"], 3)
    now[0] += RECENT_S
    await tier.raise_generations([TAG], 5)
    now[0] += 1.0
    mortal_valkey.kill()
    await mortal_valkey.start()  # as empty as a replica that had heard nothing
    async with Redis.from_url(mortal_valkey.url) as client:

        async def told() -> bool:
            now[0] += 1.0
            with contextlib.suppress(CacheUnavailable):
                await tier.get(KEY, TAGS)
            return await client.get(generation_name(TAG)) == b"5"

        assert await eventually(told, within_s=5)
        assert await client.get(generation_name("long ago")) is None
    await tier.aclose()


async def test_what_is_owed_is_paid_once_however_many_read_meanwhile(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    purged = [f"tag {number}" for number in range(OWED_MAX // 2)]
    await tier.raise_generations(purged, 5)
    async with Redis.from_url(mortal_valkey.url) as client:
        await client.client_kill_filter(skipme=True)
        await client.config_resetstat()

        async def all_read() -> bool:
            reads = await asyncio.gather(*[tier.get(KEY, TAGS) for _ in range(200)], return_exceptions=True)
            return not any(isinstance(one, CacheUnavailable) for one in reads)

        assert await eventually(all_read, within_s=5)
        calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        assert calls <= 2 * len(purged)


async def test_a_purge_that_is_told_again_is_the_highest_of_its_tag(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    for value in (12, 10):
        await tier.raise_generations([TAG], value)
    mortal_valkey.kill()
    await mortal_valkey.start()

    async def told() -> bool:
        with contextlib.suppress(CacheUnavailable):
            return (await tier.get(KEY, (TAG,))).generations == (12,)
        return False

    assert await eventually(told, within_s=5)


async def test_more_purges_than_can_be_told_again_are_told_as_one_of_everything(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    for number in range(OWED_MAX + 2):
        await tier.raise_generations([f"tag {number}"], number)
    mortal_valkey.kill()
    await mortal_valkey.start()

    async def told() -> bool:
        with contextlib.suppress(CacheUnavailable):
            return (await tier.get(KEY, ("*",))).generations[0] is not None
        return False

    assert await eventually(told, within_s=5)


async def test_a_purge_that_valkey_missed_arrives_before_it_is_read_again(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    await offer(tier, versioned(1, (1, 1), 0, 0))
    mortal_valkey.signal(signal.SIGSTOP)
    with pytest.raises(CacheUnavailable):
        await tier.raise_generations([TAG], 9)
    mortal_valkey.signal(signal.SIGCONT)
    found = await eventually(lambda: answered(tier), within_s=5)
    assert isinstance(found, Found)
    assert found.generations == (0, 9)


async def test_too_many_missed_purges_become_one_of_everything(
    mortal_valkey: MortalValkey, tier_at: TierAt
) -> None:
    tier = tier_at(mortal_valkey.url)
    mortal_valkey.signal(signal.SIGSTOP)
    with pytest.raises(CacheUnavailable):
        await tier.raise_generations([f"grades:{number}" for number in range(OWED_MAX + 1)], 9)
    mortal_valkey.signal(signal.SIGCONT)
    found = await eventually(lambda: answered(tier), within_s=5)
    assert isinstance(found, Found)
    assert found.generations == (9, None)


async def answered(tier: ValkeyTier) -> Found | None:
    try:
        return await tier.get(KEY, TAGS)
    except CacheUnavailable:
        return None


class Busy:
    """What asks Valkey for scripts; tests make it wait, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate: asyncio.Event | None = None
        self.away = False
        self.asked: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None
        run_all = BoundedValkey.run_all

        async def asked(valkey: BoundedValkey, script: Script, given: Sequence[Any]) -> list[Any]:
            self.asked.append(len(given))
            self.meanwhile()
            if self.away:
                raise CacheUnavailable("away")
            if self.gate is not None:
                await self.gate.wait()
            return await run_all(valkey, script, given)

        monkeypatch.setattr(BoundedValkey, "run_all", asked)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Busy:
    return Busy(monkeypatch)


async def missed(tier: ValkeyTier, busy: Busy, tag: str, value: int) -> None:
    """A purge that Valkey does not hear of."""
    busy.away = True
    with pytest.raises(CacheUnavailable):
        await tier.raise_generations([tag], value)
    busy.away = False
    busy.asked.clear()


async def test_readers_wait_for_no_purge_that_is_on_its_way(tier: ValkeyTier, busy: Busy) -> None:
    busy.gate = asyncio.Event()
    purging = asyncio.create_task(tier.raise_generations([TAG], 5))
    await eventually(lambda: busy.asked, within_s=5)
    async with asyncio.timeout(5):
        assert (await tier.get(KEY, TAGS)).generations == (None, None)
    assert not purging.done()
    busy.gate.set()
    await purging
    assert (await tier.get(KEY, TAGS)).generations == (None, 5)


async def test_readers_wait_for_what_was_missed_before_they_came_and_for_nothing_later(
    tier: ValkeyTier, busy: Busy
) -> None:
    await missed(tier, busy, TAG, 5)
    busy.meanwhile = lambda: tier._owe({f"tag {len(busy.asked)}": 6})
    async with asyncio.timeout(5):
        assert (await tier.get(KEY, TAGS)).generations == (None, 5)
    assert busy.asked == [1]
    await tier.get(KEY, TAGS)
    assert len(busy.asked) == 2, "the next one tells of that"


async def test_a_purge_is_told_by_who_was_told_of_it_however_many_come_meanwhile(
    tier: ValkeyTier, busy: Busy
) -> None:
    busy.meanwhile = lambda: tier._owe({f"tag {len(busy.asked)}": 6})
    async with asyncio.timeout(5):
        await tier.raise_generations([TAG], 5)
    assert busy.asked == [1]


async def test_nobody_says_that_all_was_heard_before_he_told_what_valkey_missed(
    tier: ValkeyTier, raw: Redis, busy: Busy
) -> None:
    await missed(tier, busy, TAG, 5)
    await tier.note_heard(30)
    assert await raw.get(generation_name(TAG)) == b"5"
    assert await tier.was_heard()


@pytest.mark.parametrize("reply", [b"OK", 5, [], [1], None, 0])
async def test_only_a_yes_means_that_all_was_heard(
    tier: ValkeyTier, monkeypatch: pytest.MonkeyPatch, reply: object
) -> None:
    async def said(*_: object) -> object:
        return reply

    monkeypatch.setattr(BoundedValkey, "ask", said)
    assert not await tier.was_heard()
