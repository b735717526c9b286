"""Real PostgreSQL servers: a primary with the project's roles and databases, and a streaming standby of it.

Invariant: full durability as PostgreSQL ships it (fsync, synchronous commit to the local disk); SCRAM on TCP for
everyone, from the sandbox's own addresses alone; no Unix socket; passwords appear in no argument list and no log.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from sandbox import processes, seats
from sandbox.postgres_home import Home

RECORDS = "records"
ACCOUNTS = "accounts"
SUPERUSER = "postgres"
INITDB_WITHIN_S = 30.0
READY_WITHIN_S = 20.0
CLONE_WITHIN_S = 60.0
SLOT_KEEPS_MB_MAX = 512
ON_LOOPBACK_ALONE = (f"{seats.ON_LOOPBACK.host}/32",)

_SETTINGS = f"""\
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 120
shared_buffers = '64MB'
jit = off
max_parallel_workers_per_gather = 0
wal_level = replica
max_wal_senders = 5
max_replication_slots = 5
max_slot_wal_keep_size = '{SLOT_KEEPS_MB_MAX}MB'
wal_keep_size = '{SLOT_KEEPS_MB_MAX}MB'
max_wal_size = '512MB'
wal_sender_timeout = '2s'
wal_receiver_timeout = '3s'
wal_receiver_status_interval = '1s'
wal_retrieve_retry_interval = '250ms'
hot_standby = on
hot_standby_feedback = on
timezone = 'UTC'
log_timezone = 'UTC'
log_error_verbosity = terse
log_min_error_statement = panic
log_parameter_max_length = 0
"""
# wal_keep_size: pg_rewind reads the log of both sides back to their last common checkpoint, which no slot holds.
# terse, and no statements: an error's DETAIL and statement would write keys and marks into the log.


# Everything that pg_rewind calls at its source; so it needs no superuser.
_READ_BY_REWIND = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
# A slot needs the right to replicate, which a director does not have; this function has it for this one purpose.
# A slot that had to let go of its log holds nothing any more and is made anew.
_KEEP_WAL_FOR = """
CREATE FUNCTION massar_keep_wal_for(site text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = site AND wal_status = 'lost' AND NOT active;
    IF NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = site) THEN
        PERFORM pg_create_physical_replication_slot(site, true);
    END IF;
END $$
"""


class Passwords(msgspec.Struct, frozen=True):
    """One random password per database role."""

    postgres: str
    massar_records: str
    massar_accounts: str
    massar_director: str
    massar_replicator: str
    massar_rewinder: str

    def __repr__(self) -> str:
        return "Passwords(…)"


def new_passwords() -> Passwords:
    """Return fresh random passwords."""
    return Passwords(**{field: secrets.token_hex(24) for field in Passwords.__struct_fields__})


class PostgresServer(msgspec.Struct, frozen=True):
    """A running server; its addresses are what asyncpg takes (`postgresql://…`)."""

    port: int
    folder: Path
    passwords: Passwords
    process: processes.Running
    seat: seats.Seat = seats.ON_LOOPBACK

    @property
    def admin_dsn(self) -> str:
        """The superuser's address of the database `postgres`."""
        return self.dsn(SUPERUSER)

    def dsn(self, database: str, role: str = SUPERUSER) -> str:
        """Return the address of one database for one role."""
        return dsn(self.port, database, role, self.passwords, host=self.seat.host)

    async def create_database(self, name: str, owner: str = SUPERUSER) -> str:
        """Create an empty database and return its owner's address."""
        await self.execute(SUPERUSER, f'CREATE DATABASE "{name}" OWNER "{owner}"')
        return self.dsn(name, owner)

    async def execute(self, database: str, *statements: str) -> None:
        """Run statements as the superuser, each in its own transaction."""
        connection = await asyncpg.connect(self.dsn(database), ssl=False)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def dsn(
    port: int, database: str, role: str, passwords: Passwords, *, host: str = seats.ON_LOOPBACK.host
) -> str:
    """Return the address of a database on the server that listens on `port` of `host`."""
    password: str = getattr(passwords, role)
    return f"postgresql://{role}:{password}@{host}:{port}/{database}"


