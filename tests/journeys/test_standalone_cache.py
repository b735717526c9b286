"""`python -m cache` as its user starts it: one process, two that share a Valkey, an orderly end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sandbox import ports, processes
from sandbox.valkey import ValkeyServer
from tests.cache.http.origin import Exchange, Origin, running_origin

READY_WITHIN_S = 20.0


@asynccontextmanager
async def standalone(
    origin: Origin, logs: Path, *options: str
) -> AsyncIterator[tuple[httpx.AsyncClient, processes.Running]]:
    """A proxy in a process of its own and a client that speaks to it."""
    port = ports.free_ports(1)[0]
    running = processes.spawn(
        [
            sys.executable,
            "-m",
            "cache",
            *("--origin", origin.url, "--listen", f"{ports.LOOPBACK}:{port}"),
            *options,
        ],
        name=f"cache-{port}",
        log=logs / f"cache-{port}.log",
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{ports.LOOPBACK}:{port}", trust_env=False) as client:
            await processes.ready(running, lambda: _answers(port), within_s=READY_WITHIN_S)
            yield client, running
    finally:
        running.kill()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(ports.LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as made:
        yield made


async def test_it_serves_from_memory_what_it_may_and_ends_in_order(origin: Origin, logs: Path) -> None:
    origin.says("/page", b"page", cache_control="max-age=60")
    async with standalone(origin, logs) as (client, running):
        first, second = await client.get("/page"), await client.get("/page")
        assert (first.content, second.content) == (b"page", b"page")
        assert second.headers["cache-status"].startswith("massar; hit; ttl=")
        assert origin.times("/page") == 1
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.exited(), 10) == 0


async def test_two_processes_with_one_valkey_answer_and_forget_as_one(
    origin: Origin, logs: Path, valkey_server: ValkeyServer
) -> None:
    origin.says("/shared", b"old", cache_control="max-age=60")
    shared = ("--redis", valkey_server.url)
    async with standalone(origin, logs, *shared) as (one, _), standalone(origin, logs, *shared) as (other, _):
        await one.get("/shared")
        assert (await other.get("/shared")).headers["cache-status"].startswith("massar; hit")
        origin.says("/shared", b"new", cache_control="max-age=60")
        await one.put("/shared", content=b"x")
        assert (await other.get("/shared")).content == b"new"


async def test_one_clients_cookie_is_given_to_no_other_one_unless_that_is_asked_for(
    origin: Origin, logs: Path
) -> None:
    origin.says("/page", b"page", cache_control="max-age=60", set_cookie="session=of-somebody")
    for options, times in ((), 2), (("--store-cookies",), 1):
        origin.asked.clear()
        async with standalone(origin, logs, *options) as (client, _):
            for _ in range(2):
                assert (await client.get("/page")).content == b"page"
        assert origin.times("/page") == times


async def test_a_body_cut_short_at_the_origin_is_cut_short_for_the_client(origin: Origin, logs: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\n" + b"x" * 70_000)
        exchange.close()

    origin.scripts["/cut"] = script
    async with standalone(origin, logs) as (client, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/cut")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "--origin"),
        (("--origin", "ftp://x"), "an origin is http:// or https://"),
        (("--origin", "http://x/path"), "an origin is http:// or https://"),
        (("--origin", "http://u:p@x"), "an origin is http:// or https://"),
        (("--origin", "http://x:99999"), "an origin is http:// or https://"),
        (("--origin", "http://x", "--listen", "8080"), "an address is HOST:PORT"),
        (("--origin", "http://x", "--seal-keys", "/nowhere"), "no sealing keys in /nowhere"),
    ],
)
async def test_a_wrong_word_is_explained(words: tuple[str, ...], complaint: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cache", *words, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = (await process.stderr.read()).decode()
    assert (await process.wait(), complaint in said) == (2, True), said
