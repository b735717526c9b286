"""How a director makes its own site's PostgreSQL the primary, once the record names it as target.

Invariant: every step may be repeated after a crash at any point, and none is taken before the claim stands.
Source: docs/decisions/0003.
"""

from __future__ import annotations

import asyncpg
import msgspec

from datacenters import position
from datacenters.position import Position

PROMOTE_WAIT_S = 10
STATEMENT_S = 15.0

_LOOK = """
SELECT pg_is_in_recovery() AS recovering,
       pg_last_wal_replay_lsn()::text AS replayed,
       (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)
        FROM pg_control_checkpoint() AS c, pg_control_recovery() AS r) AS timeline
"""
_TIMELINE_NOW = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer"
_HISTORY = "SELECT pg_read_file('pg_wal/' || upper(lpad(to_hex($1::integer), 8, '0')) || '.history', true)"


class PromotionFailed(Exception):
    """PostgreSQL did not become primary in time; trying again is safe."""


class Switch(msgspec.Struct, frozen=True):
    """Where the old timeline ended and the new one began."""

    ended: Position
    timeline: int
    source: str


async def promote(connection: asyncpg.Connection[asyncpg.Record]) -> Switch:
    """Promote this PostgreSQL unless it is a primary already, and say where the old timeline ended.

    Raises: PromotionFailed, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError.
    """
    before = await connection.fetchrow(_LOOK)
    if before is None:
        raise PromotionFailed("PostgreSQL says nothing of itself")
    if before["recovering"]:
        done = await connection.fetchval("SELECT pg_promote(true, $1)", PROMOTE_WAIT_S)
        if not done or await connection.fetchval("SELECT pg_is_in_recovery()"):
            raise PromotionFailed(f"still in recovery after {PROMOTE_WAIT_S} s")
    timeline = await connection.fetchval(_TIMELINE_NOW)
    return await _switch(connection, timeline, was=before["timeline"] if before["recovering"] else None)


async def _switch(
    connection: asyncpg.Connection[asyncpg.Record], timeline: int, *, was: int | None
) -> Switch:
    history = await _history(connection, timeline)
    if history is not None:
        return Switch(ended=history, timeline=timeline, source="timeline history")
    parent = was or max(1, timeline - 1)
    # Where replay ended is where the new timeline begins; PostgreSQL remembers it until it is restarted.
    replayed = await connection.fetchval("SELECT pg_last_wal_replay_lsn()::text")
    if replayed is not None:
        return Switch(
            ended=(parent, position.lsn_from_postgres(replayed)), timeline=timeline, source="last replayed"
        )
    # Nobody knows any more: distrust all that the gateways keep of the old timeline.
    return Switch(ended=(parent, 0), timeline=timeline, source="unknown")


async def _history(connection: asyncpg.Connection[asyncpg.Record], timeline: int) -> Position | None:
    try:
        text = await connection.fetchval(_HISTORY, timeline)
    except asyncpg.InsufficientPrivilegeError:
        return None
    return last_switch(text or "")


def last_switch(history: str) -> Position | None:
    """Where the parent timeline ended, from the text of a timeline history file; None when it tells nothing."""
    ended = None
    for line in history.splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) >= 2 and fields[0].isdigit():
            ended = (int(fields[0]), position.lsn_from_postgres(fields[1]))
    return ended
