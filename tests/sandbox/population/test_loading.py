from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from auth import migrations
from sandbox.datacenter import tables as datacenter_tables
from sandbox.population import Country, load
from sandbox.population.columns import ACCOUNTS, RECORDS
from sandbox.postgres import PostgresServer


@pytest.fixture(scope="module")
async def databases(postgres_server: PostgresServer) -> tuple[str, str]:
    """Both databases with their tables, owned by the roles that own them in a sandbox."""
    records = await postgres_server.create_database("population_records", "massar_records")
    accounts = await postgres_server.create_database("population_accounts", "massar_accounts")
    await datacenter_tables.create(records)
    await migrations.upgrade(accounts)
    return records, accounts


@pytest.fixture(scope="module")
async def loaded(databases: tuple[str, str], country: Country) -> tuple[str, str]:
    """The same databases, filled by their owners."""
    records, accounts = databases
    await load(country, records_dsn=records, accounts_dsn=accounts)
    return databases


@pytest.fixture
async def records(loaded: tuple[str, str]) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(loaded[0], ssl=False)
    yield connection
    await connection.close()


async def test_every_row_arrives_as_it_was_made(
    loaded: tuple[str, str], country: Country, records: asyncpg.Connection[asyncpg.Record]
) -> None:
    for table, columns in RECORDS.items():
        found = await records.fetch(f"SELECT {', '.join(columns)} FROM {table}")
        assert {tuple(row) for row in found} == set(country.rows(table)), table
    accounts = await asyncpg.connect(loaded[1], ssl=False)
    try:
        assert await accounts.fetchval("SELECT count(*) FROM accounts") == len(list(country.rows(ACCOUNTS)))
    finally:
        await accounts.close()


async def test_a_load_leaves_no_notice_and_no_raised_generation(
    records: asyncpg.Connection[asyncpg.Record],
) -> None:
    assert await records.fetchval("SELECT count(*) FROM outbox") == 0
    assert await records.fetchval("SELECT count(*) FROM generations") == 0


async def test_a_later_change_of_relations_is_noticed_again(
    records: asyncpg.Connection[asyncpg.Record], country: Country
) -> None:
    parent: Any = country.samples()["parent"]
    transaction = records.transaction()
    await transaction.start()
    try:
        await records.execute(
            "UPDATE guardianships SET status = 'revoked' WHERE guardian = $1 AND pupil = $2",
            parent["id"],
            parent["children"][0],
        )
        assert await records.fetchval("SELECT count(*) FROM outbox") == 1
    finally:
        await transaction.rollback()


async def test_a_load_that_fails_leaves_nothing_behind(
    postgres_server: PostgresServer, databases: tuple[str, str]
) -> None:
    records = await postgres_server.create_database("population_failing", "massar_records")
    await datacenter_tables.create(records)
    without_tables = await postgres_server.create_database("population_without_tables", "massar_accounts")
    with pytest.raises(asyncpg.UndefinedTableError):
        await load(Country.generate(1, 200), records_dsn=records, accounts_dsn=without_tables)
    connection = await asyncpg.connect(records, ssl=False)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pupils") == 0
    finally:
        await connection.close()
