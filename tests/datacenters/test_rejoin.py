"""One step of the way back at a time, against a real PostgreSQL; the whole way is in tests/failover/test_return.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from datacenters import rejoin
from datacenters.fenced import WORD_MAX_AGE_S
from datacenters.hook import HookFailed
from datacenters.quarantine import Quarantine
from datacenters.record import Record
from datacenters.rejoin import Rejoining
from datacenters.verdict import Fenced
from sandbox.datacenter import tables
from sandbox.postgres import RECORDS, PostgresServer
from tests.datacenters.worlds import declared

OVER = declared(epoch=2, active="marrakech", switch_position="1-1")
WRITTEN = """
INSERT INTO idempotency (principal, route, key, digest, status, body, headers)
VALUES ('teacher:t', 'PUT /v1/marks', $1, '\\xff', 200, 'a secret mark', '{}')
"""


class Commanded:
    """A hook that remembers what it was told, and fails as long as it is asked to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []
        self.failing = False

    async def run(self, *, site: str, active: str, epoch: int) -> None:
        self.told.append((site, active, epoch))
        if self.failing:
            raise HookFailed("not now")


class Site:
    """Rabat, whose PostgreSQL is a primary with three decided writes and a fence."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.hook = Commanded()
        self.quarantine = Quarantine(folder)
        self.now = 100.0
        self.rejoining = self.director()

    def director(self) -> Rejoining:
        return Rejoining(
            self.dsn,
            site="rabat",
            others=("marrakech",),
            quarantine=self.quarantine,
            hook=self.hook,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )

    async def step(self, record: Record | None = OVER, *, age_s: float = 0.0) -> Fenced | None:
        await self.rejoining.step(record, word_age_s=lambda: age_s)
        return self.rejoining.told

    async def sql(self, statement: str, *values: object) -> None:
        connection = await asyncpg.connect(self.dsn, ssl=False)
        await connection.execute(statement, *values)
        await connection.close()


@pytest.fixture
async def site(
    postgres_server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Site]:
    dsn = await postgres_server.create_database(f"rejoin_{abs(hash(request.node.name))}")
    await tables.create(dsn)
    made = Site(dsn, tmp_path / "quarantine")
    await made.sql("INSERT INTO fence (id, epoch, site) VALUES (1, 2, 'marrakech')")
    for key in ("a", "b", "c"):
        await made.sql(WRITTEN, key)
    yield made
    made.rejoining.drop()


async def test_it_lists_then_rejoins_and_says_how_far_it_is(site: Site) -> None:
    assert await site.step() == Fenced(stage="listed", orphans=3)
    assert site.hook.told == [], "the list is on disk before anything is undone"
    report = site.quarantine.newest()
    assert report is not None
    assert {orphan.written.key for orphan in report.orphans} == {"a", "b", "c"}
    assert (report.epoch, report.active, report.timeline, report.fork_lsn) == (2, "marrakech", 1, 1)
    assert await site.step() == Fenced(stage="rejoining", orphans=3)
    assert site.hook.told == [("rabat", "marrakech", 2)]


async def test_a_report_never_says_what_was_written(site: Site) -> None:
    await site.step()
    (path,) = site.quarantine._folder.iterdir()
    assert "secret" not in path.read_text()


async def test_another_director_goes_on_from_the_report(site: Site) -> None:
    await site.step()
    site.rejoining.drop()
    site.rejoining = site.director()
    await site.step()
    assert site.hook.told == [("rabat", "marrakech", 2)]
    assert len(list(site.quarantine._folder.iterdir())) == 1


async def test_a_hook_that_fails_is_tried_again_after_a_pause_that_grows(site: Site) -> None:
    site.hook.failing = True
    await site.step()
    for pause_s in (rejoin.HOOK_PAUSE_S, 2 * rejoin.HOOK_PAUSE_S, 4 * rejoin.HOOK_PAUSE_S):
        tried = len(site.hook.told)
        await site.step()
        assert len(site.hook.told) == tried + 1
        site.now += pause_s - 0.1
        await site.step()
        assert len(site.hook.told) == tried + 1
        site.now += 0.2


async def test_an_open_fence_an_old_word_and_an_active_site_are_left_alone(site: Site) -> None:
    assert await site.step(age_s=WORD_MAX_AGE_S) is None
    assert await site.step(None) is None
    await site.sql("UPDATE fence SET epoch = 1, site = 'rabat'")
    assert await site.step() == Fenced(stage="fenced")
    assert site.quarantine.newest() is None


async def test_without_a_quarantine_it_only_tells_that_it_is_fenced(site: Site) -> None:
    site.rejoining = Rejoining(site.dsn, site="rabat", hook=site.hook)
    assert await site.step() == Fenced(stage="fenced")
    assert await site.step() == Fenced(stage="fenced")
    assert site.hook.told == []


async def test_a_postgresql_that_is_away_for_other_reasons_is_told(site: Site) -> None:
    site.rejoining = Rejoining("postgresql://x@127.0.0.1:1/none", site="rabat", quarantine=site.quarantine)
    with pytest.raises(ConnectionError, match="PostgreSQL does not answer"):
        await site.step()


async def test_the_list_is_bounded_and_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejoin, "ORPHANS_MAX", 2)
    await site.step()
    report = site.quarantine.newest()
    assert report is not None
    assert [orphan.written.key for orphan in report.orphans] == ["c", "b"], "the newest first"
    assert report.more


async def test_the_active_site_keeps_its_log_for_the_other(postgres_server: PostgresServer) -> None:
    dsn = postgres_server.dsn(RECORDS, "massar_director")
    active = Rejoining(dsn, site="rabat", others=("elsewhere",))
    try:
        await active.step(declared(), word_age_s=lambda: 0.0)
        connection = await asyncpg.connect(postgres_server.admin_dsn, ssl=False)
        slot = "SELECT restart_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'elsewhere'"
        assert await connection.fetchval(slot) is True
        await active.step(declared(), word_age_s=lambda: 0.0)  # there already
        await connection.execute("SELECT pg_drop_replication_slot('elsewhere')")
        await connection.close()
    finally:
        active.drop()


async def test_a_database_without_the_function_is_told_once_and_goes_on(site: Site) -> None:
    for _ in range(2):
        assert await site.step(declared()) is None
        site.now += 2 * rejoin.KEEP_EVERY_S
