"""One middling country for all tests of the population, and its rows by column name."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.population.columns import ACCOUNTS, ACCOUNTS_COLUMNS, RECORDS, TABLES
from sandbox.population.country import Country

Rows = list[dict[str, Any]]
Tables = dict[str, Rows]


def tables_of(country: Country) -> Tables:
    """Every row of the country as a mapping from column to value."""
    columns = {**RECORDS, ACCOUNTS: ACCOUNTS_COLUMNS}
    return {
        table: [dict(zip(columns[table], row, strict=True)) for row in country.rows(table)]
        for table in TABLES
    }


@pytest.fixture(scope="session")
def country() -> Country:
    """Two localities, two thousand pupils."""
    return Country.generate(20260902, 2000)


@pytest.fixture(scope="session")
def tables(country: Country) -> Tables:
    """That country's rows."""
    return tables_of(country)
