"""The row in the school records without which no write is taken, and when a director may keep it alive.

Invariant: the row is renewed only on a word from etcd's majority less than a second old that names this site at the
row's own epoch, and it is dated back to that word: an isolated or superseded datacenter closes by itself.
Source: docs/decisions/0003.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import asyncpg
import msgspec

from datacenters.position import Position, lsn_from_postgres
from datacenters.record import Phase, Record

WORD_MAX_AGE_S = 1.0
STATEMENT_S = 1.0
CONNECT_S = 1.0

_LOOK = """
SELECT pg_is_in_recovery() AS recovering, clock_timestamp() AS at,
       (SELECT epoch FROM fence WHERE id = 1) AS epoch, (SELECT site FROM fence WHERE id = 1) AS site
"""
_RENEW = "UPDATE fence SET heard_at = $3 WHERE id = 1 AND epoch = $1 AND site = $2"
_RAISE = """
INSERT INTO fence AS there (id, epoch, site, heard_at) VALUES (1, $1, $2, $3)
ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, site = excluded.site, heard_at = excluded.heard_at
WHERE there.epoch < excluded.epoch
"""
# Waits for every write that has checked the row, as they hold a share of it until they commit.
_HOLD = "SELECT epoch FROM fence WHERE id = 1 AND epoch = $1 FOR UPDATE"
_FREEZE = "UPDATE fence SET site = $1, heard_at = $2 WHERE id = 1"
_STANDS = """
SELECT pg_current_wal_flush_lsn()::text AS lsn,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer AS timeline
"""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Step(StrEnum):
    """What a director does to its own fence row now."""

    NOTHING = "nothing"
    RENEW = "renew"
    RAISE = "raise"
    CLOSE = "close"


class Row(msgspec.Struct, frozen=True):
    """The fence as this site's PostgreSQL has it; `epoch` 0 and no site before the first one is written.

    `at` is PostgreSQL's clock at the look.
    """

    in_recovery: bool
    epoch: int
    site: str | None
    at: datetime

    def heard_at(self, word_age_s: float) -> datetime:
        """When etcd's word was asked for, by PostgreSQL's clock and never too late; ask right after the look.

        A moment and not an age, so that a statement which PostgreSQL executes late makes nothing look fresh.
        """
        return self.at - timedelta(seconds=word_age_s)


def step(record: Record | None, *, word_age_s: float, site: str, row: Row) -> Step:
    """What the record of `word_age_s` seconds ago asks of the fence at `site`; pure."""
    if record is None or word_age_s >= WORD_MAX_AGE_S or row.in_recovery:
        return Step.NOTHING
    # While the journal is replayed here, the fence stands open for nobody but the own director: no gateway writes
    # under an epoch that no site serves yet.
    if record.serving == site or (record.phase is Phase.REPLAYING and record.target == site):
        if row.epoch < record.epoch:
            return Step.RAISE
        # A record below the row comes from an etcd restored from an old snapshot: it proves nothing.
        return Step.RENEW if (row.epoch, row.site) == (record.epoch, site) else Step.NOTHING
    if record.target == site:
        return Step.NOTHING  # its promotion raises the row
    return Step.CLOSE if row.epoch < record.epoch else Step.NOTHING


class Fence:
    """The fence row of one PostgreSQL, over one connection that is made again when it breaks."""

    def __init__(self, dsn: str, *, statement_s: float = STATEMENT_S) -> None:
        self._dsn = dsn
        self._statement_s = statement_s
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def look(self) -> Row:
        """The row now.

        Raises: OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError.
        """
        found = await (await self._connected()).fetchrow(_LOOK)
        if found is None:
            raise asyncpg.InterfaceError("a look without a row")
        return Row(
            in_recovery=found["recovering"], epoch=found["epoch"] or 0, site=found["site"], at=found["at"]
        )

    async def renew(self, *, epoch: int, site: str, heard_at: datetime) -> bool:
        """Date the row to etcd's last word; False when it is not of this epoch and site any more."""
        return _changed(await (await self._connected()).execute(_RENEW, epoch, site, heard_at))

    async def raise_to(self, *, epoch: int, site: str, heard_at: datetime) -> bool:
        """Put the row at a higher epoch, after the writes that hold the lower one; False when it was there already."""
        return _changed(await (await self._connected()).execute(_RAISE, epoch, site, heard_at))

    async def freeze(self, *, epoch: int, successor: str) -> Position | None:
        """Let no write of this epoch begin any more, wait for those that hold the row, and say where the log then stands.

        None when the row is not of this epoch. Renewing cannot undo it, because the row names `successor` afterwards.
        """
        connection = await self._connected()
        async with connection.transaction():
            held = await connection.fetchrow(_HOLD, epoch)
            if held is None:
                return None
            await connection.execute(_FREEZE, successor, _NEVER)
        found = await connection.fetchrow(_STANDS)
        return None if found is None else (found["timeline"], lsn_from_postgres(found["lsn"]))

    async def close_at(self, *, epoch: int, site: str) -> bool:
        """Put the row at another site's epoch, so that this datacenter takes no write and says why."""
        return await self.raise_to(epoch=epoch, site=site, heard_at=_NEVER)

    def drop(self) -> None:
        """Forget the connection without waiting: it is broken, or the director ends."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, statement_s=self._statement_s)
        return self._connection


async def connect(dsn: str, *, statement_s: float) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of a director to its own site's PostgreSQL; every statement ends within `statement_s`."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_S,
        command_timeout=statement_s,
        server_settings={"application_name": "massar-director"},
    )


def _changed(status: str) -> bool:
    return status.rsplit(" ", 1)[-1] != "0"
