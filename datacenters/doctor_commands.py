"""`massar doctor`: everything that could make a bad night worse, each with the page that says what to do.

Invariant: exit code 1 when anything needs somebody now, 0 otherwise; nothing is written.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from datacenters import doctor as examination
from datacenters import reach
from datacenters.checkup import Finding, State

SANDBOX_KEYS = "keys"
_MARKS = {State.OK: "ok    ", State.NOTICE: "notice", State.WRONG: "WRONG "}


class Report(msgspec.Struct, frozen=True):
    """Every finding, the wrong ones first."""

    wrong: bool
    findings: tuple[Finding, ...]


@click.command()
@reach.where
@click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    help="This site's folder of keys [default: the sandbox's].",
)
@click.option("--site", "sites", multiple=True, help="A site whose director should publish; may be repeated.")
@click.option("--wrong-only", is_flag=True, help="Show nothing that is well.")
def doctor(
    *,
    directory: Path | None,
    urls: tuple[str, ...],
    as_json: bool,
    keys: Path | None,
    sites: tuple[str, ...],
    wrong_only: bool,
) -> None:
    """Examine the whole: could the standby take over, what is at risk, etcd, disks, keys, clocks, directors."""
    at = reach.place(directory, urls)
    if keys is None and at.sandbox is not None:
        keys = at.sandbox / SANDBOX_KEYS
    seen = asyncio.run(examination.examine(at.urls, keys=keys, sites=sites, sandbox=at.sandbox is not None))
    found = examination.findings(seen)
    wrong = examination.is_wrong(found)
    shown = tuple(one for one in found if one.state is not State.OK or not wrong_only)
    reach.echo(Report(wrong=wrong, findings=shown), _text(shown, wrong=wrong), as_json=as_json)
    click.get_current_context().exit(1 if wrong else 0)


def _text(found: tuple[Finding, ...], *, wrong: bool) -> str:
    lines = []
    for one in found:
        lines.append(f"{_MARKS[one.state]}  {one.check:20} {one.sentence}")
        if one.state is not State.OK:
            lines.append(f"{'':30}{one.runbook}")
    lines.append("doctor: something needs you" if wrong else "doctor: nothing needs you now")
    return "\n".join(lines)
