"""What the director of the active site does in a planned switchover: freeze its datacenter, and give up what drags on.

Invariants: the frozen position is read after the last write that could begin has ended; whoever gives up a switchover
does so under a new epoch, so that a target which claims at the same instant and the one that gives up cannot both win.
Source: docs/decisions/0009.
"""

from __future__ import annotations

from collections.abc import Callable

from datacenters import record
from datacenters.fence import Fence
from datacenters.position import render
from datacenters.record import FREEZE_PHASES, TAKEOVER_PHASES, Phase, Record, Refusal

ABORT_AFTER_S = 3.0
# The active site's director is the first to give up; the others do it for one that is gone. A target that has come as
# far as its replay gets this long too.
ABORT_FOR_ANOTHER_AFTER_S = 5.0
FREEZE_WITHIN_S = 2.5


class Switchover:
    """One director's part in a switchover away from whichever site is active."""

    def __init__(
        self,
        dsn: str | None,
        *,
        site: str,
        by: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._fence = Fence(dsn, statement_s=FREEZE_WITHIN_S) if dsn else None
        self._site = site
        self._by = by
        self._clock = clock
        self._monotonic = monotonic
        self._seen: tuple[float, int] | None = None

    def overdue(self, declared: Record | None) -> Record | Refusal | None:
        """The record that gives up a switchover which has lasted too long; None when there is no such.

        Until the claim any director may; after it the old active site's alone, until the target serves: nothing was
        acknowledged at its epoch yet, and the old site has all that was before.
        """
        givable = FREEZE_PHASES | TAKEOVER_PHASES
        if declared is None or not declared.planned or declared.phase not in givable:
            self._seen = None
            return None
        began = self._began(declared)
        own = declared.active == self._site
        if declared.phase in TAKEOVER_PHASES and not own:
            return None
        lasted_s = self._monotonic() - began
        first = own and declared.phase is not Phase.REPLAYING
        if lasted_s < (ABORT_AFTER_S if first else ABORT_FOR_ANOTHER_AFTER_S):
            return None
        reason = (
            f"the switchover to {declared.target} was given up after {lasted_s:.1f} s in {declared.phase}"
        )
        return record.abort(declared, reason=reason, now=self._clock(), by=self._by)

    def freezes(self, declared: Record | None) -> bool:
        """Whether the record asks this site to stop its writes."""
        return (
            declared is not None
            and declared.phase is Phase.FREEZING
            and declared.active == self._site
            and self._fence is not None
        )

    async def freeze(self, declared: Record) -> Record | Refusal:
        """Stop the own datacenter's writes and say where its log ends.

        Raises: OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError.
        """
        if self._fence is None or declared.target is None:
            return Refusal("no datacenter here")
        try:
            frozen = await self._fence.freeze(epoch=declared.epoch, successor=declared.target)
        except BaseException:
            self._fence.drop()
            raise
        if frozen is None:
            return Refusal(f"the fence is not at epoch {declared.epoch}")
        return record.seal(
            declared, site=self._site, frozen_position=render(frozen), now=self._clock(), by=self._by
        )

    def drop(self) -> None:
        """Forget the connection: the director ends."""
        if self._fence is not None:
            self._fence.drop()

    def _began(self, declared: Record) -> float:
        """When this director first saw this switchover, by its monotonic clock; an epoch later it is still the same."""
        first_epoch = declared.epoch - (1 if declared.phase in TAKEOVER_PHASES else 0)
        known = self._seen
        if known is None or known[1] != first_epoch:
            known = self._seen = (self._monotonic(), first_epoch)
        return known[0]
