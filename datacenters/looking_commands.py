"""`massar dc status|explain|plan`: what is declared, what is observed, and what would be possible now.

Invariant: nothing here writes; all of it goes on with one surviving etcd member, labelled as that member's word.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from datacenters import explaining, ordering, preflight, reach
from datacenters.etcd import Etcd
from datacenters.preflight import AtRisk, Situation
from datacenters.record import Rule


class Planned(msgspec.Struct, frozen=True):
    """Whether each kind of move to `target` would be allowed now, every rule, and what a failover may lose."""

    target: str
    switchover_allowed: bool
    switchover: tuple[Rule, ...]
    failover_allowed: bool
    failover: tuple[Rule, ...]
    at_risk: AtRisk
    parked: int
    word_of_one_member: str | None = None


@click.command()
@reach.where
def status(*, directory: Path | None, urls: tuple[str, ...], as_json: bool) -> None:
    """Show the declared state beside what each site observes."""
    seen, member = look(directory, urls)
    found = explaining.Status(record=seen.record, observations=seen.observations, word_of_one_member=member)
    text = reach.label(member) + explaining.status_text(found, now=time.time())
    reach.echo(found, text, as_json=as_json)


@click.command()
@reach.where
def explain(*, directory: Path | None, urls: tuple[str, ...], as_json: bool) -> None:
    """Say whether the standby would take over by itself now, and which rules allow or refuse it."""
    seen, member = look(directory, urls)
    explanation = explaining.explain(seen.record, seen.observations, now=time.time())
    explanation = msgspec.structs.replace(explanation, word_of_one_member=member)
    reach.echo(explanation, reach.label(member) + explaining.explanation_text(explanation), as_json=as_json)


@click.command()
@reach.where
@click.argument("target", required=False)
@click.option("--dry-run", is_flag=True, help="Changes nothing here: a plan never writes.")
@click.pass_context
def plan(
    context: click.Context,
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    target: str | None,
    dry_run: bool,
) -> None:
    """Preflight of a switchover and of a failover to TARGET (the other datacenter), with every rule.

    Exit code 1 when a switchover would be refused.
    """
    del dry_run
    seen, member = look(directory, urls)
    planned = plan_of(seen, target or the_other(seen))
    planned = msgspec.structs.replace(planned, word_of_one_member=member)
    reach.echo(planned, reach.label(member) + plan_text(planned), as_json=as_json)
    context.exit(0 if planned.switchover_allowed else 1)


def look(directory: Path | None, urls: tuple[str, ...]) -> tuple[Situation, str | None]:
    """What is declared and observed, and the one member that said so when no majority answered."""

    async def looked(etcd: Etcd, serializable: bool) -> Situation:  # noqa: FBT001 - as `reach` calls it
        _, seen = await ordering.situation(etcd, serializable=serializable)
        return reach.was_declared(seen)

    return reach.with_any_member(reach.place(directory, urls), looked)


def the_other(seen: Situation) -> str:
    """The datacenter that is not active; ends the command when no director sees one."""
    found = seen.target()
    if found is None:
        raise click.ClickException("no other datacenter is observed: name the target")
    return found


def plan_of(seen: Situation, target: str) -> Planned:
    """The preflight of both kinds of move."""
    switchover = preflight.switchover_rules(seen, target=target)
    failover = preflight.failover_rules(seen, target=target)
    return Planned(
        target=target,
        switchover_allowed=all(rule.holds for rule in switchover),
        switchover=switchover,
        failover_allowed=preflight.failover_refusal(failover) is None,
        failover=failover,
        at_risk=preflight.at_risk(seen, target=target),
        parked=seen.parked,
    )


def plan_text(planned: Planned) -> str:
    """The plan as lines for a terminal."""
    parked = f"\nparked      {planned.parked} records wait for a human: `massar dc reconcile`"
    return "\n".join([
        f"switchover  to {planned.target} {'would begin' if planned.switchover_allowed else 'is REFUSED'}",
        *explaining.rule_lines(planned.switchover),
        f"failover    to {planned.target} {'could be ordered' if planned.failover_allowed else 'is REFUSED'}",
        *explaining.rule_lines(planned.failover),
        f"at risk     {planned.at_risk.sentence}",
    ]) + (parked if planned.parked else "")  # fmt: skip
