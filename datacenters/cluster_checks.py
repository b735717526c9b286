"""Checks of what the sites share: etcd, the record, what would become of acknowledged writes; pure.

Invariant: what could not be looked at is never told as good.
"""

from __future__ import annotations

from datacenters import preflight, redeclaring
from datacenters.checkup import Checkup, Said, State, mib
from datacenters.record import FREEZE_PHASES, TAKEOVER_PHASES, Phase, Protection

BEHIND_BYTES_MAX = 64 * 1024 * 1024
LAG_MAX_S = 10.0
JOURNAL_SHARE_MAX = 0.5
ETCD_SHARE_MAX = 0.75
MOVE_LASTS_MAX_S = 30.0
# Members of these versions may diverge when killed under load (etcd issue 13766).
DIVERGING_VERSIONS = frozenset(f"3.5.{patch}" for patch in range(6))


def majority(seen: Checkup) -> Said:
    """A majority answers and names one leader."""
    answering = [one for one in seen.members if one.failure is None]
    if not seen.majority:
        return State.WRONG, f"no majority: {len(answering)} of {len(seen.members)} members answer"
    leaders = {one.leader for one in answering if one.leader}
    if len(leaders) != 1:
        return State.WRONG, f"the members name {len(leaders)} leaders"
    return State.OK, f"a majority answers, all {len(answering)} members name one leader"


def members(seen: Checkup) -> Said:
    """Every member answers."""
    away = [f"{one.url} ({one.failure})" for one in seen.members if one.failure is not None]
    total = max((len(one.members) for one in seen.members), default=0)
    if away:
        return State.WRONG, f"no answer from {', '.join(away)}: one more loss would stop every write"
    if total and total != len(seen.members):
        return State.NOTICE, f"{len(seen.members)} of {total} members were asked: name all by --etcd"
    if total and total < 3:
        return State.WRONG, f"the cluster has {total} members: it survives no loss"
    return State.OK, f"all {len(seen.members)} members answer"


def put_back(seen: Checkup) -> Said:
    """No site knows a higher epoch than etcd declares."""
    if seen.situation is None:
        return State.NOTICE, "not known"
    declared = seen.situation.record
    if sentence := redeclaring.put_back(declared, seen.situation.observations):
        return State.WRONG, f"{sentence} (`massar dc redeclare`)"
    return State.OK, f"no site knows a higher epoch than {declared.epoch}"


def version(seen: Checkup) -> Said:
    """No member is of a version that may diverge."""
    versions = sorted({one.version for one in seen.members if one.version})
    diverging = [version for version in versions if version in DIVERGING_VERSIONS]
    if diverging and not seen.sandbox:
        return State.WRONG, f"etcd {', '.join(diverging)} may diverge when killed under load"
    if diverging:
        return State.NOTICE, f"etcd {', '.join(diverging)} is good enough for this sandbox only"
    if len(versions) > 1:
        return State.NOTICE, f"members of different versions: {', '.join(versions)}"
    return State.OK, f"etcd {', '.join(versions) or 'does not tell its version'}"


def full(seen: Checkup) -> Said:
    """There is room in etcd."""
    told = [one for one in seen.members if one.size]
    if not told:
        return State.NOTICE, "no member tells its size"
    fullest = max(told, key=lambda one: one.size / one.quota if one.quota else one.size)
    if not fullest.quota:
        return State.NOTICE, f"{mib(fullest.size)} at the largest member, whose quota it does not tell"
    share = fullest.size / fullest.quota
    sentence = (
        f"{mib(fullest.size)} of a quota of {mib(fullest.quota)} ({share:.0%}), "
        f"{mib(fullest.size_in_use)} of it in use"
    )
    return (State.WRONG if share > ETCD_SHARE_MAX else State.OK), sentence


def alarm(seen: Checkup) -> Said:
    """No alarm is raised."""
    raised = sorted({alarm for one in seen.members for alarm in one.alarms if alarm != "NONE"})
    return (State.WRONG, f"raised: {', '.join(raised)}") if raised else (State.OK, "no alarm is raised")


