"""The proxy before a real origin that behaves well or badly, and clients that come together, stay and leave."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cache.http import proxy as driver
from cache.http.age import Manner
from cache.http.fetching import Fetcher, Reply, Unanswered
from cache.http.fields import rendered_date
from cache.http.filling import Broken
from cache.http.messages import Request
from cache.http.proxy import CachingProxy
from cache.http.reverse_proxy import ReverseProxy
from cache.http.shelf import MemoryShelf
from sandbox import ports
from tests.cache.building import NOW, Clock
from tests.cache.http.origin import Client, Exchange, Got, Origin, running_origin
from tests.waiting import eventually

MINUTE = "max-age=60"
LONG_AGO = rendered_date(NOW - 1_000_000)
READERS = 40


class Ground:
    """A proxy with a clock that obeys, before an origin that says what it is told."""

    def __init__(self, origin: Origin, *, manner: Manner, silent_s: float = 5.0) -> None:
        self.origin = origin
        self.clock = Clock()
        self.shelf = MemoryShelf(bytes_max=4_000_000)
        fetcher = Fetcher(silent_s=silent_s)
        proxy = CachingProxy(self.shelf, manner=manner, fetcher=fetcher, clock=self.clock)
        self.proxy = ReverseProxy(origin.url, proxy)

    async def ask(self, path: str = "/page", *, method: str = "GET", **values: str) -> Got:
        """What a new client gets."""
        return await Client(self.proxy).ask(path, method=method, content=None, **values)


@pytest.fixture
def manner() -> Manner:
    return Manner()


@pytest.fixture
async def ground(manner: Manner) -> AsyncIterator[Ground]:
    async with running_origin() as origin:
        made = Ground(origin, manner=manner)
        yield made
        await made.proxy.aclose()


def held_back(ground: Ground, path: str = "/page", **values: str) -> asyncio.Event:
    """Have the origin answer when the event is set."""
    answer = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await answer.wait()
        await exchange.answer(b"slow", status=200, **values)

    ground.origin.scripts[path] = script
    return answer


async def readers(ground: Ground, count: int = READERS) -> list[asyncio.Task[Got]]:
    """Clients that have all asked; the origin has heard of them what it will hear before it answers."""
    tasks = [asyncio.create_task(ground.ask()) for _ in range(count)]
    await eventually(lambda: ground.origin.times("/page"), within_s=5)
    return tasks


# What is stored is not asked for again


async def test_the_second_reader_is_answered_from_the_store(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control=MINUTE, x_own="kept")
    first, second = await ground.ask(), await ground.ask()
    assert (first.status, first.body, second.status, second.body) == (200, b"page", 200, b"page")
    assert second.fields.get("x-own") == "kept"
    assert ground.origin.times("/page") == 1
    assert first.cache_status == "massar; fwd=uri-miss; fwd-status=200; stored"
    assert second.cache_status == "massar; hit; ttl=60"


async def test_a_stale_page_is_validated_and_its_bytes_do_not_travel_again(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control=MINUTE, etag='"1"')
    await ground.ask()
    ground.clock.now += 61
    ground.origin.says("/page", status=304, cache_control=MINUTE, etag='"1"')
    again = await ground.ask()
    assert (again.status, again.body) == (200, b"page")
    assert ground.origin.asked[-1].fields.get("if-none-match") == '"1"'
    assert (await ground.ask()).cache_status == "massar; hit; ttl=60"


async def test_a_head_and_a_range_are_answered_from_the_stored_page(ground: Ground) -> None:
    ground.origin.says("/page", b"0123456789", cache_control=MINUTE)
    await ground.ask()
    head = await ground.ask(method="HEAD")
    part = await ground.ask(range="bytes=2-4")
    beyond = await ground.ask(range="bytes=10-")
    assert (head.status, head.body, head.fields.get("content-length")) == (200, b"", "10")
    assert (part.status, part.body, part.fields.get("content-range")) == (206, b"234", "bytes 2-4/10")
    assert (beyond.status, beyond.fields.get("content-range")) == (416, "bytes */10")
    assert ground.origin.times("/page") == 1


async def test_the_rest_of_a_part_is_asked_for_and_the_whole_is_kept(ground: Ground) -> None:
    def part(first: int, body: bytes) -> None:
        span = f"bytes {first}-{first + len(body) - 1}/10"
        ground.origin.says("/page", body, status=206, cache_control=MINUTE, etag='"1"', content_range=span)

    part(0, b"01234")
    await ground.ask(range="bytes=0-4")
    part(5, b"56789")
    whole = await ground.ask()
    assert (whole.status, whole.body) == (200, b"0123456789")
    assert ground.origin.asked[-1].fields.get("range") == "bytes=5-"
    assert (await ground.ask()).body == b"0123456789"
    assert ground.origin.times("/page") == 2


async def test_what_changed_by_an_unsafe_request_is_asked_for_again(ground: Ground) -> None:
    ground.origin.says("/page", b"old", cache_control=MINUTE)
    await ground.ask()
    ground.origin.says("/page", b"new", cache_control=MINUTE)
    assert (await Client(ground.proxy).ask("/page", method="POST", content=[b"a", b"b"])).status == 200
    assert ground.origin.asked[-1].body == b"ab"
    assert (await ground.ask()).body == b"new"


async def test_a_page_on_its_way_while_it_changes_is_not_kept(ground: Ground) -> None:
    answer = held_back(ground, cache_control=MINUTE)
    (reader,) = await readers(ground, 1)
    ground.origin.says("/page", status=204)
    await ground.ask(method="DELETE")
    answer.set()
    assert (await reader).body == b"slow"
    ground.origin.says("/page", b"new", cache_control=MINUTE)
    assert (await ground.ask()).body == b"new"


async def test_a_stale_page_is_served_while_one_asks_behind(ground: Ground) -> None:
    ground.origin.says("/page", b"old", cache_control="max-age=60, stale-while-revalidate=60")
    await ground.ask()
    ground.clock.now += 61
    answer = held_back(ground, cache_control=MINUTE)
    stale = [await ground.ask() for _ in range(5)]
    assert {got.body for got in stale} == {b"old"}
    assert stale[0].cache_status == "massar; hit; ttl=-1"
    answer.set()
    await eventually(lambda: _is(ground, b"slow"), within_s=5)
    assert ground.origin.times("/page") == 2


async def test_a_stale_page_stands_in_where_the_origin_allows_it(ground: Ground) -> None:
    ground.origin.says("/page", b"old", cache_control="max-age=60, stale-if-error=60")
    await ground.ask()
    ground.clock.now += 100
    ground.origin.says("/page", b"broken", status=503)
    assert (await ground.ask()).body == b"old"
    ground.clock.now += 100
    assert (await ground.ask()).status == 503


async def test_an_evicted_body_is_asked_for_again(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control=MINUTE)
    await ground.ask()

    async def gone(*_: str) -> None: ...

    ground.shelf.body = gone  # type: ignore[method-assign, assignment]  # a test's own
    assert (await ground.ask()).body == b"page"
    assert ground.origin.times("/page") == 2


async def test_the_old_page_stays_until_the_new_one_is_whole(ground: Ground) -> None:
    ground.origin.says("/page", b"old", cache_control="max-age=60, stale-if-error=600")
    await ground.ask()
    ground.clock.now += 61

    async def cut(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\ncontent-length: 9\r\n\r\nhalf")
        exchange.close()

    ground.origin.scripts["/page"] = cut
    with pytest.raises(Broken):
        await ground.ask()
    ground.origin.says("/page", b"broken", status=503)
    assert (await ground.ask()).body == b"old"


async def test_a_body_that_is_not_as_long_as_its_head_says_is_asked_for_again(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control="no-cache", etag='"1"')
    await ground.ask()

    async def garbage(*_: str) -> bytes:
        return b"garbage"

    kept, ground.shelf.body = ground.shelf.body, garbage  # type: ignore[method-assign, assignment]  # what a shelf may do
    ground.origin.says("/page", b"page", cache_control="no-cache", etag='"1"')
    answered = asyncio.create_task(ground.ask())
    await eventually(lambda: ground.origin.times("/page") > 1, within_s=5)
    ground.shelf.body = kept  # type: ignore[method-assign]  # as it was
    assert (await answered).body == b"page"


# One asks for what many want


async def test_many_readers_of_a_cold_page_are_one_request(ground: Ground) -> None:
    answer = held_back(ground, cache_control=MINUTE)
    tasks = await readers(ground)
    answer.set()
    got = await asyncio.gather(*tasks)
    assert {one.body for one in got} == {b"slow"}
    assert ground.origin.times("/page") == 1
    collapsed = [one for one in got if one.cache_status == "massar; fwd=uri-miss; collapsed"]
    assert len(collapsed) == READERS - 1


async def test_nobody_waits_for_the_end_of_what_is_not_for_all(ground: Ground) -> None:
    answer = held_back(ground, cache_control="private")
    tasks = await readers(ground, 5)
    answer.set()
    assert {got.body for got in await asyncio.gather(*tasks)} == {b"slow"}
    assert ground.origin.times("/page") == 5


async def test_an_origins_own_error_is_shared_too(ground: Ground) -> None:
    answer = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await answer.wait()
        await exchange.answer(b"broken", status=503)

    ground.origin.scripts["/page"] = script
    tasks = await readers(ground)
    answer.set()
    assert {got.status for got in await asyncio.gather(*tasks)} <= {502, 503}
    assert ground.origin.times("/page") == 1


async def test_error_poisoning_what_one_request_brings_on_itself_no_other_one_gets(ground: Ground) -> None:
    answer = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.fields.get("x-evil") is None:
            await exchange.answer(b"page", cache_control=MINUTE)
            return
        await answer.wait()
        await exchange.answer(b"broken", status=503)

    ground.origin.scripts["/page"] = script
    attacker = asyncio.create_task(ground.ask(x_evil="1"))
    await eventually(lambda: ground.origin.times("/page"), within_s=5)
    others = [asyncio.create_task(ground.ask()) for _ in range(READERS)]
    await asyncio.sleep(0)
    answer.set()
    assert {(got.status, got.body) for got in await asyncio.gather(*others)} == {(200, b"page")}
    assert (await attacker).status == 503
    assert ground.origin.times("/page") == 2, "and those who wait for nothing wait for each other"


async def test_error_poisoning_a_request_that_breaks_its_connection_breaks_no_others(ground: Ground) -> None:
    answer = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.fields.get("accept-language") == "ar":
            await exchange.answer(b"page", vary="accept-language", cache_control=MINUTE)
            return
        await answer.wait()
        exchange.close()

    ground.origin.scripts["/page"] = script
    attacker = asyncio.create_task(ground.ask(accept_language="x" * 9_000))
    await eventually(lambda: ground.origin.times("/page"), within_s=5)
    other = asyncio.create_task(ground.ask(accept_language="ar"))
    await asyncio.sleep(0)
    answer.set()
    assert (await other).body == b"page"
    assert (await attacker).status == 502


async def test_an_origin_that_is_not_there_is_so_for_everybody(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    tried = asyncio.Event()

    @asynccontextmanager
    async def nobody(
        _: Fetcher, request: Request, _content: AsyncIterator[bytes] | None
    ) -> AsyncIterator[Reply]:
        asked.append(request)
        await tried.wait()
        raise Unanswered("nobody is there", unreached=True)
        yield

    monkeypatch.setattr(Fetcher, "fetch", nobody)
    tasks = [asyncio.create_task(ground.ask(user_agent=str(number))) for number in range(READERS)]
    await eventually(lambda: asked, within_s=5)
    tried.set()
    assert {got.status for got in await asyncio.gather(*tasks)} == {502}
    assert len(asked) == 1


async def test_an_error_is_shared_not_multiplied(ground: Ground) -> None:
    answer = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await answer.wait()
        exchange.close()

    ground.origin.scripts["/page"] = script
    tasks = await readers(ground)
    answer.set()
    assert {got.status for got in await asyncio.gather(*tasks)} == {502}
    assert ground.origin.times("/page") == 1


async def test_a_fill_outlives_the_client_that_began_it(ground: Ground) -> None:
    answer = held_back(ground, cache_control=MINUTE)
    (first,) = await readers(ground, 1)
    others = [asyncio.create_task(ground.ask()) for _ in range(3)]
    first.cancel()
    answer.set()
    assert {got.body for got in await asyncio.gather(*others)} == {b"slow"}
    assert ground.origin.times("/page") == 1


async def test_too_many_requests_at_once_are_told_to_come_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "FORWARDS_MAX", 1)
    answer = held_back(ground, cache_control="no-store")
    (first,) = await readers(ground, 1)
    ground.origin.says("/other", b"other")
    busy = await ground.ask("/other")
    assert (busy.status, busy.cache_status) == (503, "massar; fwd=uri-miss; detail=busy")
    answer.set()
    assert (await first).status == 200
    await eventually(lambda: _status(ground, "/other", 200), within_s=5)


async def test_a_stale_page_that_many_ask_for_is_refreshed_once_whatever_they_send(ground: Ground) -> None:
    ground.origin.says("/page", b"old", cache_control="public, max-age=60, stale-while-revalidate=60")
    await ground.ask()
    ground.clock.now += 61
    answer = held_back(ground, cache_control="public, max-age=60")
    for number in range(5):
        assert (await ground.ask(authorization=f"Basic {number}")).body == b"old"
    answer.set()
    await eventually(lambda: _is(ground, b"slow"), within_s=5)
    assert ground.origin.times("/page") == 2


async def test_a_page_that_grows_too_large_to_keep_holds_nobody_up(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryShelf, "body_bytes_max", 1000)
    goes_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\n\r\n" + b"x" * 2000)
        await goes_on.wait()
        exchange.close()

    ground.origin.scripts["/page"] = script
    tasks = await readers(ground, 3)
    await eventually(lambda: ground.origin.times("/page") == 3, within_s=5)
    goes_on.set()
    assert {len(got.body) for got in await asyncio.gather(*tasks)} == {2000}


async def test_a_failure_is_shared_by_those_who_wait_and_by_nobody_who_comes_later(ground: Ground) -> None:
    goes_on = asyncio.Event()

    async def stalls(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nhalf")
        await goes_on.wait()

    ground.origin.scripts["/page"] = stalls
    client = Client(ground.proxy)
    failing = asyncio.create_task(client.ask("/page", x_breaks="1"))
    await client.started.wait()
    ground.origin.says("/page", b"page", cache_control=MINUTE)
    assert (await ground.ask()).body == b"page"
    goes_on.set()
    failing.cancel()


async def test_who_is_waited_for_in_vain_is_followed_by_one_not_by_all(ground: Ground) -> None:
    asked: list[str] = []
    answer = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        language = exchange.fields.get("accept-language") or ""
        asked.append(language)
        await answer.wait()
        await exchange.answer(language.encode(), vary="Accept-Language", cache_control=MINUTE)

    ground.origin.scripts["/page"] = script
    first = asyncio.create_task(ground.ask(accept_language="ar"))
    await eventually(lambda: asked, within_s=5)
    others = [asyncio.create_task(ground.ask(accept_language="fr")) for _ in range(READERS)]
    for _ in range(READERS):
        await asyncio.sleep(0)
    answer.set()
    assert (await first).body == b"ar"
    assert {got.body for got in await asyncio.gather(*others)} == {b"fr"}
    assert asked == ["ar", "fr"]


# Room


async def test_one_origin_leaves_room_for_the_others(ground: Ground) -> None:
    async with running_origin() as other:
        proxy = CachingProxy(
            ground.shelf, manner=Manner(), fetcher=Fetcher(), forwards_per_origin_max=2, clock=ground.clock
        )
        silent, fine = ReverseProxy(ground.origin.url, proxy), ReverseProxy(other.url, proxy)
        answer = held_back(ground, cache_control="no-store")
        waiting = [asyncio.create_task(Client(silent).ask(f"/page?{number}")) for number in range(2)]
        await eventually(lambda: len(ground.origin.asked) == 2, within_s=5)
        assert (await Client(silent).ask("/page?3")).status == 503
        other.says("/page", b"page")
        assert (await Client(fine).ask("/page")).body == b"page"
        answer.set()
        assert {got.status for got in await asyncio.gather(*waiting)} == {200}
        await proxy.aclose()


async def test_slow_writers_leave_room_for_readers(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CONTENT_FORWARDS_MAX", 2)
    ground.origin.says("/page", b"page")
    writers = [Client(ground.proxy) for _ in range(2)]
    writing = [asyncio.create_task(one.ask("/page", method="POST", content_length="9")) for one in writers]

    async def full() -> bool:
        late = Client(ground.proxy)
        asking = asyncio.create_task(late.ask("/page", method="POST", content=[b"x"]))
        return (await asking).status == 503

    assert await eventually(full, within_s=5)
    assert (await ground.ask()).body == b"page"
    for one in writers:
        one.leave()
    await asyncio.gather(*writing)


async def test_a_client_that_leaves_before_the_answer_is_answered_no_more(ground: Ground) -> None:
    answer = held_back(ground, cache_control=MINUTE)
    client = Client(ground.proxy)
    asking = asyncio.create_task(client.ask("/page"))
    await eventually(lambda: ground.origin.times("/page"), within_s=5)
    client.leave()
    await asyncio.wait_for(asking, 5)
    assert client.got.status == 0
    answer.set()
    assert await eventually(lambda: _is(ground, b"slow"), within_s=5), "the store still wants it"


async def test_what_only_the_store_still_wants_ends_after_a_while(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ALONE_S_MAX", 0.05)
    ended = asyncio.Event()

    async def trickles(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\n\r\nfirst")
        await exchange.hung_up()
        ended.set()

    ground.origin.scripts["/page"] = trickles
    client = Client(ground.proxy)
    asking = asyncio.create_task(client.ask("/page"))
    await client.started.wait()
    client.leave()
    await asyncio.wait_for(asking, 5)
    await asyncio.wait_for(ended.wait(), 5)


# Origins that behave badly


async def test_a_body_that_ends_too_soon_breaks_the_client_off_and_is_not_kept(ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\ncontent-length: 9\r\n\r\nhalf")
        exchange.close()

    ground.origin.scripts["/page"] = script
    client = Client(ground.proxy)
    with pytest.raises(Broken):
        await client.ask("/page")
    assert (client.got.body, client.got.whole) == (b"half", False)
    ground.origin.says("/page", b"whole", cache_control=MINUTE)
    assert (await ground.ask()).body == b"whole"


async def test_response_splitting_a_length_beside_chunks_says_nothing(ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(
            b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n"
            b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n6\r\nSECOND\r\n0\r\n\r\n"
        )

    ground.origin.scripts["/page"] = script
    first, second = await ground.ask(), await ground.ask()
    assert (first.body, second.body) == (b"halfSECOND", b"halfSECOND")
    assert "content-length" not in first.fields
    assert ground.origin.times("/page") == 1


async def test_fields_beyond_ascii_come_and_go_as_they_are(ground: Ground) -> None:
    ground.origin.says(
        "/page", b"page", cache_control="no-store, x=\xe9", last_modified="Mon, 01 Jan 2018 00:00:00 GMT"
    )
    got = [await ground.ask(x_name="\xe9t\xe9") for _ in range(2)]
    assert got[0].fields.get("cache-control") == "no-store, x=\xe9"
    assert ground.origin.asked[-1].fields.get("x-name") == "\xe9t\xe9"
    assert ground.origin.times("/page") == 2


async def test_a_chunked_body_without_its_end_is_not_kept(ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(
            b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        )
        exchange.close()

    ground.origin.scripts["/page"] = script
    with pytest.raises(Broken):
        await ground.ask()
    ground.origin.says("/page", b"whole", cache_control=MINUTE)
    assert (await ground.ask()).body == b"whole"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"HTTP/1.1 abc X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nbad name: 1\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: one\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12",
        b"HTTP/1.1 200 X\r\nx: " + b"y" * 2_000_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["garbage", "no status", "no name", "no length", "two lengths", "endless field", "nothing"],
)
async def test_what_is_no_response_is_a_bad_gateway(raw: bytes, ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(raw)
        exchange.close()

    ground.origin.scripts["/page"] = script
    got = await ground.ask()
    assert (got.status, got.body, got.whole) == (502, b"", True)


async def test_an_origin_that_says_nothing_is_a_gateway_timeout() -> None:
    async with running_origin() as origin:
        ground = Ground(origin, manner=Manner(), silent_s=0.05)
        never = held_back(ground)
        assert (await ground.ask()).status == 504
        never.set()
        await ground.proxy.aclose()


async def test_nobody_listening_is_a_bad_gateway(ground: Ground) -> None:
    unheard = ports.free_ports(1)[0]
    proxy = CachingProxy(ground.shelf, manner=Manner(), fetcher=Fetcher())
    there = ReverseProxy(f"http://{ports.LOOPBACK}:{unheard}", proxy)
    assert (await Client(there).ask("/page")).status == 502
    await there.aclose()


async def test_a_redirect_is_passed_on_and_a_coding_is_left_as_it_is(ground: Ground) -> None:
    ground.origin.says("/page", status=302, location="http://127.0.0.1:1/elsewhere")
    moved = await ground.ask()
    assert (moved.status, moved.fields.get("location")) == (302, "http://127.0.0.1:1/elsewhere")
    packed = gzip.compress(b"page")
    ground.origin.says("/packed", packed, cache_control=MINUTE, content_encoding="gzip")
    for _ in range(2):
        got = await ground.ask("/packed")
        assert (got.body, got.fields.get("content-encoding")) == (packed, "gzip")


@pytest.mark.parametrize("manner", [Manner(keep_set_cookie=False)])
async def test_told_so_it_keeps_nothing_that_sets_a_cookie(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control=MINUTE, set_cookie="a=b")
    assert (await ground.ask()).fields.get("set-cookie") == "a=b"
    await ground.ask()
    assert ground.origin.times("/page") == 2


# Large bodies and slow clients


async def test_what_is_too_large_to_keep_streams_through(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryShelf, "body_bytes_max", 1000)
    ground.origin.says("/page", b"x" * 1001, cache_control=MINUTE)
    ground.origin.says("/fits", b"x" * 1000, cache_control=MINUTE)
    for path in ("/page", "/fits"):
        for _ in range(2):
            assert len((await ground.ask(path)).body) == (1001 if path == "/page" else 1000)
    assert (ground.origin.times("/page"), ground.origin.times("/fits")) == (2, 1)


async def test_an_origin_is_not_read_far_ahead_of_a_client_whose_answer_is_not_kept(ground: Ground) -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: no-store\r\n\r\n")
        for _ in range(1000):
            await exchange.send(b"x" * 65_536)
            sent += 65_536
        exchange.close()

    ground.origin.scripts["/page"] = script
    client, reading, seen = Client(ground.proxy), asyncio.Event(), [-1]

    async def slowly(_: bytes) -> None:
        await reading.wait()

    def stands_still() -> bool:
        seen.append(sent)
        return seen[-2] == sent

    client.on_chunk = slowly
    asking = asyncio.create_task(client.ask("/page"))
    await client.started.wait()
    await eventually(stands_still, within_s=10)
    assert sent < 20 * 1024 * 1024, "what the sockets hold, and a little more"
    reading.set()
    assert len((await asking).body) == 65_536_000


async def test_a_client_that_leaves_ends_what_nobody_else_wants(ground: Ground) -> None:
    ended = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: no-store\r\n\r\nfirst")
        await exchange.gone()
        ended.set()

    ground.origin.scripts["/page"] = script
    client = Client(ground.proxy)
    asking = asyncio.create_task(client.ask("/page"))
    await client.started.wait()
    client.leave()
    await asyncio.wait_for(ended.wait(), 5)
    asking.cancel()


async def test_a_client_that_leaves_ends_a_kept_download_once_it_is_too_large_to_keep(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryShelf, "body_bytes_max", 1000)
    ended = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\n\r\nfirst")
        await exchange.gone()
        ended.set()

    ground.origin.scripts["/page"] = script
    client = Client(ground.proxy)
    asking = asyncio.create_task(client.ask("/page"))
    await client.started.wait()
    client.leave()
    await asyncio.wait_for(ended.wait(), 5)
    asking.cancel()


# Content


async def test_request_smuggling_a_background_request_announces_no_content(ground: Ground) -> None:
    ground.origin.says("/page", b"old", cache_control="max-age=60, stale-while-revalidate=60")
    await ground.ask()
    ground.clock.now += 61
    await ground.ask(content_length="0", content_type="text/plain")
    await eventually(lambda: ground.origin.times("/page") == 2, within_s=5)
    said = {name for name, _ in ground.origin.asked[-1].fields.lines}
    assert not said & {"content-length", "content-type", "transfer-encoding"}


async def test_fat_get_poisoning_what_a_reader_sent_along_decides_nobody_elses_answer(ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(b"for " + exchange.body, cache_control=MINUTE)

    ground.origin.scripts["/page"] = script
    fat = Client(ground.proxy)
    assert (await fat.ask("/page", content=[b"evil"])).body == b"for evil"
    assert (await ground.ask()).body == b"for "


async def test_a_reader_who_holds_content_back_holds_nobody_up(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control=MINUTE)
    slow = asyncio.create_task(ground.ask(content_length="5"))
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(ground.ask(), 5)).body == b"page"
    slow.cancel()


async def test_content_goes_on_as_it_comes(ground: Ground) -> None:
    ground.origin.says("/page", b"thanks", status=201)
    parts = [b"x" * 70_000, b"y" * 70_000]
    got = await Client(ground.proxy).ask("/page", method="PUT", content=parts)
    assert (got.status, got.body) == (201, b"thanks")
    assert ground.origin.asked[-1].body == b"".join(parts)


# What a hop changes


async def test_fields_of_one_hop_stay_there_and_the_origin_gets_its_own_name(ground: Ground) -> None:
    ground.origin.says("/page", b"page", connection="x-hop", x_hop="1", x_own="2")
    got = await ground.ask(host="wrong.example", connection="x-mine", x_mine="1", te="trailers", x_kept="2")
    asked = ground.origin.asked[-1].fields
    assert asked.get("host") == ground.origin.url.removeprefix("http://")
    assert asked.get("via") == "1.1 massar"
    assert (asked.get("x-kept"), got.fields.get("x-own")) == ("2", "2")
    assert not {"x-mine", "te"} & {name for name, _ in asked.lines}
    assert "x-hop" not in got.fields


async def test_hop_by_hop_poisoning_a_field_that_the_origin_does_not_see_selects_nothing(
    ground: Ground,
) -> None:
    async def script(exchange: Exchange) -> None:
        language = exchange.fields.get("accept-language") or "fr"
        await exchange.answer(language.encode(), cache_control=MINUTE, vary="accept-language")

    ground.origin.scripts["/page"] = script
    assert (await ground.ask(accept_language="ar", connection="Accept-Language")).body == b"fr"
    assert (await ground.ask(accept_language="ar")).body == b"ar"
    assert (await ground.ask()).cache_status == "massar; hit; ttl=60"


@pytest.mark.parametrize("value", ["no-store", "private"])
async def test_what_an_origin_says_of_caching_counts_though_connection_names_it(
    value: str, ground: Ground
) -> None:
    ground.origin.says(
        "/page", b"page", cache_control=value, connection="Cache-Control", last_modified=LONG_AGO
    )
    await ground.ask()
    assert (await ground.ask()).cache_status == "massar; fwd=uri-miss; fwd-status=200"


async def test_one_readers_page_is_not_anothers_though_connection_names_vary(ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        body = (exchange.fields.get("cookie") or "").encode()
        await exchange.answer(body, cache_control=MINUTE, vary="Cookie", connection="Vary")

    ground.origin.scripts["/page"] = script
    assert [(await ground.ask(cookie=who)).body for who in ("one", "two")] == [b"one", b"two"]


async def test_control_characters_in_a_field_are_no_answer_and_are_not_stored(ground: Ground) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(b"page", cache_control=MINUTE, x_said="a\x01b")

    ground.origin.scripts["/page"] = script
    assert (await ground.ask()).status == 502
    ground.origin.says("/page", b"page", cache_control=MINUTE)
    assert (await ground.ask()).status == 200


async def test_content_that_is_cut_short_is_a_bad_request(ground: Ground) -> None:
    ground.origin.says("/page", b"thanks")
    client = Client(ground.proxy)
    client.leave()
    got = await client.ask("/page", method="POST", content_length="5")
    assert got.status == 400


async def test_a_request_that_may_go_no_further_is_answered_here(ground: Ground) -> None:
    assert (await ground.ask(method="OPTIONS", max_forwards="0")).status == 204
    assert ground.origin.asked == []


async def test_a_response_without_a_date_gets_one(ground: Ground) -> None:
    ground.origin.says("/page", b"page", cache_control=MINUTE)
    assert (await ground.ask()).fields.get("date") == rendered_date(NOW)


async def _is(ground: Ground, body: bytes) -> bool:
    return (await ground.ask()).body == body


async def _status(ground: Ground, path: str, status: int) -> bool:
    return (await ground.ask(path)).status == status
