from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sandbox.datacenter import fence
from sandbox.datacenter.fence import Guard, StaleEpoch
from sandbox.datacenter.problems import Refused
from tests.conformance.ground import EPOCH, HEARD, SITE

GUARD = Guard(site=SITE, heard_within_s=1.5)


async def check(
    connection: AsyncConnection, *, epoch: int = EPOCH, guard: Guard = GUARD, scope: str = "s"
) -> bool:
    return await fence.check(connection, guard, epoch=epoch, scope=scope)


async def test_an_open_fence_lets_one_work_on_a_scope_at_a_time(
    engine: AsyncEngine, connection: AsyncConnection
) -> None:
    await connection.execute(text(HEARD))
    await connection.commit()
    assert await check(connection)
    async with engine.connect() as other:
        assert not await check(other)
        assert await check(other, scope="another")
    await connection.rollback()
    assert await check(connection)


async def test_a_lower_epoch_learns_the_fences(connection: AsyncConnection) -> None:
    with pytest.raises(StaleEpoch) as stale:
        await check(connection, epoch=EPOCH - 1)
    assert stale.value.epoch == EPOCH


@pytest.mark.parametrize(
    ("statement", "epoch"),
    [
        (HEARD, EPOCH + 1),
        ("UPDATE fence SET heard_at = clock_timestamp() - interval '1.6 s'", EPOCH),
        ("UPDATE fence SET heard_at = clock_timestamp() + interval '1.6 s'", EPOCH),
        ("UPDATE fence SET heard_at = clock_timestamp(), site = 'marrakech'", EPOCH),
        ("DELETE FROM fence", EPOCH),
    ],
)
async def test_a_fence_that_does_not_say_yes_says_no(
    connection: AsyncConnection, statement: str, epoch: int
) -> None:
    await connection.execute(text(statement))
    with pytest.raises(Refused, match="read-only"):
        await check(connection, epoch=epoch)
