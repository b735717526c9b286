"""Bytes go to origins and come from them as they are, and every failure is one kind of error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cache.http.fetching import Fetcher, Unanswered
from cache.http.fields import Fields
from cache.http.messages import Request
from sandbox import ports
from tests.cache.http.origin import Exchange, Origin, running_origin


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as made:
        yield made


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(connect_s=1.0, silent_s=0.3)
    yield made
    await made.aclose()


async def fetched(
    fetcher: Fetcher, request: Request, content: AsyncIterator[bytes] | None = None
) -> tuple[int, Fields, bytes]:
    async with fetcher.fetch(request, content) as reply:
        return reply.status, reply.fields, b"".join([chunk async for chunk in reply.chunks])


async def test_target_and_fields_travel_byte_for_byte(origin: Origin, fetcher: Fetcher) -> None:
    path = "/a{b}|c'd/%7e;e?x=[1]&x=%C3%A9"
    origin.says(path.partition("?")[0], b"page", x_own="\xe9", content_encoding="gzip")
    request = Request("GET", origin.url + path, Fields((("x-mine", "\xe9"), ("x-mine", "2"))))
    status, told, body = await fetched(fetcher, request)
    assert (status, body, told.get("x-own"), told.get("content-encoding")) == (200, b"page", "\xe9", "gzip")
    (asked,) = origin.asked
    assert asked.path == path
    assert asked.fields.lines == (
        ("host", origin.url.removeprefix("http://")),
        ("x-mine", "\xe9"),
        ("x-mine", "2"),
    )


@pytest.mark.parametrize("length", ["6", None])
async def test_content_travels_under_its_length_or_in_chunks(
    length: str | None, origin: Origin, fetcher: Fetcher
) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    origin.says("/", b"thanks")
    lines = (("content-length", length),) if length else ()
    await fetched(fetcher, Request("POST", origin.url + "/", Fields(lines)), content())
    (asked,) = origin.asked
    assert asked.body == b"onetwo"
    assert ("transfer-encoding" in asked.fields) is (length is None)


async def test_a_redirect_is_an_answer(origin: Origin, fetcher: Fetcher) -> None:
    origin.says("/", status=302, location="/elsewhere")
    status, told, _ = await fetched(fetcher, Request("GET", origin.url + "/"))
    assert (status, told.get("location"), len(origin.asked)) == (302, "/elsewhere", 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        *(
            b"HTTP/1.1 200 X\r\nx-said: a%bb\r\ncontent-length: 0\r\n\r\n" % bytes([c])
            for c in (0, 1, 11, 31, 127)
        ),
    ],
)
async def test_what_is_no_whole_answer_is_unanswered(raw: bytes, origin: Origin, fetcher: Fetcher) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(raw)
        exchange.close()

    origin.scripts["/"] = script
    with pytest.raises(Unanswered) as failed:
        await fetched(fetcher, Request("GET", origin.url + "/"))
    assert not failed.value.timed_out
    assert not failed.value.unreached, "it may have been the request that made it fail"


@pytest.mark.parametrize("value", [b"a\tb", b"\xc3\xa9", b"\xff"])
async def test_tabs_and_bytes_beyond_ascii_are_no_control_characters(
    value: bytes, origin: Origin, fetcher: Fetcher
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\nx-said: %b\r\ncontent-length: 0\r\n\r\n" % value)

    origin.scripts["/"] = script
    _, told, _ = await fetched(fetcher, Request("GET", origin.url + "/"))
    assert told.get("x-said") == value.decode("latin-1")


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf"])
async def test_silence_has_an_end_before_the_answer_and_in_the_midst_of_it(
    first: bytes, origin: Origin, fetcher: Fetcher
) -> None:
    goes_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(first)
        await goes_on.wait()

    origin.scripts["/"] = script
    with pytest.raises(Unanswered) as failed:
        await fetched(fetcher, Request("GET", origin.url + "/"))
    assert failed.value.timed_out
    goes_on.set()


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("POST", False)])
async def test_a_connection_that_was_closed_while_it_was_idle_costs_a_safe_request_nothing(
    method: str, again: bool, origin: Origin, fetcher: Fetcher
) -> None:
    origin.says("/", b"page")
    await fetched(fetcher, Request("GET", origin.url + "/"))

    async def close_once(exchange: Exchange) -> None:
        origin.says("/", b"page")
        exchange.close()

    origin.scripts["/"] = close_once
    if again:
        assert (await fetched(fetcher, Request(method, origin.url + "/")))[2] == b"page"
        return
    with pytest.raises(Unanswered):
        await fetched(fetcher, Request(method, origin.url + "/"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_response_smuggling_what_comes_behind_a_response_answers_nobody(
    method: str, origin: Origin, fetcher: Fetcher
) -> None:
    async def script(exchange: Exchange) -> None:
        length = 0 if method == "HEAD" else 4
        first = b"HTTP/1.1 200 X\r\ncontent-length: 4\r\n\r\n" + b"half"[:length]
        await exchange.send(first + b"HTTP/1.1 200 X\r\ncontent-length: 4\r\n\r\nEVIL")

    origin.scripts["/"] = script
    origin.says("/victim", b"page")
    await fetched(fetcher, Request(method, origin.url + "/"))
    assert (await fetched(fetcher, Request("GET", origin.url + "/victim")))[2] == b"page"


async def test_responses_without_a_body_leave_the_connection_to_the_next_request(
    origin: Origin, fetcher: Fetcher
) -> None:
    for status in (304, 204, 200):
        origin.says("/", status=status)
        await fetched(fetcher, Request("HEAD" if status == 200 else "GET", origin.url + "/"))
    assert origin.connections == 1


async def test_nobody_there_is_unanswered(fetcher: Fetcher) -> None:
    with pytest.raises(Unanswered, match="ConnectError") as failed:
        await fetched(fetcher, Request("GET", f"http://{ports.LOOPBACK}:{ports.free_ports(1)[0]}/"))
    assert failed.value.unreached


async def test_no_proxy_of_the_environment_is_used(
    origin: Origin, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    origin.says("/", b"page")
    assert (await fetched(fetcher, Request("GET", origin.url + "/")))[2] == b"page"
