"""A PostgreSQL that was a primary is made to follow: rewound where it can be, rebuilt where not, never half of either."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from sandbox import following, ports, postgres, postgres_home, processes
from sandbox.postgres import PostgresServer
from tests.waiting import eventually

BOTH = ("rabat", "marrakech")


class Forked:
    """Rabat went on after Marrakech was promoted: two primaries, one of which is to follow."""

    def __init__(
        self, home: postgres_home.Home, logs: Path, rabat: PostgresServer, marrakech: PostgresServer
    ) -> None:
        self.home, self.logs = home, logs
        self.rabat, self.marrakech = rabat, marrakech
        self.said: list[str] = []

    async def prepare(self) -> None:
        await following.prepare(
            self.rabat,
            primary=self.marrakech,
            home=self.home,
            logs=self.logs,
            site="rabat",
            say=self.said.append,
        )

    async def start(self) -> None:
        self.rabat = await postgres.start_again(self.rabat, home=self.home, logs=self.logs, site="rabat")
        await eventually(lambda: following.streams(self.rabat), within_s=15)

    @property
    def note(self) -> Path:
        return self.home.folder / "rabat.rejoining"


@pytest.fixture
async def forked(tmp_path: Path) -> AsyncIterator[Forked]:
    home = postgres_home.open_home(folder=tmp_path / "home", override=os.environ.get("MASSAR_POSTGRES_BIN"))
    first, second = ports.free_ports(2)
    words = postgres.new_passwords()
    rabat = await postgres.start_primary(home=home, logs=tmp_path, site="rabat", port=first, passwords=words)
    marrakech = await postgres.start_standby(
        home=home, logs=tmp_path, site="marrakech", port=second, primary=rabat
    )
    await rabat.execute(postgres.RECORDS, "CREATE TABLE seen AS SELECT 'before' AS at")
    await eventually(lambda: _value(marrakech, "SELECT to_regclass('seen') IS NOT NULL"), within_s=10)
    assert await _value(marrakech, "SELECT pg_promote(true, 10)")
    for server, word in ((rabat, "rabat alone"), (marrakech, "marrakech")):
        await server.execute(postgres.RECORDS, f"INSERT INTO seen VALUES ('{word}')")
    await marrakech.execute(postgres.RECORDS, "SELECT massar_keep_wal_for('rabat')")
    rabat.process.kill()
    made = Forked(home, tmp_path, rabat, marrakech)
    yield made
    for server in (made.rabat, made.marrakech):
        await postgres.stop(server)
    home.close()


async def _value(server: PostgresServer, query: str) -> object:
    connection = await asyncpg.connect(server.dsn(postgres.RECORDS), ssl=False)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _seen(server: PostgresServer) -> object:
    return await _value(server, "SELECT string_agg(at, ', ' ORDER BY at) FROM seen")


async def test_a_primary_that_was_killed_is_rewound_and_follows_through_its_slot(forked: Forked) -> None:
    assert await _value(forked.marrakech, "SHOW data_checksums") == "on", (
        "pg_rewind needs them, or hint bits in the log"
    )
    await forked.prepare()
    await forked.start()
    assert forked.said == ["rabat: rewinding to the history of the active database"]
    assert await _seen(forked.rabat) == "before, marrakech"
    assert await _value(forked.marrakech, "SELECT active FROM pg_replication_slots WHERE slot_name = 'rabat'")
    assert await _value(forked.rabat, "SELECT count(*) FROM pg_replication_slots") == 0, (
        "it holds no log for itself"
    )
    assert not list(forked.home.folder.glob("rabat.*"))
    settings = (forked.rabat.folder / "postgresql.auto.conf").stat()
    assert settings.st_mode & 0o777 == 0o600
    assert settings.st_uid == (forked.home.account.uid if forked.home.account else os.geteuid())


async def test_what_cannot_be_rewound_is_built_anew(forked: Forked) -> None:
    for segment in (forked.rabat.folder / "pg_wal").glob("0*"):
        segment.unlink()
    await forked.prepare()
    await forked.start()
    assert forked.said[-1] == "rabat: base backup of the active database"
    assert await _seen(forked.rabat) == "before, marrakech"
    assert not list(forked.home.folder.glob("rabat.*"))


async def test_what_was_begun_and_not_finished_is_built_anew(forked: Forked) -> None:
    forked.note.touch()
    (forked.home.folder / "rabat.new").mkdir()  # half of an earlier base backup
    (forked.home.folder / "rabat.new" / "PG_VERSION").touch()
    await forked.prepare()
    await forked.start()
    assert forked.said == ["rabat: base backup of the active database"]
    assert await _seen(forked.rabat) == "before, marrakech"


async def test_without_an_active_primary_nothing_is_touched(forked: Forked) -> None:
    await postgres.stop(forked.marrakech)
    before = (forked.rabat.folder / "global" / "pg_control").read_bytes()
    with pytest.raises(processes.ProcessFailed, match="does not answer as a primary"):
        await forked.prepare()
    assert not forked.note.exists()
    assert (forked.rabat.folder / "global" / "pg_control").read_bytes() == before


async def test_the_old_data_stays_until_the_new_is_whole(
    forked: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked.note.touch()
    await forked.marrakech.execute(postgres.SUPERUSER, "SELECT pg_drop_replication_slot('rabat')")
    with pytest.raises(processes.ProcessFailed, match="basebackup"):
        await forked.prepare()
    assert (forked.rabat.folder / "PG_VERSION").exists()
    assert forked.note.exists(), "the next attempt knows"


async def test_who_rewinds_reads_files_and_nothing_else(forked: Forked) -> None:
    rewinder = forked.marrakech.dsn(postgres.SUPERUSER, "massar_rewinder")
    connection = await asyncpg.connect(rewinder, ssl=False)
    assert await connection.fetchval("SELECT count(*) FROM pg_ls_dir('.', true, false)") > 10
    assert not await connection.fetchval(
        "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT pg_promote()")
    await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(forked.marrakech.dsn(postgres.RECORDS, "massar_rewinder"), ssl=False)


async def test_a_slot_that_had_to_let_go_of_its_log_is_made_anew(forked: Forked) -> None:
    status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'rabat'"
    await forked.marrakech.execute(
        postgres.RECORDS,
        *(f"ALTER SYSTEM SET {name} = '0'" for name in ("max_slot_wal_keep_size", "wal_keep_size")),
        "SELECT pg_reload_conf()",
    )

    async def lost() -> bool:
        for statement in ("INSERT INTO seen VALUES ('more')", "SELECT pg_switch_wal()", "CHECKPOINT"):
            await forked.marrakech.execute(postgres.RECORDS, statement)
        return await _value(forked.marrakech, status) == "lost"

    await eventually(lost, within_s=15)
    await forked.marrakech.execute(postgres.RECORDS, "SELECT massar_keep_wal_for('rabat')")
    assert await _value(forked.marrakech, status) == "reserved"


async def test_only_a_director_keeps_slots_and_no_others_than_by_that_function(forked: Forked) -> None:
    director = await asyncpg.connect(forked.marrakech.dsn(postgres.RECORDS, "massar_director"), ssl=False)
    await director.execute("SELECT massar_keep_wal_for('rabat')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await director.execute("SELECT pg_create_physical_replication_slot('mine')")
    await director.close()
    records = await asyncpg.connect(forked.marrakech.dsn(postgres.RECORDS, "massar_records"), ssl=False)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await records.execute("SELECT massar_keep_wal_for('rabat')")
    await records.close()
