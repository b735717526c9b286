"""Between an origin and a client only so much waits, in order, and what ends too soon never looks whole."""

from __future__ import annotations

import asyncio

import pytest

from cache.http import filling
from cache.http.filling import Body, Broken, Budget, Failed, Fill


async def read(body: Body) -> list[bytes]:
    return [chunk async for chunk in body.chunks()]


async def test_chunks_come_in_order_and_end() -> None:
    body = Body(Budget())
    reader = asyncio.create_task(read(body))
    for chunk in (b"one", b"two", b"three"):
        await body.bring(chunk)
    body.end()
    assert await reader == [b"one", b"two", b"three"]


async def test_who_brings_waits_while_too_much_is_unread() -> None:
    body = Body(Budget())
    await body.bring(b"x" * 10, ahead_max=10)
    second = asyncio.create_task(body.bring(b"y", ahead_max=10))
    await asyncio.sleep(0)
    assert not second.done()
    chunks = body.chunks()
    assert await anext(chunks) == b"x" * 10
    await second


async def test_who_brings_waits_for_nobody_who_has_left() -> None:
    body = Body(Budget())
    waiting = asyncio.create_task(body.bring(b"x" * 11, ahead_max=10))
    await asyncio.sleep(0)
    body.leave()
    await waiting
    await body.bring(b"y" * 11, ahead_max=10)
    assert body.left


async def test_a_reader_who_takes_nothing_for_too_long_is_broken_off_and_never_sees_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling, "READ_WITHIN_S", 0.01)
    body = Body(Budget())
    await body.bring(b"x" * 11, ahead_max=10)
    assert body.left
    body.end()
    with pytest.raises(Broken, match="too slowly"):
        await read(body)


async def test_a_slow_reader_who_takes_something_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "READ_WITHIN_S", 1.5)
    body = Body(Budget())
    for _ in range(4):
        await body.bring(b"x", ahead_max=10)
    bringing = asyncio.create_task(body.bring(b"x" * 10, ahead_max=9))
    chunks = body.chunks()
    for _ in range(4):
        await anext(chunks)
        await asyncio.wait([bringing], timeout=0.4)
    assert not bringing.done()
    assert not body.left
    await anext(chunks)
    await bringing


async def test_a_reader_who_left_in_the_middle_sees_no_end_either() -> None:
    body = Body(Budget())
    await body.bring(b"half")
    body.leave()
    with pytest.raises(Broken):
        await read(body)


async def test_what_waits_is_counted_until_it_is_read_or_left() -> None:
    budget = Budget(bytes_max=10)
    one, other = Body(budget), Body(budget)
    await one.bring(b"x" * 6)
    await other.bring(b"x" * 6)
    assert (budget.used, budget.spent) == (12, True)
    await anext(one.chunks())
    other.leave()
    assert (budget.used, budget.spent) == (0, False)


async def test_what_came_is_read_before_the_break_shows() -> None:
    body = Body(Budget())
    await body.bring(b"half")
    body.end(OSError("reset"))
    chunks = body.chunks()
    assert await anext(chunks) == b"half"
    with pytest.raises(Broken, match="reset"):
        await anext(chunks)


async def test_the_first_end_counts() -> None:
    body = Body(Budget())
    body.end()
    body.end(OSError("late"))
    assert await read(body) == []


@pytest.mark.parametrize("kept", [True, False])
async def test_others_wait_for_the_end_of_what_is_kept_and_for_nothing_else(kept: bool) -> None:
    fill: Fill[str] = Fill(Budget())
    other = asyncio.create_task(fill.useful_within(5))
    await asyncio.sleep(0)
    fill.decide("head", kept=kept)
    if kept:
        await asyncio.sleep(0)
        assert not other.done()
        fill.finish()
    assert await other is kept


async def test_others_wait_no_longer_than_they_may() -> None:
    fill: Fill[str] = Fill(Budget())
    assert not await fill.useful_within(0.001)
    assert not fill.head.done()


async def test_others_ask_for_themselves_as_soon_as_keeping_is_given_up() -> None:
    fill: Fill[str] = Fill(Budget())
    other = asyncio.create_task(fill.useful_within(5))
    fill.decide("head", kept=True)
    await asyncio.sleep(0)
    fill.give_up_keeping()
    assert not await asyncio.wait_for(other, 1)


async def test_an_error_is_of_use_to_others_at_once() -> None:
    fill: Fill[str] = Fill(Budget())
    fill.decide("head", failed=Failed.ALIKE)
    assert await fill.useful_within(5)
