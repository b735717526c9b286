"""The shared shelf: what Valkey shows, what it loses and what it does not answer; the rest is in test_shelf.py."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from cache.bounded_valkey import OPERATION_MAX_S, BoundedValkey
from cache.http import valkey_shelf
from cache.http.age import Manner
from cache.http.shelf import Away, Held
from cache.http.valkey_shelf import KEPT_S_MAX, KEPT_STALE_S, ValkeyShelf
from cache.sealing import Sealer, SealingKeys
from sandbox.valkey import ValkeyServer
from tests.cache.building import KEYS, NOW
from tests.cache.conftest import UNHURRIED_S, MortalValkey
from tests.cache.http.test_shelf import TARGET, put, stored
from tests.waiting import eventually

OTHER_KEYS = SealingKeys(current=2, keys={2: b"\x02" * 32})


class Shelves:
    """Makes shelves at a URL and closes them afterwards."""

    def __init__(self) -> None:
        self._made: list[ValkeyShelf] = []

    def at(
        self,
        url: str,
        keys: SealingKeys | None = None,
        on_away: Callable[[], None] = lambda: None,
        operation_max_s: float = UNHURRIED_S,
    ) -> ValkeyShelf:
        shelf = ValkeyShelf(
            BoundedValkey(url, monotonic=time.monotonic, operation_max_s=operation_max_s),
            manner=Manner(),
            clock=lambda: NOW,
            sealer=Sealer(keys) if keys else None,
            name_secret=keys.name_secret if keys else b"",
            on_away=on_away,
        )
        self._made.append(shelf)
        return shelf

    async def aclose(self) -> None:
        for shelf in self._made:
            await shelf.aclose()


@pytest.fixture
async def shelves() -> AsyncIterator[Shelves]:
    made = Shelves()
    yield made
    await made.aclose()


async def test_two_processes_share_what_one_of_them_put_and_what_one_of_them_invalidated(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    assert await raw.ping()
    one, other = shelves.at(valkey_server.url), shelves.at(valkey_server.url)
    before = await other.held(TARGET)
    await put(one, stored())
    assert await other.body(TARGET, "one") == b"body"
    await one.invalidate(TARGET)
    await other.put(TARGET, stored("two"), b"old", since=before)
    assert [(held.id, held.doubted) for held in (await other.held(TARGET)).stored] == [("one", True)]


async def test_with_keys_nothing_of_a_response_or_its_target_can_be_read_in_valkey(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    shelf = shelves.at(valkey_server.url, KEYS)
    await put(shelf, stored(x_secret="a-secret-field"), b"a secret body")
    assert await shelf.body(TARGET, "one") == b"a secret body"
    everything = b""
    for name in await raw.keys():
        kind = await raw.type(name)
        value = await (raw.hgetall(name) if kind == b"hash" else raw.get(name))
        everything += repr((name, value)).encode()
    assert everything
    assert not any(word in everything for word in (b"secret", b"timetable", b"origin"))


async def test_what_does_not_open_is_not_there(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    shelf = shelves.at(valkey_server.url, KEYS)
    await put(shelf, stored())
    for name in await raw.keys():
        if await raw.type(name) == b"string":
            await raw.set(name, b"\x01" + b"garbage" * 9)
        else:
            await raw.hset(name, "one", b"garbage")
    assert (await shelf.held(TARGET)).stored == ()
    assert await shelf.body(TARGET, "one") is None


async def test_a_head_that_is_no_head_is_not_there_without_keys_either(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    shelf = shelves.at(valkey_server.url)
    await put(shelf, stored())
    (name,) = [name for name in await raw.keys() if await raw.type(name) == b"hash"]
    head: Any = await raw.hget(name, "one")
    await raw.hset(name, mapping={"one": b"\xff", "two": head})
    assert (await shelf.held(TARGET)).stored == ()


async def test_an_evicted_body_is_not_there_and_an_evicted_target_keeps_nothing_that_was_on_its_way(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    shelf = shelves.at(valkey_server.url)
    await put(shelf, stored())
    before = await shelf.held(TARGET)
    await raw.flushall()
    assert await shelf.body(TARGET, "one") is None
    await shelf.put(TARGET, stored("two"), b"late", since=before)
    assert (await shelf.held(TARGET)).stored == ()


async def test_everything_ends_by_itself_when_nobody_could_use_it_any_more(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    shelf = shelves.at(valkey_server.url)
    await put(shelf, stored())
    await put(shelf, stored(cache_control="max-age=99999999"), target=TARGET + "?for=ever")
    await shelf.held("http://origin/never-stored")
    await shelf.invalidate("http://origin/invalidated")
    lives = sorted([await raw.ttl(name) for name in await raw.keys()])
    assert lives[0] > 0
    assert [life for life in lives if KEPT_STALE_S - 5 < life <= KEPT_STALE_S + 60]
    assert KEPT_S_MAX - 5 < lives[-1] <= KEPT_S_MAX


async def test_a_hung_valkey_reads_as_nothing_held_within_its_time_out(
    mortal_valkey: MortalValkey, shelves: Shelves
) -> None:
    away: list[None] = []
    shelf = shelves.at(mortal_valkey.url, on_away=lambda: away.append(None), operation_max_s=OPERATION_MAX_S)
    await put(shelf, stored())
    mortal_valkey.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert (await shelf.held(TARGET)).stored == ()
    with pytest.raises(Away):
        await shelf.body(TARGET, "one")
    assert not await shelf.put(TARGET, stored(), b"body", since=Held("1"))
    await shelf.invalidate(TARGET)
    assert time.monotonic() - began < 3 * OPERATION_MAX_S + 2.0
    assert len(away) == 4
    mortal_valkey.signal(signal.SIGCONT)


@pytest.mark.parametrize("keys", [None, OTHER_KEYS])
async def test_what_was_sealed_with_other_keys_or_none_is_not_there(
    keys: SealingKeys | None, valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    assert await raw.ping()
    await put(shelves.at(valkey_server.url, keys), stored())
    assert (await shelves.at(valkey_server.url, KEYS).held(TARGET)).stored == ()


# Invalidations that Valkey does not hear


async def test_an_invalidation_that_valkey_missed_is_heard_by_all_once_it_is_back(
    mortal_valkey: MortalValkey, shelves: Shelves
) -> None:
    one, other = (shelves.at(mortal_valkey.url, operation_max_s=OPERATION_MAX_S) for _ in range(2))
    await put(one, stored())
    mortal_valkey.signal(signal.SIGSTOP)
    await one.invalidate(TARGET)
    mortal_valkey.signal(signal.SIGCONT)
    await eventually(lambda: _doubted(one), within_s=5)
    assert await _doubted(other)


async def test_more_missed_invalidations_than_can_be_named_invalidate_everything_for_all(
    mortal_valkey: MortalValkey, shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_shelf, "OWED_MAX", 2)
    one, other = (shelves.at(mortal_valkey.url, operation_max_s=OPERATION_MAX_S) for _ in range(2))
    await put(one, stored())
    mortal_valkey.signal(signal.SIGSTOP)
    for number in range(3):
        await one.invalidate(f"{TARGET}?{number}")
    mortal_valkey.signal(signal.SIGCONT)
    await eventually(lambda: _doubted(one), within_s=5)
    assert await _doubted(other)
    await put(one, stored("two"))
    assert [held.id for held in (await other.held(TARGET)).stored if not held.doubted] == ["two"]
    await one.invalidate(TARGET)
    assert all(held.doubted for held in (await other.held(TARGET)).stored), "they still are one"


async def test_an_everything_that_was_evicted_is_another_everything(
    valkey_server: ValkeyServer, raw: Redis, shelves: Shelves
) -> None:
    shelf = shelves.at(valkey_server.url)
    await put(shelf, stored())
    (everything,) = await raw.keys("*:everything")
    await raw.delete(everything)
    assert await _doubted(shelf)


async def _doubted(shelf: ValkeyShelf) -> bool:
    """Whether the one that is held is to be validated first."""
    return [one.doubted for one in (await shelf.held(TARGET)).stored] == [True]
