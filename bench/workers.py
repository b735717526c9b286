"""When each worker of a site's gateway answers under a new epoch, seen from outside.

Invariant: one connection to each worker, kept; a worker is told from another by the fixed part of its request ids.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeAlias
from urllib.parse import urlsplit

ASK_EVERY_S = 0.02
CONNECTIONS_MAX = 64
ANSWER_S = 5.0
_HEAD_END = b"\r\n\r\n"
_ID = re.compile(rb"\r\nmassar-request-id: *([^\r-]+)-", re.IGNORECASE)
_EPOCH = re.compile(rb"\r\nmassar-epoch: *(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unwatched(Exception):
    """Not every worker could be found; the message says how many were."""


class Workers:
    """Unix seconds at which each worker first answered under each epoch: `seen[worker][epoch]`."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[int, float]] = {}

    def followed(self, epoch: int, since: float) -> list[float]:
        """Seconds from `since` until each worker had this epoch."""
        return [epochs[epoch] - since for epochs in self.seen.values() if epoch in epochs]

    async def watch(self, streams: Streams, worker: str, request: bytes) -> None:
        """Ask over and over until cancelled or cut off."""
        epochs = self.seen.setdefault(worker, {})
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                head = await ask(streams, request)
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
    async with AsyncExitStack() as opened:
        for url in urls:
            request = get(url, path, token)
            found = await opened.enter_async_context(connected(url, request, each=each))
            tasks += [asyncio.create_task(workers.watch(one, name, request)) for name, one in found.items()]
        try:
            yield workers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def connected(url: str, request: bytes, *, each: int) -> AsyncIterator[dict[str, Streams]]:
    """A connection to each of `each` workers behind an address, by its name. Raises: Unwatched."""
    parts = urlsplit(url)
    found: dict[str, Streams] = {}
    opened: list[asyncio.StreamWriter] = []
    try:
        while len(found) < each:
            if len(opened) == CONNECTIONS_MAX:
                raise Unwatched(f"{len(found)} of {each} workers found behind {url}")
            streams = await asyncio.open_connection(parts.hostname, parts.port)
            opened.append(streams[1])
            named = _ID.search(await ask(streams, request))
            if named is not None:
                found.setdefault(named[1].decode(), streams)
        yield found
    finally:
        for writer in opened:
            writer.close()


def get(url: str, path: str, token: str) -> bytes:
    """A request as it is sent."""
    host = urlsplit(url).netloc
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\r\n".encode()


async def ask(streams: Streams, request: bytes) -> bytes:
    """The head of one answer; its body is read and dropped."""
    reader, writer = streams
    async with asyncio.timeout(ANSWER_S):
        writer.write(request)
        head = await reader.readuntil(_HEAD_END)
        length = _LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
    return head
