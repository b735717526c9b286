"""`python -m bench [NAME]`: what is measured of this project, printed and written to bench/results/.

Invariant: what is printed is what was measured, whatever it is; nothing here judges a number.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from bench import (
    entries,
    failover_figures,
    journal_price,
    purges,
    results_hour,
    valkey_days,
    valkey_reads,
    warm_read,
    workers_cost,
)
from bench.client import Unexpected
from bench.figures import SAMPLES_MIN
from bench.peers import plot
from bench.peers import running as peers
from bench.peers.measuring import Measuring
from bench.peers.scenarios import SCENARIOS
from bench.peers.tools import Missing
from bench.workers import Unwatched
from sandbox.network import PHONES, Network, NoNetwork
from sandbox.processes import ProcessFailed

RESULTS = Path(__file__).parent / "results"
_pairs = click.option(
    "--pairs", type=click.IntRange(2, 40), default=12, show_default=True, help="Rounds of A B."
)
_seconds = click.option(
    "--seconds", type=click.IntRange(1, 60), default=2, show_default=True, help="Length of one block."
)
_runs = click.option("--runs", type=click.IntRange(2, 1_000), default=30, show_default=True)
_rate = click.option(
    "--rate", type=click.FloatRange(1, 5_000), default=200.0, show_default=True, help="Marks due a second."
)
_rounds = click.option(
    "--pairs", type=click.IntRange(SAMPLES_MIN, 40), default=10, show_default=True, help="Rounds."
)
_inside = click.option("--inside", is_flag=True, hidden=True)


@click.group()
def main() -> None:
    """Compare what this project claims with the same thing done the plain way, or by others."""


@main.command("warm-read")
@_pairs
@_seconds
@click.option("--connections", type=click.IntRange(1, 256), default=64, show_default=True)
def warm_read_command(pairs: int, seconds: int, connections: int) -> None:
    """A warm, authenticated read: by the edge, by Litestar, by nothing at all."""
    result = _measured(warm_read.run(pairs=pairs, seconds=seconds, connections=connections))
    _keep("warm_read", result, warm_read.table(result))


@main.command("journal")
@_pairs
@_seconds
def journal_command(pairs: int, seconds: int) -> None:
    """The journal's price: latency and throughput of a write with and without it."""
    result = _measured(journal_price.run(pairs=pairs, seconds=seconds))
    _keep("journal_price", result, journal_price.table(result))


@main.command("valkey-reads")
@_pairs
@_seconds
def valkey_reads_command(pairs: int = 12, seconds: int = 2) -> None:
    """Reads of Valkey: over the worker's shared connection, and over redis-py's pool."""
    result = _measured(valkey_reads.run(pairs=pairs, seconds=seconds))
    _keep("valkey_reads", result, valkey_reads.table(result))


@main.command("valkey-days")
def valkey_days_command() -> None:
    """What a reader waits while Valkey is killed, hung, full, slow, locked, or talks garbage."""
    result = _measured(valkey_days.run())
    _keep("valkey_days", result, valkey_days.table(result))


@main.command("entries")
def entries_command() -> None:
    """What a worker and an entry take, and look-ups and purges among few entries and among many."""
    result = _measured(entries.run())
    _keep("entries", result, entries.table(result))


@main.command("purges")
@click.option("--runs", type=click.IntRange(2, 1_000), default=200, show_default=True, help="Writes.")
def purges_command(runs: int) -> None:
    """How long an answer from before a write is shown, by each worker of two sites."""
    result = _measured(purges.run(runs=runs))
    _keep("purges", result, purges.table(result))


@main.command("results-hour")
@_rounds
@click.option(
    "--seconds", type=click.IntRange(1, 60), default=4, show_default=True, help="Length of one block."
)
def results_hour_command(*, pairs: int, seconds: int) -> None:
    """What a person costs in the results hour, handshake and sign-in included, and the nodes that takes."""
    result = _measured(results_hour.run(pairs=pairs, seconds=seconds))
    _keep("results_hour", result, results_hour.table(result))


@main.command("workers-cost")
@_rounds
@click.option(
    "--seconds", type=click.IntRange(1, 60), default=4, show_default=True, help="Length of one block."
)
@click.option(
    "--rate",
    type=click.FloatRange(100, 20_000),
    default=4_000.0,
    show_default=True,
    help="Requests due a second for one worker.",
)
def workers_cost_command(*, pairs: int, seconds: int, rate: float) -> None:
    """What a warm read costs one worker, and two."""
    result = _measured(workers_cost.run(pairs=pairs, seconds=seconds, rate=rate))
    _keep("workers_cost", result, workers_cost.table(result))


