"""The site that lost the active role comes back: fenced, listed, rewound, streaming; and may take over again."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from datacenters import fenced as decider
from datacenters.fence import Fence
from datacenters.fenced import Fate, Report
from datacenters.hook import HookFailed
from datacenters.quarantine import Quarantine
from datacenters.record import Phase, Policy
from datacenters.verdict import Fenced
from sandbox import following, postgres, proc, processes
from tests.failover.pair import Pair, running_pair
from tests.waiting import eventually

RESTLESS = Policy(dwell_s=0, moves_per_day=99)
FOLLOWS = "rabat: follows the active database"
PROMOTED_WITHIN_S = 20.0
REJOINED_WITHIN_S = 60.0
UNSEEN = 20
# What the datacenter's own write path does to the records: under its fence, effect and deduplication row at once.
WRITE = """
WITH held AS (
    SELECT FROM fence WHERE id = 1 AND epoch = $2 AND site = $3
    AND clock_timestamp() - heard_at < interval '1.5 s' FOR KEY SHARE
)
INSERT INTO idempotency (principal, route, key, digest, status, body, headers)
SELECT 'teacher:t', 'PUT /v1/marks', $1, $4, 200, '', '{}' FROM held RETURNING order_lsn
"""
LOOKED = """
SELECT max(query_start) FROM pg_stat_activity
WHERE application_name = 'massar-datacenter-outbox' AND query LIKE '%JOIN fence%'
"""
REVOKED = "INSERT INTO guardianships (guardian, pupil, kind, status) VALUES ($1, 'p', 'mother', 'revoked')"


class Following:
    """The hook of the pair's world: does in this process what the sandbox's does in its supervisor."""

    def __init__(self, pair: Pair, site: str) -> None:
        self._pair = pair
        self._site = site
        self.done: list[str] = []

    async def run(self, *, site: str, active: str, epoch: int) -> None:
        assert (site, epoch) == (self._site, (await self._pair.record()).epoch)
        try:
            await following.follow(
                self._pair.databases[site],
                primary=self._pair.databases[active],
                home=self._pair.home,
                logs=self._pair.logs,
                site=site,
                say=self.done.append,
                stop=self.stop,
                start=self.start,
            )
        except processes.ProcessFailed as failure:
            raise HookFailed(str(failure)) from failure

    async def stop(self) -> None:
        await postgres.stop(self._pair.databases[self._site])

    async def start(self) -> postgres.PostgresServer:
        await self._pair.return_database(self._site)
        return self._pair.databases[self._site]


class Load:
    """Writes at the active site, one after the other; knows which were confirmed there."""

    def __init__(self, pair: Pair, site: str, *, epoch: int) -> None:
        self._pair, self._site, self._epoch = pair, site, epoch
        self.confirmed: list[str] = []

    async def run(self) -> None:
        """Write until the site is gone."""
        try:
            connection = await self._connect()
            while await self.write(connection, f"{self._site}-{self._epoch}-{len(self.confirmed):06d}"):
                pass
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return

    async def some(self, number: int) -> None:
        connection = await self._connect()
        until = len(self.confirmed) + number
        while len(self.confirmed) < until:
            assert await self.write(connection, f"{self._site}-{self._epoch}-{len(self.confirmed):06d}")
        await connection.close()

    async def write(self, connection: Any, key: str) -> bool:
        digest = hashlib.sha256(key.encode()).digest()
        if await connection.fetchval(WRITE, key, self._epoch, self._site, digest) is None:
            return False
        self.confirmed.append(key)
        return True

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            self._pair.databases[self._site].dsn(postgres.RECORDS, "massar_records"), ssl=False
        )


@pytest.fixture
async def pair(tmp_path: Path, logs: Path) -> AsyncIterator[Pair]:
    async with running_pair(folder=tmp_path, logs=logs, policy=RESTLESS) as made:
        yield made


async def serves(pair: Pair, site: str, *, epoch: int) -> bool:
    standing = await pair.standing(site)
    return standing is not None and standing.writable and standing.epoch == epoch


async def caught_up(pair: Pair, site: str) -> bool:
    standing = await pair.standing(site)
    return (
        standing is not None
        and standing.role == "standby"
        and standing.lag_s == 0.0
        and standing.receipt_age_s is not None
    )


async def fenced(pair: Pair, site: str) -> Fenced | None:
    seen = await pair.sees(site)
    return seen.fenced if seen else None


async def stage(pair: Pair, site: str) -> str | None:
    found = await fenced(pair, site)
    return found.stage if found else None


async def test_rabat_returns_as_a_standby_and_takes_over_when_marrakech_is_lost(pair: Pair) -> None:
    pair.direct("rabat", "marrakech", "witness")
    await eventually(lambda: serves(pair, "rabat", epoch=1), within_s=15)
    await eventually(lambda: caught_up(pair, "marrakech"), within_s=15)
    load = await _lost_under_load(pair)
    await eventually(lambda: serves(pair, "marrakech", epoch=2), within_s=PROMOTED_WITHIN_S)
    unseen = load.confirmed[-UNSEEN:]
    replayed = await _replay(pair, unseen[:5])

    await pair.revive("rabat")  # no hook yet: it stays fenced, and says so
    pair.direct("rabat")
    assert await eventually(lambda: _staged(pair, "rabat", "listed"), within_s=15) == Fenced(
        stage="listed", orphans=len(load.confirmed)
    ), "all lie within the margin of the fork, and are told from the replicated ones later"
    await _is_shut(pair, load)
    await _is_silent(pair, load)

    await pair.dismiss("rabat")
    pair.hooks["rabat"] = hook = Following(pair, "rabat")
    began = time.monotonic()
    pair.direct("rabat")
    told = await eventually(lambda: _staged(pair, "rabat", "rejoined"), within_s=REJOINED_WITHIN_S)
    print(f"\nrejoined {time.monotonic() - began:.2f} s after its director began: {hook.done}")
    assert told == Fenced(stage="rejoined", orphans=UNSEEN, absent=UNSEEN - len(replayed))
    report = pair.quarantine("rabat").newest()
    assert report is not None
    fates = {orphan.written.key: orphan.fate for orphan in report.orphans}
    assert fates == {key: Fate.HELD if key in replayed else Fate.ABSENT for key in unseen}
    assert hook.done == ["rabat: rewinding to the history of the active database", FOLLOWS]

    await _follows(pair, "rabat", of="marrakech", epoch=2)
    record = await pair.record()
    assert (record.epoch, record.active, record.phase) == (2, "marrakech", Phase.ACTIVE), (
        "nobody fails back by himself"
    )
    await _and_back(pair)


async def _lost_under_load(pair: Pair) -> Load:
    """Rabat burns in the midst of writes, the last `UNSEEN` of which it sent to nobody."""
    load = Load(pair, "rabat", epoch=1)
    await load.some(200)
    await eventually(lambda: _has_all(pair, "marrakech", 200), within_s=10)
    sender = (await pair.ask("rabat", "SELECT pid FROM pg_stat_replication"))[0]
    assert proc.send(proc.identity(sender), signal.SIGSTOP)
    await load.some(UNSEEN)
    burning = asyncio.create_task(pair.kill("rabat"))
    await load.run()
    await burning
    del load.confirmed[200 + UNSEEN :]
    return load


async def _replay(pair: Pair, keys: list[str]) -> list[str]:
    """Execute acknowledged writes again at the new active site, as the journal does."""
    load = Load(pair, "marrakech", epoch=2)
    connection = await load._connect()
    for key in keys:
        assert await load.write(connection, key)
    await connection.close()
    return keys


async def _staged(pair: Pair, site: str, wanted: str) -> Fenced | None:
    found = await fenced(pair, site)
    return found if found is not None and found.stage == wanted else None


async def _has_all(pair: Pair, site: str, number: int) -> bool:
    return int((await pair.ask(site, "SELECT count(*) FROM idempotency"))[0]) >= number


async def _is_shut(pair: Pair, load: Load) -> None:
    """The primary of the old history takes no write, of no epoch that it could know."""
    standing = await pair.standing("rabat")
    assert standing is not None
    assert (standing.role, standing.writable, standing.epoch) == ("primary", False, 2)
    connection = await load._connect()
    for epoch in (1, 2, 3):
        assert not await Load(pair, "rabat", epoch=epoch).write(connection, f"shut-{epoch}")
    await connection.close()


async def _is_silent(pair: Pair, load: Load) -> None:
    """What anybody writes into the old history is told to nobody, however often the outbox looks."""
    connection = await load._connect()
    await connection.execute(REVOKED, "fenced")
    await connection.close()
    looks: set[object] = set()

    async def looked_thrice() -> bool:
        looks.add((await pair.ask("rabat", LOOKED))[0])
        return len(looks - {None}) > 3

    await eventually(looked_thrice, within_s=10, what="the outbox looks again and again")
    assert tuple(await pair.ask("rabat", "SELECT count(*) FROM outbox WHERE delivered_at IS NULL")) == (1,)


async def _follows(pair: Pair, site: str, *, of: str, epoch: int) -> None:
    """What the active site writes from now on arrives, over its slot, and nothing is left of the old history."""
    await eventually(lambda: caught_up(pair, site), within_s=15)
    before = (await pair.ask(of, "SELECT count(*) FROM idempotency"))[0]
    await Load(pair, of, epoch=epoch).some(10)
    await eventually(lambda: _has_all(pair, site, before + 10), within_s=10)
    slot = await pair.ask(of, "SELECT slot_name, active FROM pg_replication_slots")
    assert tuple(slot) == (site, True)
    ours = await pair.ask(site, "SELECT count(*) FROM idempotency")
    assert tuple(ours) == (before + 10,)


async def _and_back(pair: Pair) -> None:
    """Marrakech is lost in its turn: Rabat takes over from it, and Marrakech returns the same way."""
    pair.hooks["marrakech"] = Following(pair, "marrakech")
    await pair.kill("marrakech")
    await eventually(lambda: serves(pair, "rabat", epoch=3), within_s=PROMOTED_WITHIN_S)
    assert len((await pair.record()).moves) == 2
    await pair.revive("marrakech")
    pair.direct("marrakech")
    await eventually(lambda: _staged(pair, "marrakech", "rejoined"), within_s=REJOINED_WITHIN_S)
    await _follows(pair, "marrakech", of="rabat", epoch=3)


@pytest.mark.long
async def test_a_standby_whose_log_is_gone_is_built_anew_and_one_that_lost_sight_is_not_stopped(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decider, "STARVED_S", 1.0)
    hook = pair.hooks["marrakech"] = Following(pair, "marrakech")
    pair.direct("rabat", "marrakech", "witness")
    await eventually(lambda: serves(pair, "rabat", epoch=1), within_s=15)
    await pair.kill("marrakech")
    rabat = pair.databases["rabat"]
    await rabat.execute(
        postgres.RECORDS,
        *(f"ALTER SYSTEM SET {name} = '0'" for name in ("max_slot_wal_keep_size", "wal_keep_size")),
        "SELECT pg_reload_conf()",
    )
    needed = (await pair.ask("rabat", "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots"))[0]
    oldest = "SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"

    async def lost() -> bool:
        await rabat.execute(postgres.RECORDS, "SELECT pg_switch_wal()", "CHECKPOINT")
        return str((await pair.ask("rabat", oldest))[0]) > str(needed)

    await eventually(lost, within_s=20)
    await rabat.execute(postgres.RECORDS, "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()")
    await pair.revive("marrakech")
    pair.direct("marrakech")
    await eventually(lambda: _staged(pair, "marrakech", "rejoined"), within_s=REJOINED_WITHIN_S)
    assert "marrakech: base backup of the active database" in hook.done
    await _follows(pair, "marrakech", of="rabat", epoch=1)

    # The active database is away, and no move is allowed: the standby must stay as it is, ready for a human's order.
    await pair.dismiss("rabat")
    standby = pair.databases["marrakech"].process
    await pair.hold("drill")
    await postgres.stop(rabat)
    await eventually(lambda: _staged(pair, "marrakech", "rejoining"), within_s=15)
    with pytest.raises(HookFailed, match="does not answer as a primary"):
        await hook.run(site="marrakech", active="rabat", epoch=1)
    assert pair.databases["marrakech"].process is standby
    assert not standby.ended


class Crash(BaseException):
    """The director's process ends here, and its hook with it."""


