"""The real servers that tests share: one of each kind per session, started when first asked for."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from sandbox import etcd, ports, postgres, postgres_home, valkey
from tests.countries import RunningCountry, running_country

# A stall of the machine is no finding.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    """Take the collected tests, which stay to the end, from the collector: each look through them stops a test for 0.3 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's servers write what they say."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
async def postgres_server(
    tmp_path_factory: pytest.TempPathFactory, logs: Path
) -> AsyncIterator[postgres.PostgresServer]:
    """A PostgreSQL with the project's roles; ask it for a database of your own by `create_database`."""
    home = postgres_home.open_home(
        folder=tmp_path_factory.mktemp("postgres"), override=os.environ.get("MASSAR_POSTGRES_BIN")
    )
    try:
        server = await postgres.start_primary(
            home=home,
            logs=logs,
            site="tests",
            port=ports.free_ports(1)[0],
            passwords=postgres.new_passwords(),
        )
        yield server
        await postgres.stop(server)
    finally:
        home.close()


@pytest.fixture(scope="session")
async def valkey_server(
    tmp_path_factory: pytest.TempPathFactory, logs: Path
) -> AsyncIterator[valkey.ValkeyServer]:
    """A Valkey that the whole session shares: use keys of your own."""
    server = await valkey.start(
        folder=tmp_path_factory.mktemp("valkey"), logs=logs, override=os.environ.get("MASSAR_VALKEY_BIN")
    )
    yield server
    await server.process.stop()


@pytest.fixture(scope="session")
async def etcd_server(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> AsyncIterator[etcd.EtcdServer]:
    """A single etcd member that the whole session shares: use a key prefix of your own."""
    executable = etcd.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
    (server,) = await etcd.start(
        etcd.cluster(["tests"]),
        folder=tmp_path_factory.mktemp("etcd"),
        logs=logs,
        executable=executable,
        fsync=False,  # no test of these loses the machine; a stalled disk must fail none of them
    )
    yield server
    await server.process.stop()


@pytest.fixture(scope="session")
async def country(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningCountry]:
    """A whole country of three sites, two workers a gateway, that all journeys share: kill nothing in it."""
    async with running_country(tmp_path_factory.mktemp("country"), workers=2) as running:
        yield running
