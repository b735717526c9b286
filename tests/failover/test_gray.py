"""A gray datacenter: its probes pass, and its users meet what the mode says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.failover.gray import ERRORS, JITTER, SILENCE, Proxy

SILENT_FOR_S = 0.3


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that says what it was asked, connection header included, and keeps the connection as long as it may."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(head), head))
    await writer.drain()
    writer.close()


@asynccontextmanager
async def before(mode: str) -> AsyncIterator[tuple[httpx.AsyncClient, Proxy]]:
    """A client of a proxy in this mode."""
    behind = await asyncio.start_server(_answers, "127.0.0.1", 0)
    proxy = Proxy(mode, host="127.0.0.1", port=behind.sockets[0].getsockname()[1], chance=random.Random(3))
    front = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{front.sockets[0].getsockname()[1]}"
    async with behind, front, httpx.AsyncClient(base_url=url, trust_env=False, timeout=5.0) as client:
        yield client, proxy


@pytest.mark.parametrize("mode", [SILENCE, ERRORS, JITTER])
async def test_probes_pass_untouched_in_every_mode(mode: str) -> None:
    async with before(mode) as (client, proxy):
        for _ in range(20):
            assert (await client.get("/health?nonce=n")).status_code == 200
    assert (proxy.met, proxy.spoilt) == (0, 0)


async def test_some_of_the_users_meet_errors_and_the_others_their_answer() -> None:
    async with before(ERRORS) as (client, proxy):
        statuses = [(await client.get("/v1/me")).status_code for _ in range(60)]
    assert set(statuses) == {200, 503}
    assert proxy.met == 60
    assert proxy.spoilt == statuses.count(503)


async def test_users_meet_silence() -> None:
    async with before(SILENCE) as (client, proxy):
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/v1/me", timeout=SILENT_FOR_S)
    assert proxy.spoilt == 1


async def test_each_request_is_the_last_on_its_connection_so_that_each_is_met() -> None:
    async with before(JITTER) as (client, proxy):
        for _ in range(3):
            said = (await client.post("/v1/x", content=b"body", headers={"connection": "keep-alive"})).text
            assert said.lower().count("connection:") == 1
    assert proxy.met == 3
