"""The load when `wrk` is not on the machine: keep-alive connections that each send the next request as soon as the
last answer is whole.

Invariant: nothing is pipelined, and every answer is compared with the bytes that are expected, so that no refusal
is ever counted as a fast answer.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

import msgspec

CONNECT_WAIT_S = 5.0
# How long a block may take beyond its time before it is given up.
OVERTIME_S = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"
_GOOD = b"HTTP/1.1 200 "


class Unexpected(Exception):
    """An answer was not the one that is measured; the message says what came."""


class Refused(Unexpected):
    """It was one of another status, as a server gives that is short of its core."""


class Load(msgspec.Struct, frozen=True):
    """What one block of load came to: answers, and the seconds from the first request to the last answer."""

    requests: int
    seconds: float


class _Connection(asyncio.Protocol):
    def __init__(self, block: _Block) -> None:
        self._block = block
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by duck typing alone

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        head = received.find(_END)
        if head < 0:
            return
        length = _LENGTH.search(received, 0, head + 2)
        if length is None:
            self._block.fail("an answer without content-length")
            return
        body = head + len(_END)
        if len(received) < body + int(length[1]):
            return
        if not received.startswith(_GOOD) or received[body:] != self._block.expected:
            self._block.fail(received[:120].decode("latin-1"))
            return
        self._received = b""
        if self._block.answered():
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._block.fail(f"a connection ended: {exc}")

    def ask(self) -> None:
        """Send the request."""
        assert self._transport is not None
        self._transport.write(self._block.request)

    def close(self) -> None:
        """End it."""
        assert self._transport is not None
        self._transport.close()


class _Block:
    """What the connections of one block share."""

    def __init__(self, request: bytes, expected: bytes, *, connections: int) -> None:
        self.request = request
        self.expected = expected
        self.requests = 0
        self._time = asyncio.get_running_loop().time
        self._until = 0.0
        self._busy = connections
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def begin(self, seconds: float) -> float:
        """Let the connections send for so long; returns the beginning."""
        began = self._time()
        self._until = began + seconds
        return began

    def answered(self) -> bool:
        """Count one answer; False when its connection is to rest."""
        self.requests += 1
        now = self._time()
        if now < self._until:
            return True
        self._busy -= 1
        if self._busy == 0 and not self.ended.done():
            self.ended.set_result(now)
        return False

    def fail(self, what: str) -> None:
        """End the block: it measured something else."""
        if not self.ended.done():
            self.ended.set_exception(Unexpected(what))


async def drive(
    host: str, port: int, request: bytes, expected: bytes, *, connections: int, seconds: float
) -> Load:
    """Send `request` over and over for `seconds`, and wait for the answers to what was sent.

    `expected` is the body every answer must have. Raises: Unexpected, OSError, TimeoutError.
    """
    loop = asyncio.get_running_loop()
    block = _Block(request, expected, connections=connections)
    opened: list[_Connection] = []
    try:
        async with asyncio.timeout(CONNECT_WAIT_S):
            for _ in range(connections):
                _, connection = await loop.create_connection(lambda: _Connection(block), host, port)
                opened.append(connection)
        began = block.begin(seconds)
        for connection in opened:
            connection.ask()
        async with asyncio.timeout(seconds + OVERTIME_S):
            ended = await block.ended
    finally:
        if not block.ended.done():
            block.ended.cancel()
        for connection in opened:
            connection.close()
    return Load(requests=block.requests, seconds=ended - began)
