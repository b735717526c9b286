from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter.fence import Guard
from sandbox.datacenter.standing import Observer, Standing


class Instant:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Said:
    """Stands where a connection stands, to say what only a standby in trouble would say."""

    def __init__(self, **row: Any) -> None:
        self.row = row

    async def execute(self, _: object) -> Said:
        return self

    def one(self) -> Any:
        return type(
            "Row",
            (),
            {
                "recovering": True,
                "timeline": 1,
                "lsn": 5,
                "epoch": 7,
                "site": "rabat",
                "heard_age_s": 0.1,
                **self.row,
            },
        )


async def look(observer: Observer, **row: Any) -> Standing:
    return await observer.look(Said(**row))  # type: ignore[arg-type]  # a standby's answers without a standby


async def test_a_primary_says_where_it_is(connection: AsyncConnection) -> None:
    standing = await Observer(Instant()).look(connection)
    assert (standing.in_recovery, standing.timeline, standing.epoch) == (False, 1, 7)
    assert standing.position == f"1-{standing.lsn}"
    assert (standing.receipt_age_s, standing.lag_s, standing.data_age_s) == (None, None, None)


async def test_a_site_without_a_fence_knows_no_epoch(connection: AsyncConnection) -> None:
    await connection.execute(text("DELETE FROM fence"))
    standing = await Observer(Instant()).look(connection)
    assert (standing.epoch, standing.guarded(Guard(site="rabat", heard_within_s=1.5))) == (0, False)


async def test_the_primarys_last_message_ages_after_the_connection_is_gone() -> None:
    clock = Instant()
    observer = Observer(clock)
    near = await look(observer, unreplayed_bytes=0, replayed_age_s=0.4, receipt_age_s=0.2)
    assert [near.receipt_age_s, near.lag_s, near.data_age_s] == pytest.approx([0.2, 0.0, 0.2])
    clock.now += 3
    gone = await look(observer, unreplayed_bytes=120, replayed_age_s=3.4, receipt_age_s=None)
    assert [gone.receipt_age_s, gone.lag_s, gone.data_age_s] == pytest.approx([3.2, 0.0, 3.2])


@pytest.mark.parametrize("age_s", [-3600.0, 3600.2])
async def test_a_clock_that_jumps_changes_nothing_of_when_the_primary_was_heard(age_s: float) -> None:
    clock = Instant()
    observer = Observer(clock)
    await look(observer, unreplayed_bytes=0, replayed_age_s=0.4, receipt_age_s=0.2)
    clock.now += 1
    jumped = await look(observer, unreplayed_bytes=0, replayed_age_s=0.4, receipt_age_s=age_s)
    assert jumped.receipt_age_s == pytest.approx(1.2)
    again = await look(observer, unreplayed_bytes=0, replayed_age_s=0.4, receipt_age_s=0.1)
    assert again.receipt_age_s == pytest.approx(0.1)


async def test_what_is_received_but_not_replayed_is_lag() -> None:
    behind = await look(
        Observer(Instant()), unreplayed_bytes=1_000_000, replayed_age_s=7.5, receipt_age_s=0.1
    )
    assert [behind.lag_s, behind.data_age_s] == pytest.approx([7.5, 7.5])


async def test_a_standby_that_never_streamed_knows_neither_lag_nor_age() -> None:
    fresh = await look(Observer(Instant()), unreplayed_bytes=None, replayed_age_s=None, receipt_age_s=None)
    assert (fresh.receipt_age_s, fresh.lag_s, fresh.data_age_s) == (None, None, None)


@pytest.mark.parametrize(
    ("site", "age_s", "open_"),
    [
        ("rabat", 1.5, True),
        ("rabat", 1.6, False),
        ("rabat", -1.6, False),
        ("marrakech", 0.1, False),
        ("rabat", None, False),
    ],
)
async def test_the_guard_is_this_sites_and_recent(site: str, age_s: float | None, *, open_: bool) -> None:
    standing = await look(
        Observer(Instant()),
        site=site,
        heard_age_s=age_s,
        unreplayed_bytes=0,
        replayed_age_s=0,
        receipt_age_s=0,
    )
    assert standing.guarded(Guard(site="rabat", heard_within_s=1.5)) is open_
