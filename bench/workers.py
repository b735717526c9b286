"""When each worker of a site's gateway answers under a new epoch, seen from outside.

Invariant: one connection to each worker, kept; a worker is told from another by the fixed part of its request ids.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

ASK_EVERY_S = 0.02
CONNECTIONS_MAX = 64
ANSWER_S = 5.0
_HEAD_END = b"\r\n\r\n"
_ID = re.compile(rb"\r\nmassar-request-id: *([^\r-]+)-", re.IGNORECASE)
_EPOCH = re.compile(rb"\r\nmassar-epoch: *(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unwatched(Exception):
    """Not every worker could be found; the message says how many were."""


class Workers:
    """Unix seconds at which each worker first answered under each epoch: `seen[worker][epoch]`."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[int, float]] = {}

    def followed(self, epoch: int, since: float) -> list[float]:
        """Seconds from `since` until each worker had this epoch."""
        return [epochs[epoch] - since for epochs in self.seen.values() if epoch in epochs]

    async def watch(self, streams: _Streams, worker: str, request: bytes) -> None:
        """Ask over and over until cancelled or cut off."""
        epochs = self.seen.setdefault(worker, {})
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                head = await _ask(streams, request)
                if (found := _EPOCH.search(head)) is not None:
                    epochs.setdefault(int(found[1]), time.time())
                await asyncio.sleep(ASK_EVERY_S)


@asynccontextmanager
async def watched(urls: Sequence[str], path: str, token: str, *, each: int) -> AsyncIterator[Workers]:
    """Watch `each` workers behind every address by asking for `path`.

    Raises: Unwatched.
    """
    workers = Workers()
    tasks: list[asyncio.Task[None]] = []
    opened: list[asyncio.StreamWriter] = []
    try:
        for url in urls:
            parts = urlsplit(url)
            request = f"GET {path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\n\r\n".encode()
            found: dict[str, _Streams] = {}
            for _ in range(CONNECTIONS_MAX):
                streams = await asyncio.open_connection(parts.hostname, parts.port)
                opened.append(streams[1])
                named = _ID.search(await _ask(streams, request))
                if named is not None:
                    found.setdefault(named[1].decode(), streams)
                if len(found) == each:
                    break
            else:
                raise Unwatched(f"{len(found)} of {each} workers found behind {url}")
            tasks += [asyncio.create_task(workers.watch(one, name, request)) for name, one in found.items()]
        yield workers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in opened:
            writer.close()


async def _ask(streams: _Streams, request: bytes) -> bytes:
    """The head of one answer; its body is read and dropped."""
    reader, writer = streams
    async with asyncio.timeout(ANSWER_S):
        writer.write(request)
        head = await reader.readuntil(_HEAD_END)
        length = _LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
    return head
