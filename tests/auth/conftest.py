"""What the tests of auth share: a clock they set, keys, tokens, and an accounts database of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import open_engine
from auth.keys import SigningKeys, generate
from auth.migrations import upgrade
from auth.tokens import Tokens
from sandbox.postgres import PostgresServer
from tests.auth.people import ISSUER, Clock


@pytest.fixture
def clock() -> Clock:
    """Wall time that passes when told."""
    return Clock()


@pytest.fixture(scope="session")
def keys_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one signing key; make your own to change it."""
    folder = tmp_path_factory.mktemp("keys")
    generate(folder)
    return folder


@pytest.fixture(scope="session")
def keys(keys_folder: Path) -> SigningKeys:
    """The keys of that folder."""
    return SigningKeys.load(keys_folder)


@pytest.fixture
def tokens(keys: SigningKeys) -> Tokens:
    """The issuer under test."""
    return Tokens(keys, issuer=ISSUER)


@pytest.fixture(scope="session")
async def accounts_dsn(postgres_server: PostgresServer) -> str:
    """An accounts database at the newest revision, shared by this package's tests."""
    dsn = await postgres_server.create_database("auth_tests", owner="massar_accounts")
    await upgrade(dsn)
    return dsn


@pytest.fixture(scope="session")
async def _shared_engine(accounts_dsn: str) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(accounts_dsn, connections_max=20, pool_wait_s=30, statement_timeout_s=30)
    yield engine
    await engine.dispose()


@pytest.fixture
async def engine(_shared_engine: AsyncEngine) -> AsyncEngine:
    """The accounts database, empty."""
    async with _shared_engine.begin() as connection:
        await connection.execute(text("TRUNCATE accounts, sessions, attempts"))
    return _shared_engine
