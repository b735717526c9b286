from __future__ import annotations

import pytest

from auth.accounts import ACCOUNTS_COPY_COLUMNS
from sandbox.datacenter import tables
from sandbox.population.columns import ACCOUNTS_COLUMNS, RECORDS

KEPT_BY_THE_DATACENTER = {"fence", "idempotency", "outbox", "generations"}


@pytest.mark.parametrize("table", RECORDS)
def test_columns_are_those_of_the_school_records(table: str) -> None:
    assert RECORDS[table] == tuple(column.name for column in tables.metadata.tables[table].columns)


def test_every_table_of_the_school_records_is_filled_but_for_its_own_book_keeping() -> None:
    assert set(RECORDS) == set(tables.metadata.tables) - KEPT_BY_THE_DATACENTER


def test_columns_of_accounts_are_those_that_the_gateway_loads() -> None:
    assert ACCOUNTS_COLUMNS == ACCOUNTS_COPY_COLUMNS
