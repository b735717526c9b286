"""`make chaos`: seeded schedules of faults against whole countries, one after the other, each judged.

Ends with one line, and with exit code 0 only when every schedule passed and proved something.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from sandbox import etcd
from sandbox.network import PHONES, Network, NoNetwork
from sandbox.processes import ProcessFailed
from tests.failover import schedule
from tests.failover.machines import compiler
from tests.failover.runner import Needs, Report, last_line, means_at_hand, run_one
from tests.failover.steady import PACE_S as STEADY_PACE_S
from tests.failover.steady import draw_steady
from tests.failover.traffic import BETWEEN_S

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".chaos"


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    asked = _arguments().parse_args()
    if asked.one:
        return _one(asked)
    if complaint := _unfit_etcd():
        print(f"chaos: {complaint}", file=sys.stderr)
        return 2
    network: Network | None = None
    if not asked.loopback:
        network = Network()
        try:
            network.make()
        except NoNetwork as reason:
            print(f"chaos: {reason}; --loopback strikes what needs no network of its own", file=sys.stderr)
            return 2
        if not network.filters:
            print("chaos: no `nft` on PATH (Debian: nftables): no lost packets, no gray datacenters")
    if compiler() is None:
        print("chaos: no `cc` on PATH (Debian: gcc, libc6-dev): no wrong clocks, no slow disks")
    reports: list[Report] = []
    broken = 0
    try:
        for number in range(asked.runs):
            report = _run(f"{asked.seed}/{number}", asked, network)
            broken += report is None
            if report is not None:
                reports.append(report)
                print(report.line, flush=True)
    except KeyboardInterrupt:
        print("chaos: stopped", file=sys.stderr)
    finally:
        if network is not None:
            network.remove()
    print(last_line(reports))
    return 0 if len(reports) == asked.runs and all(report.passed for report in reports) else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.failover", description=__doc__)
    parser.add_argument("--seed", default="1", help="draws the schedules; the same seed draws the same ones")
    parser.add_argument("--runs", type=int, default=3, help="how many schedules")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[kind.name for kind in schedule.KINDS],
        metavar="FAULT",
    )
    parser.add_argument("--acknowledged-min", type=int, default=Needs().acknowledged_min)
    parser.add_argument(
        "--loopback", action="store_true", help="all sites on loopback: kills and pauses alone"
    )
    parser.add_argument(
        "--steady",
        type=float,
        metavar="MINUTES",
        help="lost packets, jitter and pauses of 2 s for so long: nothing may move",
    )
    parser.add_argument("--one", metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    return parser


def _run(seed: str, asked: argparse.Namespace, network: Network | None) -> Report | None:
    """One schedule in a process of its own, in the phones' namespace where there is one."""
    results = RESULTS / seed.replace("/", "-")
    shutil.rmtree(results, ignore_errors=True)
    inside = ["ip", "netns", "exec", network.namespace(PHONES)] if network else []
    command = [*inside, sys.executable, "-m", "tests.failover", "--one", seed, "--results", str(results)]
    command += ["--acknowledged-min", str(asked.acknowledged_min)]
    command += [word for name in asked.only for word in ("--only", name)]
    command += ["--loopback"] if network is None else []
    command += ["--steady", str(asked.steady)] if asked.steady else []
    done = subprocess.run(command, cwd=ROOT, check=False)
    try:
        report = msgspec.json.decode((results / "report.json").read_bytes(), type=Report)
    except FileNotFoundError:
        print(f"{seed}: ended with code {done.returncode} and without a report", flush=True)
        return None
    if not report.passed:
        timeline = results / "timeline.txt"
        print(timeline.read_text("utf-8"), end="")
        print(f"{seed}: timeline.svg, history.jsonl, the EDN files and all logs are in {results}")
        print(f"again: make chaos SEED={asked.seed} RUNS={asked.runs}")
    return report


def _one(asked: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="massar-chaos-"))
    folder.chmod(0o755)  # PostgreSQL may run as a user of its own
    needs = Needs(acknowledged_min=asked.acknowledged_min)
    network = None if asked.loopback else Network()
    try:
        means = means_at_hand(network)
        if asked.steady:
            strikes = draw_steady(asked.one, means, for_s=60 * asked.steady)
        else:
            strikes = schedule.draw(asked.one, means, only=asked.only)
        running = run_one(
            asked.one,
            strikes,
            folder=folder,
            results=asked.results,
            network=network,
            needs=needs,
            pace_s=STEADY_PACE_S if asked.steady else BETWEEN_S,
        )
        report = asyncio.run(running)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if report.passed else 1


def _unfit_etcd() -> str | None:
    try:
        found = etcd.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
        version = etcd.version(found)
    except (ProcessFailed, OSError) as reason:
        return str(reason)
    if version in etcd.DIVERGING_VERSIONS:
        return (
            f"etcd {version} ({found}) may diverge when killed under load, so it cannot prove anything;"
            " put another one on PATH or name it in MASSAR_ETCD_BIN (Debian: etcd-server 3.4.23)"
        )
    return None


if __name__ == "__main__":
    sys.exit(main())
