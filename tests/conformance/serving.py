"""A datacenter process and the database it stands on, as the suites start them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from sandbox import ports, postgres, processes
from sandbox.datacenter import tables
from tests.conformance import seed
from tests.conformance.ground import EPOCH, SITE

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 30


@contextlib.asynccontextmanager
async def serving(
    *, dsn: str, site: str, site_keys: Path, logs: Path, notice_urls: str = ""
) -> AsyncIterator[str]:
    """A datacenter process of its own; yields its address once it takes requests."""
    port = ports.free_ports(1)[0]
    running = processes.spawn(
        [sys.executable, "-P", "-m", "granian", "--interface", "asgi", "--no-ws", "--host", "127.0.0.1",
         "--port", str(port), "sandbox.datacenter.asgi:app"],
        name=f"datacenter-{port}",
        log=logs / f"datacenter-{port}.log",
        environment={
            **processes.BARE_ENVIRONMENT,
            "PYTHONPATH": str(ROOT),
            "MASSAR_DIE_WITH_PARENT": "1",
            "MASSAR_DATACENTER_SITE": site,
            "MASSAR_DATACENTER_RECORDS_DSN": dsn,
            "MASSAR_DATACENTER_ASSERTION_KEYS": str(site_keys),
            "MASSAR_DATACENTER_NOTICE_KEY": str(site_keys / f"datacenter-{site}.pem"),
            "MASSAR_DATACENTER_NOTICE_URLS": notice_urls,
        },
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            await processes.ready(running, lambda: _answers(client, url), within_s=READY_WITHIN_S)
        yield url
    finally:
        await running.stop()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/health")).status_code in {200, 503}
    except httpx.HTTPError:
        return False


async def planted(server: postgres.PostgresServer, name: str, *, site: str = SITE, epoch: int = EPOCH) -> str:
    """A database of its own with the school of seed.py; returns the address the datacenter uses."""
    dsn = await server.create_database(name, "massar_records")
    await tables.create(dsn)
    await seed.plant(dsn, site=site, epoch=epoch)
    return dsn
