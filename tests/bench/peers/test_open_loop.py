"""Load at a fixed rate: everything that is due is sent, and its wait counts from when it was due."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from bench.client import Unexpected
from bench.peers import open_loop
from bench.peers.scenarios import raw
from tests.bench.door import Came, Said, door
from tests.bench.peers.conftest import Serve

PATH = "/v1/pupils/a/timetable"
REQUESTS = [raw(PATH, "one"), raw(PATH, "two")]
DELAY_S = 0.01


async def test_everything_that_is_due_is_asked_and_answered(origin: Serve) -> None:
    async with origin() as port:
        done = await open_loop.offer(port, REQUESTS, rate=400, seconds=0.25, connections=4)
    assert done.requests == 100
    assert done.seconds >= 0.24
    assert 0 < done.p50_ms <= done.p99_ms


async def test_a_request_that_finds_no_free_connection_waits_with_its_clock_running(origin: Serve) -> None:
    async with origin(delay_s=DELAY_S) as port:
        done = await open_loop.offer(port, REQUESTS, rate=1_000, seconds=0.02, connections=1)
    # Twenty requests are due within 20 ms and go one after the other, each for 10 ms: the last is 180 ms late at least.
    assert done.requests == 20
    assert done.p99_ms >= 19 * (DELAY_S * 1000 - 1) * 0.9


@pytest.mark.parametrize(("in_turn", "asked"), [(False, 1), (True, 4)])
async def test_connections_are_asked_in_turn_where_that_is_wanted(in_turn: bool, asked: int) -> None:
    came: list[int] = []

    def answer(one: Came) -> Said:
        came.append(one.connection)
        return Said()

    async with door(answer) as url:
        port = urlsplit(url).port
        assert port is not None
        # Each is answered long before the next is due.
        await open_loop.offer(port, REQUESTS, rate=20, seconds=0.4, connections=4, in_turn=in_turn)
    assert len(came) == 8
    assert len(set(came)) == asked


async def test_an_answer_without_a_body_may_name_a_length() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(5):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1430\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        done = await open_loop.offer(port, REQUESTS, status=304, rate=500, seconds=0.01, connections=1)
    assert done.requests == 5


async def test_another_status_ends_the_block(origin: Serve) -> None:
    async with origin() as port:
        with pytest.raises(Unexpected, match="404"):
            await open_loop.offer(port, [raw("/else", "t")], rate=100, seconds=0.1, connections=1)


async def test_a_rate_beyond_what_the_server_can_do_is_told(
    origin: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_loop, "WAITING_MAX", 10)
    async with origin(delay_s=1.0) as port:
        with pytest.raises(Unexpected, match="more than it can do"):
            await open_loop.offer(port, REQUESTS, rate=1_000, seconds=1.0, connections=1)


async def test_a_server_that_hangs_up_ends_the_block() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unexpected, match="a connection ended"):
            await open_loop.offer(port, REQUESTS, rate=100, seconds=0.1, connections=1)