async def start_primary(
    *,
    home: Home,
    logs: Path,
    site: str,
    port: int,
    passwords: Passwords,
    seat: seats.Seat = seats.ON_LOOPBACK,
    callers: Sequence[str] = ON_LOOPBACK_ALONE,
) -> PostgresServer:
    """Make an empty cluster with the project's roles and its two databases, and return it running.

    `callers` are the address ranges that it and its copies let in.
    """
    data = home.data(site)
    await _initialise(home=home, data=data, logs=logs, site=site, passwords=passwords, callers=callers)
    server = await launch(
        home=home, data=data, logs=logs, site=site, port=port, passwords=passwords, seat=seat
    )
    try:
        await _create_roles(server)
    except BaseException:
        server.process.kill()
        raise
    return server


async def start_standby(
    *,
    home: Home,
    logs: Path,
    site: str,
    port: int,
    primary: PostgresServer,
    seat: seats.Seat = seats.ON_LOOPBACK,
) -> PostgresServer:
    """Clone `primary` with a replication slot named after the site, and return the copy running and streaming."""
    data = home.data(site)
    command = [str(home.binaries / "pg_basebackup"), "--pgdata", str(data), "--write-recovery-conf"]
    command += [
        "--create-slot",
        "--slot",
        site,
        "--wal-method",
        "stream",
        "--checkpoint",
        "fast",
        "--no-sync",
    ]
    command += [
        "--host",
        primary.seat.host,
        "--port",
        str(primary.port),
        "--username",
        "massar_replicator",
        "--no-password",
    ]
    password = primary.passwords.massar_replicator
    await processes.run(
        command,
        name=f"{site}-basebackup",
        log=logs / f"{site}-postgres.log",
        within_s=CLONE_WITHIN_S,
        environment={**processes.BARE_ENVIRONMENT, "PGPASSWORD": password},
        account=home.account,
        namespace=seat.namespace,
    )
    return await launch(
        home=home, data=data, logs=logs, site=site, port=port, passwords=primary.passwords, seat=seat
    )


async def launch(
    *,
    home: Home,
    data: Path,
    logs: Path,
    site: str,
    port: int,
    passwords: Passwords,
    seat: seats.Seat = seats.ON_LOOPBACK,
) -> PostgresServer:
    """Start the server of an existing data folder and return once it takes connections."""
    name = f"{site}-postgres"
    running = processes.spawn(
        [
            str(home.binaries / "postgres"),
            "-D",
            str(data),
            "-c",
            f"port={port}",
            "-c",
            f"listen_addresses={seat.host}",
            "-c",
            f"cluster_name={site}",
        ],
        name=name,
        log=logs / f"{name}.log",
        account=home.account,
        on_parent_death=signal.SIGQUIT,  # an immediate shutdown: the postmaster takes its backends along
        namespace=seat.namespace,
    )
    try:
        await processes.ready(running, lambda: _takes_connections(data), within_s=READY_WITHIN_S)
    except BaseException:
        running.kill()
        raise
    return PostgresServer(port=port, folder=data, passwords=passwords, process=running, seat=seat)


async def start_again(server: PostgresServer, *, home: Home, logs: Path, site: str) -> PostgresServer:
    """Start a server that has ended, by SIGKILL perhaps, on the data that it left."""
    (server.folder / "postmaster.pid").unlink(missing_ok=True)  # its number may be another process's by now
    return await launch(
        home=home,
        data=server.folder,
        logs=logs,
        site=site,
        port=server.port,
        passwords=server.passwords,
        seat=server.seat,
    )


async def stop(server: PostgresServer) -> None:
    """End the server in order, without waiting for its clients."""
    await server.process.stop(signal.SIGINT)


