"""How this datacenter's PostgreSQL stands right now: primary or standby, where in the log, under which fence.

Invariant: asked anew for every request, so a promotion shows in the very next answer. The position is read in a
statement of its own *before* the data's snapshot: the data is never older than the position says.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter.fence import Guard

PAGE_BYTES = (
    8192  # a primary killed while sending leaves less than this of a record that can never be replayed
)

# On a primary the running timeline is in the name of the current log file (the control file lags behind a promotion);
# on a standby only the control file knows it. Receipt times are visible to members of pg_read_all_stats. A receiver
# whose log is gone at the primary ends at once, but not before it has heard something: one that is a second old counts.
_LOOK = text("""
SELECT r.recovering,
       ((CASE WHEN r.recovering THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)
        - '0/0'::pg_lsn)::bigint AS lsn,
       CASE WHEN r.recovering
            THEN (SELECT greatest(c.timeline_id, m.min_recovery_end_timeline)
                  FROM pg_control_checkpoint() AS c, pg_control_recovery() AS m)
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer END AS timeline,
       f.epoch,
       f.site,
       extract(epoch FROM clock_timestamp() - f.heard_at)::float8 AS heard_age_s,
       CASE WHEN r.recovering
            THEN (pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn())::bigint END AS unreplayed_bytes,
       CASE WHEN r.recovering
            THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS replayed_age_s,
       CASE WHEN r.recovering
            THEN (SELECT extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time)::float8
                  FROM pg_stat_wal_receiver AS w JOIN pg_stat_activity AS a USING (pid)
                  WHERE clock_timestamp() NOT BETWEEN a.backend_start AND a.backend_start + interval '1 second')
            END AS receipt_age_s
FROM (SELECT pg_is_in_recovery() AS recovering) AS r LEFT JOIN fence AS f ON f.id = 1
""")

# A transactional message is logged with a commit of its own, which AUTOCOMMIT flushes before it returns.
_MARK = text("SELECT pg_logical_emit_message(true, 'massar-position', '')")


class Standing(msgspec.Struct, frozen=True):
    """One look at PostgreSQL. Ages are in seconds and None where they mean nothing."""

    in_recovery: bool
    timeline: int
    lsn: int
    epoch: int
    """The fence's; 0 when nobody has written the row yet."""
    fence_site: str | None
    """Which site the fence lets write."""
    heard_age_s: float | None
    """Since the director last said that it hears from etcd."""
    receipt_age_s: float | None
    """Standby: since the primary's last message, as long as this process has seen one."""
    lag_s: float | None
    """Standby: 0 when less than a page is left to replay, else the age of the last replayed commit."""
    data_age_s: float | None
    """Standby: how far what is read here may lie behind the primary."""

    @property
    def position(self) -> str:
        """Timeline and byte position as they go over the wire, `1-50331976`."""
        return f"{self.timeline}-{self.lsn}"

    def guarded(self, guard: Guard) -> bool:
        """True while the fence is this site's and its director's last sign of life is recent, and not to come."""
        return (
            self.fence_site == guard.site
            and self.heard_age_s is not None
            and abs(self.heard_age_s) <= guard.heard_within_s
        )


class Observer:
    """Looks at PostgreSQL; remembers when the primary was last heard, which PostgreSQL forgets with the connection."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._heard_at: float | None = None
        self._complete_until: float | None = None

    async def look(self, connection: AsyncConnection) -> Standing:
        """The standing of PostgreSQL at this moment; one round trip."""
        row = (await connection.execute(_LOOK)).one()
        if not row.recovering:
            self._heard_at = self._complete_until = None
        receipt_age_s = self._receipt_age(row.receipt_age_s) if row.recovering else None
        lag_s = data_age_s = None
        if row.recovering:
            replayed_age_s = _age(row.replayed_age_s)
            lag_s = _lag(row.unreplayed_bytes, replayed_age_s)
            # Who has replayed all that the primary ever sent knows as much as the primary did at its last message.
            caught_up = row.unreplayed_bytes is not None and row.unreplayed_bytes <= 0
            data_age_s = self._data_age(replayed_age_s, receipt_age_s if caught_up else None)
        return Standing(
            in_recovery=row.recovering,
            timeline=row.timeline,
            lsn=row.lsn,
            epoch=row.epoch or 0,
            fence_site=row.site,
            heard_age_s=row.heard_age_s,
            receipt_age_s=receipt_age_s,
            lag_s=lag_s,
            data_age_s=data_age_s,
        )

    async def look_beyond(self, connection: AsyncConnection) -> Standing:
        """The standing at a position that no read told before what is visible now was visible; two round trips.

        A commit is in the log before any snapshot shows it: a read in between tells the same position as a look
        right after it, without what was committed. One more record in the log sets the two apart.
        """
        await connection.execute(_MARK)
        return await self.look(connection)

    def _receipt_age(self, seen: float | None) -> float | None:
        now = self._monotonic()
        # Between a jump of the clock and the next message the age is wrong: one below 0 says nothing, and what was
        # heard at some moment was heard no earlier because of a higher one.
        if seen is not None and seen >= 0:
            self._heard_at = max(now - seen, -math.inf if self._heard_at is None else self._heard_at)
        return None if self._heard_at is None else now - self._heard_at

    def _data_age(self, *ages_s: float | None) -> float | None:
        """The least of the ages that hold; what was complete up to some instant stays so."""
        now = self._monotonic()
        instants = [now - age_s for age_s in ages_s if age_s is not None]
        if self._complete_until is not None:
            instants.append(self._complete_until)
        self._complete_until = max(instants, default=None)
        return None if self._complete_until is None else now - self._complete_until


def _lag(unreplayed_bytes: int | None, replayed_age_s: float | None) -> float | None:
    if unreplayed_bytes is None:  # it has not streamed yet
        return None
    return 0.0 if unreplayed_bytes < PAGE_BYTES else replayed_age_s


def _age(seconds: float | None) -> float | None:
    return None if seconds is None else max(seconds, 0.0)
