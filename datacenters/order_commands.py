"""`massar dc switchover|failover|freeze|abort|hold`: the orders by which a human changes the record.

Invariant: each is one of the record's own transitions, judged on the record that its transaction compares; a refusal
says which rule stands against it, and `--dry-run` writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from datacenters import explaining, ordering, preflight, reach, record, redeclaring
from datacenters.etcd import Etcd
from datacenters.ordering import Change, Followed, Judge, Judged, Ordered
from datacenters.preflight import Situation
from datacenters.record import Record, Refusal

SWITCHOVER_WITHIN_S = 60.0
# Directors abort a frozen switchover themselves after 3 s; this is for when none of them is there to do it.
GIVE_UP_S = 8.0

Transition = Callable[..., Record | Refusal]


class Switched(msgspec.Struct, frozen=True):
    """A switchover that was ordered, and what became of it."""

    ordered: Ordered
    followed: Followed | None = None


def ordering_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every order takes: where, why, and whether only to say what it would do."""
    command = click.option("--reason", default="", help="Why; kept in the record and its audit row.")(command)
    command = click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")(
        command
    )
    return reach.where(command)


@click.command()
@ordering_options
@click.argument("target")
@click.option("--wait-s", type=click.FloatRange(1, 600), default=SWITCHOVER_WITHIN_S, show_default=True)
def switchover(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    reason: str,
    dry_run: bool,
    target: str,
    wait_s: float,
) -> None:
    """Move the active role to TARGET in order: writes wait, the target catches up and takes over.

    Waits for the end and tells the phases; an aborted one exits with 1.
    """
    at = reach.place(directory, urls)
    stated = reason or f"switchover to {target} ordered by an operator"
    switched = reach.with_majority(
        at,
        lambda etcd: switch(
            etcd, target, reason=stated, dry_run=dry_run, wait_s=wait_s, told=_teller(quiet=as_json)
        ),
    )
    reach.echo(switched, _switched_text(switched), as_json=as_json)
    failed = switched.ordered.refusal or (switched.followed and switched.followed.failure)
    _leave(failed=bool(failed))


@click.command()
@ordering_options
@click.argument("target")
@click.option("--yes", is_flag=True, help="Do not ask again after what may be lost was said.")
def failover(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    reason: str,
    dry_run: bool,
    target: str,
    yes: bool,
) -> None:
    """Declare TARGET by a human's order, because the active site is lost or useless. Says what may be lost."""
    if as_json and not yes and not dry_run:
        raise click.UsageError("--json asks nobody: add --yes, or --dry-run")

    def judge(seen: Situation, now: float) -> Judged:
        rules = preflight.failover_rules(seen, target=target)
        refusal = preflight.failover_refusal(rules)
        after = Refusal(refusal) if refusal else record.failover(
            seen.record,
            target=target,
            reason=reason or f"failover to {target} ordered by an operator",
            evidence={
                **preflight.evidence(seen, order="failover", rules=rules),
                "at_risk": msgspec.to_builtins(preflight.at_risk(seen, target=target)),
            },
            now=now,
            by=reach.operator(),
        )  # fmt: skip
        return Judged(after, rules, preflight.at_risk(seen, target=target))

    at = reach.place(directory, urls)
    if not dry_run:
        shown = _give(at, "failover", judge, dry_run=True)
        if shown.refusal is None and not yes:
            click.echo(ordered_text(shown))
            click.confirm(f"Declare {target} active all the same?", abort=True)
    _tell(_give(at, "failover", judge, dry_run=dry_run), as_json=as_json)


@click.command()
@ordering_options
@click.option("--release", "releasing", is_flag=True, help="Allow writes again.")
def freeze(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    reason: str,
    dry_run: bool,
    releasing: bool,
) -> None:
    """Stop all writes until released; reads go on. Nothing moves by itself meanwhile."""
    transition = record.allow_writes if releasing else record.stop_writes
    stated = reason or ("writes allowed by an operator" if releasing else "writes stopped by an operator")
    judge = simple(transition, reason=stated)
    _tell(_give(reach.place(directory, urls), "freeze", judge, dry_run=dry_run), as_json=as_json)


@click.command()
@ordering_options
def abort(
    *, directory: Path | None, urls: tuple[str, ...], as_json: bool, reason: str, dry_run: bool
) -> None:
    """Give up the move that is under way: the same site goes on under a new epoch."""
    judge = simple(record.abort, reason=reason or "aborted by an operator")
    _tell(_give(reach.place(directory, urls), "abort", judge, dry_run=dry_run), as_json=as_json)


@click.command()
@ordering_options
@click.option("--release", "releasing", is_flag=True, help="Allow automatic moves again.")
def hold(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    reason: str,
    dry_run: bool,
    releasing: bool,
) -> None:
    """Forbid automatic moves until released; serving goes on unchanged."""
    transition = record.release if releasing else record.hold
    stated = reason or ("released by an operator" if releasing else "held by an operator")
    judge = simple(transition, reason=stated)
    _tell(_give(reach.place(directory, urls), "hold", judge, dry_run=dry_run), as_json=as_json)


