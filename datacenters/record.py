"""The one record that says which datacenter is active, and every way it may change; pure.

Invariants: the epoch never falls and rises on every claim; within one epoch one site alone may ever serve writes;
a transition is made from the whole previous record, so whoever writes it compares that record in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

DAY_S = 86_400
MOVES_KEPT_MAX = 16


class Phase(StrEnum):
    """Where a change of the active datacenter stands.

    FREEZING and SEALING come first in a planned switchover: writes wait, then the target catches up. PROMOTING begins
    with the claim, REPLAYING ends it: the journal's writes that the target lacks are done there.
    """

    ACTIVE = "ACTIVE"
    FREEZING = "FREEZING"
    SEALING = "SEALING"
    PROMOTING = "PROMOTING"
    REPLAYING = "REPLAYING"
    READ_ONLY = "READ_ONLY"
    HOLD = "HOLD"


SERVING_PHASES = frozenset({Phase.ACTIVE, Phase.HOLD})
# Until the claim the old epoch stands, so that turning back needs nothing but a new one.
FREEZE_PHASES = frozenset({Phase.FREEZING, Phase.SEALING})
TAKEOVER_PHASES = frozenset({Phase.PROMOTING, Phase.REPLAYING})


class OtherWriters(StrEnum):
    """How programs beside the gateway write to the active datacenter, whose writes no journal holds."""

    NONE = "none"
    SYNCHRONOUS = "synchronous"
    ASYNCHRONOUS = "asynchronous"


class Protection(StrEnum):
    """What stands behind an acknowledged write until the standby has it.

    JOURNAL: its journal record. NONE: nothing, the journal has reached its bound. RETURNING: records are written, but the
    standby may still lack writes that none protects: of a time without, or gone with etcd's newer state.
    """

    JOURNAL = "journal"
    NONE = "none"
    RETURNING = "returning"


class Policy(msgspec.Struct, frozen=True):
    """What may happen without a human: `auto` moves at all, at least `dwell_s` apart, so many in 24 hours.

    With ASYNCHRONOUS `other_writers` a move may lose what they wrote, so that a human has to decide.
    Beyond `journal_records_max` records, or with more than `journal_bytes_max` bytes in etcd, writes go on unprotected.
    """

    auto: bool = True
    dwell_s: int = 900
    moves_per_day: int = 2
    other_writers: OtherWriters = OtherWriters.NONE
    journal_records_max: int = 20_000
    journal_bytes_max: int = 512 << 20


class Record(msgspec.Struct, frozen=True):
    """The declared state; `decided_at` and `moves` (recent automatic moves) are Unix seconds.

    While a move is under way `active` is still the old site and `target` the one being promoted; `planned` when it
    began as a switchover, whose target must have replayed up to `frozen_position` before it claims.
    Positions of the previous epoch beyond `switch_position` (`timeline-lsn`, decimal) are distrusted.
    `protection` says what a write is acknowledged on beside the active datacenter's commit.
    """

    epoch: int
    phase: Phase
    active: str
    target: str | None
    reason: str
    evidence: dict[str, Any]
    decided_by: str
    decided_at: float
    switch_position: str | None = None
    policy: Policy = Policy()
    moves: tuple[float, ...] = ()
    planned: bool = False
    frozen_position: str | None = None
    protection: Protection = Protection.JOURNAL

    @property
    def serving(self) -> str | None:
        """The site that may take writes at this epoch, or None while a move is under way."""
        return self.active if self.phase in SERVING_PHASES else None


class Rule(msgspec.Struct, frozen=True):
    """One condition of an automatic move: whether it holds now, and a sentence that says why."""

    name: str
    holds: bool
    sentence: str


class Refusal(msgspec.Struct, frozen=True):
    """No transition, and why; a value, because looking again later is the ordinary answer."""

    reason: str


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(record: Record) -> bytes:
    """The record as the bytes kept in etcd; equal records give equal bytes."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """The record in `raw`.

    Raises: msgspec.ValidationError, msgspec.DecodeError.
    """
    return _decoder.decode(raw)


def first(*, active: str, by: str, now: float, policy: Policy | None = None) -> Record:
    """The record of a country that never moved: epoch 1 at `active`."""
    return Record(
        epoch=1,
        phase=Phase.ACTIVE,
        active=active,
        target=None,
        reason="declared at installation",
        evidence={},
        decided_by=by,
        decided_at=now,
        policy=policy or Policy(),
    )


def rules(record: Record, *, target: str, now: float) -> tuple[Rule, ...]:
    """Every rule of an automatic move that the record alone can judge, those that hold included."""
    policy = record.policy
    last = max(record.moves, default=None)
    # A clock that went back must not shorten the dwell: a move "in the future" counts as just made.
    since_s = None if last is None else max(0.0, now - last)
    recent = sum(1 for moved_at in record.moves if now - moved_at < DAY_S)
    held = record.phase is Phase.HOLD
    return (
        *order_rules(record, target=target),
        Rule("auto", policy.auto, f"automatic moves are {'on' if policy.auto else 'off'} in the policy"),
        Rule("not-held", not held, "a human holds the record" if held else "no human holds the record"),
        Rule(
            "other-writers",
            policy.other_writers is not OtherWriters.ASYNCHRONOUS,
            f"writes of other programs: {policy.other_writers}",
        ),
        Rule(
            "protected",
            record.protection is Protection.JOURNAL,
            "every acknowledged write is in the journal or at the standby"
            if record.protection is Protection.JOURNAL
            else "writes are acknowledged without a journal record: a move may lose some",
        ),
        Rule(
            "dwell",
            since_s is None or since_s >= policy.dwell_s,
            "no automatic move is remembered"
            if since_s is None
            else f"the last automatic move was {since_s:.0f} s ago, at least {policy.dwell_s} s are asked",
        ),
        Rule(
            "moves-per-day",
            recent < policy.moves_per_day,
            f"{recent} automatic moves in 24 h, at most {policy.moves_per_day} are allowed",
        ),
    )


def order_rules(record: Record, *, target: str) -> tuple[Rule, ...]:
    """The rules that bind a human's order as well."""
    idle = record.phase in SERVING_PHASES
    return (
        Rule("other-site", target != record.active, f"{target} is not the active site {record.active}"),
        Rule(
            "idle",
            idle,
            f"no change is under way (phase {record.phase})" if idle else f"phase {record.phase}",
        ),
    )


