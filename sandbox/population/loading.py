"""Bulk load of a synthetic country into the two databases of a site, by COPY.

Invariant: one transaction per database, so that a load that fails leaves nothing behind; the school records' own
setting for bulk loads is on during it, so that no notice of a changed relation is written for people nobody knows yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from sandbox.population.columns import ACCOUNTS, ACCOUNTS_COLUMNS, RECORDS
from sandbox.population.country import Country, Row

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

CONNECT_TIMEOUT_S = 10.0
COPY_TIMEOUT_S = 600.0


async def load(country: Country, *, records_dsn: str, accounts_dsn: str) -> None:
    """Fill the empty tables of both databases (they exist already) and have them analysed."""
    async with AsyncExitStack() as stack:
        records = await _connect(stack, records_dsn)
        accounts = await _connect(stack, accounts_dsn)
        async with records.transaction(), accounts.transaction():
            await records.execute("SET LOCAL massar.bulk_load = 'on'")
            for part in country.parts():
                for table, columns in RECORDS.items():
                    await _copy(records, table, columns, part.rows(table))
                await _copy(accounts, ACCOUNTS, ACCOUNTS_COLUMNS, part.rows(ACCOUNTS))
        await records.execute(f"ANALYZE {', '.join(RECORDS)}")
        await accounts.execute(f"ANALYZE {ACCOUNTS}")


async def _connect(stack: AsyncExitStack, dsn: str) -> Connection:
    connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, ssl=False)
    stack.push_async_callback(connection.close)
    return connection


async def _copy(connection: Connection, table: str, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    await connection.copy_records_to_table(table, columns=columns, records=rows, timeout=COPY_TIMEOUT_S)
