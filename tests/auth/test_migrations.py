"""Migrations: from nothing, again, two at once, and never apart from the tables the code believes in."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import ACCOUNTS_COPY_COLUMNS, AccountRow, Base, open_engine
from auth.migrations import config, upgrade
from sandbox.postgres import PostgresServer
from tests.auth.people import add_account


def differences(connection: Connection) -> list[object]:
    """What a new revision would have to change."""
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, Base.metadata))


async def test_the_migrated_tables_are_the_ones_the_code_believes_in(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_bulk_load_names_every_column_of_an_account_in_order(engine: AsyncEngine) -> None:
    assert tuple(AccountRow.__table__.columns.keys()) == ACCOUNTS_COPY_COLUMNS
    async with engine.connect() as connection:
        columns = await connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'accounts' "
                "ORDER BY ordinal_position"
            )
        )
        assert tuple(columns.scalars()) == ACCOUNTS_COPY_COLUMNS


async def test_two_starters_at_once_do_the_work_once(postgres_server: PostgresServer) -> None:
    dsn = await postgres_server.create_database("auth_two_starters", owner="massar_accounts")
    await asyncio.gather(upgrade(dsn), upgrade(dsn), upgrade(dsn))
    engine = open_engine(dsn)
    async with engine.connect() as connection:
        version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalars().all()
        assert await connection.run_sync(differences) == []
    await engine.dispose()
    assert version == [ScriptDirectory.from_config(config()).get_current_head()]


async def test_an_upgraded_database_is_left_as_it_is(accounts_dsn: str, engine: AsyncEngine) -> None:
    subject = await add_account(engine)
    await upgrade(accounts_dsn)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT subject FROM accounts"))).scalar_one() == subject


async def test_the_history_is_one_line() -> None:
    script = ScriptDirectory.from_config(config())
    assert len(script.get_heads()) == 1
    assert [revision.revision for revision in script.walk_revisions()][-1] == "0001"


async def test_a_wrong_address_is_an_error_not_a_wait(postgres_server: PostgresServer) -> None:
    with pytest.raises(Exception, match="does not exist"):
        await upgrade(postgres_server.dsn("no_such_database"))