@pytest.mark.long
async def test_a_director_or_hook_that_dies_at_any_step_of_a_rejoin_is_resumed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.direct("rabat", "marrakech", "witness")
    await eventually(lambda: serves(pair, "rabat", epoch=1), within_s=15)
    await eventually(lambda: caught_up(pair, "marrakech"), within_s=15)
    load = await _lost_under_load(pair)
    unseen = set(load.confirmed[-UNSEEN:])
    await eventually(lambda: serves(pair, "marrakech", epoch=2), within_s=PROMOTED_WITHIN_S)
    await pair.revive("rabat")
    hook = pair.hooks["rabat"] = Following(pair, "rabat")
    steps: list[tuple[Any, str, bool]] = [
        (Fence, "close_at", True),
        (Quarantine, "write", False),
        (Quarantine, "write", True),
        (Following, "run", False),
        (following, "_rewound", False),
        (following, "rebuild", False),
        (following, "_follow", False),
        (following, "_swap", False),
        (Path, "rename", True),
        (Following, "start", False),
        (Following, "start", True),
        (decider, "settle", True),
    ]
    for place, name, after in steps:
        await _dies_at(pair, monkeypatch, place, name, after=after)
        assert (await pair.record()).active == "marrakech"
        report = pair.quarantine("rabat").newest()
        assert report is None or unseen <= _keys(report), "what was listed stays listed"
        assert report is None or report.rejoined_at is None
    pair.direct("rabat")
    await eventually(lambda: _staged(pair, "rabat", "rejoined"), within_s=REJOINED_WITHIN_S)
    report = pair.quarantine("rabat").newest()
    assert report is not None
    assert {orphan.written.key for orphan in report.orphans if orphan.fate is Fate.ABSENT} == unseen
    assert "rabat: base backup of the active database" in hook.done
    await _follows(pair, "rabat", of="marrakech", epoch=2)
    assert not list(pair.home.folder.glob("rabat.*")), "no note and no other copy is left"


def _keys(report: Report) -> set[str]:
    return {orphan.written.key for orphan in report.orphans}


async def _dies_at(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, *, after: bool
) -> None:
    """Rabat's director works until it comes to this step, and dies before or after it."""
    reached = asyncio.Event()
    with monkeypatch.context() as patch:
        real = getattr(place, name)

        def die() -> None:
            reached.set()
            raise Crash(name)

        async def dies_later(*args: Any, **kwargs: Any) -> Any:
            if after:
                await real(*args, **kwargs)
            die()

        def dies(*args: Any, **kwargs: Any) -> Any:
            if after:
                real(*args, **kwargs)
            die()

        patch.setattr(place, name, dies_later if asyncio.iscoroutinefunction(real) else dies)
        pair.direct("rabat")
        async with asyncio.timeout(REJOINED_WITHIN_S):
            await reached.wait()
        await pair.dismiss("rabat")
