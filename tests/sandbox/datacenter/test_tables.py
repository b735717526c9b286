from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox import postgres
from sandbox.datacenter import tables
from tests.conformance import seed


async def test_making_the_tables_twice_is_harmless(postgres_server: postgres.PostgresServer) -> None:
    dsn = await postgres_server.create_database("tables", "massar_records")
    await tables.create(dsn)
    await tables.create(dsn)
    connection = await asyncpg.connect(dsn, ssl=False)
    try:
        made = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {row["tablename"] for row in made} == set(tables.metadata.tables)
        assert await connection.fetchval("SELECT count(*) FROM fence") == 0
    finally:
        await connection.close()


async def test_a_bulk_load_may_rely_on_the_column_order(connection: AsyncConnection) -> None:
    rows = await connection.execute(
        text(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, ordinal_position"
        )
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    assert found == {name: list(table.columns.keys()) for name, table in tables.metadata.tables.items()}


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE marks SET mark = 20.5 WHERE mark IS NOT NULL",
        "UPDATE marks SET mark = NULL WHERE state = 'marked'",
        "UPDATE marks SET state = 'pending'",
        "UPDATE marks SET version = 0",
        "UPDATE guardianships SET status = 'pending'",
        "UPDATE lessons SET day = 7",
        "UPDATE absences SET kind = 'sick'",
        "INSERT INTO fence (id, epoch, site) VALUES (2, 1, 'rabat')",
        "UPDATE announcements SET level = 'planet'",
    ],
)
async def test_what_the_contract_cannot_say_cannot_be_kept(connection: AsyncConnection, wrong: str) -> None:
    with pytest.raises(IntegrityError):
        await connection.execute(text(wrong))


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:p@h:1/d", "postgres://u:p@h:1/d", "postgresql+asyncpg://u:p@h:1/d"]
)
def test_any_spelling_of_postgresql_is_asyncpgs(dsn: str) -> None:
    assert tables.asyncpg_url(dsn) == "postgresql+asyncpg://u:p@h:1/d"


@pytest.mark.parametrize("dsn", ["mysql://u:p@h:1/d", "u:p@h:1/d", ""])
def test_another_database_is_refused_without_repeating_its_password(dsn: str) -> None:
    with pytest.raises(ValueError, match="not a PostgreSQL address") as refused:
        tables.asyncpg_url(dsn)
    assert ":p@" not in str(refused.value)


async def test_the_seed_is_whole(connection: AsyncConnection) -> None:
    count = await connection.execute(
        text("SELECT count(*) FROM pupils WHERE class_id = :class_id"), {"class_id": seed.CLASS}
    )
    assert count.scalar_one() == len(seed.PUPILS)