async def _initialise(
    *, home: Home, data: Path, logs: Path, site: str, passwords: Passwords, callers: Sequence[str]
) -> None:
    password_file = home.secret(f"{site}.password", passwords.postgres)
    command = [str(home.binaries / "initdb"), "--pgdata", str(data), "--username", SUPERUSER]
    command += [
        "--pwfile",
        str(password_file),
        "--auth",
        "scram-sha-256",
        "--encoding",
        "UTF8",
        "--no-locale",
    ]
    command += ["--no-sync", "--no-instructions"]
    try:
        await processes.run(
            command,
            name=f"{site}-initdb",
            log=logs / f"{site}-postgres.log",
            within_s=INITDB_WITHIN_S,
            account=home.account,
        )
    finally:
        password_file.unlink()
    (data / "postgresql.conf").write_text(_SETTINGS, encoding="utf-8")
    (data / "pg_hba.conf").write_text(_who_may_connect(callers), encoding="utf-8")


def _who_may_connect(callers: Sequence[str]) -> str:
    return "".join(
        f"host {database} {caller} scram-sha-256\n"
        for caller in callers
        for database in ("all all", "replication massar_replicator")
    )


async def _create_roles(server: PostgresServer) -> None:
    """Create who may do what: owners of their database, a director that reads states and promotes, a replicator,
    and a rewinder that reads files but is no superuser.
    """
    words = server.passwords
    await server.execute(
        SUPERUSER,
        f"CREATE ROLE massar_records LOGIN PASSWORD '{words.massar_records}' IN ROLE pg_read_all_stats",
        f"CREATE ROLE massar_accounts LOGIN PASSWORD '{words.massar_accounts}'",
        f"CREATE ROLE massar_director LOGIN PASSWORD '{words.massar_director}' IN ROLE pg_monitor",
        f"CREATE ROLE massar_replicator LOGIN REPLICATION PASSWORD '{words.massar_replicator}'",
        f"CREATE ROLE massar_rewinder LOGIN PASSWORD '{words.massar_rewinder}'",
        *(f"GRANT EXECUTE ON FUNCTION {function} TO massar_rewinder" for function in _READ_BY_REWIND),
        f"CREATE DATABASE {RECORDS} OWNER massar_records",
        f"CREATE DATABASE {ACCOUNTS} OWNER massar_accounts",
        f"REVOKE CONNECT, TEMPORARY ON DATABASE {RECORDS} FROM PUBLIC",
        f"REVOKE CONNECT, TEMPORARY ON DATABASE {ACCOUNTS} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {RECORDS} TO massar_director",
    )
    await server.execute(
        RECORDS,
        "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO massar_director",
        _KEEP_WAL_FOR,
        "ALTER FUNCTION massar_keep_wal_for(text) OWNER TO massar_replicator",
        "REVOKE EXECUTE ON FUNCTION massar_keep_wal_for(text) FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION massar_keep_wal_for(text) TO massar_director",
    )


async def raise_fence(server: PostgresServer, *, site: str) -> None:
    """Write the first fence row, and let the director have that row of the school records, and which writes were decided.

    Never what they said: the columns `status`, `body` and `headers` stay closed to it.
    """
    await server.execute(
        RECORDS,
        "GRANT SELECT, INSERT, UPDATE ON fence TO massar_director",
        "GRANT SELECT (principal, route, key, digest, decided_at, order_lsn) ON idempotency TO massar_director",
    )
    connection = await asyncpg.connect(server.dsn(RECORDS), ssl=False)
    try:
        await connection.execute(
            "INSERT INTO fence (id, epoch, site, heard_at) VALUES (1, 1, $1, clock_timestamp())", site
        )
    finally:
        await connection.close()


def _takes_connections(data: Path) -> bool:
    """Read what the server itself says in the last line of its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() in {"ready", "standby"}
