"""`massar dc …` for operators and `massar director` for the process that acts; the entry points of this package.

Invariant: the environment is read here and nowhere else in this package; every refusal is printed with its reason.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from datacenters import control, etcd_keys, explaining, record
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from datacenters.record import Record, Refusal
from datacenters.verdict import Observation

TABLE = "sandbox.json"
DEFAULT_DIR = Path(".sandbox")
ETCD_TIMEOUT_S = 2.0
CHANGE_TRIES_MAX = 3

T = TypeVar("T")


class _Table(msgspec.Struct):
    etcd: list[str]


def _where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which every subcommand finds etcd and says how to print."""
    options = [
        click.option("--dir", "directory", type=click.Path(path_type=Path), help="A sandbox's folder."),
        click.option("--etcd", "urls", multiple=True, metavar="URL", help="An etcd member; may be repeated."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def dc() -> None:
    """Which datacenter is active, why, and what may change it."""


@dc.command()
@_where
def status(*, directory: Path | None, urls: tuple[str, ...], as_json: bool) -> None:
    """Show the declared state beside what each site observes."""
    found = _with_etcd(directory, urls, _status)
    _print(found, explaining.status_text(found, now=time.time()), as_json=as_json)


@dc.command()
@_where
def explain(*, directory: Path | None, urls: tuple[str, ...], as_json: bool) -> None:
    """Say whether the standby would take over by itself now, and which rules allow or refuse it."""
    found = _with_etcd(directory, urls, _status)
    explanation = explaining.explain(found.record, found.observations, now=time.time())
    _print(explanation, explaining.explanation_text(explanation), as_json=as_json)


@dc.command()
@_where
@click.option("--release", "releasing", is_flag=True, help="Allow automatic moves again.")
@click.option("--reason", default="", help="Why; kept in the record and its audit row.")
def hold(
    *, directory: Path | None, urls: tuple[str, ...], as_json: bool, releasing: bool, reason: str
) -> None:
    """Forbid automatic moves until released; serving goes on unchanged."""
    transition = record.release if releasing else record.hold
    stated = reason or ("released by an operator" if releasing else "held by an operator")
    by = f"operator:{getpass.getuser()}"

    async def change(etcd: Etcd) -> Record:
        for _ in range(CHANGE_TRIES_MAX):
            held = await _declared(etcd)
            after = transition(held.record, reason=stated, now=time.time(), by=by)
            if isinstance(after, Refusal):
                raise click.ClickException(after.reason)
            if await control.change(etcd, held, after):
                return after
        raise click.ClickException("the record keeps changing; look at `massar dc status` and try again")

    after = _with_etcd(directory, urls, change)
    _print(
        after, f"epoch {after.epoch}, {after.phase}, active {after.active}: {after.reason}", as_json=as_json
    )


def _with_etcd(
    directory: Path | None, urls: tuple[str, ...], work: Callable[[Etcd], Coroutine[Any, Any, T]]
) -> T:
    addresses = _addresses(directory, urls)

    async def connected() -> T:
        etcd = Etcd(addresses, timeout_s=ETCD_TIMEOUT_S)
        try:
            return await work(etcd)
        finally:
            await etcd.aclose()

    try:
        return asyncio.run(connected())
    except (EtcdUnavailable, EtcdRefused) as error:
        raise click.ClickException(
            f"etcd's majority does not answer ({error}); reads go on, nothing is decided until it does"
        ) from None
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"unreadable in etcd: {error}") from None


def _addresses(directory: Path | None, urls: tuple[str, ...]) -> tuple[str, ...]:
    if urls:
        return urls
    configured = os.environ.get("MASSAR_ETCD_URLS")
    if directory is None and configured:
        return tuple(configured.split(","))
    table = (directory or DEFAULT_DIR) / TABLE
    try:
        return tuple(msgspec.json.decode(table.read_bytes(), type=_Table).etcd)
    except FileNotFoundError:
        raise click.ClickException(
            f"no {table}: name a running sandbox by --dir, or etcd by --etcd"
        ) from None
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{table}: {error}") from None


async def _declared(etcd: Etcd) -> control.Held:
    held = await control.read(etcd)
    if held is None:
        raise click.ClickException("nothing was ever declared in this etcd")
    return held


async def _status(etcd: Etcd) -> explaining.Status:
    held = await _declared(etcd)
    listing = await etcd.range(etcd_keys.OBSERVATIONS, prefix=True)
    observed = [msgspec.json.decode(item.value, type=Observation) for item in listing.items]
    return explaining.Status(record=held.record, observations={seen.site: seen for seen in observed})


def _print(value: msgspec.Struct, text: str, *, as_json: bool) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode() if as_json else text)
