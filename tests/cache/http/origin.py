"""A real HTTP/1.1 server that answers what a test says, and a client that speaks ASGI to the proxy before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import msgspec

from cache.http.client import Message, Receive, Scope, Send
from cache.http.fields import Fields, fields
from sandbox import ports

Script = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request as it came, and the connection to answer on."""

    def __init__(
        self,
        method: str,
        path: str,
        lines: Fields,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._reader = reader
        self.method = method
        self.path = path
        self.fields = lines
        self.body = body
        self._writer = writer

    async def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, body: bytes = b"", *, status: int = 200, **values: str) -> None:
        """Send a whole response; keywords are fields, `_` stands for `-`."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in values.items())
        length = "" if status in {204, 304} else f"content-length: {len(body)}\r\n"
        text = f"HTTP/1.1 {status} X\r\n{lines}{length}\r\n"
        await self.send(text.encode("latin-1") + (b"" if self.method == "HEAD" else body))

    async def gone(self) -> None:
        """Wait until the other side has closed the connection."""
        try:
            while not self._writer.is_closing():
                await self.send(b"x" * 65_536)
        except OSError:
            return

    async def hung_up(self) -> None:
        """Wait, sending nothing, until the other side has closed the connection."""
        await self._reader.read()

    def close(self) -> None:
        """Break off."""
        self._writer.close()


class Origin:
    """Answers by path with what `scripts` say; notes what it was asked."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.asked: list[Exchange] = []
        self.url = ""
        self.connections = 0
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def times(self, path: str) -> int:
        """How often it was asked for a path."""
        return sum(one.path == path for one in self.asked)

    def says(self, path: str, body: bytes = b"", *, status: int = 200, **values: str) -> None:
        """Have it answer the same each time."""

        async def script(exchange: Exchange) -> None:
            await exchange.answer(body, status=status, **values)

        self.scripts[path] = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        self.connections += 1
        try:
            while head := await _head(reader):
                method, path, lines = head
                exchange = Exchange(method, path, lines, await _body(reader, lines), reader, writer)
                self.asked.append(exchange)
                await self.scripts[path.partition("?")[0]](exchange)
                if writer.is_closing():
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            del self._serving[task]

    async def aclose(self) -> None:
        """Break every connection off."""
        for task, writer in list(self._serving.items()):
            writer.close()
            task.cancel()
        await asyncio.gather(*list(self._serving), return_exceptions=True)


@asynccontextmanager
async def running_origin() -> AsyncIterator[Origin]:
    """An origin on a port of its own."""
    origin = Origin()
    server = await asyncio.start_server(origin.serve, ports.LOOPBACK, 0)
    origin.url = f"http://{ports.LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    yield origin
    server.close()
    await origin.aclose()


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, Fields] | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = raw.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in rest if line)
    return method, path, fields((name, value) for name, value in pairs)


async def _body(reader: asyncio.StreamReader, lines: Fields) -> bytes:
    if lines.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(lines.get("content-length") or 0))
    whole = b""
    while size := int(await reader.readline(), 16):
        whole += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return whole


class Got(msgspec.Struct):
    """What a client got: `whole` tells whether the body came to its end."""

    status: int = 0
    fields: Fields = Fields()
    chunks: list[bytes] = msgspec.field(default_factory=list)
    whole: bool = False

    @property
    def body(self) -> bytes:
        """All of the body that came."""
        return b"".join(self.chunks)

    @property
    def cache_status(self) -> str:
        """What the Cache-Status field says."""
        return self.fields.get("cache-status") or ""


class Client:
    """Asks the proxy; `leave()` is a client that goes away, `on_chunk` sees every chunk that comes."""

    def __init__(self, proxy: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._proxy = proxy
        self._left = asyncio.Event()
        self.got = Got()
        self.on_chunk: Callable[[bytes], Awaitable[None]] | None = None
        self.started = asyncio.Event()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    async def ask(
        self, path: str, *, method: str = "GET", content: list[bytes] | None = None, **values: str
    ) -> Got:
        """Make a request and read the answer. Raises what the proxy raises to have the connection broken off."""
        said = {"host": "cache.example", **values}
        lines = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in said.items()]
        if content is not None:
            lines.append((b"transfer-encoding", b"chunked"))
        plain, _, query = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": unquote(plain),
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "headers": lines,
        }
        left = list(content or [])

        async def receive() -> Message:
            if left:
                return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}
            await self._left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await self._took(message)

        await self._proxy(scope, receive, send)
        return self.got

    async def _took(self, message: dict[str, Any] | Message) -> None:
        if message["type"] == "http.response.start":
            self.got.status = message["status"]
            self.got.fields = fields(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
            )
            self.started.set()
            return
        self.got.chunks.append(message["body"])
        self.got.whole = not message["more_body"]
        if self.on_chunk is not None and message["body"]:
            await self.on_chunk(message["body"])
