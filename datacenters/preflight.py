"""What must hold before a human's order is given, and what the order may cost; pure.

Invariant: a switchover is refused unless it can lose nothing and be quick; a failover is refused only where nobody
could take over, and says in numbers what it may lose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from datacenters import position, record, verdict
from datacenters.record import OtherWriters, Protection, Record, Rule
from datacenters.verdict import Look, Observation

# A standby further behind than this would make writes wait longer than a switchover may take.
SWITCHOVER_LAG_MAX_S = 1.0
RECEIPT_AGE_MAX_S = 3.0
# Without these nobody at the target could do what a claim asks.
FAILOVER_ASKS = frozenset({"target-answers", "target-is-standby"})


class Situation(msgspec.Struct, frozen=True):
    """What an order is judged by; `parked` counts the records that wait for a human."""

    record: Record
    observations: dict[str, Observation]
    journal_records: int = 0
    parked: int = 0

    def look(self, by: str, at: str) -> Look | None:
        """How the director of `by` sees the datacenter `at`."""
        seen = self.observations.get(by)
        return None if seen is None else seen.looks.get(at)

    def target(self) -> str | None:
        """The observed datacenter that is not the active one."""
        known = {name for seen in self.observations.values() for name in seen.looks}
        return min(known - {self.record.active}, default=None)


class AtRisk(msgspec.Struct, frozen=True):
    """What a failover to `target` now may lose; `behind_bytes` of write-ahead log, None when it cannot be known."""

    target: str
    active_position: str | None
    active_seen_s_ago: float | None
    target_position: str | None
    target_lag_s: float | None
    behind_bytes: int | None
    journal_records: int
    protection: Protection
    other_writers: OtherWriters
    sentence: str


def evidence(situation: Situation, *, order: str, rules: tuple[Rule, ...]) -> dict[str, Any]:
    """What the order rests on, as plain values for the record and its audit row."""
    seen = situation.observations
    return {
        "order": order,
        "rules": {rule.name: rule.sentence for rule in rules},
        "broken": [rule.name for rule in rules if not rule.holds],
        "journal_records": situation.journal_records,
        "observations": {site: msgspec.to_builtins(one) for site, one in sorted(seen.items())},
    }


def switchover_rules(situation: Situation, *, target: str) -> tuple[Rule, ...]:
    """Every rule of a planned switchover to `target`; all must hold."""
    declared = situation.record
    active = declared.active
    directors = {active, target} <= situation.observations.keys()
    return (
        *record.order_rules(declared, target=target),
        Rule(
            "protected",
            declared.protection is Protection.JOURNAL,
            f"protection is {declared.protection}"
            if declared.protection is Protection.JOURNAL
            else f"protection is {declared.protection}: the standby may lack acknowledged writes",
        ),
        Rule(
            "directors",
            directors,
            f"the directors of {active} and {target} publish"
            if directors
            else f"the directors of {active} and {target} must both publish: each acts on its own site alone",
        ),
        _active_answers(situation),
        *verdict.readiness(situation.observations, active=active, target=target),
        *_closeness(situation, target),
    )


def failover_rules(situation: Situation, *, target: str) -> tuple[Rule, ...]:
    """Every rule of a failover that a human orders; which of them bind says `failover_refusal`."""
    declared = situation.record
    active = declared.active
    look = situation.look(active, active) or situation.look(target, active)
    answers = look is not None and look.answered
    return (
        *record.order_rules(declared, target=target),
        *verdict.readiness(situation.observations, active=active, target=target),
        Rule(
            "active-is-away",
            not answers,
            f"{active} still answers: a planned switchover loses nothing" if answers else f"{active} is away",
        ),
        Rule(
            "protected",
            declared.protection is Protection.JOURNAL,
            f"protection is {declared.protection}",
        ),
        Rule(
            "other-writers",
            declared.policy.other_writers is not OtherWriters.ASYNCHRONOUS,
            f"writes of other programs: {declared.policy.other_writers}",
        ),
    )


def failover_refusal(rules: tuple[Rule, ...]) -> str | None:
    """Why no human may order it either, or None: the record's own rules, and somebody there to take over."""
    binding = FAILOVER_ASKS | {"other-site", "idle"}
    broken = [rule.sentence for rule in rules if not rule.holds and rule.name in binding]
    return "; ".join(broken) or None


