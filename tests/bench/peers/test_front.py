"""What stands before the datacenter while misses are measured: it repeats timetables and passes on the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.peers.front import HEAD_BYTES_MAX, Front
from bench.peers.probing import Probed, probe

TIMETABLE = b"GET /v1/classes/k/timetable?view=class&week=2026-W47 HTTP/1.1\r\nhost: a\r\n\r\n"
STANDING = b"GET /standing HTTP/1.1\r\nhost: a\r\n\r\n"


@asynccontextmanager
async def fronted(answers: list[bytes]) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A front before a server that says `answers` in turn; gives its port and what reached that server."""
    came: list[bytes] = []
    said = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                came.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
                writer.write(next(said))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    behind = await asyncio.start_server(serve, "127.0.0.1", 0)
    front = Front(behind.sockets[0].getsockname()[1], 0.001)
    before = await asyncio.start_server(front.serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    async with behind, before:
        yield before.sockets[0].getsockname()[1], came


def saying(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


async def test_a_timetable_is_asked_for_once_and_repeated() -> None:
    async with fronted([saying(b"200", b"week")]) as (port, came):
        told = await probe(port, [TIMETABLE] * 3)
    assert [one.body for one in told] == [b"week"] * 3
    assert len(came) == 1


async def test_everything_else_goes_through_every_time() -> None:
    async with fronted([saying(b"200", b"1"), saying(b"200", b"2")]) as (port, came):
        told = await probe(port, [STANDING] * 2)
    assert [one.body for one in told] == [b"1", b"2"]
    assert len(came) == 2


async def test_a_refusal_is_not_repeated() -> None:
    async with fronted([saying(b"503", b"no"), saying(b"200", b"week")]) as (port, _):
        told = await probe(port, [TIMETABLE] * 2)
    assert [one.status for one in told] == [503, 200]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Probed(200, {b"transfer-encoding": b"chunked"}, b""),
        ),
        (
            b"HTTP/1.1 304 X\r\ncontent-length: 5\r\n\r\n",
            Probed(304, {b"content-length": b"5"}, b""),
        ),
    ],
    ids=["in chunks", "without a body"],
)
async def test_an_answer_is_passed_on_whole(answer: bytes, expected: Probed) -> None:
    async with fronted([answer]) as (port, _):
        (told,) = await probe(port, [STANDING])
    assert told == expected
