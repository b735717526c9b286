"""What the director of the standby does with the journal: remove what its own PostgreSQL has.

Invariant: a record goes only when this site's standby has replayed beyond its position on the timeline that it
streams, in a transaction that compares the epoch: after a claim nothing is removed on the word of the old epoch.
"""

from __future__ import annotations

import asyncpg

from datacenters import etcd_keys, position
from datacenters.etcd import Delete, Etcd
from datacenters.fence import connect
from datacenters.position import Position
from datacenters.record import FREEZE_PHASES, SERVING_PHASES, Record

STATEMENT_S = 1.0

# Flushed and replayed: what is there survives this server's crash, and a promotion would show it.
_CONFIRMED = """
SELECT received_tli AS timeline, least(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text AS lsn
FROM pg_stat_wal_receiver WHERE status = 'streaming' AND pg_is_in_recovery()
"""


class Pruning:
    """Prunes by the position of the standby at `dsn`, over one connection that is made again when it breaks."""

    def __init__(self, etcd: Etcd, dsn: str, *, site: str) -> None:
        self._etcd = etcd
        self._dsn = dsn
        self._site = site
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def step(self, declared: Record | None) -> None:
        """Remove what the standby has confirmed, if this site is one under this record.

        Raises: EtcdUnavailable, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError.
        """
        if declared is None or declared.active == self._site:
            return
        if declared.phase not in SERVING_PHASES | FREEZE_PHASES:
            return
        confirmed = await self._confirmed()
        if confirmed is None:
            return
        end = etcd_keys.journal_end((confirmed[0], confirmed[1] + 1))
        first = (await self._etcd.range(etcd_keys.JOURNAL, prefix=True, limit=1)).items
        if not first or first[0].key >= end:
            return
        await self._etcd.transact(
            unchanged={etcd_keys.EPOCH: str(declared.epoch).encode()},
            deletes=(Delete(etcd_keys.JOURNAL, end=end),),
            repeatable=True,
        )

    def drop(self) -> None:
        """Forget the connection without waiting: it is broken, or the director ends."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _confirmed(self) -> Position | None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, statement_s=STATEMENT_S)
        row = await self._connection.fetchrow(_CONFIRMED)
        if row is None or row["timeline"] is None or row["lsn"] is None:
            return None
        return row["timeline"], position.lsn_from_postgres(row["lsn"])
