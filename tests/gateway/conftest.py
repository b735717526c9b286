"""A gateway for tests: real etcd, real keys, two small datacenters; one shared by all that change nothing."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import open_engine
from auth.migrations import upgrade
from datacenters import hedging
from datacenters.etcd import Etcd
from gateway import logs as gateway_logs
from gateway.settings import Site
from sandbox import etcd as members
from sandbox import keys as sandbox_keys
from sandbox.postgres import PostgresServer
from tests.datacenters.listening import Proxy
from tests.gateway.accounts import Accounts
from tests.gateway.origin import Origin, origins
from tests.gateway.world import NAMES, SITES, World, declare, running, settings_for


@pytest.fixture(scope="session", autouse=True)
def discreet_logs() -> None:
    """Log as the gateway does, but where pytest can see it."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            gateway_logs._exception_kind,
            structlog.processors.JSONRenderer(),
        ]
    )


@pytest.fixture(autouse=True)
def no_second_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a datacenter is asked is counted here: a slow machine must not make a read worth asking twice."""
    monkeypatch.setattr(hedging, "HEDGE_AFTER_MAX_S", 60.0)


@pytest.fixture(scope="session")
def keys_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every key a gateway and its neighbours need."""
    folder = tmp_path_factory.mktemp("gateway-keys") / "keys"
    sandbox_keys.make(folder, sites=SITES)
    return folder


@asynccontextmanager
async def _etcd(name: str, folder: Path, logs: Path) -> AsyncIterator[members.EtcdServer]:
    executable = members.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
    (server,) = await members.start(members.cluster([name]), folder=folder, logs=logs, executable=executable)
    yield server
    await server.process.stop()


@pytest.fixture(scope="session")
async def own_etcd(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> AsyncIterator[members.EtcdServer]:
    """An etcd of these folders' own: the record lies under fixed keys, and one gateway at a time follows it."""
    async with _etcd("gateways", tmp_path_factory.mktemp("etcd"), logs) as server:
        yield server


@pytest.fixture
async def datacenters() -> AsyncIterator[dict[str, Origin]]:
    """Rabat's and Marrakech's, as new."""
    async with origins(*SITES) as started:
        yield started


@pytest.fixture(scope="session")
async def etcd_client(own_etcd: members.EtcdServer) -> AsyncIterator[Etcd]:
    """The test's own way to that etcd."""
    client = Etcd([own_etcd.url], timeout_s=5.0, connect_timeout_s=5.0)
    yield client
    await client.aclose()


@pytest.fixture
async def proxy(own_etcd: members.EtcdServer) -> AsyncIterator[tuple[Proxy, str]]:
    """A line to etcd that can be cut, and its address."""
    line = Proxy(own_etcd.member.client_port)
    yield line, await line.start()
    await line.stop()


class MakeWorld(Protocol):
    """Starts a gateway of its own; `record` are changes to the control record, the others are settings."""

    def __call__(self, *, record: dict[str, Any] | None = None, **settings: Any) -> Awaitable[World]: ...


@pytest.fixture
async def make_world(
    tmp_path: Path,
    keys_folder: Path,
    own_etcd: members.EtcdServer,
    etcd_client: Etcd,
    datacenters: dict[str, Origin],
) -> AsyncIterator[MakeWorld]:
    """Makes worlds that share the test's two datacenters, and ends them with it."""
    async with AsyncExitStack() as stack:

        async def make(*, record: dict[str, Any] | None = None, **settings: Any) -> World:
            await declare(etcd_client, **(record or {}))
            urls = {site: origin.url for site, origin in datacenters.items()}
            given = settings_for(tmp_path, keys=keys_folder, urls=urls, etcd_url=own_etcd.url, **settings)
            return await stack.enter_async_context(running(World(given, origins=datacenters)))

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """A gateway of this test's own, Rabat active at epoch 1."""
    return await make_world()


@pytest.fixture
def cut_off(tmp_path: Path, keys_folder: Path, datacenters: dict[str, Origin]) -> Callable[..., World]:
    """Makes gateways whose feeds never start: nothing was ever heard from etcd."""

    def make(**settings: Any) -> World:
        urls = {site: origin.url for site, origin in datacenters.items()}
        return World(settings_for(tmp_path, keys=keys_folder, urls=urls, **settings), origins=datacenters)

    return make


@pytest.fixture(scope="session")
async def session_world(
    tmp_path_factory: pytest.TempPathFactory, keys_folder: Path, logs: Path
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("shared-gateway")
    async with _etcd("shared-gateway", folder, logs) as etcd, origins(*SITES) as started:
        client = Etcd([etcd.url], timeout_s=5.0, connect_timeout_s=5.0)
        await declare(client)
        await client.aclose()
        urls = {site: origin.url for site, origin in started.items()}
        given = settings_for(folder, keys=keys_folder, urls=urls, etcd_url=etcd.url, rate_burst=100_000)
        async with running(World(given, origins=started)) as world:
            yield world


@pytest.fixture
def shared(session_world: World) -> World:
    """The gateway that every test may ask and none may change; its datacenters are as new but for the cache."""
    session_world.rabat.forget()
    session_world.marrakech.forget()
    return session_world


@pytest.fixture(scope="session")
async def _accounts_engine(postgres_server: PostgresServer) -> AsyncIterator[tuple[str, AsyncEngine]]:
    # The routes' folder has these fixtures too, and a database of its own with them.
    name = f"gateway_tests_{secrets.token_hex(4)}"
    dsn = await postgres_server.create_database(name, owner="massar_accounts")
    await upgrade(dsn)
    engine = open_engine(dsn)
    yield dsn, engine
    await engine.dispose()


@pytest.fixture
async def accounts(_accounts_engine: tuple[str, AsyncEngine]) -> Accounts:
    """The accounts database, empty."""
    dsn, engine = _accounts_engine
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE accounts, sessions, attempts"))
    return Accounts(dsn=dsn, engine=engine)


@pytest.fixture
async def accounts_world(make_world: MakeWorld, accounts: Accounts, datacenters: dict[str, Origin]) -> World:
    """A gateway whose active site has an accounts database."""
    sites = {
        site: Site(datacenter_url=origin.url, name=NAMES[site], accounts_dsn=accounts.dsn)
        for site, origin in datacenters.items()
    }
    return await make_world(sites=sites)


_numbers = itertools.count()
_days = itertools.count()


@pytest.fixture
def fresh_key() -> str:
    """An Idempotency-Key nobody used."""
    return f"key-{next(_numbers)}"


@pytest.fixture
def fresh_day() -> str:
    """A day of the school year that no test has asked the shared gateway about: nothing is kept under it."""
    return (date(2026, 9, 3) + timedelta(days=next(_days))).isoformat()
