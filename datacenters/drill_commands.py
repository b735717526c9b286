"""`massar dc drill`: practise the planned switchover while it is not needed, or ask whether it would succeed.

Invariant: without `--yes` and an announcement nothing moves; `--only-check` and `--dry-run` write nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import click

from datacenters import drilling, explaining, reach
from datacenters.drilling import Drilled, Pace, Readiness
from datacenters.etcd import Etcd
from datacenters.order_commands import Switched, ordering_options

T = TypeVar("T")


@click.command()
@ordering_options
@click.argument("target", required=False)
@click.option("--only-check", is_flag=True, help="Say how ready the standby is now; move nothing.")
@click.option("--yes", is_flag=True, help="The drill was announced: begin without asking.")
@click.option("--rest-s", type=click.FloatRange(0, 86_400), default=Pace().rest_s, show_default=True)
@click.option(
    "--rejoin-within-s",
    type=click.FloatRange(0, 86_400),
    default=Pace().rejoin_within_s,
    show_default=True,
    help="How long the site that was left may take to follow again; without it there is no way back, and no `drill: ok`.",
)
@click.pass_context
def drill(
    context: click.Context,
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    reason: str,
    dry_run: bool,
    target: str | None,
    only_check: bool,
    yes: bool,
    rest_s: float,
    rejoin_within_s: float,
) -> None:
    """An announced switchover to TARGET (the other datacenter) and back, with a report of its timings."""
    at = reach.place(directory, urls)
    if only_check or dry_run:
        ready = _found(reach.with_majority(at, lambda etcd: drilling.readiness(etcd, target)))
        reach.echo(ready, _readiness_text(ready), as_json=as_json)
        context.exit(0 if ready.ready else 1)
    if not reason:
        raise click.UsageError("a drill is announced: say by --reason to whom and when")
    if not yes:
        if as_json:
            raise click.UsageError("--json asks nobody: add --yes")
        click.confirm("Writes will wait twice for about two seconds. Begin?", abort=True)
    pace = Pace(rest_s=rest_s, rejoin_within_s=rejoin_within_s)

    async def drilled(etcd: Etcd) -> Drilled | None:
        told = (lambda _line: None) if as_json else click.echo
        return await drilling.drill(etcd, target, reason=reason, pace=pace, told=told)

    report = _found(reach.with_majority(at, drilled))
    reach.echo(report, _report_text(report), as_json=as_json)
    context.exit(1 if report.failure else 0)


def _found(found: T | None) -> T:
    if found is None:
        raise click.ClickException(
            "nothing was ever declared in this etcd, or no other datacenter is observed"
        )
    return found


def _readiness_text(ready: Readiness) -> str:
    lag = "unknown" if ready.lag_s is None else f"{ready.lag_s:.2f} s"
    age = "never" if ready.receipt_age_s is None else f"{ready.receipt_age_s:.2f} s ago"
    return "\n".join([
        f"readiness {ready.target} is {'ready' if ready.ready else 'NOT READY'}",
        *explaining.rule_lines(ready.rules),
        f"timings   record read in {ready.record_read_ms:.1f} ms, observations in {ready.observations_read_ms:.1f} ms",
        f"          replay lag {lag}, last received {age}, {ready.journal_records} records in the journal",
    ])  # fmt: skip


def _report_text(report: Drilled) -> str:
    lines = [f"readiness {report.readiness.target} was {'ready' if report.readiness.ready else 'NOT READY'}"]
    lines += [*_way("there", report.there)]
    if report.rejoin_s is not None:
        lines.append(
            f"rejoined  {report.home} was ready again after {report.rejoin_s:.1f} s, the rest included"
        )
    lines += [*_way("back", report.back)]
    if report.ready_again_s is not None:
        lines.append(
            f"whole     {report.readiness.target} could take over again after {report.ready_again_s:.1f} s"
        )
    lines.append(f"FAILED    {report.failure}" if report.failure else "drill: ok")
    return "\n".join(lines)


def _way(name: str, switched: Switched | None) -> list[str]:
    if switched is None or switched.followed is None:
        return []
    followed = switched.followed
    lines = [
        f"          {change.after_s:7.2f} s  epoch {change.epoch} {change.phase}"
        for change in followed.changes
    ]
    pause = "" if followed.pause_s is None else f": writes waited {followed.pause_s:.2f} s"
    return [f"{name:9} {switched.ordered.before.active} -> {_to(switched)}{pause}", *lines]


def _to(switched: Switched) -> str:
    after = switched.ordered.after
    return (after.target if after else None) or "nowhere"
