"""A hand-made school in a database of its own, and the datacenter's parts around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sandbox import keys, postgres
from sandbox.datacenter.settings import Secret, Settings
from sandbox.datacenter.tables import asyncpg_url
from tests.conformance.ground import SITE
from tests.conformance.serving import planted


@pytest.fixture(scope="session")
async def records_dsn(postgres_server: postgres.PostgresServer) -> str:
    """School records that every test leaves as it found them."""
    return await planted(postgres_server, "unit")


@pytest.fixture(scope="session")
async def engine(records_dsn: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(asyncpg_url(records_dsn), poolclass=NullPool)
    yield made
    await made.dispose()


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection whose changes are rolled back."""
    async with engine.connect() as made:
        yield made
        await made.rollback()


@pytest.fixture(scope="session")
def site_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datacenter") / "keys"
    keys.make(folder, sites=("rabat", "marrakech"))
    return folder


@pytest.fixture(scope="session")
def settings(records_dsn: str, site_keys: Path) -> Settings:
    return Settings(
        site=SITE,
        records_dsn=Secret(records_dsn),
        assertion_keys_dir=site_keys,
        notice_key_file=site_keys / f"datacenter-{SITE}.pem",
    )


class Told:
    """A log that remembers its events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            structlog.ReturnLogger(),
            processors=[self._take],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )

    def _take(self, _: object, __: str, event: Any) -> str:
        self.events.append(dict(event))
        return ""


@pytest.fixture
def told() -> Told:
    return Told()