@main.command("site-loss")
@_runs
@_rate
@_inside
def site_loss_command(*, runs: int, rate: float, inside: bool) -> None:
    """The active site burns down, every time in a new country."""
    if not inside:
        _go_inside("site-loss", runs, rate)
        return
    result = _measured(failover_figures.site_losses(Network(), runs=runs, rate=rate))
    _keep("site_loss", result, failover_figures.loss_table(result, rate=rate))


@main.command("switchover")
@_runs
@click.option(
    "--rate", type=click.FloatRange(1, 5_000), default=50.0, show_default=True, help="Marks due a second."
)
@_inside
def switchover_command(*, runs: int, rate: float, inside: bool) -> None:
    """The active role is handed over and back."""
    if not inside:
        _go_inside("switchover", runs, rate)
        return
    result = _measured(failover_figures.handovers(Network(), runs=runs, rate=rate))
    _keep("switchover", result, failover_figures.handover_table(result, rate=rate))


@main.command("peers")
@click.option(
    "--scenario", "names", type=click.Choice(sorted(SCENARIOS)), multiple=True, help="All by default."
)
@_rounds
@click.option(
    "--seconds", type=click.IntRange(1, 5), default=3, show_default=True, help="Length of one load."
)
@click.option("--connections", type=click.IntRange(1, 256), default=64, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(100, 20_000),
    default=4_000.0,
    show_default=True,
    help="Requests due a second.",
)
def peers_command(*, names: tuple[str, ...], pairs: int, seconds: int, connections: int, rate: float) -> None:
    """The gateway beside nginx, Envoy, HAProxy and FastAPI."""
    how = Measuring(rounds=pairs, seconds=seconds, connections=connections, rate=rate)
    result = _measured(peers.run(names or tuple(SCENARIOS), how=how))
    kept = _keep("peers", result, peers.table(result))
    kept.with_suffix(".svg").write_text(plot.svg(result), "utf-8")
    if result.failures:
        sys.exit(1)


def _go_inside(name: str, runs: int, rate: float) -> None:
    """Run the same command where the phones are: in a namespace of its own, which needs root."""
    network = Network()
    try:
        network.make()
    except NoNetwork as reason:
        raise click.ClickException(str(reason)) from None
    command = ["ip", "netns", "exec", network.namespace(PHONES), sys.executable, "-m", "bench", name]
    try:
        # Its namespace must outlive it: it hears of an end once, from here.
        with subprocess.Popen(
            [*command, "--inside", "--runs", str(runs), "--rate", str(rate)], process_group=0
        ) as inside:
            for ending in (signal.SIGINT, signal.SIGTERM):
                signal.signal(ending, lambda number, _: inside.send_signal(number))
    finally:
        network.remove()
    if inside.returncode:
        sys.exit(inside.returncode)


def _measured(measuring: Coroutine[Any, Any, Any]) -> Any:
    try:
        return uvloop.run(_until_terminated(measuring))
    except (Missing, Unexpected, Unwatched, ProcessFailed) as reason:
        raise click.ClickException(str(reason)) from None
    except _Terminated:
        sys.exit(128 + signal.SIGTERM)


class _Terminated(Exception):
    """SIGTERM came."""


async def _until_terminated(measuring: Coroutine[Any, Any, Any]) -> Any:
    """What it measures; SIGTERM ends it as Ctrl-C does, so that the servers it started end with it. Raises `_Terminated`."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    task = asyncio.create_task(measuring)

    def end() -> None:
        if not told.is_set():  # a second one must not break off the clean-up
            told.set()
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await task
    except asyncio.CancelledError:
        if told.is_set():
            raise _Terminated from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _keep(name: str, result: Any, table: str) -> Path:
    print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime(f"%Y-%m-%dT%H%M%SZ-{name}.json", time.gmtime())
    path.write_bytes(msgspec.json.format(msgspec.json.encode({name: result}), indent=1))
    print(f"\nwritten to {path.relative_to(RESULTS.parents[1])}")
    return path


if __name__ == "__main__":
    main()
