"""What the director of a target does from the claim until its site serves: promote, raise the fence, activate.

Invariant: each step starts from a record read a moment ago that names this site, may be repeated after a crash at any
point, and ends in one transition; whoever loses the comparison in etcd has changed nothing that counts.
Source: docs/decisions/0003.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from datacenters import promotion, record
from datacenters.fence import Fence, connect
from datacenters.position import render
from datacenters.record import TAKEOVER_PHASES, Phase, Record, Refusal

_log = structlog.get_logger()


class Takeover:
    """Makes the PostgreSQL at `dsn` the primary of `site` when the record says so."""

    def __init__(self, dsn: str, *, site: str, by: str, clock: Callable[[], float]) -> None:
        self._dsn = dsn
        self._site = site
        self._by = by
        self._clock = clock

    def named(self, declared: Record | None) -> bool:
        """Whether the record asks this site to take over."""
        return declared is not None and declared.phase in TAKEOVER_PHASES and declared.target == self._site

    async def step(self, declared: Record, *, word_age_s: Callable[[], float]) -> Record | Refusal:
        """Do what the phase asks for; the record that says it is done.

        Raises: PromotionFailed, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError.
        """
        if declared.phase is Phase.PROMOTING:
            switch = await self._promote(epoch=declared.epoch, word_age_s=word_age_s)
            ended = render(switch.ended)
            _log.info("promoted", site=self._site, ended=ended, source=switch.source)
            return record.begin_replay(
                declared, site=self._site, switch_position=ended, now=self._clock(), by=self._by
            )
        return record.activate(declared, site=self._site, now=self._clock(), by=self._by)

    async def _promote(self, *, epoch: int, word_age_s: Callable[[], float]) -> promotion.Switch:
        connection = await connect(self._dsn, statement_s=promotion.STATEMENT_S)
        try:
            switch = await promotion.promote(connection)
        finally:
            connection.terminate()
        fence = Fence(self._dsn)
        try:
            row = await fence.look()
            await fence.raise_to(epoch=epoch, site=self._site, heard_at=row.heard_at(word_age_s()))
            row = await fence.look()
        finally:
            fence.drop()
        if (row.epoch, row.site) != (epoch, self._site):
            raise promotion.PromotionFailed(
                f"the fence stands at epoch {row.epoch} of {row.site}, not at {epoch}"
            )
        return switch
