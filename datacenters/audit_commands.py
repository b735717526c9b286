"""`massar audit …`: the chain of everything that was ever declared, listed, verified, taken along as a file.

Invariant: nothing here writes to etcd.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from datacenters import audit_chain, control, reach
from datacenters.audit_chain import AuditRow, Head, Walk
from datacenters.control import Chain
from datacenters.etcd import Etcd

ROWS_LISTED = 20


class Listed(msgspec.Struct, frozen=True):
    """The newest rows, oldest first, and how many there are in all."""

    rows: tuple[AuditRow, ...]
    total: int
    word_of_one_member: str | None = None


class Verified(msgspec.Struct, frozen=True):
    """Whether the chain is whole; if not, its first broken link and what rows lack."""

    whole: bool
    walk: Walk
    source: str


@click.group()
def audit() -> None:
    """What was ever declared, by whom and why; a chain in which no row can be changed unseen."""


@audit.command("list")
@reach.where
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=ROWS_LISTED, show_default=True)
def list_rows(*, directory: Path | None, urls: tuple[str, ...], as_json: bool, count: int) -> None:
    """Show the newest changes, oldest first."""
    chain, member = reach.with_any_member(reach.place(directory, urls), _chain)
    try:
        rows = tuple(audit_chain.decode_row(raw) for raw in chain.rows[-count:])
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"an unreadable row ({error}); see `massar audit verify`") from None
    listed = Listed(rows=rows, total=len(chain.rows), word_of_one_member=member)
    lines = [_line(row) for row in rows]
    reach.echo(listed, reach.label(member) + "\n".join(lines), as_json=as_json)


@audit.command()
@reach.where
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify an exported file instead of etcd.",
)
@click.option(
    "--head",
    "head",
    metavar="SEQUENCE:DIGEST",
    help="A head written down earlier or elsewhere, through which the rows must lead.",
)
@click.pass_context
def verify(
    context: click.Context,
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    file: Path | None,
    head: str | None,
) -> None:
    """Walk the chain and name its first broken link; exit code 1 when it is not whole.

    A file is followed to its own head. Whoever could rewrite the whole file could rewrite that too: compare with
    `--head`, or with the head that `massar audit verify` shows for etcd itself.
    """
    if file is None:
        chain, member = reach.with_any_member(reach.place(directory, urls), _chain)
        rows, walk, source = chain.rows, chain.walked(), "etcd" if member is None else f"{member} alone"
        above = reach.label(member)
    else:
        rows, own_head = audit_chain.read_export(file.read_bytes())
        walk, source, above = _ending(audit_chain.walk(rows), own_head), str(file), ""
    if head is not None:
        walk = audit_chain.passing(walk, rows, _parse_head(head))
    reach.echo(
        Verified(whole=walk.whole, walk=walk, source=source),
        above + _verdict_text(walk, source),
        as_json=as_json,
    )
    context.exit(0 if walk.whole else 1)


@audit.command()
@reach.where
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
def export(*, directory: Path | None, urls: tuple[str, ...], as_json: bool, file: Path) -> None:
    """Write the whole chain to FILE, a row a line; `massar audit verify --file FILE` follows it anywhere."""
    chain = reach.with_majority(reach.place(directory, urls), control.chain)
    walk = chain.walked()
    file.write_bytes(audit_chain.export(chain.rows, chain.head or walk.head))
    shown = f"{file}: {walk.rows} rows, {walk.volume} bytes; head {_head_text(walk.head)}"
    reach.echo(Verified(whole=walk.whole, walk=walk, source=str(file)), shown, as_json=as_json)


async def _chain(etcd: Etcd, serializable: bool) -> Chain:  # noqa: FBT001 - as `with_any_member` calls it
    return await control.chain(etcd, serializable=serializable)


def _ending(walk: Walk, head: Head | None) -> Walk:
    if head is not None:
        return audit_chain.against_head(walk, head)
    if walk.broken is not None:
        return walk
    sentence = "the file ends without its head: its end was cut off"
    return msgspec.structs.replace(
        walk, broken=audit_chain.Problem(sequence=walk.head.sequence + 1, sentence=sentence)
    )


def _parse_head(text: str) -> Head:
    sequence, _, digest = text.partition(":")
    if not sequence.isdecimal() or not digest:
        raise click.UsageError("--head is SEQUENCE:DIGEST, as `massar audit verify` shows it")
    return Head(sequence=int(sequence), digest=digest)


def _head_text(head: Head) -> str:
    return f"{head.sequence}:{head.digest}"


def _verdict_text(walk: Walk, source: str) -> str:
    lines = [
        f"chain     {'whole' if walk.whole else 'NOT WHOLE'} ({source}): {walk.rows} rows, {walk.volume} bytes"
    ]
    lines.append(f"head      {_head_text(walk.head)}")
    if walk.last is not None:
        lines.append(f"declares  epoch {walk.last.epoch}, {walk.last.phase}, active {walk.last.active}")
    if walk.broken is not None:
        lines.append(f"BROKEN    at row {walk.broken.sequence}: {walk.broken.sentence}")
    lines += [f"LACKING   row {problem.sequence}: {problem.sentence}" for problem in walk.lacking]
    return "\n".join(lines)


def _line(row: AuditRow) -> str:
    after = row.after
    at = datetime.fromtimestamp(after.decided_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    where = f"{after.active} -> {after.target}" if after.target else after.active
    return (
        f"{row.sequence:6}  {at}  epoch {after.epoch:<4} {after.phase:<10} {where:<20} "
        f"{after.decided_by}: {after.reason}"
    )
