"""How every operator's command finds etcd, asks it, and prints: the options, the connection, the words for failures.

Invariant: the environment is read here and in `commands` alone; what came from one member without a majority is never
printed without saying so.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec

from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable

TABLE = "sandbox.json"
DEFAULT_DIR = Path(".sandbox")
ETCD_TIMEOUT_S = 2.0

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True):
    """What the options named: etcd's members, and a sandbox's folder when it was one."""

    urls: tuple[str, ...]
    sandbox: Path | None = None


class _Table(msgspec.Struct):
    etcd: list[str]


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which every command finds etcd and says how to print."""
    options = [
        click.option("--dir", "directory", type=click.Path(path_type=Path), help="A sandbox's folder."),
        click.option("--etcd", "urls", multiple=True, metavar="URL", help="An etcd member; may be repeated."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def place(directory: Path | None, urls: Sequence[str]) -> Place:
    """Where the options lead: named members, else MASSAR_ETCD_URLS, else a sandbox's table."""
    if urls:
        return Place(urls=tuple(urls), sandbox=directory)
    configured = os.environ.get("MASSAR_ETCD_URLS")
    if directory is None and configured:
        return Place(urls=tuple(configured.split(",")))
    sandbox = directory or DEFAULT_DIR
    table = sandbox / TABLE
    try:
        return Place(urls=tuple(msgspec.json.decode(table.read_bytes(), type=_Table).etcd), sandbox=sandbox)
    except FileNotFoundError:
        raise click.ClickException(
            f"no {table}: name a running sandbox by --dir, or etcd by --etcd"
        ) from None
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{table}: {error}") from None


def with_majority(at: Place, work: Callable[[Etcd], Coroutine[Any, Any, T]]) -> T:
    """What `work` makes of etcd; a majority that does not answer ends the command with a sentence."""

    async def connected() -> T:
        etcd = Etcd(at.urls, timeout_s=ETCD_TIMEOUT_S)
        try:
            return await work(etcd)
        finally:
            await etcd.aclose()

    return _told(connected)


def with_any_member(at: Place, work: Callable[[Etcd, bool], Coroutine[Any, Any, T]]) -> tuple[T, str | None]:
    """What `work(etcd, serializable)` reads from a majority, else from one member; that member's address, or None.

    Only for reading: one member's word may be old.
    """

    async def asked() -> tuple[T, str | None]:
        try:
            return await _once(at.urls, lambda etcd: work(etcd, False)), None
        except EtcdUnavailable as away:
            for url in at.urls:
                try:
                    return await _once((url,), lambda etcd: work(etcd, True)), url
                except EtcdUnavailable:
                    continue
            raise away from None

    return _told(asked)


def label(member: str | None) -> str:
    """The line that goes above what one member said; empty for a majority's word."""
    if member is None:
        return ""
    return (
        f"NO MAJORITY: this is what {member} last knew, possibly old. Reads go on at the sites that live;\n"
        "nothing is decided until two etcd members answer (or see `massar dc break-glass --help`).\n"
    )


def operator() -> str:
    """Who orders, as records and audit rows name them."""
    return f"operator:{getpass.getuser()}"


def echo(value: msgspec.Struct, text: str, *, as_json: bool) -> None:
    """Print one answer."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode() if as_json else text)


def was_declared(found: T | None) -> T:
    """What was found; ends the command when nothing was ever declared."""
    if found is None:
        raise click.ClickException("nothing was ever declared in this etcd")
    return found


async def _once(urls: Sequence[str], work: Callable[[Etcd], Awaitable[T]]) -> T:
    etcd = Etcd(urls, timeout_s=ETCD_TIMEOUT_S)
    try:
        return await work(etcd)
    finally:
        await etcd.aclose()


def _told(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return asyncio.run(work())
    except (EtcdUnavailable, EtcdRefused) as error:
        _end(f"etcd's majority does not answer ({error}); reads go on, nothing is decided until it does")
    except msgspec.MsgspecError as error:
        _end(f"unreadable in etcd: {error}")


def _end(sentence: str) -> NoReturn:
    raise click.ClickException(sentence) from None
