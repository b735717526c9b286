"""How long the country is without writes: when a site is lost, and when its role is handed over as planned.

Each site sits in a network namespace, the load in a fourth. The active site is lost as in a fire: its links go down
and everything there is killed at once.

Invariant: what counts is measured outside the product: when phones were answered, and when the audit row was written.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import msgspec

from auth.principal import Role
from bench import country, machine
from bench.client import Unexpected
from bench.figures import spans_table
from bench.teachers import Acknowledged, Mint, Teachers, teaching
from bench.workers import watched
from datacenters import control
from datacenters.audit_chain import AuditRow
from datacenters.etcd import Etcd
from sandbox import folder, proc
from sandbox.network import PLACES, Network
from sandbox.postgres import RECORDS

PUPILS = 2_000
WORKERS = 2
WARM_S = 4.0
AFTER_S = 3.0
RESUMES_WITHIN_S = 60.0
POLL_S = 0.05
COMMAND_WITHIN_S = 90.0
REFUSALS_MAX = 20
ASK_AGAIN_S = 1.0
FOLLOWS_WITHIN_S = 60.0
# A few teachers enter what a whole country's would.
OTHERS = tuple(place for place in PLACES if place != folder.SITES[0])
_HURRIED = {"MASSAR_RATE_PER_S": "2000", "MASSAR_RATE_BURST": "2000"}


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """One site lost. Seconds count from the loss; `followed_s` from the record's change, one for each worker left."""

    detected_s: float
    resumed_s: float
    followed_s: list[float]
    written_per_s: float
    acknowledged: int
    lost: int
    reads: int
    rotated_reads: int
    failed_reads: list[str]


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """One planned switchover; `pause_s` is the longest time without any acknowledgement around it."""

    pause_s: float
    longest_write_s: float
    followed_s: list[float]
    written_per_s: float
    acknowledged: int
    errors: int
    what: dict[str, int]
    failed_reads: list[str]


class Losses(msgspec.Struct, frozen=True):
    """All runs, as they are written to the results folder."""

    where: machine.Machine
    runs: list[Loss]


class Handovers(msgspec.Struct, frozen=True):
    """All runs, as they are written to the results folder."""

    where: machine.Machine
    runs: list[Handover]


async def site_losses(network: Network, *, runs: int, rate: float) -> Losses:
    """Lose the active site of a new country so many times, under `rate` marks a second."""
    where = machine.this_machine()
    losses: list[Loss] = []
    for number in range(runs):
        with country.scratch_folder() as scratch:
            losses.append(await _lose_once(scratch, network, rate=rate))
        for place in OTHERS:
            network.mend(folder.SITES[0], place)
        _say(f"site loss {number + 1}/{runs}: {_told(losses[-1])}")
    return Losses(where, losses)


async def handovers(network: Network, *, runs: int, rate: float) -> Handovers:
    """Hand the active role of one country over and back, so many times, under `rate` marks a second."""
    where = machine.this_machine()
    done: list[Handover] = []
    with country.scratch_folder() as scratch:
        async with _country(scratch, network) as place:
            for number in range(runs):
                target = folder.SITES[(number + 1) % 2]
                done.append(await _hand_over(place, target, rate=rate))
                _say(f"switchover {number + 1}/{runs} to {target}: {_told(done[-1])}")
    return Handovers(where, done)


def _country(scratch: Path, network: Network) -> AbstractAsyncContextManager[Path]:
    return country.running(
        scratch, pupils=PUPILS, workers=WORKERS, options=network.sandbox_options, settings=_HURRIED
    )


async def _lose_once(scratch: Path, network: Network, *, rate: float) -> Loss:
    here, there = folder.SITES
    async with _country(scratch, network) as place:
        table = folder.read_table(place)
        async with (
            teaching(place, rate=rate) as teachers,
            watched([table.gateways[there]], *_cheap_read(place), each=WORKERS) as workers,
        ):
            await asyncio.sleep(WARM_S)
            at, unix = time.monotonic(), time.time()
            written = teachers.tally.marks
            await asyncio.to_thread(_burn, network, table, here)
            resumed = await _resumed(teachers, epoch=2)
            await asyncio.sleep(AFTER_S)
            row = await _claim(place, epoch=2)
        lost = await teachers.lost(table.databases[there][RECORDS])
    tally = teachers.tally
    return Loss(
        detected_s=row.after.decided_at - unix,
        resumed_s=resumed.ended - at,
        followed_s=workers.followed(2, row.after.decided_at),
        written_per_s=written / WARM_S,
        acknowledged=tally.marks,
        lost=lost,
        reads=tally.reads,
        rotated_reads=tally.rotated_reads,
        failed_reads=tally.failed_reads,
    )


def _burn(network: Network, table: folder.Table, site: str) -> None:
    for place in OTHERS:
        network.cut(site, place)
    proc.kill_trees([row.who for row in table.living() if row.site == site])


