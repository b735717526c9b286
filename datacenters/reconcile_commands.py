"""`massar dc reconcile`: the writes that could not be replayed, and what a human decides about them.

Invariant: listing never writes; nothing is resolved without a reason.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from datacenters import reach, reconciling
from datacenters.etcd import Etcd
from datacenters.reconciling import Decision, Resolution, Waiting
from datacenters.record import Refusal


class Reconciled(msgspec.Struct, frozen=True):
    """What waits, or what was done about one ordering key."""

    waiting: tuple[Waiting, ...]
    dry_run: bool = False
    done: str | None = None
    refusal: str | None = None
    word_of_one_member: str | None = None


@click.command()
@reach.where
@click.argument("ordering", required=False)
@click.option("--discard", "chosen", flag_value="discard", help="Declare the records lost, and remove them.")
@click.option("--retry", "chosen", flag_value="retry", help="Have them judged once more.")
@click.option("--reason", default="", help="Why; kept in the audit chain.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.pass_context
def reconcile(
    context: click.Context,
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    ordering: str | None,
    chosen: str | None,
    reason: str,
    dry_run: bool,
) -> None:
    """List parked ordering keys; with ORDERING (its first characters) and a decision, resolve one.

    Exit code 1 while something waits, or when it could not be resolved.
    """
    at = reach.place(directory, urls)
    if chosen is None:
        found = _listed(at)
    else:
        if ordering is None or not reason:
            raise click.UsageError("a decision is about one ORDERING and has a --reason")
        resolution = Resolution(chosen)
        found = reach.with_majority(
            at, lambda etcd: _resolve(etcd, ordering, resolution, reason=reason, dry_run=dry_run)
        )
    reach.echo(found, reach.label(found.word_of_one_member) + _text(found), as_json=as_json)
    context.exit(1 if found.refusal or (found.waiting and not found.done) else 0)


def _listed(at: reach.Place) -> Reconciled:
    async def listed(etcd: Etcd, serializable: bool) -> tuple[Waiting, ...]:  # noqa: FBT001 - as `reach` calls it
        return await reconciling.waiting(etcd, serializable=serializable)

    waiting, member = reach.with_any_member(at, listed)
    return Reconciled(waiting=waiting, word_of_one_member=member)


async def _resolve(
    etcd: Etcd, ordering: str, resolution: Resolution, *, reason: str, dry_run: bool
) -> Reconciled:
    meant = tuple(one for one in await reconciling.waiting(etcd) if one.ordering.startswith(ordering))
    if len(meant) != 1:
        what = "none waits" if not meant else f"{len(meant)} of them do"
        return Reconciled(waiting=meant, refusal=f"{ordering!r} must begin one waiting ordering key; {what}")
    if dry_run:
        would = f"would {resolution} {len(meant[0].records)} records of {meant[0].ordering}; nothing was done"
        return Reconciled(waiting=meant, dry_run=True, done=would)
    decision = Decision(by=reach.operator(), reason=reason, now=time.time())
    came_of_it = await reconciling.RESOLUTIONS[resolution](etcd, meant[0], decision)
    if isinstance(came_of_it, Refusal):
        return Reconciled(waiting=meant, refusal=came_of_it.reason)
    return Reconciled(waiting=(), done=came_of_it)


def _text(found: Reconciled) -> str:
    if found.refusal is not None:
        return f"REFUSED   {found.refusal}"
    if found.done is not None:
        return found.done
    if not found.waiting:
        return "nothing waits: every record of the journal was replayed or is not needed"
    shown = found.waiting[: reconciling.SHOWN_MAX]
    lines = [f"{len(found.waiting)} ordering keys wait for a human; their records count as lost until then"]
    for one in shown:
        first, last = one.records[0], one.records[-1]
        lines.append(
            f"  {one.ordering}  {len(one.records)} records, "
            f"{first.timeline}-{first.lsn} to {last.timeline}-{last.lsn}"
        )
    if len(found.waiting) > len(shown):
        lines.append(f"  and {len(found.waiting) - len(shown)} more (--json shows all)")
    return "\n".join(lines)
