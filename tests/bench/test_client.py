"""The project's own load: it counts whole, expected answers and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench import client
from bench.client import Unexpected

BODY = b'{"week":"2026-W47"}'
REQUEST = b"GET / HTTP/1.1\r\nhost: massar.example\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nx: y\r\n\r\n"
GOOD = HEAD % len(BODY) + BODY

Writer = asyncio.StreamWriter


@asynccontextmanager
async def answering(answer: Callable[[Writer], None]) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that gives every request to `answer`; yields its port and the requests each connection sent."""
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        place = len(asked)
        asked.append(0)
        try:
            while await reader.readuntil(b"\r\n\r\n") == REQUEST:
                asked[place] += 1
                answer(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def drive(port: int, *, connections: int = 3, seconds: float = 0.05) -> client.Load:
    return await client.drive("127.0.0.1", port, REQUEST, BODY, connections=connections, seconds=seconds)


async def test_every_request_on_every_connection_is_counted_once() -> None:
    async with answering(lambda writer: writer.write(GOOD)) as (port, asked):
        done = await drive(port)
    assert len(asked) == 3
    assert all(asked)
    assert done.requests == sum(asked)
    assert done.seconds >= 0.05


async def test_an_answer_that_comes_in_pieces_is_one_answer() -> None:
    def piecemeal(writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        writer.write(GOOD[:20])
        loop.call_later(0.002, writer.write, GOOD[20 : len(GOOD) - 5])
        loop.call_later(0.004, writer.write, GOOD[len(GOOD) - 5 :])

    async with answering(piecemeal) as (port, asked):
        done = await drive(port, connections=1)
    assert done.requests == sum(asked) > 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\n\r\n" + BODY,
        HEAD % len(BODY) + BODY.upper(),
        GOOD + GOOD,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["another status", "other bytes", "more than was asked for", "no length"],
)
async def test_any_other_answer_ends_the_block(answer: bytes) -> None:
    async with answering(lambda writer: writer.write(answer)) as (port, _):
        with pytest.raises(Unexpected):
            await drive(port)


async def test_a_server_that_hangs_up_ends_the_block() -> None:
    async with answering(lambda writer: writer.close()) as (port, _):
        with pytest.raises(Unexpected, match="a connection ended"):
            await drive(port)


async def test_nobody_there_is_told_as_it_is() -> None:
    async with answering(lambda writer: writer.write(GOOD)) as (port, _):
        pass
    with pytest.raises(OSError):
        await drive(port)