def failover(seen: Checkup) -> Said:
    """The standby could take over now."""
    if seen.situation is None:
        return State.WRONG, "nothing is declared, or it could not be read"
    target = seen.situation.target()
    if target is None:
        return State.WRONG, "no director sees another datacenter: nobody could take over"
    asked = ("active-is-away", "other-writers", "protected")
    rules = preflight.failover_rules(seen.situation, target=target)
    broken = [rule.sentence for rule in rules if not rule.holds and rule.name not in asked]
    if broken:
        return State.WRONG, f"{target} could not take over well now: {'; '.join(broken)}"
    return State.OK, f"{target} could take over now"


def automatic(seen: Checkup) -> Said:
    """Nothing keeps directors from moving by themselves."""
    if seen.situation is None:
        return State.NOTICE, "not known"
    declared = seen.situation.record
    if declared.phase is Phase.READ_ONLY:
        return State.NOTICE, f"writes are stopped by {declared.decided_by}: {declared.reason}"
    if declared.phase is Phase.HOLD:
        return State.NOTICE, f"automatic moves are held by {declared.decided_by}: {declared.reason}"
    if not declared.policy.auto:
        return State.NOTICE, "automatic moves are off in the policy"
    last = max(declared.moves, default=None)
    dwell_s = declared.policy.dwell_s
    if last is not None and seen.now - last < dwell_s:
        return (
            State.NOTICE,
            f"the last automatic move was {seen.now - last:.0f} s ago: none for {dwell_s} s after one",
        )
    return State.OK, "automatic moves are allowed"


def stuck(seen: Checkup) -> Said:
    """No move has been standing still."""
    if seen.situation is None:
        return State.NOTICE, "not known"
    declared = seen.situation.record
    since_s = seen.now - declared.decided_at
    if declared.phase not in FREEZE_PHASES | TAKEOVER_PHASES:
        return State.OK, f"no move is under way (phase {declared.phase})"
    state = State.WRONG if since_s > MOVE_LASTS_MAX_S else State.NOTICE
    return state, f"a move to {declared.target} stands at {declared.phase} for {since_s:.0f} s"


def at_risk(seen: Checkup) -> Said:
    """What is acknowledged is at two sites, or in the journal."""
    if seen.situation is None:
        return State.WRONG, "not known"
    target = seen.situation.target()
    if target is None:
        return State.WRONG, "no standby is seen: whatever is written stands at one site alone"
    risk = preflight.at_risk(seen.situation, target=target)
    weight = "" if seen.journal_bytes is None else f" of {seen.journal_bytes} bytes"
    behind = (
        f"how far {target} is behind is not known"
        if risk.behind_bytes is None or risk.target_lag_s is None
        else f"{target} is {risk.behind_bytes} bytes and {risk.target_lag_s:.1f} s behind"
    )
    sentence = (
        f"{behind}; {risk.journal_records} acknowledged writes{weight} are in the journal; "
        f"protection is {risk.protection}"
    )
    unknown = risk.behind_bytes is None or risk.target_lag_s is None
    late = (risk.behind_bytes or 0) > BEHIND_BYTES_MAX or (risk.target_lag_s or 0.0) > LAG_MAX_S
    wrong = unknown or late or risk.protection is not Protection.JOURNAL
    return (State.WRONG if wrong else State.OK), sentence


def journal(seen: Checkup) -> Said:
    """The journal is far from its bound."""
    if seen.situation is None:
        return State.NOTICE, "not known"
    most = seen.situation.record.policy.journal_records_max
    count = seen.situation.journal_records
    state = State.WRONG if count > JOURNAL_SHARE_MAX * most else State.OK
    return state, f"{count} records, writes go on unprotected beyond {most}"


def parked(seen: Checkup) -> Said:
    """No acknowledged write waits for a human."""
    if seen.situation is None:
        return State.NOTICE, "not known"
    count = seen.situation.parked
    if count:
        return State.WRONG, f"{count} acknowledged writes wait for a human (`massar dc reconcile`)"
    return State.OK, "no acknowledged write waits for a human"