def at_risk(situation: Situation, *, target: str) -> AtRisk:
    """What `target` may lack of what the active site has."""
    declared = situation.record
    active = _newest_look(situation.observations, declared.active)
    standby = situation.look(target, target)
    active_position = active.health.position if active and active.health else None
    own = standby.health if standby else None
    behind = _behind(active_position, own.position if own else None)
    return AtRisk(
        target=target,
        active_position=active_position,
        active_seen_s_ago=active.silent_s if active else None,
        target_position=own.position if own else None,
        target_lag_s=own.lag_s if own else None,
        behind_bytes=behind,
        journal_records=situation.journal_records,
        protection=declared.protection,
        other_writers=declared.policy.other_writers,
        sentence=_risk_sentence(situation, target, behind, active),
    )


def _risk_sentence(situation: Situation, target: str, behind: int | None, active: Look | None) -> str:
    name = situation.record.active
    if active is None or active.health is None or behind is None:
        known = f"how much of {name} is missing at {target} cannot be known"
    else:
        ago = f"as {name} was last seen {active.silent_s:.1f} s ago; what it took since then comes on top"
        known = f"{target} lacks {behind} bytes of write-ahead log, {ago}"
    kept = situation.journal_records
    journal = f"the journal holds {kept} acknowledged writes, which are replayed at {target}"
    match situation.record.protection:
        case Protection.JOURNAL:
            rest = "what was acknowledged through the gateway is in one of the two"
        case _:
            rest = f"protection is {situation.record.protection}: acknowledged writes may be in neither"
    others = situation.record.policy.other_writers
    beside = (
        ""
        if others is OtherWriters.NONE
        else f"; other programs write {others} and are in no journal: what is missing of theirs is lost"
    )
    return f"{known}; {journal}; {rest}{beside}"


def _active_answers(situation: Situation) -> Rule:
    active = situation.record.active
    look = situation.look(active, active)
    good = look is not None and look.answered and look.health is not None and look.health.writable
    return Rule(
        "active-answers",
        good,
        f"{active} answers and takes writes"
        if good
        else f"{active} does not answer as a site that takes writes",
    )


def _closeness(situation: Situation, target: str) -> tuple[Rule, ...]:
    look = situation.look(target, target)
    health = look.health if look else None
    lag_s, age_s = (health.lag_s, health.receipt_age_s) if health else (None, None)
    return (
        Rule(
            "close-behind",
            lag_s is not None and lag_s <= SWITCHOVER_LAG_MAX_S,
            f"{target} does not know its lag"
            if lag_s is None
            else f"{target} replays {lag_s:.1f} s behind, at most {SWITCHOVER_LAG_MAX_S:.0f} s is asked",
        ),
        Rule(
            "receives",
            age_s is not None and age_s <= RECEIPT_AGE_MAX_S,
            f"{target} receives nothing"
            if age_s is None
            else f"{target} received {age_s:.1f} s ago, at most {RECEIPT_AGE_MAX_S:.0f} s is asked",
        ),
    )


def _newest_look(observations: Mapping[str, Observation], at: str) -> Look | None:
    looks = [seen.looks[at] for seen in observations.values() if at in seen.looks]
    known = [look for look in looks if look.health is not None]
    return min(known or looks, key=lambda look: look.silent_s, default=None)


def _behind(active: str | None, target: str | None) -> int | None:
    if active is None or target is None:
        return None
    try:
        ahead, here = position.parse(active), position.parse(target)
    except ValueError:
        return None
    return None if ahead[0] != here[0] else max(0, ahead[1] - here[1])