async def _resumed(teachers: Teachers, *, epoch: int) -> Acknowledged:
    async with asyncio.timeout(RESUMES_WITHIN_S):
        while True:
            if (done := teachers.first_acknowledged(epoch=epoch)) is not None:
                return done
            await asyncio.sleep(POLL_S)


async def _hand_over(place: Path, target: str, *, rate: float) -> Handover:
    table = folder.read_table(place)
    async with (
        teaching(place, rate=rate) as teachers,
        watched(list(table.gateways.values()), *_cheap_read(place), each=WORKERS) as workers,
    ):
        await asyncio.sleep(WARM_S)
        written = teachers.tally.marks
        began = time.monotonic()
        await _order(place, target)
        await asyncio.sleep(AFTER_S)
        ended = time.monotonic()
    rows = await _audit(place)
    claimed = next(row for row in reversed(rows) if row.before and row.after.epoch > row.before.epoch)
    tally = teachers.tally
    around = [began, *sorted(one.ended for one in tally.acknowledged if began < one.ended < ended), ended]
    await _follows(place, target)
    return Handover(
        pause_s=max(later - earlier for earlier, later in itertools.pairwise(around)),
        longest_write_s=max(one.ended - one.began for one in tally.acknowledged),
        followed_s=workers.followed(claimed.after.epoch, claimed.after.decided_at),
        written_per_s=written / WARM_S,
        acknowledged=tally.marks,
        errors=tally.errors,
        what={
            **tally.refused,
            "broken": tally.broken,
            "given up": tally.given_up,
            "rejected": tally.rejected,
        },
        failed_reads=tally.failed_reads,
    )


async def _order(place: Path, target: str) -> None:
    """Order the switchover, again where a rule refuses it at this moment: the country is barely whole again."""
    for refusals in itertools.count(1):
        code, said = await _massar("dc", "switchover", target, "--reason", "measured", "--dir", str(place))
        if code == 0:
            return
        if "REFUSED" not in said or refusals == REFUSALS_MAX:
            raise Unexpected(f"the switchover to {target} ended with {code}: {said}")
        await asyncio.sleep(ASK_AGAIN_S)


async def _follows(place: Path, target: str) -> None:
    """Wait until the other site's database follows the one that is active now."""
    connection = await asyncpg.connect(folder.read_table(place).databases[target][RECORDS], ssl=False)
    try:
        async with asyncio.timeout(FOLLOWS_WITHIN_S):
            while True:
                if await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL"
                ):
                    return
                await asyncio.sleep(POLL_S)
    finally:
        await connection.close()


async def _claim(place: Path, *, epoch: int) -> AuditRow:
    return next(row for row in await _audit(place) if row.after.epoch == epoch)


async def _audit(place: Path) -> tuple[AuditRow, ...]:
    etcd = Etcd(folder.read_table(place).etcd)
    try:
        return await control.audit(etcd)
    finally:
        await etcd.aclose()


def _cheap_read(place: Path) -> tuple[str, str]:
    student = folder.read_table(place).accounts["student"]
    token = Mint(place).token(Role.STUDENT, student["id"])
    return f"/v1/pupils/{student['pupil_id']}/timetable", token


async def _massar(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "gateway", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(COMMAND_WITHIN_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def loss_table(result: Losses, *, rate: float) -> str:
    """The runs as text."""
    runs = result.runs
    return spans_table(
        result.where.country(),
        f"the active site lost under {rate:.0f} marks due a second, five in a request, {len(runs)} runs, each in a new country",
        [
            ("seconds until the claim (detection)", [run.detected_s for run in runs]),
            ("seconds until a write is acknowledged again", [run.resumed_s for run in runs]),
            ("seconds until a worker has the new epoch", [s for run in runs for s in run.followed_s]),
            ("marks acknowledged a second before", [run.written_per_s for run in runs]),
        ],
        {
            "acknowledged marks": sum(run.acknowledged for run in runs),
            "of them lost": sum(run.lost for run in runs),
            "reads": sum(run.reads for run in runs),
            "answered by the other site": sum(run.rotated_reads for run in runs),
            "failed at both": sum(len(run.failed_reads) for run in runs),
        },
    )


def handover_table(result: Handovers, *, rate: float) -> str:
    """The runs as text."""
    runs = result.runs
    return spans_table(
        result.where.country(),
        f"planned switchovers under {rate:.0f} marks due a second, five in a request, {len(runs)} runs, to and fro",
        [
            ("seconds without an acknowledgement", [run.pause_s for run in runs]),
            ("seconds the slowest write waited", [run.longest_write_s for run in runs]),
            ("seconds until a worker has the new epoch", [s for run in runs for s in run.followed_s]),
            ("marks acknowledged a second before", [run.written_per_s for run in runs]),
        ],
        {
            "acknowledged marks": sum(run.acknowledged for run in runs),
            "answers to writes other than that": sum(run.errors for run in runs),
            "failed reads": sum(len(run.failed_reads) for run in runs),
        },
    )


def _told(run: msgspec.Struct) -> str:
    return msgspec.json.encode(run).decode()


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
