"""Answers are read whole, in the clear and over TLS from who shows the comparison's own certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.peers import certificate
from bench.peers.probing import Probed, probe
from bench.peers.scenarios import raw

ANSWER = b'HTTP/1.1 200 OK\r\nETag: "x"\r\ncontent-length: 4\r\n\r\nweek'
EXPECTED = Probed(200, {b"etag": b'"x"', b"content-length": b"4"}, b"week")


@asynccontextmanager
async def serving(shown: Path | None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    tls = None
    if shown is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(shown)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("over_tls", [False, True])
async def test_every_request_has_its_answer(over_tls: bool, tmp_path: Path) -> None:
    shown = certificate.make(tmp_path / "pem") if over_tls else None
    async with serving(shown) as port:
        assert await probe(port, [raw("/a", "t"), raw("/b", "t")], certificate=shown) == [EXPECTED] * 2


async def test_who_shows_another_certificate_is_not_asked(tmp_path: Path) -> None:
    own, other = certificate.make(tmp_path / "own"), certificate.make(tmp_path / "other")
    async with serving(other) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await probe(port, [raw("/a", "t")], certificate=own)
