"""The one record that says which datacenter is active, and every way it may change; pure.

Invariants: the epoch never falls and rises on every claim; within one epoch one site alone may ever serve writes;
a transition is made from the whole previous record, so whoever writes it compares that record in one transaction.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

DAY_S = 86_400
MOVES_KEPT_MAX = 16


class Phase(StrEnum):
    """Where a change of the active datacenter stands.

    FREEZING, SEALING, REPLAYING belong to the planned switchover and the write journal.
    """

    ACTIVE = "ACTIVE"
    FREEZING = "FREEZING"
    SEALING = "SEALING"
    PROMOTING = "PROMOTING"
    REPLAYING = "REPLAYING"
    READ_ONLY = "READ_ONLY"
    HOLD = "HOLD"


SERVING_PHASES = frozenset({Phase.ACTIVE, Phase.HOLD})


class Policy(msgspec.Struct, frozen=True):
    """What may happen without a human: `auto` moves at all, at least `dwell_s` apart, so many in 24 hours."""

    auto: bool = True
    dwell_s: int = 900
    moves_per_day: int = 2


class Record(msgspec.Struct, frozen=True):
    """The declared state; `decided_at` and `moves` (recent automatic moves) are Unix seconds.

    While a move is under way `active` is still the old site and `target` the one being promoted.
    Positions of the previous epoch beyond `switch_position` (`timeline-lsn`, decimal) are distrusted.
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
    idle = record.phase in SERVING_PHASES
    return (
        Rule("other-site", target != record.active, f"{target} is not the active site {record.active}"),
        Rule("auto", policy.auto, f"automatic moves are {'on' if policy.auto else 'off'} in the policy"),
        Rule("not-held", not held, "a human holds the record" if held else "no human holds the record"),
        Rule(
            "idle",
            idle,
            f"no change is under way (phase {record.phase})" if idle else f"phase {record.phase}",
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


def claim(
    record: Record, *, target: str, reason: str, evidence: dict[str, Any], now: float, by: str
) -> Record | Refusal:
    """The record by which `target` takes over at the next epoch, when every rule of the record holds.

    From the instant it is written nothing at the old epoch may be acknowledged: the claim is the seal.
    """
    broken = [rule.sentence for rule in rules(record, target=target, now=now) if not rule.holds]
    if broken:
        return Refusal("; ".join(broken))
    remembered_s = max(DAY_S, record.policy.dwell_s)
    kept = [moved_at for moved_at in record.moves if now - moved_at < remembered_s]
    return msgspec.structs.replace(
        record,
        epoch=record.epoch + 1,
        phase=Phase.PROMOTING,
        target=target,
        reason=reason,
        evidence=evidence,
        decided_by=by,
        decided_at=now,
        switch_position=None,
        moves=(*kept, now)[-MOVES_KEPT_MAX:],
    )


def activate(record: Record, *, site: str, switch_position: str, now: float, by: str) -> Record | Refusal:
    """The record by which `site`, promoted, begins to serve at the claimed epoch."""
    if record.phase is not Phase.PROMOTING:
        return Refusal(f"no promotion is under way (phase {record.phase})")
    if record.target != site:
        return Refusal(f"{record.target} is being promoted, not {site}")
    return msgspec.structs.replace(
        record,
        phase=Phase.ACTIVE,
        active=site,
        target=None,
        decided_by=by,
        decided_at=now,
        switch_position=switch_position,
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
