"""A small real server in place of a site's gateway: each request goes to a function of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec


class Came(msgspec.Struct, frozen=True):
    """One request; header names are lower-case, `connection` counts from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int


class Said(msgspec.Struct, frozen=True):
    """Its answer; a status of 0 breaks the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = {}


@asynccontextmanager
async def door(answer: Callable[[Came], Said]) -> AsyncIterator[str]:
    """Serve on loopback for the block; gives the address."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        number, connections = connections, connections + 1
        try:
            while True:
                said = answer(await _came(reader, number))
                if said.status == 0:
                    return
                body = msgspec.json.encode(said.body)
                heads = {**said.headers, "content-length": str(len(body))}
                lines = [f"HTTP/1.1 {said.status} X", *(f"{name}: {value}" for name, value in heads.items())]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _came(reader: asyncio.StreamReader, number: int) -> Came:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Came(method, path, headers, msgspec.json.decode(body) if body else None, number)
