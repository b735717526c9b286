"""How a director brings its own site back: list what the active history lacks, rejoin by the hook, settle the list.

On the active site the same loop keeps the log for the others: a slot is not replicated, so whoever was promoted has to
make one for the site that will come back.

Invariant: it acts on its own site alone, each step may be repeated after a crash at any point, and the active role is
never touched. Source: docs/decisions/0015.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import asyncpg
import structlog

from datacenters import fenced
from datacenters.fence import connect
from datacenters.fenced import Fate, Report, Standing, Step, Written
from datacenters.hook import HookFailed
from datacenters.quarantine import Quarantine
from datacenters.record import Record
from datacenters.verdict import Fenced

STATEMENT_S = 120.0
ORPHANS_MAX = 50_000
KEEP_EVERY_S = 5.0
HOOK_PAUSE_S = 2.0
HOOK_PAUSE_MAX_S = 30.0

_LOOK = """
SELECT r.recovering,
       CASE WHEN NOT r.recovering
            THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer END AS timeline,
       (SELECT epoch FROM fence WHERE id = 1) AS epoch, (SELECT site FROM fence WHERE id = 1) AS site,
       w.pid IS NOT NULL AS streaming,
       coalesce(pg_last_wal_replay_lsn() >= w.latest_end_lsn, false) AS caught_up
FROM (SELECT pg_is_in_recovery() AS recovering) AS r LEFT JOIN (
    pg_stat_wal_receiver AS w JOIN pg_stat_activity AS a ON a.pid = w.pid AND w.status = 'streaming'
    AND clock_timestamp() NOT BETWEEN a.backend_start AND a.backend_start + interval '1 s'
) ON true
"""  # a receiver whose log is gone says that it streams each time, and ends at once; a clock set back makes none young
_WRITTEN = (
    "principal, route, key, encode(digest, 'hex') AS digest, to_json(decided_at) #>> '{}' AS at, order_lsn"
)
_BEHIND = f"""
SELECT {_WRITTEN} FROM idempotency WHERE order_lsn IS NULL OR order_lsn >= $1
ORDER BY order_lsn DESC NULLS FIRST LIMIT $2
"""  # noqa: S608 - only constants of this module
_HELD = f"""
SELECT {_WRITTEN} FROM idempotency JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked (p, r, k)
ON (principal, route, key) = (p, r, k)
"""  # noqa: S608 - only constants of this module
_KEEP = "SELECT massar_keep_wal_for($1)"
# What a PostgreSQL that is down, starting or stopping does to its client.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)

_log = structlog.get_logger()


class Rejoins(Protocol):
    """What makes the site's PostgreSQL follow the active one; see `datacenters.hook`."""

    def run(self, *, site: str, active: str, epoch: int) -> Awaitable[None]:
        """Return when it follows; raise HookFailed."""
        ...


