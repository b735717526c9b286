"""May this datacenter write under this epoch, now? Asked inside the very transaction that writes.

Invariant: between this check and the commit the epoch cannot rise: the share lock on the fence row's key makes
whoever raises it wait for the write, and makes the write wait for (and then see) whoever came first.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Float, bindparam, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter.problems import Refused
from sandbox.datacenter.tables import fence

# The lock is taken in a subquery, so that the clock and the advisory lock are read after any wait for it.
_held = (
    select(fence.c.epoch, fence.c.site, fence.c.heard_at)
    .where(fence.c.id == 1)
    .with_for_update(read=True, key_share=True)
    .subquery("held")
)
_CHECK = select(
    _held.c.epoch,
    _held.c.site,
    literal_column("extract(epoch FROM clock_timestamp() - held.heard_at)", Float).label("heard_age_s"),
    func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("scope"), 0)).label("alone"),
).select_from(_held)


class StaleEpoch(Refused):
    """The request is of an epoch that is over; `epoch` is the fence's."""

    def __init__(self, epoch: int) -> None:
        super().__init__("stale-epoch")
        self.epoch = epoch


class Guard(msgspec.Struct, frozen=True):
    """Whose fence it must be, and how old its director's last sign of life may be."""

    site: str
    heard_within_s: float


async def check(connection: AsyncConnection, guard: Guard, *, epoch: int, scope: str) -> bool:
    """Hold the fence at `epoch` until the transaction ends; True when nobody else works on `scope` meanwhile.

    Raises: Refused (`read-only`), StaleEpoch.
    """
    row = (await connection.execute(_CHECK, {"scope": scope})).one_or_none()
    if row is not None and epoch < row.epoch:
        raise StaleEpoch(row.epoch)
    # A copy just promoted still holds the other site's fence, perhaps a second old: it is not its own.
    if row is None or epoch > row.epoch or row.site != guard.site:
        raise Refused("read-only")
    if abs(row.heard_age_s) > guard.heard_within_s:
        raise Refused("read-only")
    return bool(row.alone)
