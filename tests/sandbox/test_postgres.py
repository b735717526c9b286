"""The sandbox's PostgreSQL: roles that may do what they need, a standby that follows and can be promoted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sandbox import ports, postgres, postgres_home, proc
from tests.waiting import eventually

Pair = tuple[postgres.PostgresServer, postgres.PostgresServer]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    home = postgres_home.open_home(folder=tmp_path / "home", override=os.environ.get("MASSAR_POSTGRES_BIN"))
    first, second = ports.free_ports(2)
    primary = await postgres.start_primary(
        home=home, logs=tmp_path, site="rabat", port=first, passwords=postgres.new_passwords()
    )
    standby = await postgres.start_standby(
        home=home, logs=tmp_path, site="marrakech", port=second, primary=primary
    )
    yield primary, standby
    await postgres.stop(standby)
    await postgres.stop(primary)
    home.close()


async def _value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn, ssl=False)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_the_standby_follows_through_its_slot_and_takes_over(pair: Pair) -> None:
    primary, standby = pair
    slot = "SELECT slot_name FROM pg_replication_slots WHERE active"
    assert await eventually(lambda: _value(primary.admin_dsn, slot), within_s=5) == "marrakech"
    await primary.execute(postgres.RECORDS, "CREATE TABLE seen AS SELECT 1 AS one")
    records = standby.dsn(postgres.RECORDS)
    await eventually(lambda: _value(records, "SELECT to_regclass('seen') IS NOT NULL"), within_s=5)
    director = standby.dsn(postgres.RECORDS, "massar_director")
    receipt_age = (
        "SELECT clock_timestamp() - last_msg_receipt_time < interval '3 s' FROM pg_stat_wal_receiver"
    )
    assert await _value(director, receipt_age) is True
    primary.process.kill()
    assert await _value(director, "SELECT pg_promote(true, 5)") is True
    assert await _value(records, "SELECT pg_is_in_recovery()") is False


async def test_passwords_are_asked_for_and_appear_in_no_argument_list(
    postgres_server: postgres.PostgresServer,
) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            f"postgresql://postgres:wrong@127.0.0.1:{postgres_server.port}/postgres", ssl=False
        )
    arguments = " ".join(proc.command(postgres_server.process.who))
    assert "postgres" in arguments
    assert postgres_server.passwords.postgres not in arguments
    assert "…" in repr(postgres_server.passwords)


async def test_each_role_enters_only_what_is_its_own(postgres_server: postgres.PostgresServer) -> None:
    assert await _value(postgres_server.dsn(postgres.RECORDS, "massar_records"), "SELECT 1") == 1
    assert await _value(postgres_server.dsn(postgres.ACCOUNTS, "massar_accounts"), "SELECT 1") == 1
    for database, role in ((postgres.RECORDS, "massar_accounts"), (postgres.ACCOUNTS, "massar_records")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _value(postgres_server.dsn(database, role), "SELECT 1")


async def test_a_database_of_its_own_for_a_test(postgres_server: postgres.PostgresServer) -> None:
    made = await postgres_server.create_database("of_its_own")
    assert await _value(made, "SELECT current_database()") == "of_its_own"


async def test_what_a_statement_carried_is_not_in_the_log(postgres_server: postgres.PostgresServer) -> None:
    made = await postgres_server.create_database("quiet")
    connection = await asyncpg.connect(made, ssl=False)
    await connection.execute("CREATE TABLE people (login text PRIMARY KEY)")
    await connection.execute("INSERT INTO people VALUES ($1)", "Z137042069")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO people VALUES ($1)", "Z137042069")
    await connection.close()
    said = postgres_server.process.log.read_text()
    assert "duplicate key" in said
    assert "Z137042069" not in said


async def test_it_keeps_what_it_confirmed(postgres_server: postgres.PostgresServer) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await _value(postgres_server.admin_dsn, f"SHOW {setting}") == "on"
    assert await _value(postgres_server.admin_dsn, "SHOW unix_socket_directories") == ""
