from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import pytest
from sqlalchemy import exc, text

from sandbox import ports
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.records import Records, refusal, sqlstate
from sandbox.datacenter.settings import Secret, Settings


async def test_postgresql_that_is_not_there_is_unavailable(settings: Settings) -> None:
    nowhere = Secret(f"postgresql://u:p@127.0.0.1:{ports.free_ports(1)[0]}/records")
    records = Records(msgspec.structs.replace(settings, records_dsn=nowhere))
    for way in (records.reading, records.writing):
        with pytest.raises(Refused, match="records-unavailable"):
            async with way():
                pass
    await records.close()


async def test_a_request_that_finds_no_free_connection_is_told_so(settings: Settings) -> None:
    records = Records(msgspec.structs.replace(settings, connections_max=1, connection_wait_s=0.05))
    async with records.reading():
        async with records.writing():  # reads and writes do not share
            pass
        with pytest.raises(Refused, match="overloaded"):
            async with records.reading():
                pass
    await records.close()


async def test_a_statement_that_takes_too_long_is_ended(settings: Settings) -> None:
    records = Records(msgspec.structs.replace(settings, statement_timeout_s=0.1))
    with pytest.raises(Refused, match="records-unavailable"):
        async with records.writing() as connection:
            await connection.execute(text("SELECT pg_sleep(5)"))
    await records.close()


async def test_a_transaction_that_takes_too_long_is_ended(settings: Settings) -> None:
    records = Records(msgspec.structs.replace(settings, transaction_timeout_s=0.2))
    nap = text("SELECT pg_sleep(0.05)")
    with pytest.raises(Refused, match="records-unavailable"):
        async with records.writing() as connection:
            [await connection.execute(nap) for _ in range(8)]
    await records.close()


async def test_a_connection_that_died_is_replaced_at_its_next_use(settings: Settings) -> None:
    records = Records(msgspec.structs.replace(settings, connections_max=1))
    async with records.reading() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    async with records.writing() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    async with records.reading() as connection:
        assert (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one() != pid
    await records.close()


async def test_every_statement_of_a_read_sees_what_was_committed_before_it(settings: Settings) -> None:
    records = Records(settings)
    async with records.reading() as reader, records.writing() as writer:
        await writer.execute(text("INSERT INTO generations VALUES ('reader', 5)"))
        count = text("SELECT count(*) FROM generations WHERE subject = 'reader'")
        assert (await reader.execute(count)).scalar_one() == 0
        await writer.commit()
        assert (await reader.execute(count)).scalar_one() == 1
        await writer.execute(text("DELETE FROM generations WHERE subject = 'reader'"))
        await writer.commit()
    await records.close()


def test_only_postgresqls_troubles_are_turned_into_refusals() -> None:
    assert refusal(ValueError()) is None
    assert refusal(Refused("not-found")) is None
    for error, slug in (
        (ConnectionResetError(), "records-unavailable"),
        (TimeoutError(), "records-unavailable"),
        (exc.TimeoutError(), "overloaded"),
        (asyncpg.ReadOnlySQLTransactionError(), "read-only"),
        (asyncpg.CannotConnectNowError(), "records-unavailable"),
        (asyncpg.TooManyConnectionsError(), "records-unavailable"),
        (asyncpg.DeadlockDetectedError(), "records-unavailable"),
        (asyncpg.DataError(), "bad-request"),
        (asyncpg.NumericValueOutOfRangeError(), "bad-request"),
        (asyncpg.CharacterNotInRepertoireError(), "bad-request"),
    ):
        refused = refusal(error)
        assert refused is not None
        assert refused.slug == slug
    assert refusal(asyncpg.UndefinedColumnError()) is None


@pytest.mark.parametrize(
    ("statement", "value"),
    [("SELECT CAST(:v AS integer)", 2**40), ("SELECT CAST(:v AS text)", "a\x00b"), ("SELECT 1 / :v", 0)],
)
async def test_a_value_that_postgresql_or_its_driver_refuses_is_a_bad_request(
    settings: Settings, statement: str, value: object
) -> None:
    records = Records(settings)
    for way in (records.reading, records.writing):
        with pytest.raises(Refused, match="bad-request") as refused:
            async with way() as connection:
                await connection.execute(text(statement), {"v": value})
        assert sqlstate(refused.value.__cause__).startswith("22")
    await records.close()


def test_the_code_of_what_is_not_postgresqls_is_empty() -> None:
    assert [sqlstate(error) for error in (None, ValueError(), asyncpg.DataError())] == ["", "", "22000"]


async def test_a_cancelled_read_gives_its_connection_back(settings: Settings) -> None:
    records = Records(msgspec.structs.replace(settings, connections_max=1, connection_wait_s=1.0))

    async def slow() -> None:
        async with records.reading() as connection:
            await connection.execute(text("SELECT pg_sleep(0.8)"))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await slow()
    async with records.reading() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await records.close()
