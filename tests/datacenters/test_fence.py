"""The fence row lives on fresh words alone, against a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters.director import POSTGRES_AWAY
from datacenters.fence import WORD_MAX_AGE_S, Fence, Row, Step, connect, step
from datacenters.record import Phase, Record
from sandbox.postgres import PostgresServer
from tests.datacenters.worlds import RECORDS, SITES, declared
from tests.waiting import eventually

AT = datetime(2026, 11, 18, tzinfo=UTC)
TABLE = """
CREATE TABLE fence (id int PRIMARY KEY, epoch bigint NOT NULL, site text NOT NULL, heard_at timestamptz NOT NULL,
                    UNIQUE (id, epoch))
"""
ROWS = st.builds(
    Row,
    in_recovery=st.booleans(),
    epoch=st.integers(0, 1001),
    site=st.none() | st.sampled_from(SITES),
    at=st.just(AT),
)


def row(**changes: Any) -> Row:
    return Row(**{"in_recovery": False, "epoch": 1, "site": "rabat", "at": AT, **changes})


def todo(found: Record | None, at: Row, *, site: str = "rabat", word_age_s: float = 0.1) -> Step:
    return step(found, word_age_s=word_age_s, site=site, row=at)


def test_the_serving_site_renews_its_row() -> None:
    assert todo(declared(), row()) is Step.RENEW
    assert todo(declared(phase=Phase.HOLD), row()) is Step.RENEW


@pytest.mark.parametrize("word_age_s", [WORD_MAX_AGE_S, 3600.0, float("inf")])
def test_an_old_word_renews_nothing(word_age_s: float) -> None:
    assert todo(declared(), row(), word_age_s=word_age_s) is Step.NOTHING


def test_a_standby_writes_nothing() -> None:
    assert todo(declared(epoch=3), row(in_recovery=True)) is Step.NOTHING


def test_a_row_behind_the_record_is_raised_at_the_serving_site() -> None:
    assert todo(declared(epoch=3), row()) is Step.RAISE
    assert todo(declared(), row(epoch=0, site=None)) is Step.RAISE


def test_a_superseded_site_closes_its_own_row() -> None:
    assert todo(declared(epoch=2, phase=Phase.PROMOTING, target="marrakech"), row()) is Step.CLOSE
    assert todo(declared(epoch=2, active="marrakech"), row()) is Step.CLOSE
    assert todo(declared(epoch=2, active="marrakech"), row(epoch=2, site="marrakech")) is Step.NOTHING


def test_the_target_leaves_its_row_to_the_promotion() -> None:
    under_way = declared(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    assert todo(under_way, row(), site="marrakech") is Step.NOTHING


def test_a_record_below_the_row_proves_nothing() -> None:
    assert todo(declared(epoch=4), row(epoch=5)) is Step.NOTHING


@given(st.none() | RECORDS, ROWS, st.sampled_from(SITES), st.floats(0, 5))
def test_renewal_and_raising_are_for_the_serving_or_replaying_site_by_a_fresh_word_alone(
    found: Record | None, at: Row, site: str, age_s: float
) -> None:
    done = todo(found, at, site=site, word_age_s=age_s)
    if done is Step.NOTHING:
        return
    assert found is not None
    assert age_s < WORD_MAX_AGE_S
    assert not at.in_recovery
    replays = found.phase is Phase.REPLAYING and found.target == site
    if done is Step.RENEW:
        assert (at.site, at.epoch) == (site, found.epoch)
        assert found.serving == site or replays
    else:
        assert at.epoch < found.epoch
        assert (found.serving == site or replays) == (done is Step.RAISE)


def test_the_row_is_kept_alive_while_the_journal_is_replayed_here() -> None:
    replaying = declared(epoch=2, phase=Phase.REPLAYING, target="marrakech")
    assert todo(replaying, row(epoch=2, site="marrakech"), site="marrakech") is Step.RENEW
    assert todo(replaying, row(epoch=1)) is Step.CLOSE


def test_the_row_is_dated_back_to_the_word() -> None:
    assert row().heard_at(0.75) == AT - timedelta(seconds=0.75)


@pytest.fixture
async def dsn(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> str:
    name = f"fence_{abs(hash(request.node.name)) % 10**9}"
    made = await postgres_server.create_database(name)
    connection = await asyncpg.connect(made, ssl=False)
    await connection.execute(TABLE)
    await connection.close()
    return made


@pytest.fixture
async def fence(dsn: str) -> AsyncIterator[Fence]:
    made = Fence(dsn)
    yield made
    made.drop()


async def test_the_first_row_is_written_and_an_epoch_never_falls(fence: Fence) -> None:
    assert (await fence.look()).epoch == 0
    assert await fence.raise_to(epoch=3, site="rabat", heard_at=AT)
    for epoch in (2, 3):
        assert not await fence.raise_to(epoch=epoch, site="marrakech", heard_at=AT)
    found = await fence.look()
    assert (found.epoch, found.site, found.in_recovery) == (3, "rabat", False)


async def test_only_the_very_epoch_and_site_can_be_renewed(fence: Fence, dsn: str) -> None:
    await fence.raise_to(epoch=3, site="rabat", heard_at=AT)
    later = AT + timedelta(seconds=1)
    assert not await fence.renew(epoch=2, site="rabat", heard_at=later)
    assert not await fence.renew(epoch=4, site="rabat", heard_at=later)
    assert not await fence.renew(epoch=3, site="marrakech", heard_at=later)
    assert await fence.renew(epoch=3, site="rabat", heard_at=later)
    connection = await asyncpg.connect(dsn, ssl=False)
    assert await connection.fetchval("SELECT heard_at FROM fence") == later
    await connection.close()


async def test_a_closed_row_was_last_heard_of_ages_ago(fence: Fence, dsn: str) -> None:
    await fence.raise_to(epoch=1, site="rabat", heard_at=AT)
    assert await fence.close_at(epoch=2, site="marrakech")
    connection = await asyncpg.connect(dsn, ssl=False)
    heard_at = await connection.fetchval("SELECT heard_at FROM fence")
    assert heard_at.year == 1970
    await connection.close()


async def test_raising_waits_for_a_write_that_holds_the_epoch_and_renewing_does_not(
    fence: Fence, dsn: str
) -> None:
    await fence.raise_to(epoch=1, site="rabat", heard_at=AT)
    writer = await asyncpg.connect(dsn, ssl=False)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("SELECT epoch FROM fence WHERE id = 1 FOR KEY SHARE")
    assert await fence.renew(epoch=1, site="rabat", heard_at=AT)
    raising = asyncio.create_task(fence.raise_to(epoch=2, site="rabat", heard_at=AT))
    done, _ = await asyncio.wait({raising}, timeout=0.2)
    assert not done
    await transaction.commit()
    assert await raising
    await writer.close()


async def test_a_broken_connection_is_made_again(fence: Fence, dsn: str) -> None:
    await fence.look()
    admin = await asyncpg.connect(dsn, ssl=False)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'massar-director' AND datname = current_database()"
    )
    await admin.close()
    await eventually(lambda: _looks_again(fence), within_s=5)


async def _looks_again(fence: Fence) -> bool:
    try:
        return (await fence.look()).epoch == 0
    except POSTGRES_AWAY:
        fence.drop()
        return False


async def test_nobody_listening_is_an_os_error() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await connect("postgresql://x@127.0.0.1:1/records", statement_s=1.0)
