"""A Valkey that tests may kill, hang and start again, and tiers over it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from cache.bounded_valkey import OPERATION_MAX_S
from cache.valkey import ValkeyTier
from sandbox import ports, processes, valkey
from tests.cache.building import KEYS, Datacenter, World

# For a Valkey that is there: no pause of the machine takes so long.
UNHURRIED_S = 5.0


class MortalValkey:
    """One Valkey on one port, through all its lives."""

    def __init__(self, logs: Path) -> None:
        self.port = ports.free_ports(1)[0]
        self.url = f"redis://{ports.LOOPBACK}:{self.port}/0"
        self._logs = logs
        self._running: processes.Running | None = None

    async def start(self) -> None:
        settings = f'bind {ports.LOOPBACK}\nport {self.port}\nsave ""\nappendonly no\nmaxmemory 64mb\n'
        self._running = processes.spawn(
            [str(valkey.binary(os.environ.get("MASSAR_VALKEY_BIN"))), "-"],
            name=f"mortal-valkey-{self.port}",
            log=self._logs / "mortal-valkey.log",
            stdin=settings.encode(),
        )
        await processes.ready(self._running, self._answers, within_s=5.0)

    def kill(self) -> None:
        """SIGKILL."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def signal(self, signum: signal.Signals) -> None:
        """Hang it (SIGSTOP) or let it go on (SIGCONT)."""
        assert self._running is not None
        os.kill(self._running.pid, signum)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(ports.LOOPBACK, self.port)
        except OSError:
            return False
        writer.close()
        return True


@pytest.fixture
async def mortal_valkey(logs: Path) -> AsyncIterator[MortalValkey]:
    server = MortalValkey(logs)
    await server.start()
    yield server
    server.kill()


TierAt = Callable[[str], ValkeyTier]


@pytest.fixture
async def tier_at(valkey_server: valkey.ValkeyServer) -> AsyncIterator[TierAt]:
    """Makes tiers at a URL and closes them afterwards; the Valkey that all tests share is waited for: it is never away."""
    made: list[ValkeyTier] = []

    def make(url: str) -> ValkeyTier:
        operation_max_s = UNHURRIED_S if url == valkey_server.url else OPERATION_MAX_S
        made.append(
            ValkeyTier(
                url,
                name_secret=KEYS.name_secret,
                monotonic=time.monotonic,
                operation_max_s=operation_max_s,
            )
        )
        return made[-1]

    yield make
    for tier in made:
        with contextlib.suppress(Exception):
            await tier.aclose()


@pytest.fixture
async def raw(valkey_server: valkey.ValkeyServer) -> AsyncIterator[Redis]:
    """A plain client of the shared Valkey, emptied before the test."""
    client: Redis = Redis.from_url(valkey_server.url)
    await client.flushall()
    yield client
    await client.aclose()


Maker = Callable[[], Awaitable[ValkeyTier]]


@pytest.fixture
async def tier(valkey_server: valkey.ValkeyServer, raw: Redis, tier_at: TierAt) -> ValkeyTier:
    """A tier over the shared Valkey, emptied."""
    assert await raw.ping()
    return tier_at(valkey_server.url)


@pytest.fixture
def world() -> World:
    """A cache of tier 1 alone."""
    return World()


@pytest.fixture
def origin() -> Datacenter:
    """A datacenter that answers at once."""
    return Datacenter(b"first")
