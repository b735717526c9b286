"""From an origin to the shelf: what is not kept says so, and takes with it what it has made outdated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache.http import client as clients
from cache.http import filling
from cache.http.age import Manner
from cache.http.fetching import Fetcher
from cache.http.filling import Broken
from cache.http.proxy import CachingProxy
from cache.http.reverse_proxy import ReverseProxy
from cache.http.shelf import Away, MemoryShelf
from tests.cache.http.origin import Client, Exchange, Origin, running_origin
from tests.waiting import eventually

KEPT = "max-age=600"


class Forgetful(MemoryShelf):
    """Memory that at times cannot say whether it holds a body, or keep one."""

    away = False

    async def body(self, target: str, id_: str) -> bytes | None:
        if self.away:
            raise Away
        return await super().body(target, id_)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as made:
        yield made


@pytest.fixture
def shelf() -> Forgetful:
    return Forgetful(bytes_max=4_000_000)


@pytest.fixture
async def proxy(origin: Origin, shelf: Forgetful) -> AsyncIterator[ReverseProxy]:
    made = ReverseProxy(origin.url, CachingProxy(shelf, manner=Manner(), fetcher=Fetcher()))
    yield made
    await made.aclose()


@pytest.mark.parametrize("told", [True, False], ids=["length", "no length"])
async def test_what_is_too_large_to_keep_takes_the_old_page_with_it(
    told: bool, origin: Origin, proxy: ReverseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryShelf, "body_bytes_max", 100)
    origin.says("/", b"v1", cache_control=KEPT)
    await Client(proxy).ask("/")

    async def grown(exchange: Exchange) -> None:
        if told:
            await exchange.answer(b"2" * 101, cache_control=KEPT)
            return
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: max-age=600\r\n\r\n" + b"2" * 101)
        exchange.close()

    origin.scripts["/"] = grown
    got = await Client(proxy).ask("/", cache_control="no-cache")
    assert ("stored" in got.cache_status) is not told, "of what is known beforehand nothing untrue is said"
    assert (await Client(proxy).ask("/")).body == b"2" * 101


async def test_while_too_much_is_gathered_nothing_more_is_said_to_be_stored(
    origin: Origin, proxy: ReverseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling.Budget, "spent", True)
    origin.says("/", b"page", cache_control=KEPT)
    for _ in range(2):
        got = await Client(proxy).ask("/")
        assert (got.body, got.cache_status) == (b"page", "massar; fwd=uri-miss; fwd-status=200")


async def test_a_shelf_that_cannot_say_whether_it_holds_a_body_loses_nothing(
    origin: Origin, proxy: ReverseProxy, shelf: Forgetful
) -> None:
    origin.says("/", b"page", cache_control=KEPT)
    await Client(proxy).ask("/")
    shelf.away = True
    assert (await Client(proxy).ask("/")).body == b"page"
    shelf.away = False
    assert "; hit" in (await Client(proxy).ask("/")).cache_status
    assert origin.times("/") == 2


async def test_a_validated_page_whose_body_is_out_of_reach_is_asked_for_as_a_whole(
    origin: Origin, proxy: ReverseProxy, shelf: Forgetful
) -> None:
    async def script(exchange: Exchange) -> None:
        status = 304 if "if-none-match" in exchange.fields else 200
        await exchange.answer(
            b"page" if status == 200 else b"", status=status, etag='"a"', cache_control="no-cache"
        )

    origin.scripts["/"] = script
    await Client(proxy).ask("/")
    shelf.away = True
    got = await Client(proxy).ask("/")
    assert (got.status, got.body) == (200, b"page")


# Clients who give and take slowly


async def test_slow_writers_who_gives_nothing_of_his_content_is_told_that_it_took_too_long(
    origin: Origin, proxy: ReverseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "RECEIVE_WITHIN_S", 0.05)
    origin.says("/", b"thanks")
    assert (await Client(proxy).ask("/", method="POST", content_length="10")).status == 408


async def test_slow_readers_of_what_is_kept_are_broken_off_when_too_much_waits_and_it_is_kept(
    origin: Origin, proxy: ReverseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "AHEAD_BYTES_MAX", 10_000)
    page = b"x" * 1_000_000
    origin.says("/", page, cache_control=KEPT)
    spent = [False]
    monkeypatch.setattr(filling.Budget, "spent", property(lambda _: spent[0]))
    slow, reading = Client(proxy), asyncio.Event()

    async def slowly(_: bytes) -> None:
        spent[0] = False
        await reading.wait()

    slow.on_chunk = slowly
    asking = asyncio.create_task(slow.ask("/"))
    await slow.started.wait()

    async def kept() -> bool:
        return "; hit" in (await Client(proxy).ask("/", cache_control="only-if-cached")).cache_status

    assert await eventually(kept, within_s=5), "who reads slowly holds nobody up"
    reading.set()
    assert (await asking).body == page


async def test_a_client_that_left_is_nobodys_error(
    origin: Origin, proxy: ReverseProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: no-store\r\n\r\nfirst")
        await exchange.gone()

    origin.scripts["/"] = script
    client = Client(proxy)
    asking = asyncio.create_task(client.ask("/"))
    await client.started.wait()
    client.leave()
    await asyncio.wait_for(asking, 5)
    assert not client.got.whole
    assert not caplog.records


async def test_a_broken_body_is_an_error_to_who_still_reads_it(origin: Origin, proxy: ReverseProxy) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf")
        exchange.close()

    origin.scripts["/"] = script
    with pytest.raises(Broken):
        await Client(proxy).ask("/")


async def test_copies_that_are_lent_to_readers_have_an_end(
    origin: Origin, shelf: Forgetful, proxy: ReverseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.says("/", b"page", cache_control=KEPT)
    await Client(proxy).ask("/")
    shelf.copies = True
    slow, reading = Client(proxy), asyncio.Event()

    async def slowly(_: bytes) -> None:
        await reading.wait()

    slow.on_chunk = slowly
    asking = asyncio.create_task(slow.ask("/"))
    await slow.started.wait()
    monkeypatch.setattr(filling.Budget, "spent", property(lambda budget: budget.used > 0))
    assert (await Client(proxy).ask("/")).status == 503
    reading.set()
    assert (await asking).body == b"page"
    assert (await Client(proxy).ask("/")).status == 200
