"""A TCP proxy before a datacenter that is gray: probes pass, users suffer. Its own process, in the site's namespace.

Every request is made the last on its connection, so that each is met anew; `/health` always passes untouched.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

MARK = 0x6D61  # tells the proxy's own connections from those that are diverted to it
HEAD_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 64 * 1024
HEAD_WITHIN_S = 60.0
CONNECTIONS_MAX = 512
ERROR_SHARE = 0.3
JITTER_S = 0.2
SILENCE, ERRORS, JITTER = "silence", "errors", "jitter"
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_SO_MARK = 36

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Counts what it did to whom: `met` requests of users, `spoilt` of them."""

    def __init__(self, mode: str, *, host: str, port: int, chance: random.Random) -> None:
        self._mode = mode
        self._target = (host, port)
        self._chance = chance
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self.met = 0
        self.spoilt = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        async with self._free:
            try:
                with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                    async with asyncio.timeout(HEAD_WITHIN_S):
                        head = await reader.readuntil(b"\r\n\r\n")
                        if not self._spoils(head):
                            await self._pass_on(head, reader, writer)
                        elif self._mode == ERRORS:
                            writer.write(_UNAVAILABLE)
                            await writer.drain()
                        else:
                            await reader.read()  # until the other end gives up
            finally:
                writer.close()

    def _spoils(self, head: bytes) -> bool:
        target = head.split(b" ", 2)[1] if head.count(b" ") >= 2 else b""
        if target.startswith(b"/health"):
            return False
        self.met += 1
        spoils = self._mode == SILENCE or (self._mode == ERRORS and self._chance.random() < ERROR_SHARE)
        self.spoilt += spoils or self._mode == JITTER
        print(f"{self.met} {self.spoilt}", flush=True)
        return spoils

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await self._connect()
        try:
            request_line, _, rest = head.partition(b"\r\n")
            onward_writer.write(request_line + b"\r\nconnection: close\r\n" + _without_connection(rest))
            back = asyncio.create_task(_copy(onward_reader, writer, self._delay_s))
            on = asyncio.create_task(_copy(reader, onward_writer, self._delay_s))
            await back
            on.cancel()
            await asyncio.gather(on, return_exceptions=True)
        finally:
            onward_writer.close()

    def _delay_s(self) -> float:
        return self._chance.uniform(0.0, JITTER_S) if self._mode == JITTER else 0.0

    async def _connect(self) -> Streams:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with suppress(PermissionError):  # only root may mark; who may not has nothing diverted
            made.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, self._target)
        except OSError:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: Callable[[], float]
) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(delay_s())
            writer.write(chunk)
            await writer.drain()


def _without_connection(headers: bytes) -> bytes:
    kept = [
        line
        for line in headers.split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"keep-alive:"))
    ]
    return b"\r\n".join(kept)


async def serve(mode: str, *, listen: tuple[str, int], host: str, port: int, seed: str) -> None:
    """Stand before `host:port` until killed."""
    proxy = Proxy(mode, host=host, port=port, chance=random.Random(seed))
    server = await asyncio.start_server(partial(proxy.serve), *listen, limit=HEAD_BYTES_MAX)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    _mode, _host, _at, _to, _seed = sys.argv[1:]
    asyncio.run(serve(_mode, listen=(_host, int(_at)), host=_host, port=int(_to), seed=_seed))
