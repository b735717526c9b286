"""Load at a fixed rate, whatever the server does: each request is due at its instant and its wait counts from there.

Invariant: nothing is pipelined, an answer that is not the expected status ends the block, and a request that finds no
free connection waits with its clock running, so a slow server cannot make itself look better by being asked less.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import msgspec

from bench.client import Refused

CONNECT_WAIT_S = 5.0
OVERTIME_S = 10.0
TICK_S = 0.001
# Requests that are due and wait for a connection; more of them and the rate is more than the server can do.
WAITING_MAX = 20_000
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NO_BODY = b"304"


class Offered(msgspec.Struct, frozen=True):
    """What one block came to: answers, seconds until the last, and the waits' median and 99th percentile in ms."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


class _Connection(asyncio.Protocol):
    def __init__(self, block: _Block) -> None:
        self._block = block
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        head = received.find(_END)
        if head < 0:
            return
        if received[9:12] != self._block.status:
            self._block.fail(received[:200].decode("latin-1"))
            return
        length = None if received[9:12] == _NO_BODY else _LENGTH.search(received, 0, head + 2)
        whole = head + len(_END) + (int(length[1]) if length else 0)
        if len(received) < whole:
            return
        if len(received) > whole:
            self._block.fail("more than was asked for")
            return
        self._received = b""
        self._block.answered(self, self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._block.fail(f"a connection ended: {exc}")

    def ask(self, request: bytes, due: float) -> None:
        """Send it; its wait counts from `due`."""
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        """End it."""
        assert self._transport is not None
        self._transport.close()


class _Block:
    def __init__(
        self, requests: Sequence[bytes], status: int, rate: float, seconds: float, *, in_turn: bool
    ) -> None:
        self.status = b"%d" % status
        self.waits: list[float] = []
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._requests = requests
        self._rate = rate
        self._count = int(rate * seconds)
        self._sent = 0
        self._began = 0.0
        self._free: deque[_Connection] = deque()
        self._take = self._free.popleft if in_turn else self._free.pop
        self._waiting: deque[tuple[bytes, float]] = deque()

    def begin(self, connections: Sequence[_Connection]) -> float:
        self._free.extend(connections)
        self._began = time.perf_counter()
        self._tick()
        return self._began

    def _tick(self) -> None:
        if self.ended.done():
            return
        due_by_now = min(self._count, int((time.perf_counter() - self._began) * self._rate) + 1)
        while self._sent < due_by_now:
            self._waiting.append(
                (
                    self._requests[self._sent % len(self._requests)],
                    self._began + self._sent / self._rate,
                )
            )
            self._sent += 1
        if len(self._waiting) > WAITING_MAX:
            self.fail(f"{len(self._waiting)} requests wait: {self._rate:.0f}/s is more than it can do")
            return
        self._send()
        if self._sent < self._count:
            self._loop.call_later(TICK_S, self._tick)

    def _send(self) -> None:
        while self._waiting and self._free:
            self._take().ask(*self._waiting.popleft())

    def answered(self, connection: _Connection, due: float) -> None:
        self.waits.append(time.perf_counter() - due)
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            self._free.append(connection)
        if len(self.waits) == self._count and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, what: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(Refused(what))


async def offer(
    port: int,
    requests: Sequence[bytes],
    *,
    status: int = 200,
    rate: float,
    seconds: float,
    connections: int,
    in_turn: bool = False,
) -> Offered:
    """Send `requests` in turn, `rate` of them a second, and wait for every answer.

    Each goes over the connection that was answered last, or `in_turn` over the one that rested longest, so that all the
    workers behind them are asked alike.

    Raises: Unexpected, OSError, TimeoutError.
    """
    loop = asyncio.get_running_loop()
    block = _Block(requests, status, rate, seconds, in_turn=in_turn)
    opened: list[_Connection] = []
    try:
        async with asyncio.timeout(CONNECT_WAIT_S):
            for _ in range(connections):
                _, connection = await loop.create_connection(lambda: _Connection(block), "127.0.0.1", port)
                opened.append(connection)
        began = block.begin(opened)
        async with asyncio.timeout(seconds + OVERTIME_S):
            await block.ended
        took = time.perf_counter() - began
    finally:
        if not block.ended.done():
            block.ended.cancel()
        elif not block.ended.cancelled():
            block.ended.exception()  # seen, whatever else is raised
        for connection in opened:
            connection.close()
    percentiles = statistics.quantiles(block.waits, n=100, method="inclusive")
    return Offered(
        requests=len(block.waits), seconds=took, p50_ms=percentiles[49] * 1000, p99_ms=percentiles[98] * 1000
    )
