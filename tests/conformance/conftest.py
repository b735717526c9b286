"""The datacenter under test: its own database, its own process, real HTTP."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datacenters.sender_keys import read_private_key
from sandbox import keys, postgres
from tests.conformance.ground import EPOCH, SITE, Contract, Ground
from tests.conformance.serving import planted, serving

SITES = ("rabat", "marrakech")


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The document."""
    return Contract()


@pytest.fixture(scope="session")
def site_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every site's keys."""
    if "MASSAR_CONTRACT_KEYS" in os.environ:
        return Path(os.environ["MASSAR_CONTRACT_KEYS"])
    folder = tmp_path_factory.mktemp("contract") / "keys"
    keys.make(folder, sites=SITES)
    return folder


@pytest.fixture(scope="session")
def own_server(request: pytest.FixtureRequest) -> postgres.PostgresServer | None:
    """The PostgreSQL to plant the school in; none where another datacenter is under test."""
    if "MASSAR_CONTRACT_URL" in os.environ:
        return None
    server: postgres.PostgresServer = request.getfixturevalue("postgres_server")
    return server


@contextlib.asynccontextmanager
async def grounded(
    server: postgres.PostgresServer | None, name: str, *, contract: Contract, site_keys: Path, logs: Path
) -> AsyncIterator[Ground]:
    """A datacenter with a school of its own, or the one that the environment names."""
    key = read_private_key(site_keys / f"gateway-{SITE}.pem")
    async with contextlib.AsyncExitStack() as stack:
        if server is None:
            url, dsn, epoch = (
                os.environ["MASSAR_CONTRACT_URL"],
                None,
                int(os.environ["MASSAR_CONTRACT_EPOCH"]),
            )
        else:
            dsn, epoch = await planted(server, name), EPOCH
            url = await stack.enter_async_context(serving(dsn=dsn, site=SITE, site_keys=site_keys, logs=logs))
        ground = Ground(url=url, key=key, contract=contract, dsn=dsn, epoch=epoch)
        stack.push_async_callback(ground.client.aclose)
        yield ground


@pytest.fixture(scope="session")
async def datacenter(
    own_server: postgres.PostgresServer | None, contract: Contract, site_keys: Path, logs: Path
) -> AsyncIterator[Ground]:
    """A datacenter that is only read: every figure of seed.py stands."""
    async with grounded(own_server, "contract", contract=contract, site_keys=site_keys, logs=logs) as ground:
        yield ground


@pytest.fixture(scope="module")
async def own(
    request: pytest.FixtureRequest,
    own_server: postgres.PostgresServer | None,
    contract: Contract,
    site_keys: Path,
    logs: Path,
) -> AsyncIterator[Ground]:
    """A datacenter that the module's tests write to; a test that raises its epoch says so in `ground.epoch`."""
    name = request.module.__name__.rpartition(".")[2]
    async with grounded(own_server, name, contract=contract, site_keys=site_keys, logs=logs) as ground:
        yield ground
