"""What several sites' looks at the active datacenter amount to, and whether the standby could take over; pure.

Invariant: no verdict that allows a move rests on fewer than two sites, nor on a single missed probe, nor on a few
users' failures, nor on a standby that is not known to be ready. Healthy (observed) never says who is active (declared).
Source: docs/decisions/0003.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from datacenters.ground import Ground
from datacenters.record import Rule

SITES_MIN = 2
FAILED_PROBES_MIN = 4
WAL_SILENT_S = 2.4
UNREACHABLE_HOLD_S = 10.0
GRAY_HOLD_S = 10.0
# Above what one person can be counted as: once by every gateway process of the two sites that he reaches.
GRAY_USERS_MIN = 10
RECEIPT_GAP_MAX_S = 10.0


class Verdict(StrEnum):
    """What is the matter with the active datacenter; only DEAD, UNREACHABLE and GRAY allow an automatic move."""

    HEALTHY = "healthy"
    WAIT = "wait"
    DEAD = "dead"
    UNREACHABLE = "unreachable"
    GRAY = "gray"
    BOTH_BAD = "both-bad"


MOVING = frozenset({Verdict.DEAD, Verdict.UNREACHABLE, Verdict.GRAY})


class Health(msgspec.Struct, frozen=True):
    """What a datacenter says of itself on `/health`; the ages are seconds, None when it knows none."""

    role: str
    epoch: int
    position: str
    receipt_age_s: float | None = None
    lag_s: float | None = None
    writable: bool = False


class Look(msgspec.Struct, frozen=True):
    """One site's view of one datacenter now.

    `failures` counts the probes without a good answer since the last good one; `silent_s` is the time since that
    one, or since this director began to look. `health` is the last good answer, of `silent_s` ago.
    """

    failures: int
    silent_s: float
    health: Health | None = None

    @property
    def answered(self) -> bool:
        """Whether the last probe was answered well."""
        return self.failures == 0 and self.health is not None


class Fenced(msgspec.Struct, frozen=True):
    """How far a site has come whose history is over, or whose log is gone.

    First "fenced", then "listed", "rejoining", and "rejoined" when it follows.

    Of its writes behind the fork `orphans` may be missing elsewhere, and `absent` are known to be.
    """

    stage: str
    orphans: int = 0
    absent: int = 0


class FenceRow(msgspec.Struct, frozen=True):
    """The epoch of the fence in one PostgreSQL, and the site that may write at it."""

    epoch: int
    site: str


class Observation(msgspec.Struct, frozen=True):
    """What the director of `site` sees: its looks by datacenter, and for how long its users have been failing there.

    `users_failed` counts the users, each once a window, whom a datacenter failed of late. `highest_epoch` is the highest
    that it knows to have been declared, `fence` the row of its own PostgreSQL. `sequence` rises with each
    one published, so that a repeated reading is known as such. `wall_at` (Unix seconds by the site's own clock) and
    `ground` are for people: no decision rests on them.
    """

    site: str
    sequence: int
    looks: dict[str, Look]
    users_failing_s: dict[str, float] = {}
    users_failed: dict[str, int] = {}
    fenced: Fenced | None = None
    highest_epoch: int = 0
    fence: FenceRow | None = None
    wall_at: float = 0.0
    ground: Ground | None = None


class _Failing(msgspec.Struct, frozen=True):
    """The sites most of whose users the active datacenter has failed for long, and how many users these are."""

    sites: tuple[str, ...]
    users: int

    @property
    def enough(self) -> bool:
        return len(self.sites) >= SITES_MIN and self.users >= GRAY_USERS_MIN


class Judgement(msgspec.Struct, frozen=True):
    """A verdict on `active` with `target` as its possible successor, its reason, and what it rests on."""

    verdict: Verdict
    sentence: str
    active: str
    target: str
    sites: tuple[str, ...]
    readiness: tuple[Rule, ...]

    @property
    def allows_move(self) -> bool:
        """Whether the observations alone would let `target` claim."""
        return self.verdict in MOVING

    def evidence(self, observations: Mapping[str, Observation]) -> dict[str, Any]:
        """All of it as plain values, for the record and its audit row."""
        seen = {site: msgspec.to_builtins(observation) for site, observation in sorted(observations.items())}
        return {"verdict": self.verdict.value, "sites": list(self.sites), "observations": seen}


def judge(observations: Mapping[str, Observation], *, active: str, target: str) -> Judgement:
    """The verdict that the fresh `observations` (by site) support; the caller leaves stale ones out."""
    silent = tuple(sorted(site for site, seen in observations.items() if _no_answer(seen, active)))
    failing = _failing(observations, active)
    ready = readiness(observations, active=active, target=target, silent=silent)
    verdict, sites, sentence = _weigh(observations, active, target, silent, failing)
    if verdict in MOVING or verdict is Verdict.WAIT:
        lacking = [rule.sentence for rule in ready if not rule.holds]
        if lacking and _is_bad(silent, failing, target):
            verdict = Verdict.BOTH_BAD
            sentence = f"{sentence}; {target} is not ready to take over: {', '.join(lacking)}"
    return Judgement(
        verdict=verdict, sentence=sentence, active=active, target=target, sites=sites, readiness=ready
    )


def readiness(
    observations: Mapping[str, Observation], *, active: str, target: str, silent: tuple[str, ...] = ()
) -> tuple[Rule, ...]:
    """What a target must be before it may claim, judged by its own site's look at it; all rules, the kept ones too."""
    own = observations.get(target)
    look = own.looks.get(target) if own else None
    if look is None or not look.answered or look.health is None:
        return (
            Rule(
                "target-answers",
                holds=False,
                sentence=f"{target}'s director does not see its datacenter answer",
            ),
        )
    health = look.health
    standby = health.role == "standby"
    age_s = health.receipt_age_s
    # How long the stream had been broken before the active site was last heard by anyone: what was written
    # in between is not here.
    lost_sight_s = max((observations[site].looks[active].silent_s for site in silent), default=0.0)
    gap_s = None if age_s is None else max(0.0, age_s - lost_sight_s)
    return (
        Rule("target-answers", holds=True, sentence=f"{target} answers"),
        Rule("target-is-standby", standby, f"{target} says it is a {health.role}"),
        Rule(
            "lag-known",
            health.lag_s is not None,
            f"{target} does not know its replay lag"
            if health.lag_s is None
            else f"replay lag {health.lag_s:.1f} s",
        ),
        Rule(
            "stream-was-alive",
            gap_s is not None and gap_s <= RECEIPT_GAP_MAX_S,
            f"{target} never received from {active}"
            if gap_s is None
            else f"{target} was {gap_s:.1f} s behind when {active} was last seen, at most {RECEIPT_GAP_MAX_S:.0f} s",
        ),
    )


def _weigh(
    observations: Mapping[str, Observation],
    active: str,
    target: str,
    silent: tuple[str, ...],
    failing: _Failing,
) -> tuple[Verdict, tuple[str, ...], str]:
    if target in silent and len(silent) >= SITES_MIN:
        verdict, sentence = _unanswered(observations, active, target, silent)
        return verdict, silent, sentence
    if len(failing.sites) >= SITES_MIN:
        sentence = (
            f"{active} answers probes but fails most of the users of {' and '.join(failing.sites)} "
            f"for at least {GRAY_HOLD_S:.0f} s, {failing.users} of late"
        )
        if failing.enough:
            return Verdict.GRAY, failing.sites, sentence
        if not silent:
            return Verdict.WAIT, failing.sites, f"{sentence}; {GRAY_USERS_MIN} of them are asked"
    return _no_case(observations, active, target, silent)


def _unanswered(
    observations: Mapping[str, Observation], active: str, target: str, silent: tuple[str, ...]
) -> tuple[Verdict, str]:
    case = f"{active} gives no answer to {' and '.join(silent)}"
    age_s = _receipt_age_s(observations, target)
    if age_s is None or age_s >= WAL_SILENT_S:
        return Verdict.DEAD, f"{case} and {target} received no WAL" + (
            "" if age_s is None else f" for {age_s:.1f} s"
        )
    held_s = min(observations[site].looks[active].silent_s for site in silent)
    if held_s >= UNREACHABLE_HOLD_S:
        return Verdict.UNREACHABLE, f"{case} for {held_s:.0f} s though {target} still receives WAL"
    return Verdict.WAIT, (
        f"{case} for {held_s:.1f} s but {target} received WAL {age_s:.1f} s ago; "
        f"{WAL_SILENT_S} s without WAL or {UNREACHABLE_HOLD_S:.0f} s without an answer are asked"
    )


def _no_case(
    observations: Mapping[str, Observation], active: str, target: str, silent: tuple[str, ...]
) -> tuple[Verdict, tuple[str, ...], str]:
    if silent:
        asked = f"two sites, {target} among them, must agree"
        return Verdict.WAIT, silent, f"{active} gives no answer to {' and '.join(silent)} alone; {asked}"
    looks = {site: seen.looks[active] for site, seen in sorted(observations.items()) if active in seen.looks}
    missed = tuple(site for site, look in looks.items() if not look.answered)
    if missed:
        asked = f"{FAILED_PROBES_MIN} in a row count"
        return Verdict.WAIT, missed, f"{active} missed a probe of {' and '.join(missed)}; {asked}"
    if not looks:
        return Verdict.WAIT, (), "no site publishes a fresh observation"
    return Verdict.HEALTHY, tuple(looks), f"{active} answers {' and '.join(looks)}"


def _failing(observations: Mapping[str, Observation], active: str) -> _Failing:
    sites = tuple(
        sorted(
            site
            for site, seen in observations.items()
            if seen.users_failing_s.get(active, 0.0) >= GRAY_HOLD_S
        )
    )
    return _Failing(sites=sites, users=sum(observations[site].users_failed.get(active, 0) for site in sites))


def _is_bad(silent: tuple[str, ...], failing: _Failing, target: str) -> bool:
    return (target in silent and len(silent) >= SITES_MIN) or failing.enough


def _no_answer(seen: Observation, active: str) -> bool:
    look = seen.looks.get(active)
    return look is not None and look.failures >= FAILED_PROBES_MIN


def _receipt_age_s(observations: Mapping[str, Observation], target: str) -> float | None:
    own = observations.get(target)
    look = own.looks.get(target) if own else None
    return look.health.receipt_age_s if look and look.health else None
