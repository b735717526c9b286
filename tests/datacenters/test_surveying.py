"""The ground under a real PostgreSQL, and what becomes of a survey when it is away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from datacenters.surveying import Surveyor
from sandbox.postgres import SUPERUSER, PostgresServer
from tests.waiting import eventually


async def test_slots_and_disks_of_a_real_server_are_told(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    await postgres_server.execute(SUPERUSER, "SELECT pg_create_physical_replication_slot('surveyed', true)")
    try:
        found = await Surveyor(postgres_server.admin_dsn, folders=[tmp_path]).survey()
    finally:
        await postgres_server.execute(SUPERUSER, "SELECT pg_drop_replication_slot('surveyed')")
    (slot,) = [one for one in found.slots if one.name == "surveyed"]
    assert (slot.active, slot.wal_status, slot.bound_bytes) == (False, "reserved", 512 * 1024 * 1024)
    assert 0 <= slot.retained_bytes < 2**30
    assert found.failure is None
    assert {disk.folder for disk in found.disks} >= {str(tmp_path)}
    assert all(0 < disk.free_bytes <= disk.total_bytes for disk in found.disks)


async def test_the_directors_own_role_may_look(postgres_server: PostgresServer) -> None:
    """A director's role sees what it must, no more than pg_monitor gives it."""
    dsn = await postgres_server.create_database("survey_director", owner="massar_director")
    found = await Surveyor(dsn).survey()
    assert found.failure is None


async def test_a_server_that_is_away_is_told_by_its_kind_and_ends_nothing(tmp_path: Path) -> None:
    found = await Surveyor("postgresql://x@127.0.0.1:1/none", folders=[tmp_path]).survey()
    assert found.failure == "ConnectionRefusedError"
    assert [disk.folder for disk in found.disks] == [str(tmp_path)]


async def test_a_witness_has_folders_alone_and_a_lost_one_is_left_out(tmp_path: Path) -> None:
    found = await Surveyor(None, folders=[tmp_path, tmp_path / "lost"]).survey()
    assert (found.failure, found.slots, len(found.disks)) == (None, (), 1)


async def test_surveys_go_on_until_cancelled(tmp_path: Path) -> None:
    surveyor = Surveyor(None, folders=[tmp_path], every_s=0.01)
    assert surveyor.latest is None
    task = asyncio.create_task(surveyor.run())
    await eventually(lambda: surveyor.latest is not None, within_s=5)
    first = surveyor.latest
    await eventually(lambda: surveyor.latest is not first, within_s=5)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
