"""One schedule from its seed to its judgement: a country, its load, the strikes, the final read, the checker.

Invariant: a schedule passes only when its history is consistent *and* it proved something: every strike bit, enough
writes were acknowledged, enough of the reads could not come out of a cache, and writes went on afterwards.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from datacenters.etcd import EtcdRefused, EtcdUnavailable
from datacenters.record import Record
from sandbox.network import Network
from tests.countries import RunningCountry, running_country
from tests.failover import crashes, history, launcher, timeline
from tests.failover.authority import Authority, etcdctl
from tests.failover.checker import Finding, Wrong, check
from tests.failover.crashes import Crashes
from tests.failover.machines import VOLUME_BYTES, Machine, compiled, compiler
from tests.failover.moves import PAUSE_MAX_S, Fault, Order, check_moves, longest_wait_s, with_lost
from tests.failover.operator import Operator
from tests.failover.schedule import CRASHES, Means, Strike, on_machines, on_volumes
from tests.failover.schedule import options as options_for
from tests.failover.striking import Striker
from tests.failover.traffic import BETWEEN_S, Traffic
from tests.journeys.breaking import audited, declared
from tests.journeys.people import Mint

PUPILS = 400
# A few principals ask as much as many would.
HURRIED = {"MASSAR_RATE_PER_S": "2000", "MASSAR_RATE_BURST": "2000"}
LAUNCHER = (sys.executable, "-P", launcher.__file__)
GOES_ON_WITHIN_S = 90.0
RECORD_WITHIN_S = 30.0
POLL_S = 0.1
COUNTED = (Wrong.LOST, Wrong.DOUBLED, Wrong.SPLIT, Wrong.FALSE_MOVE)


class Needs(msgspec.Struct, frozen=True):
    """What a schedule must show to prove anything."""

    acknowledged_min: int = 500
    fresh_work_min: float = 0.3
    pause_max_s: float = PAUSE_MAX_S


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one schedule; `wrong` counts different subjects, `weak` says why it proves nothing."""

    seed: str
    strikes: tuple[Strike, ...]
    faults: tuple[Fault, ...]
    operations: int
    acknowledged: int
    unknown: int
    fresh_work: float
    epoch: int
    active: str
    wrong: dict[str, int]
    weak: tuple[str, ...]
    unexpected: dict[str, int]
    took_s: float
    pauses_s: tuple[float, ...] = ()
    """How long a write waited at most in each switchover that nothing disturbed."""

    @property
    def passed(self) -> bool:
        """Whether nothing contradicts the promises and the schedule proves that."""
        return not self.wrong and not self.weak

    @property
    def line(self) -> str:
        """One line that says all of it."""
        struck = ", ".join(_told(strike) for strike in self.strikes)
        found = ", ".join(f"{count} {name}" for name, count in self.wrong.items()) or "nothing wrong"
        pauses = "".join(f" writes waited {pause:.2f} s," for pause in self.pauses_s)
        weak = f"; PROVES NOTHING: {'; '.join(self.weak)}" if self.weak else ""
        return (
            f"{self.seed}: {struck}: {self.acknowledged} acknowledged, {self.unknown} unknown attempts,"
            f" {self.fresh_work:.0%} of reads fresh work, epoch {self.epoch} at {self.active},{pauses}"
            f" {self.took_s:.0f} s: {found}{weak}"
        )


def _told(strike: Strike) -> str:
    return (
        f"{strike.name} {strike.where} {f'at {strike.phase} ' if strike.phase else ''}{strike.lasts_s:.0f} s"
    )


def last_line(reports: Sequence[Report]) -> str:
    """The one line that a run ends with."""
    counts = [sum(report.wrong.get(wrong, 0) for report in reports) for wrong in COUNTED]
    lost, doubled, split, moves = counts
    written = sum(report.acknowledged for report in reports)
    return (
        f"chaos: {len(reports)} schedules, {written} acknowledged writes, {lost} lost, {doubled} doubled,"
        f" {split} split, {moves} false moves"
    )


