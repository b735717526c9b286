"""`massar sandbox`: a real country in a folder, and what may be done to it from another terminal.

Invariant: nothing is started before the folder is this process's alone and every port is settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import click

from datacenters import lifeline
from datacenters.record import Policy
from sandbox import asking, folder, ports, proc, processes, seats

DEFAULT_DIR = ".sandbox"
DEFAULT_PUPILS = 2_000
DEFAULT_SEED = 2026
REJOIN_WITHIN_S = 1800.0
TARGETS = (*folder.SITES, folder.WITNESS, "valkey")
# What the processes of the country may see of this one's environment, beside settings of their own.
_PASSED_ON = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"})
_NOT_SETTINGS = frozenset(
    {
        "MASSAR_POSTGRES_BIN",
        "MASSAR_VALKEY_BIN",
        "MASSAR_ETCD_BIN",
        "MASSAR_DIRECTOR_COMMAND",
        "MASSAR_DIE_WITH_PARENT",
    }
)

_dir_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help=f"The sandbox's folder [default: {DEFAULT_DIR}].",
)


class _NamedPort(click.ParamType[tuple[str, int]]):
    """`NAME=PORT`, the name one of a given few."""

    name = "NAME=PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Split and check it."""
        name, _, port = str(value).partition("=")
        if not port.isdecimal() or not 0 < int(port) < 65_536:
            self.fail(f"{value!r} is not NAME=PORT", param, ctx)
        return name, int(port)


class _SiteSeat(click.ParamType[tuple[str, seats.Seat]]):
    """`SITE=ADDRESS` or `SITE=ADDRESS@NAMESPACE`."""

    name = "SITE=ADDRESS[@NAMESPACE]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, seats.Seat]:
        """Split and check it."""
        site, _, seat = str(value).partition("=")
        if site not in {*folder.SITES, folder.WITNESS}:
            self.fail(f"{value!r}: there is no site {site!r}", param, ctx)
        try:
            return site, seats.parse(seat)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@click.group(invoke_without_command=True, short_help="A real country of three sites in a folder.")
@_dir_option
@click.option("--pupils", type=click.IntRange(200, 1_000_000), default=DEFAULT_PUPILS, show_default=True)
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True, help="Same seed, same country.")
@click.option(
    "--ready-file", type=click.Path(dir_okay=False, path_type=Path), help="Written once everything answers."
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Workers per gateway."
)
@click.option(
    "--gateway-port", "gateway_ports", type=_NamedPort(), multiple=True, help="rabat=PORT or marrakech=PORT."
)
@click.option(
    "--port", "named_ports", type=_NamedPort(), multiple=True, help="Any other, such as rabat.postgres=PORT."
)
@click.option(
    "--site",
    "site_seats",
    type=_SiteSeat(),
    multiple=True,
    help="An address of its own for a site and a network namespace for its processes: rabat=10.77.1.1@massar-rabat.",
)
@click.option(
    "--dwell-s",
    type=click.IntRange(0),
    default=Policy().dwell_s,
    show_default=True,
    help="The least time between two automatic moves; a real country keeps the default.",
)
@click.pass_context
def sandbox(
    context: click.Context,
    directory: Path | None,
    pupils: int,
    seed: int,
    ready_file: Path | None,
    workers: int,
    gateway_ports: tuple[tuple[str, int], ...],
    named_ports: tuple[tuple[str, int], ...],
    site_seats: tuple[tuple[str, seats.Seat], ...],
    dwell_s: int,
) -> None:
    """Run a real country of three sites in a folder, until Ctrl-C or TERM."""
    context.obj = directory
    if context.invoked_subcommand is not None:
        return
    given = {**{f"{site}.gateway": port for site, port in gateway_ports}, **dict(named_ports)}
    _end_quietly()
    _run(
        (directory or Path(DEFAULT_DIR)).resolve(),
        pupils=pupils,
        seed=seed,
        ready_file=ready_file.resolve() if ready_file else None,
        workers=workers,
        given=given,
        seated=dict(site_seats),
        policy=Policy(dwell_s=dwell_s),
    )


@sandbox.command()
@click.argument("target", type=click.Choice(TARGETS))
@_dir_option
@click.pass_obj
def kill(inherited: Path | None, target: str, directory: Path | None) -> None:
    """SIGKILL all that a site owns, or both sites' Valkeys."""
    table = _table(directory or inherited)
    doomed = [row for row in table.living() if target in {row.site, row.kind}]
    if not doomed:
        raise click.ClickException(f"nothing of {target} runs any more")
    killed = proc.kill_trees([row.who for row in doomed])
    for row in doomed:
        click.echo(f"killed {row.name} (pid {row.who.pid})")
    click.echo(f"{target}: {len(killed)} processes killed")


@sandbox.command()
@click.argument("target", metavar="[SITE|SITE-KIND|valkey]")
@_dir_option
@click.pass_obj
def revive(inherited: Path | None, target: str, directory: Path | None) -> None:
    """Start again what has ended of a site, or a single process such as rabat-director, on its old files.

    Returns when the site stands as the record says: one that lost the active role follows the other as its standby.
    """
    table = _table(directory or inherited)
    try:
        for sentence in asking.ask(Path(table.dir), asking.Revive(target=target)):
            click.echo(sentence)
    except asking.Failed as failure:
        raise click.ClickException(str(failure)) from None


@sandbox.command(hidden=True)
@click.argument("site", type=click.Choice(folder.SITES))
@_dir_option
@click.pass_obj
def rejoin(inherited: Path | None, site: str, directory: Path | None) -> None:
    """What a sandbox's directors run as MASSAR_REJOIN_COMMAND: make the site's PostgreSQL follow the active one."""
    where = (directory or inherited or Path(DEFAULT_DIR)).resolve()
    active = os.environ.get("MASSAR_REJOIN_ACTIVE", "")
    try:
        for sentence in asking.ask(where, asking.Rejoin(site=site, active=active), within_s=REJOIN_WITHIN_S):
            click.echo(sentence)
    except asking.Failed as failure:
        raise click.ClickException(str(failure)) from None


