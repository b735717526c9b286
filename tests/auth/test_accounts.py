"""The accounts database: how logins compare, what a bad day of the database is called, and its own rules."""

from __future__ import annotations

import asyncio
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from auth.accounts import (
    LOGIN_LENGTH_MAX,
    AccountRow,
    Status,
    asyncpg_url,
    at,
    find_account,
    is_storable,
    lock_account,
    normalised_login,
    open_engine,
    transaction,
)
from auth.principal import App, Name, Role
from auth.refusals import AccountsUnavailable, NotFound, Overloaded
from sandbox.ports import free_ports
from sandbox.postgres import PostgresServer
from tests.auth.people import CHEAP_HASH, add_account

LOGIN = "r130000001@taalim.ma"


@pytest.mark.parametrize(
    "typed",
    [LOGIN, "R130000001@TAALIM.MA", f"  {LOGIN}\t", "Ｒ１３００００００１@taalim.ma", f"\u00a0{LOGIN}\u2003"],
)
def test_a_login_is_the_same_however_it_is_typed(typed: str) -> None:
    assert normalised_login(typed) == LOGIN


@pytest.mark.parametrize(
    "typed", ["", "   ", "a\x00b", "\ud800", "a" * (LOGIN_LENGTH_MAX + 1), "\ufdfa" * LOGIN_LENGTH_MAX]
)
def test_what_can_be_nobodys_login_is_none(typed: str) -> None:
    assert normalised_login(typed) is None


@given(st.text(max_size=150))
def test_normalising_twice_changes_nothing_more(typed: str) -> None:
    login = normalised_login(typed)
    if login is not None:
        assert normalised_login(login) == login
        assert normalised_login(unicodedata.normalize("NFD", typed)) in (login, None)
        assert is_storable(login)


def test_an_address_is_turned_into_sqlalchemys_form_and_nothing_else() -> None:
    url = asyncpg_url("postgresql://massar:p%40ss@127.0.0.1:5432/accounts")
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.host, url.port) == ("massar", "p@ss", "127.0.0.1", 5432)


def test_times_carry_their_zone() -> None:
    assert at(0.5) == datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)


async def test_an_account_is_found_by_app_and_login(engine: AsyncEngine) -> None:
    subject = await add_account(engine, LOGIN, role=Role.PARENT)
    async with transaction(engine) as connection:
        account = await find_account(connection, app=App.WALIYE, login=LOGIN)
        assert account is not None
        assert (account.subject, account.role, account.usable) == (subject, Role.PARENT, True)
        assert account.name == Name(ar="سلمى", fr="Salma")
        assert CHEAP_HASH not in repr(account)
        assert await find_account(connection, app=App.MOUDARIS, login=LOGIN) is None
        assert await find_account(connection, app=App.WALIYE, login="nobody") is None


async def test_an_account_of_another_roles_app_or_a_disabled_one_is_not_usable(engine: AsyncEngine) -> None:
    await add_account(engine, "mixed", role=Role.PARENT, app=App.MOUDARIS)
    await add_account(engine, "closed", role=Role.PARENT, status=Status.DISABLED)
    async with transaction(engine) as connection:
        for app, login in ((App.MOUDARIS, "mixed"), (App.WALIYE, "closed")):
            account = await find_account(connection, app=app, login=login)
            assert account is not None
            assert not account.usable


async def test_one_account_per_app_and_login(engine: AsyncEngine) -> None:
    await add_account(engine, LOGIN, role=Role.PARENT)
    await add_account(engine, LOGIN, role=Role.TEACHER)
    with pytest.raises(IntegrityError):
        await add_account(engine, LOGIN, role=Role.PARENT)


async def test_an_account_that_changed_meanwhile_is_not_held(engine: AsyncEngine) -> None:
    await add_account(engine, LOGIN, role=Role.PARENT)
    async with transaction(engine) as connection:
        account = await find_account(connection, app=App.WALIYE, login=LOGIN)
    assert account is not None
    async with transaction(engine) as connection:
        assert await lock_account(connection, account)
        await connection.execute(update(AccountRow).values(status="disabled"))
    async with transaction(engine) as connection:
        assert not await lock_account(connection, account)
        await connection.execute(text("DELETE FROM accounts"))
        assert not await lock_account(connection, account)