async def run_one(
    seed: str,
    strikes: tuple[Strike, ...],
    *,
    folder: Path,
    results: Path,
    network: Network | None,
    needs: Needs,
    pace_s: tuple[float, float] = BETWEEN_S,
) -> Report:
    """Run one schedule in the new `folder`; what a failing one needs to be understood goes to `results`."""
    began = time.monotonic()
    options = (*(network.sandbox_options if network else ()), *options_for(strikes))
    machines = _machines(on_machines(strikes), folder)
    crash_file = folder / "crash"
    extra = _environment(strikes, machines, crash_file)
    findings: list[Finding] = []
    orders: list[Order] = []
    async with running_country(
        folder, pupils=PUPILS, arguments=options, extra=extra, command=LAUNCHER
    ) as country:
        addresses = country.addresses
        traffic = Traffic(
            addresses.gateways, addresses.accounts, Mint(country.directory), seed=seed, pace_s=pace_s
        )
        authority = Authority(country, orders=orders, logs=folder)
        striker = Striker(
            country.table,
            network=network,
            machines=machines,
            authority=authority,
            crashes=Crashes(country, orders=orders, file=crash_file),
            logs=folder,
            seed=seed,
        )
        operator = Operator(country, striker, orders=orders)
        async with traffic.running():
            await striker.run(strikes, order=operator.act)
            findings += await _goes_on(traffic, needs)
        record = await _settled(country)
        clocks_s = time.time() - time.monotonic()
        rows = with_lost(await audited(addresses.etcd), authority.lost_rows)
        if record.serving is not None:
            await traffic.read_finally(country.table(), record.serving)
        else:
            findings.append(Finding(Wrong.STUCK, record.phase, f"the record stands at {record.phase}"))
    operations = traffic.history.operations
    findings += check(operations)
    findings += check_moves(
        rows,
        operations,
        striker.faults,
        unix_minus_monotonic_s=clocks_s,
        orders=orders,
        pause_max_s=needs.pause_max_s,
    )
    findings += operator.findings
    told = timeline.Told(
        seed=seed,
        operations=operations,
        findings=findings,
        faults=striker.faults,
        rows=rows,
        unix_minus_monotonic_s=clocks_s,
    )
    weak = _weaknesses(traffic, striker.faults, strikes, needs)
    report = _report(told, traffic, strikes, record, orders, weak, took_s=time.monotonic() - began)
    _keep(results, told, report, logs=country.directory / "logs")
    return report


def _environment(
    strikes: Sequence[Strike], machines: Mapping[str, Machine], crash_file: Path
) -> dict[str, str]:
    """What the country's processes must be started with so that these strikes can be made."""
    told_launcher = {
        launcher.MACHINES: {site: machine.environment for site, machine in machines.items()},
        launcher.VOLUMES: dict.fromkeys(sorted(on_volumes(strikes)), VOLUME_BYTES),
    }
    crashing = any(strike.name.startswith(CRASHES) for strike in strikes)
    return {
        **HURRIED,
        **{name: msgspec.json.encode(told).decode() for name, told in told_launcher.items()},
        **(crashes.environment(crash_file) if crashing else {}),
    }


def _report(
    told: timeline.Told,
    traffic: Traffic,
    strikes: tuple[Strike, ...],
    record: Record,
    orders: Sequence[Order],
    weak: Sequence[str],
    *,
    took_s: float,
) -> Report:
    wrong = {one.wrong: set[str]() for one in told.findings}
    for one in told.findings:
        wrong[one.wrong].add(one.subject)
    return Report(
        seed=told.seed,
        strikes=strikes,
        faults=tuple(told.faults),
        operations=len(told.operations),
        acknowledged=traffic.history.acknowledged,
        unknown=sum(one.outcome is history.Outcome.UNKNOWN for one in told.operations),
        fresh_work=traffic.history.fresh_work,
        epoch=record.epoch,
        active=record.active,
        wrong={kind.value: len(subjects) for kind, subjects in wrong.items()},
        weak=tuple(weak),
        pauses_s=tuple(
            round(longest_wait_s(told.rows, told.operations, order, told.unix_minus_monotonic_s), 2)
            for order in orders
            if order.undisturbed
        ),
        unexpected=dict(Counter(traffic.unexpected).most_common(10)),
        took_s=took_s,
    )