class Rejoining:
    """One site's way back, over its own PostgreSQL; without `quarantine` and `hook` it only tells that it is fenced."""

    def __init__(
        self,
        dsn: str,
        *,
        site: str,
        others: Sequence[str] = (),
        quarantine: Quarantine | None = None,
        hook: Rejoins | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dsn = dsn
        self._site = site
        self._others = tuple(others)
        self._quarantine = quarantine
        self._hook = hook
        self._clock = clock
        self._monotonic = monotonic
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._trying = False
        self._kept_at = float("-inf")
        self._streamed_at = monotonic()
        self._pause_s = HOOK_PAUSE_S
        self._not_before = float("-inf")
        self.told: Fenced | None = None
        """What the other sites may know of it: the stage, and counts."""

    async def step(self, declared: Record | None, *, word_age_s: Callable[[], float]) -> None:
        """Go one step further, if there is one.

        Raises: OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, msgspec.MsgspecError.
        """
        if declared is None or word_age_s() >= fenced.WORD_MAX_AGE_S:
            return
        if declared.active == self._site and declared.target is None:
            self.told = None
            self._streamed_at = self._monotonic()
            await self._keep_wal()
            return
        report = self._quarantine.newest() if self._quarantine else None
        standing = await self._look()
        if standing is None:
            self._streamed_at = self._monotonic()  # it starts to starve when it is there
        if standing is None and not (report and report.rejoined_at is None):
            raise ConnectionError("PostgreSQL does not answer")  # told once, by whoever repeats this
        todo = fenced.step(
            declared, word_age_s=word_age_s(), site=self._site, standing=standing, report=report
        )
        over = standing is not None and fenced.is_over(declared, site=self._site, standing=standing)
        self.told = _told(report, over=over, trying=self._trying)
        if self._quarantine is None:
            return
        if todo is Step.LIST and standing is not None:
            await self._list(declared, standing, self._quarantine)
        elif todo is Step.REJOIN and report is not None:
            await self._rejoin(declared, report)
        elif todo is Step.SETTLE and report is not None:
            await self._settle(report, self._quarantine)

    def drop(self) -> None:
        """Forget the connection without waiting: it is broken, PostgreSQL is about to be stopped, or the director ends."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, statement_s=STATEMENT_S)
        return self._connection

    async def _keep_wal(self) -> None:
        now = self._monotonic()
        if now - self._kept_at < KEEP_EVERY_S:
            return
        connection = await self._connected()
        try:
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                return
            for site in self._others:
                await connection.execute(_KEEP, site)
            self._kept_at = now
        except (asyncpg.UndefinedFunctionError, asyncpg.InsufficientPrivilegeError) as error:
            # A database that was set up otherwise keeps the log by its own means.
            self._kept_at = float("inf")
            _log.warning("no slot is kept for the other sites", site=self._site, error=str(error))

    async def _look(self) -> Standing | None:
        try:
            found = await (await self._connected()).fetchrow(_LOOK)
        except _AWAY:
            self.drop()
            return None
        if found is None:
            return None
        if found["streaming"] or not found["recovering"]:
            self._streamed_at = self._monotonic()
        return Standing(
            in_recovery=found["recovering"],
            timeline=found["timeline"],
            fence_epoch=found["epoch"] or 0,
            fence_site=found["site"],
            streaming=found["streaming"],
            caught_up=found["caught_up"],
            starved_s=self._monotonic() - self._streamed_at,
        )

    async def _list(self, declared: Record, standing: Standing, quarantine: Quarantine) -> None:
        """Write down what this site decided behind the fork, as long as it is still there to be read."""
        timeline = standing.timeline or 0
        fork_lsn = fenced.fork(declared, timeline=timeline)
        rows = []
        if not standing.in_recovery:
            connection = await self._connected()
            rows = await connection.fetch(_BEHIND, fenced.listed_from(fork_lsn), ORPHANS_MAX + 1)
        report = Report(
            site=self._site,
            epoch=declared.epoch,
            active=declared.active,
            timeline=timeline,
            fork_lsn=fork_lsn,
            listed_at=self._clock(),
            orphans=tuple(fenced.Orphan(_written(row)) for row in rows[:ORPHANS_MAX]),
            more=len(rows) > ORPHANS_MAX,
        )
        quarantine.write(report)
        self.told = _told(report, over=not standing.in_recovery)
        _log.warning(
            "a standby without a stream: its log is gone" if standing.in_recovery else "fenced: what may be missing elsewhere is listed",
            site=self._site, epoch=report.epoch, active=report.active, listed=len(report.orphans),
        )  # fmt: skip

    async def _rejoin(self, declared: Record, report: Report) -> None:
        if self._hook is None or self._monotonic() < self._not_before:
            return
        self._trying = True
        self.told = _told(report, over=True, trying=True)
        self.drop()
        _log.info("rejoining", site=self._site, active=declared.active, epoch=declared.epoch)
        try:
            await self._hook.run(site=self._site, active=declared.active, epoch=declared.epoch)
        except HookFailed as failure:
            self._not_before = self._monotonic() + self._pause_s
            self._pause_s = min(HOOK_PAUSE_MAX_S, self._pause_s * 2)
            _log.error("rejoin failed, will be tried again", site=self._site, reason=str(failure))
            return
        self._pause_s = HOOK_PAUSE_S

    async def _settle(self, report: Report, quarantine: Quarantine) -> None:
        """Ask the active history, which this site holds by now, what it knows of each orphan."""
        scopes = [orphan.written.scope for orphan in report.orphans]
        parts = [[scope[place] for scope in scopes] for place in range(3)]
        rows = await (await self._connected()).fetch(_HELD, *parts)
        held = {written.scope: written for written in map(_written, rows)}
        settled = fenced.settle(report, held, now=self._clock())
        quarantine.write(settled)
        self._trying = False
        self.told = _told(settled, over=False)
        _log.warning(
            "rejoined",
            site=self._site, active=settled.active, epoch=settled.epoch,
            **{fate.value: settled.number(fate) for fate in (Fate.HELD, Fate.ABSENT, Fate.OTHER)},
        )  # fmt: skip


def _told(report: Report | None, *, over: bool, trying: bool = False) -> Fenced | None:
    if report is None or (over and report.rejoined_at is not None):
        return Fenced(stage="fenced") if over else None
    under_way = "rejoining" if trying else "listed"
    return Fenced(
        stage=under_way if report.rejoined_at is None else "rejoined",
        orphans=len(report.orphans),
        absent=report.number(Fate.ABSENT) + report.number(Fate.OTHER),
    )


def _written(row: asyncpg.Record) -> Written:
    return Written(
        principal=row["principal"],
        route=row["route"],
        key=row["key"],
        digest=row["digest"],
        decided_at=row["at"],
        order_lsn=row["order_lsn"],
    )