async def test_what_the_block_raises_rolls_back_and_passes_unchanged(engine: AsyncEngine) -> None:
    await add_account(engine, LOGIN)

    async def delete_and_refuse() -> None:
        async with transaction(engine) as connection:
            await connection.execute(text("DELETE FROM accounts"))
            raise NotFound

    with pytest.raises(NotFound):
        await delete_and_refuse()
    async with transaction(engine) as connection:
        assert await find_account(connection, app=App.MOUTAMADRIS, login=LOGIN) is not None


async def test_a_mistake_of_ours_is_not_called_unavailable(engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError):
        async with transaction(engine) as connection:
            await connection.execute(text("SELECT nonsense"))


async def unavailable(engine: AsyncEngine, statement: str = "SELECT 1") -> AccountsUnavailable:
    """Run a statement that finds no database, and return what it raised."""
    with pytest.raises(AccountsUnavailable) as refused:
        async with transaction(engine) as connection:
            await connection.execute(text(statement))
    assert refused.value.retry_after_s
    await engine.dispose()
    return refused.value


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    await unavailable(open_engine(f"postgresql://u:p@127.0.0.1:{free_ports(1)[0]}/accounts"))


async def test_a_standbys_read_only_transaction_is_unavailable(
    accounts_dsn: str, engine: AsyncEngine
) -> None:
    standby = create_async_engine(
        asyncpg_url(accounts_dsn),
        connect_args={"server_settings": {"default_transaction_read_only": "on"}},
    )
    await unavailable(standby, "DELETE FROM attempts")


async def test_a_database_that_takes_connections_and_never_answers_is_unavailable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await unavailable(open_engine(f"postgresql://u:p@127.0.0.1:{port}/accounts", connect_timeout_s=0.2))
    server.close()


async def test_a_statement_that_never_ends_is_unavailable(accounts_dsn: str) -> None:
    await unavailable(open_engine(accounts_dsn, statement_timeout_s=0.2), "SELECT pg_sleep(30)")


async def test_a_connection_that_breaks_is_unavailable(accounts_dsn: str) -> None:
    await unavailable(open_engine(accounts_dsn), "SELECT pg_terminate_backend(pg_backend_pid())")


async def test_an_idle_connection_that_broke_is_unavailable_once(
    accounts_dsn: str, engine: AsyncEngine
) -> None:
    idle = open_engine(accounts_dsn)
    async with transaction(idle) as connection:
        process = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    async with transaction(engine) as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})
    with pytest.raises(AccountsUnavailable):
        async with transaction(idle) as connection:
            await connection.execute(text("SELECT 1"))
    async with transaction(idle) as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await idle.dispose()


async def test_a_database_that_takes_nobody_more_is_unavailable(postgres_server: PostgresServer) -> None:
    dsn = await postgres_server.create_database("auth_full", owner="massar_accounts")
    await postgres_server.execute("postgres", "ALTER DATABASE auth_full CONNECTION LIMIT 0")
    await unavailable(open_engine(dsn))


async def test_a_database_of_another_name_is_a_mistake_of_ours(postgres_server: PostgresServer) -> None:
    engine = open_engine(postgres_server.dsn("no_such_database"))
    with pytest.raises(DBAPIError, match="does not exist"):
        async with transaction(engine):
            pass


async def test_all_connections_busy_is_overloaded(accounts_dsn: str) -> None:
    narrow = open_engine(accounts_dsn, connections_max=1, pool_wait_s=0.1)
    async with transaction(narrow) as connection:
        await connection.execute(text("SELECT 1"))
        with pytest.raises(Overloaded):
            async with transaction(narrow):
                pass
    await narrow.dispose()