def means_at_hand(network: Network | None) -> Means:
    """What this machine can do to a country; a volume of its own needs the namespace that a network brings."""
    return Means(
        network=network is not None,
        filters=network is not None and network.filters,
        machines=compiler() is not None,
        volumes=network is not None and shutil.which("mount") is not None,
        snapshots=etcdctl() is not None,
    )


def _machines(sites: Collection[str], folder: Path) -> dict[str, Machine]:
    if not sites:
        return {}
    library = compiled(folder)
    return {site: Machine(folder / f"machine-{site}", library) for site in sorted(sites)}


async def _goes_on(traffic: Traffic, needs: Needs) -> list[Finding]:
    """Wait until writes are acknowledged after everything was mended, and enough was done; say so when they are not."""
    mended_at = time.monotonic()
    deadline = mended_at + GOES_ON_WITHIN_S
    while time.monotonic() < deadline:
        last = traffic.last_acknowledged()
        goes_on = last is not None and last.began > mended_at
        made = traffic.history
        enough = made.acknowledged >= needs.acknowledged_min and made.fresh_work >= needs.fresh_work_min
        if goes_on and enough:
            return []
        await asyncio.sleep(POLL_S)
    last = traffic.last_acknowledged()
    if last is not None and last.began > mended_at:
        return []  # slow, not stuck: it will be said that too few were acknowledged
    sentence = f"no write was acknowledged in {GOES_ON_WITHIN_S:.0f} s after everything was mended"
    return [Finding(Wrong.STUCK, "writes", sentence)]


async def _settled(country: RunningCountry) -> Record:
    """The record once no change is under way, or as it stands after a while."""
    deadline = time.monotonic() + RECORD_WITHIN_S
    while True:
        try:
            record = await declared(country.addresses.etcd)
        except (EtcdUnavailable, EtcdRefused):
            record = None
        if record is not None and (record.serving is not None or time.monotonic() > deadline):
            return record
        if time.monotonic() > deadline + RECORD_WITHIN_S:
            raise TimeoutError("etcd does not answer though everything was mended")
        await asyncio.sleep(POLL_S)


def _weaknesses(
    traffic: Traffic, faults: Sequence[Fault], strikes: Sequence[Strike], needs: Needs
) -> list[str]:
    made = traffic.history
    weak = [f"{fault.name} at {fault.where} did not bite" for fault in faults if not fault.bitten]
    if len(faults) < len(strikes):
        weak.append("not every strike was made")
    if made.acknowledged < needs.acknowledged_min:
        weak.append(f"{made.acknowledged} writes acknowledged, {needs.acknowledged_min} are asked for")
    if made.fresh_work < needs.fresh_work_min:
        weak.append(
            f"{made.fresh_work:.0%} of the reads were fresh work, {needs.fresh_work_min:.0%} are asked for"
        )
    return weak


def _keep(results: Path, told: timeline.Told, report: Report, *, logs: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    (results / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    if report.passed:
        return
    history.write(results / "history.jsonl", told.operations)
    for name, cells in (("cells", True), ("boards", False)):
        (results / f"{name}.edn").write_text(history.edn(told.operations, cells=cells), "utf-8")
    (results / "timeline.txt").write_text(timeline.text(told), "utf-8")
    (results / "timeline.svg").write_text(timeline.svg(told), "utf-8")
    (results / "audit.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(told.rows))
    shutil.copytree(logs, results / "logs", dirs_exist_ok=True)
