"""One request after the other to a server, each answer read whole: what comes before a measurement.

Invariant: what is compared has been seen to be the same bytes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.peers.certificate import HOST

ANSWER_S = 10.0
HEAD_BYTES_MAX = 64 * 1024


class Probed(msgspec.Struct, frozen=True):
    """One answer; field names are lower-case."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes


async def probe(port: int, requests: Iterable[bytes], *, certificate: Path | None = None) -> list[Probed]:
    """The answers to raw requests on one connection to loopback, over TLS to a server that shows `certificate`.

    Raises: OSError, TimeoutError, IncompleteReadError.
    """
    tls = None if certificate is None else ssl.create_default_context(cafile=str(certificate))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, limit=HEAD_BYTES_MAX, ssl=tls, server_hostname=HOST if tls else None
    )
    try:
        return [await asked(reader, writer, request) for request in requests]
    finally:
        writer.close()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Probed:
    """The answer to one request on a connection. Raises: OSError, TimeoutError, IncompleteReadError."""
    async with asyncio.timeout(ANSWER_S):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        status = int(first.split(b" ")[1])
        body = b"" if status == 304 else await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return Probed(status=status, fields=fields, body=body)
