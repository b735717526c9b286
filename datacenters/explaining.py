"""What the record and the sites' observations mean for a human: which move is possible now, and why it is or is not.

Invariant: it asks the very functions by which a director decides, so an explanation is what would happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from datacenters import record, redeclaring, verdict
from datacenters.record import Record, Rule
from datacenters.verdict import Fenced, Look, Observation, Verdict


class Explanation(msgspec.Struct, frozen=True):
    """Whether `target` would take over by itself now, the verdict it goes by, and every rule with its sentence.

    `word_of_one_member` is the etcd member that alone said so, when no majority answered: possibly old.
    """

    active: str
    target: str | None
    verdict: Verdict
    sentence: str
    would_move: bool
    rules: tuple[Rule, ...]
    conclusion: str
    word_of_one_member: str | None = None


class Status(msgspec.Struct, frozen=True):
    """The declared state beside what each site observes now; `word_of_one_member` as in Explanation."""

    record: Record
    observations: dict[str, Observation]
    word_of_one_member: str | None = None


def explain(declared: Record, observations: Mapping[str, Observation], *, now: float) -> Explanation:
    """What the director of the standby would decide at `now` (Unix seconds) from these observations."""
    target = _candidate(declared, observations)
    if declared.serving is None:
        sentence = f"a change to {declared.target} is under way (phase {declared.phase})"
        rules = record.rules(declared, target=declared.target or declared.active, now=now)
        return _explanation(declared, declared.target, Verdict.WAIT, sentence, rules)
    if target is None:
        sentence = "no other datacenter is observed"
        return _explanation(declared, None, Verdict.WAIT, sentence, ())
    judgement = verdict.judge(observations, active=declared.active, target=target)
    case = Rule("verdict-allows", judgement.allows_move, f"verdict {judgement.verdict}: {judgement.sentence}")
    rules = (case, *judgement.readiness, *record.rules(declared, target=target, now=now))
    return _explanation(declared, target, judgement.verdict, judgement.sentence, rules)


def explanation_text(explanation: Explanation) -> str:
    """The explanation as lines for a terminal."""
    lines = [
        f"verdict   {explanation.verdict}: {explanation.sentence}",
        f"so        {explanation.conclusion}",
        "rules",
    ]
    lines += rule_lines(explanation.rules)
    return "\n".join(lines)


def rule_lines(rules: Iterable[Rule]) -> list[str]:
    """Each rule with whether it holds and why, as a line for a terminal."""
    return [f"  {'yes' if rule.holds else 'NO ':3}  {rule.name:18} {rule.sentence}" for rule in rules]


def status_text(status: Status, *, now: float) -> str:
    """The status as lines for a terminal."""
    declared, policy = status.record, status.record.policy
    moving = f" -> {declared.target}" if declared.target else ""
    put_back = redeclaring.put_back(declared, status.observations)
    apart = f"{policy.dwell_s} s apart, {policy.moves_per_day} in 24 h"
    lines = [
        f"declared  epoch {declared.epoch}, {declared.phase}, active {declared.active}{moving}",
        f"          {now - declared.decided_at:.0f} s ago by {declared.decided_by}: {declared.reason}",
        *([f"PUT BACK  {put_back}; see `massar dc redeclare --help`"] if put_back else []),
        f"policy    automatic moves {'on' if policy.auto else 'off'}, {apart}",
        "observed",
    ]
    for site, seen in sorted(status.observations.items()):
        for datacenter, look in sorted(seen.looks.items()):
            lines.append(f"  {site:10} sees {datacenter:10} {_look_text(look)}")
    lines += [
        f"  {site:10} {_fenced_text(seen.fenced)}"
        for site, seen in sorted(status.observations.items())
        if seen.fenced
    ]
    if not status.observations:
        lines.append("  no director publishes what it sees")
    return "\n".join(lines)


def _explanation(
    declared: Record, target: str | None, found: Verdict, sentence: str, rules: tuple[Rule, ...]
) -> Explanation:
    broken = [rule.name for rule in rules if not rule.holds]
    would_move = target is not None and declared.serving is not None and not broken
    if would_move:
        conclusion = f"{target} takes over from {declared.active} at its director's next look"
    elif declared.serving is None:
        conclusion = f"no further move begins before {declared.target or 'the target'} is active"
    else:
        conclusion = (
            f"{declared.active} stays active; refused by: {', '.join(broken) or 'nobody to take over'}"
        )
    return Explanation(
        active=declared.active,
        target=target,
        verdict=found,
        sentence=sentence,
        would_move=would_move,
        rules=rules,
        conclusion=conclusion,
    )


def _candidate(declared: Record, observations: Mapping[str, Observation]) -> str | None:
    known = {datacenter for seen in observations.values() for datacenter in seen.looks}
    return min(known - {declared.active}, default=None)


def _fenced_text(fenced: Fenced) -> str:
    if fenced.stage == "rejoined":
        return f"REJOINED: {fenced.orphans} writes of its old history in quarantine, {fenced.absent} of them nowhere else"
    known = "" if fenced.stage == "fenced" else f"; {fenced.orphans} writes listed"
    return f"FENCED ({fenced.stage}): its history is over, it takes no write{known}"


def _look_text(look: Look) -> str:
    if look.health is None:
        return f"never answered ({look.failures} probes, {look.silent_s:.1f} s)"
    health = look.health
    facts = [health.role, f"epoch {health.epoch}", f"position {health.position}"]
    if health.writable:
        facts.append("takes writes")
    if health.lag_s is not None:
        facts.append(f"lag {health.lag_s:.1f} s")
    if health.receipt_age_s is not None:
        facts.append(f"received {health.receipt_age_s:.1f} s ago")
    if look.failures:
        facts.insert(0, f"NO ANSWER to {look.failures} probes, {look.silent_s:.1f} s; before that:")
    return " ".join(facts)
