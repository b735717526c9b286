"""What the director of a target does until its site serves: catch up and claim, promote, replay, activate.

Invariant: each step starts from a record read a moment ago that names this site, may be repeated after a crash at any
point, and ends in one transition; whoever loses the comparison in etcd has changed nothing that counts.
Source: docs/decisions/0003, docs/decisions/0008, docs/decisions/0009.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from datacenters import position, promotion, record
from datacenters.fence import Fence, connect
from datacenters.position import render
from datacenters.record import TAKEOVER_PHASES, Phase, Record, Refusal
from datacenters.replay import Replay

_log = structlog.get_logger()

_REPLAYED = """
SELECT received_tli AS timeline, pg_last_wal_replay_lsn()::text AS lsn
FROM pg_stat_wal_receiver WHERE pg_is_in_recovery()
"""


class NotYet(Exception):
    """The standby has not replayed up to the frozen position; asking again soon is right."""


class Takeover:
    """Makes the PostgreSQL at `dsn` the primary of `site` when the record says so."""

    def __init__(
        self, dsn: str, *, site: str, by: str, replay: Replay | None, clock: Callable[[], float]
    ) -> None:
        self._dsn = dsn
        self._site = site
        self._by = by
        self._replay = replay
        self._clock = clock

    def named(self, declared: Record | None) -> bool:
        """Whether the record asks this site to take a step."""
        phases = TAKEOVER_PHASES | {Phase.SEALING}
        return declared is not None and declared.phase in phases and declared.target == self._site

    async def step(self, declared: Record, *, word_age_s: Callable[[], float]) -> Record | Refusal:
        """Do what the phase asks for; the record that says it is done.

        Raises: NotYet, PromotionFailed, ReplayFailed, OSError, TimeoutError, asyncpg.PostgresError,
        asyncpg.InterfaceError.
        """
        if declared.phase is Phase.SEALING:
            await self._caught_up(declared.frozen_position or "")
            return record.claim_sealed(declared, site=self._site, now=self._clock(), by=self._by)
        if declared.phase is Phase.PROMOTING:
            switch = await self._promote(epoch=declared.epoch, word_age_s=word_age_s)
            ended = render(switch.ended)
            _log.info("promoted", site=self._site, ended=ended, source=switch.source)
            return record.begin_replay(
                declared, site=self._site, switch_position=ended, now=self._clock(), by=self._by
            )
        if self._replay is not None:
            report = await self._replay.run(epoch=declared.epoch)
            _log.info(
                "journal replayed",
                site=self._site,
                done=report.done,
                repeated=report.repeated,
                parked=report.parked,
            )
        return record.activate(declared, site=self._site, now=self._clock(), by=self._by)

    async def _caught_up(self, frozen: str) -> None:
        connection = await connect(self._dsn, statement_s=promotion.STATEMENT_S)
        try:
            row = await connection.fetchrow(_REPLAYED)
        finally:
            connection.terminate()
        if row is None or row["lsn"] is None:
            raise NotYet("the standby does not stream")
        replayed = (row["timeline"], position.lsn_from_postgres(row["lsn"]))
        if replayed < position.parse(frozen):
            raise NotYet(f"replayed up to {render(replayed)} of {frozen}")

    async def _promote(self, *, epoch: int, word_age_s: Callable[[], float]) -> promotion.Switch:
        fence = Fence(self._dsn)
        try:
            row = await fence.look()
            if row.epoch > epoch:
                raise promotion.PromotionFailed(f"the fence knows epoch {row.epoch}: epoch {epoch} is over")
            connection = await connect(self._dsn, statement_s=promotion.STATEMENT_S)
            try:
                switch = await promotion.promote(connection)
            finally:
                connection.terminate()
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