@sandbox.command("revoke-guardianship")
@click.option("--parent", "guardian", required=True, metavar="ID", help="The guardian's id.")
@click.option("--pupil", required=True, metavar="ID", help="The pupil's id.")
@_dir_option
@click.pass_obj
def revoke_guardianship(inherited: Path | None, guardian: str, pupil: str, directory: Path | None) -> None:
    """Revoke a guardianship in the school records, as the ministry would."""
    from sandbox import ministry  # noqa: PLC0415 — the database driver is not needed to show --help

    table = _table(directory or inherited)
    try:
        click.echo(asyncio.run(ministry.revoke_guardianship(table, guardian=guardian, pupil=pupil)))
    except ministry.Impossible as reason:
        raise click.ClickException(str(reason)) from None


@sandbox.command()
@_dir_option
@click.pass_obj
def status(inherited: Path | None, directory: Path | None) -> None:
    """List the sandbox's processes and addresses."""
    table = _table(directory or inherited)
    living = {row.name for row in table.living()}
    click.echo(f"{table.dir}: {'ready' if table.ready else 'starting'}, supervisor {table.supervisor.pid}")
    for row in sorted(table.processes, key=lambda row: (row.site, row.kind)):
        click.echo(f"  {row.name:24} {row.who.pid:>8}  {'running' if row.name in living else 'ended'}")
    for site, url in table.gateways.items():
        click.echo(
            f"  {site}: gateway {url}  datacenter {table.datacenters[site]}  metrics {table.metrics[site]}"
        )


@sandbox.command()
@_dir_option
@click.option("--pupils", type=click.IntRange(200, 1_000_000), default=DEFAULT_PUPILS, show_default=True)
@click.pass_obj
def demo(inherited: Path | None, directory: Path | None, pupils: int) -> None:
    """Tell the whole story over real HTTP, the loss of Rabat included; the last line is `demo: ok`."""
    from sandbox.demo import run_demo, stays  # noqa: PLC0415 — the HTTP client is not needed to show --help

    # Ctrl-C ends this one by an exception, so that what it started ends with it; TERM does the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place = (directory or inherited or Path(DEFAULT_DIR)).resolve()
    sys.exit(run_demo(place, pupils=pupils, stay=stays(os.environ)))


def _run(
    directory: Path,
    *,
    pupils: int,
    seed: int,
    ready_file: Path | None,
    workers: int,
    given: Mapping[str, int],
    seated: Mapping[str, seats.Seat],
    policy: Policy,
) -> None:
    from sandbox import postgres, supervisor, wiring, world  # noqa: PLC0415 — after the signals are caught: they take a second

    started = time.monotonic()

    def say(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            click.echo(f"{time.monotonic() - started:6.1f} s  {line}")
            sys.stdout.flush()

    if unknown := sorted(set(given) - set(wiring.PORT_NAMES)):
        raise click.UsageError(f"no port is called {unknown[0]!r}; there are {', '.join(wiring.PORT_NAMES)}")
    if ready_file is not None and ready_file.parent != directory and not ready_file.parent.is_dir():
        raise click.UsageError(f"--ready-file: there is no folder {ready_file.parent}")
    try:
        seats.check(seated)
        place = folder.occupy(directory)
        if place.clear():
            say(f"starting afresh in {directory}: what an earlier sandbox left there is removed")
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        plan = wiring.Wiring(
            folder=directory,
            port=wiring.allot(given, seated),
            seated=seated,
            passwords=postgres.new_passwords(),
            workers=workers,
            base=_passed_on(os.environ),
        )
        wishes = world.Wishes(
            pupils=pupils,
            seed=seed,
            policy=policy,
            postgres_bin=os.environ.get("MASSAR_POSTGRES_BIN"),
            valkey_bin=os.environ.get("MASSAR_VALKEY_BIN"),
            etcd_bin=os.environ.get("MASSAR_ETCD_BIN"),
            director_command=tuple(shlex.split(os.environ.get("MASSAR_DIRECTOR_COMMAND", ""))),
            search_path=os.environ.get("PATH", ""),
        )
        boss = supervisor.Supervisor(
            place=place,
            plan=plan,
            wishes=wishes,
            ready_file=ready_file,
            say=say,
            somebody_looks=sys.stdout.isatty(),
        )
        asyncio.run(boss.run())
    except (folder.FolderRefused, ports.PortTaken, seats.SeatRefused, processes.ProcessFailed) as reason:
        raise click.ClickException(str(reason)) from None


def _table(directory: Path | None) -> folder.Table:
    path = (directory or Path(DEFAULT_DIR)).resolve()
    try:
        table = folder.read_table(path)
    except folder.FolderRefused as reason:
        raise click.ClickException(str(reason)) from None
    if not table.running:
        raise click.ClickException(f"the sandbox of {path} does not run any more")
    return table


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in environment.items() if name.startswith("MASSAR_")}
    passed = {name: value for name, value in environment.items() if name in _PASSED_ON}
    return {
        "PYTHONUNBUFFERED": "1",
        **passed,
        **{name: ours[name] for name in ours if name not in _NOT_SETTINGS},
    }


def _end_quietly() -> None:
    """Make TERM and Ctrl-C an orderly end from the first moment, before anything listens for them."""

    def leave(_signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, leave)
    if os.environ.get("MASSAR_DIE_WITH_PARENT") == "1":
        lifeline.end_with_parent(signal.SIGTERM)