@click.command()
@ordering_options
@click.option("--without", multiple=True, metavar="SITE", help="A lost site that never had the role later.")
def redeclare(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    reason: str,
    dry_run: bool,
    without: tuple[str, ...],
) -> None:
    """Go on after etcd was restored from a snapshot: the site that has the role keeps it, above every known epoch."""

    def judge(seen: Situation, now: float) -> Judged:
        known = redeclaring.known(seen, without=without)
        after = redeclaring.redeclare(
            seen.record,
            known,
            reason=reason or "etcd was restored from a snapshot",
            evidence=preflight.evidence(seen, order="redeclare", rules=known.rules),
            now=now,
            by=reach.operator(),
        )
        return Judged(after, known.rules)

    _tell(_give(reach.place(directory, urls), "redeclare", judge, dry_run=dry_run), as_json=as_json)


def simple(transition: Transition, *, reason: str) -> Judge:
    """The judge of a transition that asks nothing but the record."""

    def judge(seen: Situation, now: float) -> Judged:
        return Judged(transition(seen.record, reason=reason, now=now, by=reach.operator()))

    return judge


async def switch(
    etcd: Etcd,
    target: str,
    *,
    reason: str,
    dry_run: bool,
    wait_s: float,
    told: Callable[[str], None],
    give_up_s: float = GIVE_UP_S,
) -> Switched:
    """Order a switchover and follow it; one that stays frozen without a director to abort it is turned back."""

    def judge(seen: Situation, now: float) -> Judged:
        rules = preflight.switchover_rules(seen, target=target)
        broken = "; ".join(rule.sentence for rule in rules if not rule.holds)
        after = Refusal(broken) if broken else record.freeze(
            seen.record,
            target=target,
            reason=reason,
            evidence=preflight.evidence(seen, order="switchover", rules=rules),
            now=now,
            by=reach.operator(),
        )  # fmt: skip
        return Judged(after, rules)

    ordered = reach.was_declared(await ordering.give(etcd, "switchover", judge, dry_run=dry_run))
    if not ordered.written or ordered.after is None:
        return Switched(ordered)

    def tell(change: Change) -> None:
        told(f"{change.after_s:7.2f} s  epoch {change.epoch} {change.phase}, active {change.active}")

    watching = asyncio.create_task(_turn_back_when_stuck(etcd, ordered.after, give_up_s))
    try:
        followed = await ordering.follow(etcd, ordered.after, within_s=wait_s, told=tell)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return Switched(ordered, followed)


async def _turn_back_when_stuck(etcd: Etcd, begun: Record, give_up_s: float) -> None:
    await asyncio.sleep(give_up_s)

    def judge(seen: Situation, now: float) -> Judged:
        same = seen.record.epoch == begun.epoch and ordering.turns_back(seen.record)
        reason = f"no director went on within {give_up_s:.0f} s"
        after = record.abort(seen.record, reason=reason, now=now, by=reach.operator()) if same else None
        return Judged(after or Refusal("it went on meanwhile"))

    await ordering.give(etcd, "abort", judge, dry_run=False)


def ordered_text(ordered: Ordered) -> str:
    """The order as lines for a terminal."""
    before, after = ordered.before, ordered.after
    lines = [*explaining.rule_lines(ordered.rules)]
    if ordered.at_risk is not None:
        lines.append(f"at risk   {ordered.at_risk.sentence}")
    if ordered.refusal is not None or after is None:
        lines.append(f"REFUSED   {ordered.refusal}")
    else:
        verb = "written" if ordered.written else "would be"
        lines.append(f"{verb:9} {_state(before)} -> {_state(after)}: {after.reason}")
        if not ordered.written:
            lines.append("          nothing was written")
    return "\n".join(lines)


def _state(declared: Record) -> str:
    moving = f" -> {declared.target}" if declared.target else ""
    return f"epoch {declared.epoch}, {declared.phase}, active {declared.active}{moving}"


def _switched_text(switched: Switched) -> str:
    text = ordered_text(switched.ordered)
    followed = switched.followed
    if followed is None:
        return text
    if followed.failure is not None:
        return f"{text}\nFAILED    {followed.failure}"
    return f"{text}\ndone      writes waited {followed.pause_s:.2f} s"


def _give(at: reach.Place, order: str, judge: Judge, *, dry_run: bool) -> Ordered:
    return reach.was_declared(
        reach.with_majority(at, lambda etcd: ordering.give(etcd, order, judge, dry_run=dry_run))
    )


def _tell(ordered: Ordered, *, as_json: bool) -> None:
    reach.echo(ordered, ordered_text(ordered), as_json=as_json)
    _leave(failed=ordered.refusal is not None)


def _leave(*, failed: bool) -> None:
    if failed:
        click.get_current_context().exit(1)


def _teller(*, quiet: bool) -> Callable[[str], None]:
    return (lambda _line: None) if quiet else click.echo
