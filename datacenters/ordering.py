"""Giving a human's order: look, judge, say what would be written, write it once, and follow what becomes of it.

Invariant: an order is judged on the very record its transaction compares; with `dry_run` nothing is written at all.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import msgspec

from datacenters import control, etcd_keys
from datacenters.control import Held
from datacenters.etcd import Etcd, EtcdUnavailable
from datacenters.preflight import AtRisk, Situation
from datacenters.record import FREEZE_PHASES, SERVING_PHASES, Phase, Record, Refusal, Rule
from datacenters.verdict import Observation

TRIES_MAX = 3
POLL_S = 0.05


class Judged(msgspec.Struct, frozen=True):
    """What an order comes to: the record it would write or why not, the rules it rests on, what it may cost."""

    after: Record | Refusal
    rules: tuple[Rule, ...] = ()
    at_risk: AtRisk | None = None


class Ordered(msgspec.Struct, frozen=True):
    """One order: what was there, what was (or with `dry_run` would be) written, or why it was refused."""

    order: str
    dry_run: bool
    written: bool
    before: Record
    after: Record | None
    refusal: str | None
    rules: tuple[Rule, ...] = ()
    at_risk: AtRisk | None = None


class Change(msgspec.Struct, frozen=True):
    """One phase of a move as it was met, so many seconds after the order."""

    after_s: float
    phase: Phase
    epoch: int
    active: str
    by: str


class Followed(msgspec.Struct, frozen=True):
    """What became of a switchover: its phases, how long writes waited, and why it did not come about (else None)."""

    changes: tuple[Change, ...]
    pause_s: float | None
    failure: str | None


Judge = Callable[[Situation, float], Judged]


async def situation(etcd: Etcd, *, serializable: bool = False) -> tuple[Held | None, Situation | None]:
    """The record and what is known beside it; (None, None) before installation.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    held = await control.read(etcd, serializable=serializable)
    if held is None:
        return None, None
    listing = await etcd.range(etcd_keys.OBSERVATIONS, prefix=True, serializable=serializable)
    observed = [msgspec.json.decode(item.value, type=Observation) for item in listing.items]
    return held, Situation(
        record=held.record,
        observations={seen.site: seen for seen in observed},
        journal_records=0 if serializable else await etcd.count(etcd_keys.JOURNAL),
        parked=0 if serializable else await etcd.count(etcd_keys.PARKED),
    )


async def give(
    etcd: Etcd, order: str, judge: Judge, *, dry_run: bool, clock: Callable[[], float] = time.time
) -> Ordered | None:
    """Judge the order and write what it comes to; None before installation.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    tries = itertools.count(1)
    while True:
        held, seen = await situation(etcd)
        if held is None or seen is None:
            return None
        judged = judge(seen, clock())
        ordered = Ordered(
            order=order,
            dry_run=dry_run,
            written=False,
            before=held.record,
            after=None if isinstance(judged.after, Refusal) else judged.after,
            refusal=judged.after.reason if isinstance(judged.after, Refusal) else None,
            rules=judged.rules,
            at_risk=judged.at_risk,
        )
        if dry_run or isinstance(judged.after, Refusal):
            return ordered
        if await _write(etcd, held, judged.after):
            return msgspec.structs.replace(ordered, written=True)
        if next(tries) >= TRIES_MAX:
            reason = "the record keeps changing; look at `massar dc status` and try again"
            return msgspec.structs.replace(ordered, after=None, refusal=reason)


async def follow(
    etcd: Etcd,
    begun: Record,
    *,
    within_s: float,
    told: Callable[[Change], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> Followed:
    """Wait until the move that `begun` began has ended, `within_s` at most; `told` hears each phase.

    etcd falling silent meanwhile is waited through: the phases go on without this command.
    """
    started = monotonic()
    changes: list[Change] = []
    last: Record | None = None
    while monotonic() - started < within_s:
        now = await _record(etcd) or last
        if now is not None and (last is None or _differs(last, now)):
            changes.append(
                Change(round(monotonic() - started, 3), now.phase, now.epoch, now.active, now.decided_by)
            )
            told(changes[-1])
        last = now
        if now is not None and now.phase in {*SERVING_PHASES, Phase.READ_ONLY}:
            return _ended(changes, begun, now)
        await asyncio.sleep(POLL_S)
    phase = last.phase if last else begun.phase
    return Followed(
        changes=tuple(changes),
        pause_s=None,
        failure=f"still {phase} after {within_s:.0f} s: the directors go on; see `massar dc status`",
    )


def _ended(changes: list[Change], begun: Record, now: Record) -> Followed:
    failure = None
    if now.active != begun.target:
        failure = f"aborted: {now.reason}; {now.active} goes on at epoch {now.epoch}"
    return Followed(changes=tuple(changes), pause_s=changes[-1].after_s, failure=failure)


def turns_back(record: Record) -> bool:
    """Whether a switchover that takes too long may still be turned back without anything promoted."""
    return record.phase in FREEZE_PHASES


async def _write(etcd: Etcd, held: Held, after: Record) -> bool:
    try:
        return await control.change(etcd, held, after)
    except EtcdUnavailable as error:
        if not error.maybe_applied:
            raise
    again = await control.read(etcd)
    return again is not None and again.record == after


async def _record(etcd: Etcd) -> Record | None:
    try:
        held = await control.read(etcd)
    except EtcdUnavailable:
        return None
    return None if held is None else held.record


def _differs(last: Record, now: Record) -> bool:
    return (last.phase, last.epoch, last.active) != (now.phase, now.epoch, now.active)
