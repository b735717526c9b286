"""A small real HTTP server over raw sockets that answers, breaks off or falls silent as a test says."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from datacenters import assertion
from datacenters.assertion import Assertion


class Seen(msgspec.Struct, frozen=True):
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """What to send back; `hang` waits until released, `cut` ends the connection after that many bytes of it."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b"{}"
    hang: bool = False
    cut: int | None = None


HANG = Reply(hang=True)
CUT = Reply(cut=0)
CUT_IN_BODY = Reply(body=b"x" * 100, cut=120)


def problem(status: int, slug: str, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, body=msgspec.json.encode({"slug": slug, "status": status}))


class Origin:
    """Stands for the datacenter of `site`: it gives `replies` in turn, the last one again and again."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.seen: list[Seen] = []
        self.replies: deque[Reply] = deque([Reply()])
        self.released = asyncio.Event()
        self.arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reply(self, *replies: Reply) -> None:
        self.replies = deque(replies)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End at once, connections included, as a killed process would."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._once(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, target, _version = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.seen.append(Seen(method=method, target=target, headers=headers, body=body))
        self.arrived.set()
        reply = self._answer(target)
        if reply.hang:
            await self.released.wait()
        raw = _raw(reply)
        writer.write(raw if reply.cut is None else raw[: reply.cut])
        await writer.drain()
        return reply.cut is None

    def _answer(self, _target: str) -> Reply:
        return self.replies.popleft() if len(self.replies) > 1 else self.replies[0]


def _raw(reply: Reply) -> bytes:
    headers = {"content-length": str(len(reply.body)), "Massar-Position": "1-500", "Massar-Epoch": "1"}
    lines = [f"{name}: {value}" for name, value in {**headers, **reply.headers}.items()]
    return ("\r\n".join([f"HTTP/1.1 {reply.status} X", *lines]) + "\r\n\r\n").encode() + reply.body


class Echo(Origin):
    """Answers `/health` with the nonce of the question, but for what a test changes."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.changes: dict[str, Any] = {}
        self.silent = False
        self.hanging = False

    def _answer(self, _target: str) -> Reply:
        if self.hanging:
            return HANG
        if self.silent:
            return Reply(status=503)
        nonce = _target.partition("nonce=")[2]
        said = {"site": self.site, "nonce": nonce, "role": "standby", "epoch": 4, "position": "1-7"}
        said |= {"receipt_age_s": 0.5, "lag_s": None, "writable": False, **self.changes}
        return Reply(body=json.dumps(said).encode())


class Pouring:
    """Answers with `head` and then with bytes for as long as anybody takes them, `at_most` so many."""

    CHUNK = b"%x\r\n%b\r\n" % (1 << 16, b" " * (1 << 16))

    def __init__(self, *head: str, at_most: float = math.inf) -> None:
        self._head = "\r\n".join(["HTTP/1.1 200 X", *head, "", ""]).encode()
        self._at_most = at_most
        self.sent = 0
        self.broken_off = asyncio.Event()
        self.connections = 0
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Pouring]:
        """Pour until the end of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._head)
            while self.sent < self._at_most:
                writer.write(self.CHUNK)
                await writer.drain()
                self.sent += len(self.CHUNK)
            if await reader.read() == b"":
                self.broken_off.set()
        except (OSError, asyncio.IncompleteReadError):
            self.broken_off.set()
        finally:
            writer.transport.abort()


@asynccontextmanager
async def origins(*sites: str) -> AsyncIterator[list[Origin]]:
    """One origin per site, ended together."""
    started = [Origin(site) for site in sites]
    try:
        for one in started:
            await one.start()
        yield started
    finally:
        for one in started:
            await one.stop()


def verified(origin: Origin, seen: Seen, keys: Mapping[str, Ed25519PublicKey], *, now: float) -> Assertion:
    """The assertion of a request, checked as the datacenter would."""
    return assertion.verify(
        seen.headers["massar-assertion"],
        keys=keys,
        audience=f"datacenter:{origin.site}",
        method=seen.method,
        target=seen.target,
        body=seen.body,
        epoch=int(seen.headers["massar-epoch"]),
        now=now,
    )
