"""What a failure of a request proves, and that nobody can make us read more than we would keep."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from pyqwest import Client, HTTPTransport

from datacenters.transport import (
    FAILURES,
    PLAIN,
    AnswerTooLarge,
    ask,
    content_of,
    direct_transport,
    never_connected,
)
from tests.datacenters.origin import Pouring, Reply, origins

BOUND = 4 * len(Pouring.CHUNK)
# No length is said, chunks are, or a length that is a lie. Nobody ever says that this is the end.
ENDLESS: list[tuple[str, ...]] = [(), ("transfer-encoding: chunked",), ("content-length: 2000000000",)]
ASKED = 20
# For what the allocator keeps; what one answer pours out in a second is far more.
MEMORY_MAX = 16 * 1024 * 1024


async def _failure(port: int) -> BaseException:
    transport = direct_transport(connect_s=0.2)
    try:
        with pytest.raises(FAILURES) as failed:
            async with asyncio.timeout(2.0):
                await Client(transport).execute("POST", f"http://127.0.0.1:{port}/", {}, b"x")
    finally:
        await transport.aclose()
    return failed.value


async def test_nobody_listening_is_told_from_a_connection_that_breaks() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not never_connected(await _failure(port))
    assert never_connected(await _failure(port))


async def test_a_proxy_in_the_environment_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        transport = direct_transport()
        port = server.sockets[0].getsockname()[1]
        got = await Client(transport).execute("GET", f"http://127.0.0.1:{port}/")
        assert got.status == 204
        await transport.aclose()


async def _asked(url: str, *, bytes_max: int = BOUND, transport: HTTPTransport | None = None) -> bytes:
    using = transport or direct_transport()
    try:
        async with asyncio.timeout(5.0):
            return (await ask(using, "GET", url, {}, None, bytes_max=bytes_max)).content
    finally:
        if transport is None:
            await using.aclose()


async def _streamed(url: str) -> bytes:
    async with (
        asyncio.timeout(5.0),
        httpx.AsyncClient(trust_env=False, headers=PLAIN) as client,
        client.stream("GET", url) as response,
    ):
        return await content_of(response, bytes_max=BOUND)


def _memory(word: str) -> int:
    found = re.search(rf"^{word}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("reading", [_asked, _streamed])
@pytest.mark.parametrize("head", ENDLESS)
async def test_the_chunk_beyond_the_bound_ends_the_answer_and_its_connection(
    reading: Callable[[str], Awaitable[bytes]], head: tuple[str, ...]
) -> None:
    async with Pouring(*head, at_most=BOUND + 1).open() as origin:
        # The failure is kept, and with its frames whatever they hold: the connection ends all the same.
        with pytest.raises(AnswerTooLarge) as _kept:
            await reading(origin.url)
        await asyncio.wait_for(origin.broken_off.wait(), 5.0)


@pytest.mark.parametrize("reading", [_asked, _streamed])
async def test_a_length_beyond_the_bound_is_refused_before_a_byte_is_read(
    reading: Callable[[str], Awaitable[bytes]],
) -> None:
    for length in (BOUND + 1, "9" * 18):
        async with Pouring(f"content-length: {length}", at_most=0).open() as origin:
            with pytest.raises(AnswerTooLarge):
                await reading(origin.url)
            await asyncio.wait_for(origin.broken_off.wait(), 5.0)
            assert origin.sent == 0


@pytest.mark.parametrize("head", ENDLESS)
async def test_answers_without_an_end_take_no_memory_and_nobody_is_asked_on_their_connections(
    head: tuple[str, ...],
) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins again
    before = _memory("VmRSS")
    transport = direct_transport()
    async with Pouring(*head).open() as origin:
        for _ in range(ASKED):
            with pytest.raises(AnswerTooLarge):
                await _asked(origin.url, transport=transport)
        assert origin.connections == ASKED
    await transport.aclose()
    assert _memory("VmHWM") - before < MEMORY_MAX


async def test_an_answer_at_the_bound_is_whole_and_its_connection_is_used_again() -> None:
    transport = direct_transport()
    async with origins("rabat") as (origin,):
        for body in [b"x" * BOUND, b"", b"y"] * ASKED:
            origin.reply(Reply(body=body))
            assert await _asked(origin.url, transport=transport) == body
        assert len(origin._serving) < ASKED  # one comes back to the pool a moment after its answer
        assert await _streamed(origin.url) == b"y"
    await transport.aclose()


async def test_a_length_beside_chunks_ends_nothing() -> None:
    async with origins("rabat") as (origin,):
        headers = {"transfer-encoding": "chunked", "content-length": "2"}
        origin.reply(Reply(headers=headers, body=b"2\r\n{ \r\n1\r\n}\r\n0\r\n\r\n"))
        assert await _asked(origin.url) == b"{ }"
