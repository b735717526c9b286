"""What is done to the machines of a site: its clock set wrong, its disk slowed, stalled or filled, its volumes lost.

Invariant: each says what showed that it bit, or nothing; a clock has bitten when the doctor would tell of it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg

from datacenters import clocks, site_checks
from datacenters.checkup import Checkup, State
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from sandbox import folder, proc
from sandbox.folder import SITES, WITNESS
from sandbox.postgres import SUPERUSER
from tests.failover import machines
from tests.failover.machines import Machine

# What showed that a strike bit, and what mends it.
Inflicted = tuple[str, Callable[[], None]]

BITES_WITHIN_S = 5.0
POLL_S = 0.02
CLOCK_LISTEN_S = 1.0
HOUR_S = 3600.0
GAINS_PER_S = 1.0
SYNC_S = {"slow": 0.15, "stalled": 5.0}
ASK_WITHIN_S = 2.0
FULL_WITHIN_S = 12.0
NO_ROOM = "No space left on device"


def nothing() -> None:
    """Mend what cannot be mended."""


async def soon(happened: Callable[[], bool]) -> bool:
    """Whether it has happened, within the time in which a strike must bite."""
    deadline = time.monotonic() + BITES_WITHIN_S
    while not (done := happened()) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
    return done


async def set_clock(machine: Machine, table: folder.Table, site: str, how: str) -> Inflicted:
    """An hour `ahead` or `behind` at once, or a `drift` that gains more and more."""
    if how == "drift":
        machine.let_clock_gain(per_s=GAINS_PER_S)
    else:
        machine.set_clock(ahead_s=HOUR_S if how == "ahead" else -HOUR_S)

    def mend() -> None:
        machine.let_clock_gain(per_s=0)
        machine.set_clock(ahead_s=0)

    read_before = machine.wrong_clocks_read
    told = await _told_by_the_doctor(table, site)
    return (told if machine.wrong_clocks_read > read_before else ""), mend


async def _told_by_the_doctor(table: folder.Table, site: str) -> str:
    etcd = Etcd(table.etcd)
    deadline = time.monotonic() + BITES_WITHIN_S
    try:
        while time.monotonic() < deadline:
            try:
                measured = await clocks.offsets(etcd, listen_s=CLOCK_LISTEN_S)
            except (EtcdUnavailable, EtcdRefused):
                await asyncio.sleep(POLL_S)
                continue
            seen = Checkup(now=time.time(), sandbox=True, members=(), majority=True, clocks=measured)
            state, sentence = site_checks.clocks(seen)
            if state is State.WRONG and site in sentence:
                return sentence
    finally:
        await etcd.aclose()
    return ""


async def slow_disk(machine: Machine, how: str) -> Inflicted:
    """Every fsync of the site's PostgreSQL takes longer."""
    before, sync_s = machine.delayed_syncs, SYNC_S[how]
    machine.slow_disk(sync_s=sync_s)
    bit = await soon(lambda: machine.delayed_syncs > before)
    return (f"every fsync takes {sync_s} s longer" if bit else ""), lambda: machine.slow_disk(sync_s=0)


async def fill_disk(table: folder.Table, site: str) -> Inflicted:
    """No room is left for the site's PostgreSQL, which has bitten when it says so itself."""
    (postgres,) = (row for row in table.living() if (row.site, row.kind) == (site, "postgres"))
    volume = machines.data_folder(postgres.who)
    log = Path(table.dir) / "logs" / f"{postgres.name}.log"
    deadline = time.monotonic() + FULL_WITHIN_S
    said = ""
    while not said and time.monotonic() < deadline:
        machines.fill(volume)
        # The log is written into files that are there already; a few switches, and it needs a new one.
        await _switch_log(table)
        said = next((line for line in log.read_text("utf-8").splitlines() if NO_ROOM in line), "")
    return said, lambda: machines.empty(volume)


async def _switch_log(table: folder.Table) -> None:
    for site in SITES:
        try:
            records = await asyncpg.connect(
                table.databases[site][SUPERUSER],
                ssl=False,
                timeout=ASK_WITHIN_S,
                command_timeout=ASK_WITHIN_S,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue
        try:
            if not await records.fetchval("SELECT pg_is_in_recovery()"):
                await records.execute("SELECT pg_switch_wal()")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass
        finally:
            records.terminate()


async def lose(table: folder.Table, site: str) -> Inflicted:
    """All that runs at the site ends, and nothing of what it wrote is left."""
    rows = [row for row in table.living() if row.site == site]
    kept = Path(table.dir)
    volumes = [kept / kind / site for kind in ("etcd", "valkey", "metrics", "quarantine")]
    volumes += [machines.data_folder(row.who) for row in rows if row.kind == "postgres"]
    volumes = [volume for volume in volumes if volume.exists()]

    killed = proc.kill_trees([row.who for row in rows])
    for volume in volumes:
        await asyncio.to_thread(shutil.rmtree, volume)

    left = any(proc.alive(row.who) for row in rows) or any(volume.exists() for volume in volumes)
    lost = (
        len(volumes) >= (1 if site == WITNESS else 2) and not left
    )  # etcd's data at least, and PostgreSQL's
    return (f"{len(killed)} processes and {len(volumes)} folders are gone" if lost else ""), nothing
