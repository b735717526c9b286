"""The accounts database's history: `upgrade` brings any older state to the newest revision.

Invariant: a schema changes by a revision in `versions/` alone, and two starters at once do the work once.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from auth.accounts import asyncpg_url

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 120.0
_LOCK = 0x6D61_7373_6172  # any number of our own, so that starters wait for each other


async def upgrade(dsn: str) -> None:
    """Bring the database at `dsn` (`postgresql://…`) to the newest revision; quick when it is there already."""
    engine = create_async_engine(
        asyncpg_url(dsn),
        poolclass=pool.NullPool,
        connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": STATEMENT_TIMEOUT_S},
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_to_head)
    finally:
        await engine.dispose()


def config() -> Config:
    """Alembic's configuration, without a file: the scripts lie beside this module."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def _to_head(connection: Connection) -> None:
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