def claim(
    record: Record, *, target: str, reason: str, evidence: dict[str, Any], now: float, by: str,
    clocks: Iterable[float] = (),
) -> Record | Refusal:  # fmt: skip
    """The record by which `target` takes over by itself at the next epoch, when every rule of the record holds.

    From the instant it is written nothing at the old epoch may be acknowledged: the claim is the seal.
    `clocks` is what the sites it rests on took for now: the earliest judges the moves before, the latest dates this one,
    so that no single wrong clock makes a move come too soon.
    """
    clocks = (now, *clocks)
    earliest = min(clocks)
    if refusal := _broken(rules(record, target=target, now=earliest)):
        return refusal
    remembered_s = max(DAY_S, record.policy.dwell_s)
    kept = [moved_at for moved_at in record.moves if earliest - moved_at < remembered_s]
    claimed = _claimed(record, target=target, reason=reason, evidence=evidence, now=now, by=by)
    return msgspec.structs.replace(claimed, moves=(*kept, max(clocks))[-MOVES_KEPT_MAX:])


def failover(
    record: Record, *, target: str, reason: str, evidence: dict[str, Any], now: float, by: str
) -> Record | Refusal:
    """The claim that a human orders: neither dwell nor count nor a hold stands against it."""
    return _broken(order_rules(record, target=target)) or _claimed(
        record, target=target, reason=reason, evidence=evidence, now=now, by=by
    )


def freeze(
    record: Record, *, target: str, reason: str, evidence: dict[str, Any], now: float, by: str
) -> Record | Refusal:
    """The record by which a planned switchover to `target` begins: from now on writes wait at the gateways."""
    if record.protection is not Protection.JOURNAL:
        return Refusal("writes are acknowledged without a journal record; rebuild the standby first")
    return _broken(order_rules(record, target=target)) or msgspec.structs.replace(
        record,
        phase=Phase.FREEZING,
        target=target,
        planned=True,
        frozen_position=None,
        reason=reason,
        evidence=evidence,
        decided_by=by,
        decided_at=now,
    )


def seal(record: Record, *, site: str, frozen_position: str, now: float, by: str) -> Record | Refusal:
    """The frozen record once the active `site` takes no write any more and stands at `frozen_position`."""
    if record.phase is not Phase.FREEZING:
        return Refusal(f"nothing is being frozen (phase {record.phase})")
    if record.active != site:
        return Refusal(f"{record.active} is being frozen, not {site}")
    return msgspec.structs.replace(
        record, phase=Phase.SEALING, frozen_position=frozen_position, decided_by=by, decided_at=now
    )


def claim_sealed(record: Record, *, site: str, now: float, by: str) -> Record | Refusal:
    """The record by which `site` takes over in a planned switchover, having replayed to the frozen position."""
    if record.phase is not Phase.SEALING:
        return Refusal(f"nothing is sealed (phase {record.phase})")
    if record.target != site:
        return Refusal(f"{record.target} is to take over, not {site}")
    return _claimed(
        record, target=site, reason=record.reason, evidence=record.evidence, now=now, by=by, planned=True
    )


