"""A wire between a client and a real Valkey that the test holds in its hand: it cuts, holds back, and slips bytes in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sandbox import ports


class Relay:
    """Passes everything on, but for what the test asks. One connection at a time is `cut` or held."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._release = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.asked: list[bytes] = []
        """What came from clients, piece by piece as it was read."""
        self.reads = True
        """Whether anything is read from clients."""
        self.cut_after: int | None = None
        """How many bytes of replies a connection passes before it is cut; None: it is not."""
        self.passes: int | None = None
        """How many bytes of replies pass from now on; None: all."""
        self.slipped_in = b""
        """What every new connection says before anything else."""

    @property
    def url(self) -> str:
        """Where to ask."""
        return f"redis://{ports.LOOPBACK}:{self.port}/0"

    def let_pass(self, count: int) -> None:
        """Let so many bytes more of replies pass."""
        self.passes = (self.passes or 0) + count
        self._release.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self.connections += 1
        from_server, to_server = await asyncio.open_connection(ports.LOOPBACK, self._server_port)
        self._writers += [writer, to_server]
        if self.slipped_in:
            writer.write(self.slipped_in)
        for one in (self._up(reader, to_server), self._down(from_server, writer)):
            task = asyncio.create_task(one)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while self.reads and (data := await reader.read(65_536)):
                self.asked.append(data)
                writer.write(data)
                await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                while data:
                    count = len(data)
                    if self.cut_after is not None:
                        count = min(count, self.cut_after - passed)
                    if self.passes is not None:
                        while not self.passes:
                            self._release.clear()
                            await self._release.wait()
                        count = min(count, self.passes)
                        self.passes -= count
                    writer.write(data[:count])
                    await writer.drain()
                    data, passed = data[count:], passed + count
                    if passed == self.cut_after:
                        writer.close()
                        return
        writer.close()

    def hang_up(self) -> None:
        """Break every connection off."""
        for writer in self._writers:
            writer.close()

    async def aclose(self) -> None:
        """End."""
        for task in tuple(self._tasks):
            task.cancel()
        self.hang_up()


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    """A relay in front of the server on this port."""
    relay = Relay(port)
    server = await asyncio.start_server(relay.accept, ports.LOOPBACK, 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.aclose()
