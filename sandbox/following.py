"""Making a PostgreSQL that was a primary follow the active one: by pg_rewind, or where that cannot be, by a base backup.

Invariant: the active one is asked first, nothing is touched while it does not answer as a primary. A note beside the
data says what was begun; whatever ended half-way is built anew from a base backup, and the old data stays until the
new one is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg

from sandbox import postgres, processes
from sandbox.postgres import PostgresServer
from sandbox.postgres_home import Home

REWIND_WITHIN_S = 300.0
BACKUP_WITHIN_S = 900.0
STREAMS_WITHIN_S = 20.0
CONNECT_WITHIN_S = 2.0
ASK_WITHIN_S = 10.0
# A receiver whose log is gone says that it streams each time, and ends at once: it must have lived for a second,
# or have begun before the clock was set back.
_STREAMS = """
SELECT pg_is_in_recovery() AND EXISTS (
    SELECT FROM pg_stat_wal_receiver AS w JOIN pg_stat_activity AS a USING (pid)
    WHERE w.status = 'streaming' AND clock_timestamp() NOT BETWEEN a.backend_start AND a.backend_start + interval '1 s'
)
"""

Say = Callable[[str], None]


async def streams(server: PostgresServer) -> bool:
    """Whether this server is a standby that receives."""
    return await _answer(server.admin_dsn, _STREAMS) is True


async def follow(
    server: PostgresServer,
    *,
    primary: PostgresServer,
    home: Home,
    logs: Path,
    site: str,
    say: Say,
    stop: Callable[[], Awaitable[None]],
    start: Callable[[], Awaitable[PostgresServer]],
) -> None:
    """Return once `server` streams from `primary`; `stop` and `start` are its owner's.

    It is stopped only while the active one answers: a standby that merely lost sight of it may have to take over.
    Raises: ProcessFailed; it may be run again.
    """
    if await streams(server):
        return
    await _expect_primary(server, primary=primary, home=home, logs=logs, site=site)
    await stop()
    for make in (prepare, rebuild):
        try:
            await make(server, primary=primary, home=home, logs=logs, site=site, say=say)
        except processes.ProcessFailed:
            if not _note(home, site).exists():  # its data were not touched
                await start()
            raise
        again = await start()
        with contextlib.suppress(processes.ProcessFailed):
            await processes.ready(
                again.process, partial(streams, again), within_s=STREAMS_WITHIN_S, poll_s=0.1
            )
            say(f"{site}: follows the active database")
            return
        await stop()
    raise processes.ProcessFailed(f"{site}: its PostgreSQL does not stream from the active one")


async def prepare(
    server: PostgresServer, *, primary: PostgresServer, home: Home, logs: Path, site: str, say: Say
) -> None:
    """Turn the data of `server`, which must have ended, into a standby's of `primary`.

    Raises: ProcessFailed; it may be run again, also after a crash at any point.
    """
    note = _note(home, site)
    await _expect_primary(server, primary=primary, home=home, logs=logs, site=site)
    if not note.exists():
        note.touch(mode=0o600)
        if await _rewound(server, primary=primary, home=home, logs=logs, site=site, say=say):
            _follow(server.folder, primary=primary, home=home, site=site)
            note.unlink()
            return
    await rebuild(server, primary=primary, home=home, logs=logs, site=site, say=say)


async def rebuild(
    server: PostgresServer, *, primary: PostgresServer, home: Home, logs: Path, site: str, say: Say
) -> None:
    """Replace the data of `server`, which must have ended, by a base backup of `primary`.

    Raises: ProcessFailed.
    """
    note = _note(home, site)
    await _expect_primary(server, primary=primary, home=home, logs=logs, site=site)
    note.touch(mode=0o600)
    fresh, old = home.folder / f"{site}.new", home.folder / f"{site}.old"
    if fresh.exists():
        shutil.rmtree(fresh)
    say(f"{site}: base backup of the active database")
    await processes.run(
        [
            *(str(home.binaries / "pg_basebackup"), "--pgdata", str(home.data(f"{site}.new"))),
            *("--slot", site, "--wal-method", "stream", "--checkpoint", "fast"),
            *("--host", primary.seat.host, "--port", str(primary.port)),
            *("--username", "massar_replicator", "--no-password"),
        ],
        name=f"{site}-basebackup",
        log=logs / f"{site}-postgres.log",
        within_s=BACKUP_WITHIN_S,
        environment={**processes.BARE_ENVIRONMENT, "PGPASSWORD": primary.passwords.massar_replicator},
        account=home.account,
        namespace=server.seat.namespace,
    )
    _follow(fresh, primary=primary, home=home, site=site)
    _swap(fresh, old, server.folder)
    note.unlink()


def _note(home: Home, site: str) -> Path:
    return home.folder / f"{site}.rejoining"


async def _rewound(
    server: PostgresServer, *, primary: PostgresServer, home: Home, logs: Path, site: str, say: Say
) -> bool:
    say(f"{site}: rewinding to the history of the active database")
    source = f"host={primary.seat.host} port={primary.port} user=massar_rewinder dbname={postgres.SUPERUSER}"
    try:
        await processes.run(
            [
                *(str(home.binaries / "pg_rewind"), "--target-pgdata", str(server.folder)),
                *("--source-server", source),
            ],
            name=f"{site}-rewind",
            log=logs / f"{site}-postgres.log",
            within_s=REWIND_WITHIN_S,
            environment={**processes.BARE_ENVIRONMENT, "PGPASSWORD": primary.passwords.massar_rewinder},
            account=home.account,
            namespace=server.seat.namespace,
        )
    except processes.ProcessFailed as failure:
        say(f"{site}: it cannot be rewound: {str(failure).splitlines()[-1].strip()}")
        return False
    return True


def _swap(fresh: Path, old: Path, data: Path) -> None:
    """Put the new data in the place of the old, which stays until the new one is there."""
    if data.exists():  # else an earlier attempt ended between the two renames
        if old.exists():
            shutil.rmtree(old)
        data.rename(old)
    fresh.rename(data)
    if old.exists():
        shutil.rmtree(old)


def _follow(data: Path, *, primary: PostgresServer, home: Home, site: str) -> None:
    """Tell the data whom to follow; what it brought along from the active one's own settings is replaced."""
    password = primary.passwords.massar_replicator
    source = f"host={primary.seat.host} port={primary.port} user=massar_replicator password={password}"
    settings = f"primary_conninfo = '{source} connect_timeout=2'\nprimary_slot_name = '{site}'\n"
    for name, text in (("postgresql.auto.conf", settings), ("standby.signal", "")):
        (data / name).unlink(missing_ok=True)
        path = home.secret(f"{data.name}/{name}", text)
        with path.open() as written:
            os.fsync(written.fileno())


