"""What a failure of a request proves: only one that never had a connection has surely sent nothing."""

from __future__ import annotations

import asyncio

import pytest
from pyqwest import Client

from datacenters.transport import FAILURES, direct_transport, never_connected


async def _failure(port: int) -> BaseException:
    transport = direct_transport(connect_s=0.2)
    try:
        with pytest.raises(FAILURES) as failed:
            async with asyncio.timeout(2.0):
                await Client(transport).execute("POST", f"http://127.0.0.1:{port}/", {}, b"x")
    finally:
        await transport.aclose()
    return failed.value


async def test_nobody_listening_is_told_from_a_connection_that_breaks() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not never_connected(await _failure(port))
    assert never_connected(await _failure(port))


async def test_a_proxy_in_the_environment_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        transport = direct_transport()
        port = server.sockets[0].getsockname()[1]
        got = await Client(transport).execute("GET", f"http://127.0.0.1:{port}/")
        assert got.status == 204
        await transport.aclose()
