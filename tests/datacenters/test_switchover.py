"""A director's part in a planned switchover: it freezes when asked, and gives up what drags on, under a new epoch."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from datacenters import position
from datacenters.fence import Fence
from datacenters.record import Phase, Record, Refusal
from datacenters.switchover import ABORT_AFTER_S, ABORT_FOR_ANOTHER_AFTER_S, Switchover
from sandbox.postgres import PostgresServer
from tests.datacenters.test_fence import AT, TABLE
from tests.datacenters.worlds import NOW, declared


class Watch:
    """A monotonic clock set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def part(site: str, watch: Watch, *, dsn: str | None = None) -> Switchover:
    return Switchover(dsn, site=site, by=f"director:{site}", clock=lambda: NOW, monotonic=watch)


def under_way(phase: Phase, **changes: Any) -> Record:
    return declared(phase=phase, target="marrakech", planned=True, **changes)


@pytest.mark.parametrize("phase", [Phase.FREEZING, Phase.SEALING])
@pytest.mark.parametrize(
    ("site", "after_s"),
    [
        ("rabat", ABORT_AFTER_S),
        ("marrakech", ABORT_FOR_ANOTHER_AFTER_S),
        ("witness", ABORT_FOR_ANOTHER_AFTER_S),
    ],
)
def test_a_switchover_that_drags_on_is_given_up_by_the_active_site_first(
    phase: Phase, site: str, after_s: float
) -> None:
    watch = Watch()
    own = part(site, watch)
    assert own.overdue(under_way(phase)) is None
    watch.now += after_s - 0.01
    assert own.overdue(under_way(phase)) is None
    watch.now += 0.02
    given_up = own.overdue(under_way(phase))
    assert isinstance(given_up, Record)
    assert (given_up.epoch, given_up.phase, given_up.serving) == (2, Phase.ACTIVE, "rabat")


def test_the_time_counts_from_the_freeze_also_after_the_claim() -> None:
    watch = Watch()
    own = part("rabat", watch)
    assert own.overdue(under_way(Phase.SEALING)) is None
    watch.now += ABORT_AFTER_S + 0.1
    given_up = own.overdue(under_way(Phase.PROMOTING, epoch=2))
    assert isinstance(given_up, Record)
    assert (given_up.epoch, given_up.serving) == (3, "rabat")


def test_a_target_that_replays_gets_a_little_longer_and_not_for_ever() -> None:
    """Lost in its replay, it would leave the country without writes though the old site has everything."""
    watch = Watch()
    own = part("rabat", watch)
    assert own.overdue(under_way(Phase.PROMOTING, epoch=2)) is None
    watch.now += ABORT_AFTER_S + 0.1
    assert own.overdue(under_way(Phase.REPLAYING, epoch=2)) is None
    watch.now += ABORT_FOR_ANOTHER_AFTER_S - ABORT_AFTER_S
    given_up = own.overdue(under_way(Phase.REPLAYING, epoch=2))
    assert isinstance(given_up, Record)
    assert (given_up.epoch, given_up.serving) == (3, "rabat")


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.REPLAYING])
def test_after_the_claim_only_the_site_that_was_active_may_give_up(phase: Phase) -> None:
    watch = Watch()
    for site in ("marrakech", "witness"):
        own = part(site, watch)
        own.overdue(under_way(phase, epoch=2))
        watch.now += 60.0
        assert own.overdue(under_way(phase, epoch=2)) is None


@pytest.mark.parametrize(
    "record",
    [
        None,
        declared(),
        declared(epoch=2, phase=Phase.PROMOTING, target="marrakech"),
        declared(epoch=2, phase=Phase.REPLAYING, target="marrakech"),
    ],
)
def test_an_unplanned_move_is_never_given_up(record: Record | None) -> None:
    watch = Watch()
    own = part("rabat", watch)
    own.overdue(record)
    watch.now += 60.0
    assert own.overdue(record) is None


def test_a_second_switchover_has_its_own_three_seconds() -> None:
    watch = Watch()
    own = part("rabat", watch)
    own.overdue(under_way(Phase.FREEZING))
    watch.now += 10.0
    assert own.overdue(declared(epoch=2)) is None
    assert own.overdue(under_way(Phase.FREEZING, epoch=2)) is None


@pytest.mark.parametrize("phase", Phase)
def test_only_the_active_site_freezes_and_only_when_asked(phase: Phase) -> None:
    record = under_way(phase)
    assert part("rabat", Watch(), dsn="postgresql://x").freezes(record) == (phase is Phase.FREEZING)
    assert not part("marrakech", Watch(), dsn="postgresql://x").freezes(record)
    assert not part("rabat", Watch()).freezes(record)


@pytest.fixture
async def dsn(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> str:
    made = await postgres_server.create_database(f"switchover_{abs(hash(request.node.name)) % 10**9}")
    connection = await asyncpg.connect(made, ssl=False)
    await connection.execute(TABLE)
    await connection.close()
    return made


async def test_the_frozen_position_is_beyond_every_write_that_was_let_in(dsn: str) -> None:
    fence = Fence(dsn)
    await fence.raise_to(epoch=1, site="rabat", heard_at=AT)
    writer = await asyncpg.connect(dsn, ssl=False)
    await writer.execute("CREATE TABLE written (id integer)")
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("SELECT epoch FROM fence WHERE id = 1 FOR KEY SHARE")
    own = part("rabat", Watch(), dsn=dsn)
    freezing = asyncio.create_task(own.freeze(under_way(Phase.FREEZING)))
    done, _ = await asyncio.wait({freezing}, timeout=0.2)
    assert not done, "a write that has checked the fence is waited for"
    await writer.execute("INSERT INTO written SELECT generate_series(1, 1000)")
    await transaction.commit()
    committed = await writer.fetchval("SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint")
    sealed = await freezing
    assert isinstance(sealed, Record)
    assert sealed.phase is Phase.SEALING
    assert sealed.frozen_position is not None
    assert position.parse(sealed.frozen_position)[1] >= committed
    await writer.close()
    own.drop()
    fence.drop()


async def test_a_frozen_fence_cannot_be_renewed_but_raised_to_a_new_epoch(dsn: str) -> None:
    fence = Fence(dsn)
    await fence.raise_to(epoch=1, site="rabat", heard_at=AT)
    own = part("rabat", Watch(), dsn=dsn)
    assert isinstance(await own.freeze(under_way(Phase.FREEZING)), Record)
    assert not await fence.renew(epoch=1, site="rabat", heard_at=AT)
    assert (await fence.look()).site == "marrakech"
    assert await fence.raise_to(epoch=2, site="rabat", heard_at=AT)
    own.drop()
    fence.drop()


async def test_a_fence_of_another_epoch_is_not_frozen(dsn: str) -> None:
    fence = Fence(dsn)
    await fence.raise_to(epoch=7, site="rabat", heard_at=AT)
    own = part("rabat", Watch(), dsn=dsn)
    assert isinstance(await own.freeze(under_way(Phase.FREEZING)), Refusal)
    assert (await fence.look()).site == "rabat"
    own.drop()
    fence.drop()