def begin_replay(record: Record, *, site: str, switch_position: str, now: float, by: str) -> Record | Refusal:
    """The record once `site` is promoted: what the journal holds beyond `switch_position` is done there next."""
    if record.phase is not Phase.PROMOTING:
        return Refusal(f"no promotion is under way (phase {record.phase})")
    if record.target != site:
        return Refusal(f"{record.target} is being promoted, not {site}")
    return msgspec.structs.replace(
        record, phase=Phase.REPLAYING, switch_position=switch_position, decided_by=by, decided_at=now
    )


def activate(record: Record, *, site: str, now: float, by: str) -> Record | Refusal:
    """The record by which `site`, promoted and with the journal replayed, begins to serve at the claimed epoch."""
    if record.phase is not Phase.REPLAYING:
        return Refusal(f"no replay is under way (phase {record.phase})")
    if record.target != site:
        return Refusal(f"{record.target} replays the journal, not {site}")
    return msgspec.structs.replace(
        record,
        phase=Phase.ACTIVE,
        active=site,
        target=None,
        planned=False,
        frozen_position=None,
        decided_by=by,
        decided_at=now,
    )


def abort(record: Record, *, reason: str, now: float, by: str) -> Record | Refusal:
    """The record by which a move is given up: the same site goes on under a new epoch.

    Nothing was acknowledged at the epoch that is given up, so the old active site has everything.
    """
    if record.phase not in FREEZE_PHASES | TAKEOVER_PHASES:
        return Refusal(f"no move is under way (phase {record.phase})")
    return msgspec.structs.replace(
        record,
        epoch=record.epoch + 1,
        phase=Phase.ACTIVE,
        target=None,
        planned=False,
        frozen_position=None,
        switch_position=None,
        reason=reason,
        decided_by=by,
        decided_at=now,
    )


def stop_writes(record: Record, *, reason: str, now: float, by: str) -> Record | Refusal:
    """The record at which no site takes writes until a human lets it; reads go on."""
    if record.phase not in SERVING_PHASES:
        return Refusal(f"only a serving record can stop writes (phase {record.phase})")
    return msgspec.structs.replace(
        record, phase=Phase.READ_ONLY, reason=reason, decided_by=by, decided_at=now
    )


def allow_writes(record: Record, *, reason: str, now: float, by: str) -> Record | Refusal:
    """The record at which the same site takes writes again."""
    if record.phase is not Phase.READ_ONLY:
        return Refusal(f"writes are not stopped (phase {record.phase})")
    return msgspec.structs.replace(record, phase=Phase.ACTIVE, reason=reason, decided_by=by, decided_at=now)


def protect(record: Record, *, protection: Protection, reason: str, now: float, by: str) -> Record | Refusal:
    """The record with another protection; what lacked it is protected again only after RETURNING."""
    if record.phase not in SERVING_PHASES:
        return Refusal(f"protection changes only while a site serves (phase {record.phase})")
    if record.protection is Protection.NONE and protection is Protection.JOURNAL:
        return Refusal(f"{protection} does not follow {record.protection}")
    if protection is record.protection:
        return Refusal(f"protection is {protection} already")
    return msgspec.structs.replace(
        record, protection=protection, reason=reason, decided_by=by, decided_at=now
    )


def hold(record: Record, *, reason: str, now: float, by: str) -> Record | Refusal:
    """The record with automatic moves forbidden until a human releases it; serving goes on unchanged."""
    if record.phase is not Phase.ACTIVE:
        return Refusal(f"only an active record can be held (phase {record.phase})")
    return msgspec.structs.replace(record, phase=Phase.HOLD, reason=reason, decided_by=by, decided_at=now)


def release(record: Record, *, reason: str, now: float, by: str) -> Record | Refusal:
    """The held record with automatic moves allowed again; dwell and daily count stay as they were."""
    if record.phase is not Phase.HOLD:
        return Refusal(f"nothing is held (phase {record.phase})")
    return msgspec.structs.replace(record, phase=Phase.ACTIVE, reason=reason, decided_by=by, decided_at=now)


def _broken(asked: tuple[Rule, ...]) -> Refusal | None:
    broken = [rule.sentence for rule in asked if not rule.holds]
    return Refusal("; ".join(broken)) if broken else None


def _claimed(
    record: Record,
    *,
    target: str,
    reason: str,
    evidence: dict[str, Any],
    now: float,
    by: str,
    planned: bool = False,
) -> Record:
    return msgspec.structs.replace(
        record,
        epoch=record.epoch + 1,
        phase=Phase.PROMOTING,
        target=target,
        planned=planned,
        reason=reason,
        evidence=evidence,
        decided_by=by,
        decided_at=now,
        switch_position=None,
    )
