"""What a shelf keeps, of one process or shared: whole bodies, bounded, and nothing from before an invalidation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from cache.bounded_valkey import BoundedValkey
from cache.http.age import Manner
from cache.http.fields import Fields
from cache.http.messages import Stored
from cache.http.shelf import OVERHEAD_BYTES, VARIANTS_MAX, MemoryShelf, Shelf
from cache.http.valkey_shelf import ValkeyShelf
from sandbox.valkey import ValkeyServer
from tests.cache.building import NOW

TARGET = "http://origin/timetable"


def stored(id_: str = "one", *, at: float = NOW, **values: str) -> Stored:
    given = Fields().replaced(**{"cache_control": "max-age=60", **values})
    return Stored(id=id_, status=200, fields=given, requested_at=at, received_at=at, length=4)


@pytest.fixture(params=["memory", "valkey"])
async def shelf(
    request: pytest.FixtureRequest, valkey_server: ValkeyServer, raw: Redis
) -> AsyncIterator[Shelf]:
    assert await raw.ping()
    made: Shelf = MemoryShelf(bytes_max=1_000_000)
    if request.param == "valkey":
        valkey = BoundedValkey(valkey_server.url, monotonic=time.monotonic, operation_max_s=5)
        made = ValkeyShelf(valkey, manner=Manner(), clock=lambda: NOW)
    yield made
    await made.aclose()


async def put(shelf: Shelf, one: Stored, body: bytes = b"body", target: str = TARGET) -> None:
    await shelf.put(target, one, body, since=await shelf.held(target))


async def test_nothing_is_held_at_first(shelf: Shelf) -> None:
    assert (await shelf.held(TARGET)).stored == ()
    assert await shelf.body(TARGET, "one") is None


async def test_what_was_put_is_held_with_its_body(shelf: Shelf) -> None:
    await put(shelf, stored())
    assert (await shelf.held(TARGET)).stored == (stored(),)
    assert await shelf.body(TARGET, "one") == b"body"


async def test_targets_share_nothing(shelf: Shelf) -> None:
    await put(shelf, stored())
    other = TARGET + "?week=2"
    assert (await shelf.held(other)).stored == ()
    assert await shelf.body(other, "one") is None


async def test_variants_stand_beside_each_other_and_go_one_by_one(shelf: Shelf) -> None:
    for id_ in ("ar", "fr"):
        await put(shelf, stored(id_), id_.encode())
    await shelf.drop(TARGET, ["ar"])
    assert [one.id for one in (await shelf.held(TARGET)).stored] == ["fr"]
    assert await shelf.body(TARGET, "ar") is None
    assert await shelf.body(TARGET, "fr") == b"fr"


async def test_beyond_the_most_variants_the_oldest_goes(shelf: Shelf) -> None:
    for number in range(VARIANTS_MAX + 2):
        await put(shelf, stored(f"v{number}", at=NOW + number))
    held = {one.id for one in (await shelf.held(TARGET)).stored}
    assert held == {f"v{number}" for number in range(2, VARIANTS_MAX + 2)}


async def test_a_freshened_head_replaces_the_old_one_and_the_body_stays(shelf: Shelf) -> None:
    await put(shelf, stored())
    fresh = stored(at=NOW + 30, etag='"2"')
    await shelf.freshen(TARGET, fresh, generation=(await shelf.held(TARGET)).generation)
    assert (await shelf.held(TARGET)).stored == (fresh,)
    assert await shelf.body(TARGET, "one") == b"body"


async def test_what_is_gone_is_not_freshened_back(shelf: Shelf) -> None:
    await put(shelf, stored())
    await shelf.drop(TARGET, ["one"])
    await shelf.freshen(TARGET, stored(), generation=(await shelf.held(TARGET)).generation)
    assert (await shelf.held(TARGET)).stored == ()


async def test_after_an_invalidation_everything_is_doubted_until_it_is_validated(shelf: Shelf) -> None:
    await put(shelf, stored())
    await shelf.invalidate(TARGET)
    held = await shelf.held(TARGET)
    assert [one.doubted for one in held.stored] == [True]
    await shelf.freshen(TARGET, stored(), generation=held.generation)
    assert [one.doubted for one in (await shelf.held(TARGET)).stored] == [False]


async def test_what_was_asked_for_before_an_invalidation_is_not_kept_after_it(shelf: Shelf) -> None:
    before = await shelf.held(TARGET)
    await shelf.invalidate(TARGET)
    await shelf.put(TARGET, stored(), b"old", since=before)
    assert (await shelf.held(TARGET)).stored == ()
    await put(shelf, stored(), b"new")
    assert await shelf.body(TARGET, "one") == b"new"


async def test_a_validation_that_began_before_an_invalidation_takes_no_doubt_away(shelf: Shelf) -> None:
    await put(shelf, stored())
    before = await shelf.held(TARGET)
    await shelf.invalidate(TARGET)
    await shelf.freshen(TARGET, stored(), generation=before.generation)
    assert [one.doubted for one in (await shelf.held(TARGET)).stored] == [True]


async def test_a_process_keeps_no_more_than_it_may_and_gives_up_what_was_unused_for_longest() -> None:
    shelf = MemoryShelf(bytes_max=10 * OVERHEAD_BYTES)
    for number in range(20):
        await put(shelf, stored(), target=f"/{number}")
        await shelf.held("/0")
        assert shelf.size <= 10 * OVERHEAD_BYTES
    assert (await shelf.held("/0")).stored
    assert not (await shelf.held("/1")).stored
    assert (await shelf.held("/19")).stored


async def test_a_body_larger_than_the_shelf_is_not_kept_and_moves_nothing() -> None:
    shelf = MemoryShelf(bytes_max=10 * OVERHEAD_BYTES)
    await put(shelf, stored(), target="/small")
    await put(shelf, stored(), b"x" * 11 * OVERHEAD_BYTES, target="/large")
    assert not (await shelf.held("/large")).stored
    assert (await shelf.held("/small")).stored


async def test_bytes_are_counted_back_to_nothing() -> None:
    shelf = MemoryShelf(bytes_max=1_000_000)
    await put(shelf, stored())
    await put(shelf, stored(at=NOW + 1), b"longer than before")
    await shelf.freshen(TARGET, stored(etag='"2"'), generation=(await shelf.held(TARGET)).generation)
    await shelf.drop(TARGET, ["one", "never there"])
    assert shelf.size == OVERHEAD_BYTES + len(TARGET)
    await shelf.aclose()
    assert shelf.size == 0


async def test_many_small_fields_are_counted_by_what_they_take() -> None:
    shelf = MemoryShelf(bytes_max=1_000_000)
    many = msgspec.structs.replace(stored(), fields=Fields((("x", ""),) * 9_000))
    await put(shelf, many)
    assert not (await shelf.held(TARGET)).stored


async def test_what_was_kept_and_what_was_not_is_told(shelf: Shelf) -> None:
    before = await shelf.held(TARGET)
    assert await shelf.put(TARGET, stored(), b"body", since=before)
    await shelf.invalidate(TARGET)
    assert not await shelf.put(TARGET, stored(), b"body", since=before)


async def test_an_invalidation_is_not_forgotten_with_the_target_that_had_to_make_room() -> None:
    shelf = MemoryShelf(bytes_max=4 * OVERHEAD_BYTES)
    before = await shelf.held(TARGET)
    await shelf.invalidate(TARGET)
    for number in range(9):
        await put(shelf, stored(), target=f"/{number}")
    await shelf.put(TARGET, stored(), b"old", since=before)
    assert not (await shelf.held(TARGET)).stored
