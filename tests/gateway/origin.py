"""A tiny real datacenter over raw sockets: it answers the contract, counts, and does otherwise when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.gateway import contract


class Seen(msgspec.Struct, frozen=True):
    """One request as it arrived; `target` is path and query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Canned(msgspec.Struct, frozen=True):
    """An answer in place of the contract's."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = {}


def refusal(status: int, slug: str) -> Canned:
    return Canned(
        status=status, body=msgspec.json.encode({"slug": slug, "status": status, "title": "upstream text"})
    )


class Origin:
    """The datacenter of one site; `canned` maps the beginning of a target to what is answered instead."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.epoch = 1
        self.position: str | None = "1-1000"
        self.order: int | None = 1
        self.data_age: str | None = None
        self.seen: list[Seen] = []
        self.canned: dict[str, Canned] = {}
        self.gate: asyncio.Event | None = None
        self.write_gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def say(self, target: str, **body: Any) -> None:
        """Answer 200 with `body` to targets that begin so."""
        self.canned[target] = Canned(body=msgspec.json.encode(body))

    def count(self, fragment: str) -> int:
        """How many requests had `fragment` in their target."""
        return sum(fragment in seen.target for seen in self.seen)

    def forget(self) -> None:
        """Be as new, on the same port."""
        self.epoch, self.position, self.data_age, self.gate = 1, "1-1000", None, None
        self.order, self.write_gate = 1, None
        self.seen.clear()
        self.canned.clear()
        self.arrived.clear()

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
            while True:
                seen = await _received(reader)
                self.seen.append(seen)
                self.arrived.set()
                gate = self.gate if seen.method == "GET" else self.write_gate or self.gate
                if gate is not None:
                    await gate.wait()
                await self._say(seen, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _say(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(self._raw(seen))
        await writer.drain()

    def _raw(self, seen: Seen) -> bytes:
        reply = self._reply(seen)
        headers = {
            "content-length": str(len(reply.body)),
            "massar-epoch": str(self.epoch),
            **({"massar-position": self.position} if self.position is not None else {}),
            **({"massar-order": str(self.order)} if self.order is not None and seen.method != "GET" else {}),
            **({"massar-data-age": self.data_age} if self.data_age is not None else {}),
            **reply.headers,
        }
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + reply.body

    def _reply(self, seen: Seen) -> Canned:
        for beginning, canned in self.canned.items():
            if seen.target.startswith(beginning):
                return canned
        status, body = contract.answer(seen.method, seen.target, seen.body)
        headers = (
            {"last-modified": "Tue, 17 Nov 2026 16:05:00 GMT", "etag": '"v1"'} if seen.method == "GET" else {}
        )
        if status == 201:
            headers = {"location": f"{seen.target}/{body['id']}"}
        return Canned(status=status, body=msgspec.json.encode(body), headers=headers)


async def _received(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    method, target, _version = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method=method, target=target, headers=headers, body=body)


@asynccontextmanager
async def origins(*sites: str) -> AsyncIterator[dict[str, Origin]]:
    """One datacenter per site, ended together."""
    started = {site: Origin(site) for site in sites}
    try:
        for one in started.values():
            await one.start()
        yield started
    finally:
        for one in started.values():
            await one.stop()
