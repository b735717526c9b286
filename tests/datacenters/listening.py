"""A consumer of a feed that remembers what it was told, and a proxy that can silence a connection."""

from __future__ import annotations

import asyncio

from datacenters.etcd import Etcd, KeyValue
from datacenters.feeds import Publisher


class Heard:
    """What a feed called back with; `now` is what a consumer would believe."""

    def __init__(self) -> None:
        self.resets = 0
        self.now: dict[str, bytes] = {}
        self.revisions: list[int] = []

    def reset(self, items: tuple[KeyValue, ...]) -> None:
        self.resets += 1
        self.now = {item.key: item.value for item in items}

    def put(self, item: KeyValue) -> None:
        self.revisions.append(item.revision)
        self.now[item.key] = item.value

    def delete(self, name: str) -> None:
        self.now.pop(name, None)


class Proxy:
    """Passes TCP on to one port; `hold()` lets open connections live and carry nothing, `cut()` ends them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._refusing = False
        self.connections = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def hold_open_ones(self) -> None:
        """From now on every connection that exists is silent; new ones work."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def cut(self) -> None:
        """End every connection and accept none that works."""
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()

    def go_silent(self) -> None:
        """As in a broken link: connections that exist carry nothing more, and no new one works until `mend`."""
        self.hold_open_ones()
        self._refusing = True

    def mend(self) -> None:
        self._refusing = False

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self._refusing:
            writer.transport.abort()
            return
        flowing = self._flowing
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.add(onward_writer)
        for source, sink in ((reader, onward_writer), (onward_reader, writer)):
            task = asyncio.create_task(_pass_on(source, sink, flowing))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    try:
        while some := await source.read(65_536):
            await flowing.wait()
            sink.write(some)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


async def deny(etcd: Etcd, publisher: Publisher, key: str, *, ttl_s: float) -> None:
    """Deny as a sign-out does: the key is put in a transaction of its own."""
    await etcd.transact(unchanged={}, puts=[await publisher.denial(key, ttl_s=ttl_s)])