async def _expect_primary(
    server: PostgresServer, *, primary: PostgresServer, home: Home, logs: Path, site: str
) -> None:
    """Raise ProcessFailed unless the active database answers as a primary to the site itself, from where it sits."""
    try:
        await processes.run(
            [
                *(str(home.binaries / "psql"), "-XAtq", "-h", primary.seat.host, "-p", str(primary.port)),
                *("-U", "massar_rewinder", "-d", postgres.SUPERUSER),
                *("-c", "SELECT 1 / (NOT pg_is_in_recovery())::integer"),
            ],
            name=f"{site}-asks",
            log=logs / f"{site}-postgres.log",
            within_s=ASK_WITHIN_S,
            environment={
                **processes.BARE_ENVIRONMENT,
                "PGPASSWORD": primary.passwords.massar_rewinder,
                "PGCONNECT_TIMEOUT": "3",
            },
            account=home.account,
            namespace=server.seat.namespace,
        )
    except processes.ProcessFailed:
        raise processes.ProcessFailed(f"{site}: the active database does not answer as a primary") from None


async def _answer(dsn: str, question: str) -> object:
    try:
        connection = await asyncpg.connect(
            dsn, ssl=False, timeout=CONNECT_WITHIN_S, command_timeout=CONNECT_WITHIN_S
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    try:
        return await connection.fetchval(question)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    finally:
        connection.terminate()
