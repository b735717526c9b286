"""Going on after etcd was put back to an older state: what the sites still know, and whether it is enough; pure.

Invariant: the role goes to nobody who did not have it: the one datacenter that is a primary under the highest fence.
Source: docs/decisions/0018.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from datacenters.preflight import Situation
from datacenters.record import SERVING_PHASES, Phase, Protection, Record, Refusal, Rule
from datacenters.verdict import Observation

KNOWN_EPOCH = "known_epoch"


class Known(msgspec.Struct, frozen=True):
    """The highest epoch that anybody names, the site that has the role at it, and whether that may be relied on."""

    epoch: int
    active: str | None
    rules: tuple[Rule, ...]


def highest(declared: Record, observations: Mapping[str, Observation]) -> int:
    """The highest epoch that the record, a director or a datacenter names."""
    named = [
        *(seen.highest_epoch for seen in observations.values()),
        *(seen.fence.epoch for seen in observations.values() if seen.fence),
        *(look.health.epoch for seen in observations.values() for look in seen.looks.values() if look.health),
    ]
    return max([declared.epoch, *named])


def put_back(declared: Record, observations: Mapping[str, Observation]) -> str | None:
    """A sentence when the sites know a higher epoch than etcd declares, so that they disbelieve it."""
    known = highest(declared, observations)
    if known <= declared.epoch:
        return None
    return (
        f"etcd declares epoch {declared.epoch} and the sites know {known}: it was put back, no write is taken"
    )


def known(seen: Situation, *, without: Collection[str] = ()) -> Known:
    """What the sites know; `without` are those of which a human says that they had no part in it."""
    datacenters = {name for one in seen.observations.values() for name in one.looks} | {seen.record.active}
    fences = {site: one.fence for site, one in seen.observations.items() if one.fence is not None}
    silent = sorted(datacenters - fences.keys() - set(without))
    top = max((fence.epoch for fence in fences.values()), default=0)
    primaries = [site for site in fences if fences[site].epoch == top and _is_primary(seen, site)]
    # One that lost the role and was closed stands at the same epoch, under the other one's name.
    own = [site for site in primaries if fences[site].site == site] or primaries
    active = own[0] if len(own) == 1 else None
    return Known(
        epoch=highest(seen.record, seen.observations),
        active=active,
        rules=(
            Rule(
                "all-tell",
                not silent,
                f"nothing tells what {', '.join(silent)} knows: mend it, or say --without {silent[0]} if it"
                " cannot have had the active role later than the others"
                if silent
                else "every datacenter's fence is known",
            ),
            Rule(
                "one-primary",
                active is not None,
                f"{active} is the primary under the highest fence (epoch {top})"
                if active
                else f"not one, but {len(own)} primaries stand under the highest fence (epoch {top})",
            ),
        ),
    )


def redeclare(
    record: Record, known: Known, *, reason: str, evidence: dict[str, Any], now: float, by: str
) -> Record | Refusal:
    """The record by which the site that has the role goes on above every known epoch.

    The journal beside an older record is not whole: writes count as unprotected until the standby has all of them.
    """
    broken = "; ".join(rule.sentence for rule in known.rules if not rule.holds)
    if broken or known.active is None:
        return Refusal(broken)
    if record.epoch >= known.epoch and record.phase not in SERVING_PHASES:
        return Refusal(f"a move is under way (phase {record.phase}), and no site knows a higher epoch")
    return msgspec.structs.replace(
        record,
        epoch=known.epoch + 1,
        phase=Phase.ACTIVE,
        active=known.active,
        target=None,
        planned=False,
        frozen_position=None,
        switch_position=None,
        protection=Protection.RETURNING,
        reason=reason,
        evidence={**evidence, KNOWN_EPOCH: known.epoch},
        decided_by=by,
        decided_at=now,
    )


def _is_primary(seen: Situation, site: str) -> bool:
    look = seen.look(site, site)
    return look is not None and look.answered and look.health is not None and look.health.role == "primary"
