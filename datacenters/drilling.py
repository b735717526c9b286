"""A drill: how ready the standby is now, and a switchover there and back, with every time it took.

Invariant: the way back begins only when every rule of a switchover holds again; a drill that cannot go back says so
and leaves the active role where it is. It is over when the country could take a loss again, not before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from datacenters import control, etcd_keys, ordering, preflight
from datacenters.etcd import Etcd
from datacenters.order_commands import Switched, switch
from datacenters.record import Rule

POLL_S = 0.25


class Readiness(msgspec.Struct, frozen=True):
    """Whether a switchover to `target` would begin now, and the times that say how fast it could be."""

    target: str
    ready: bool
    rules: tuple[Rule, ...]
    record_read_ms: float
    observations_read_ms: float
    lag_s: float | None
    receipt_age_s: float | None
    journal_records: int


class Drilled(msgspec.Struct, frozen=True):
    """What a drill found and did.

    `rejoin_s` is how long the old site took to be ready for the way back, `ready_again_s` the other one after it.
    """

    home: str
    readiness: Readiness
    there: Switched | None = None
    rejoin_s: float | None = None
    back: Switched | None = None
    ready_again_s: float | None = None
    failure: str | None = None


class Pace(msgspec.Struct, frozen=True):
    """How long each part of a drill may take, in seconds."""

    switch_within_s: float = 60.0
    rest_s: float = 5.0
    rejoin_within_s: float = 120.0


async def readiness(etcd: Etcd, target: str | None) -> Readiness | None:
    """How ready the standby is now; None before installation, or when there is no other datacenter to be seen.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    began = time.monotonic()
    await control.read(etcd)
    read = time.monotonic()
    await etcd.range(etcd_keys.OBSERVATIONS, prefix=True)
    listed = time.monotonic()
    _, seen = await ordering.situation(etcd)
    target = target or (seen.target() if seen else None)
    if seen is None or target is None:
        return None
    rules = preflight.switchover_rules(seen, target=target)
    look = seen.look(target, target)
    health = look.health if look else None
    return Readiness(
        target=target,
        ready=all(rule.holds for rule in rules),
        rules=rules,
        record_read_ms=round((read - began) * 1000, 1),
        observations_read_ms=round((listed - read) * 1000, 1),
        lag_s=health.lag_s if health else None,
        receipt_age_s=health.receipt_age_s if health else None,
        journal_records=seen.journal_records,
    )


async def drill(
    etcd: Etcd, target: str | None, *, reason: str, pace: Pace, told: Callable[[str], None]
) -> Drilled | None:
    """Switch over to `target` and back; None when there is nowhere to go.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    ready = await readiness(etcd, target)
    held = await control.read(etcd)
    if ready is None or held is None:
        return None
    home = held.record.active
    report = Drilled(home=home, readiness=ready)
    if not ready.ready:
        return msgspec.structs.replace(report, failure=f"{ready.target} is not ready: {_broken(ready)}")
    told(f"drill     {home} -> {ready.target} -> {home}: {reason}")
    there = await _move(etcd, ready.target, reason=f"drill: {reason}", pace=pace, told=told)
    report = msgspec.structs.replace(report, there=there)
    if failure := _failure(there):
        return msgspec.structs.replace(report, failure=f"on the way there: {failure}")
    return await _back(etcd, report, reason=reason, pace=pace, told=told)


async def _back(
    etcd: Etcd, report: Drilled, *, reason: str, pace: Pace, told: Callable[[str], None]
) -> Drilled:
    """The way home once `home` is ready for it, and the wait until the other site could take over again."""
    home, other = report.home, report.readiness.target
    told(f"          {other} is active; {pace.rest_s:.0f} s of rest, then {home} must be ready again")
    rested = time.monotonic()
    await asyncio.sleep(pace.rest_s)
    again = await _ready_again(etcd, home, until=rested + pace.rest_s + pace.rejoin_within_s)
    if again is None or not again.ready:
        failure = f"{home} is not ready for the way back ({_broken(again)}); {other} stays active"
        return msgspec.structs.replace(report, failure=failure)
    report = msgspec.structs.replace(report, rejoin_s=round(time.monotonic() - rested, 2))
    back = await _move(etcd, home, reason=f"drill, the way back: {reason}", pace=pace, told=told)
    report = msgspec.structs.replace(report, back=back)
    if failed := _failure(back):
        return msgspec.structs.replace(report, failure=f"on the way back: {failed}")
    told(f"          {home} is active; the drill ends when {other} could take over again")
    returned = time.monotonic()
    again = await _ready_again(etcd, other, until=returned + pace.rejoin_within_s)
    if again is None or not again.ready:
        return msgspec.structs.replace(report, failure=f"{other} could not take over again: {_broken(again)}")
    return msgspec.structs.replace(report, ready_again_s=round(time.monotonic() - returned, 2))


async def _move(etcd: Etcd, target: str, *, reason: str, pace: Pace, told: Callable[[str], None]) -> Switched:
    return await switch(etcd, target, reason=reason, dry_run=False, wait_s=pace.switch_within_s, told=told)


async def _ready_again(etcd: Etcd, site: str, *, until: float) -> Readiness | None:
    while True:
        found = await readiness(etcd, site)
        if (found is not None and found.ready) or time.monotonic() >= until:
            return found
        await asyncio.sleep(POLL_S)


def _failure(switched: Switched) -> str | None:
    followed = switched.followed
    return switched.ordered.refusal or (followed.failure if followed else "it was not followed")


def _broken(found: Readiness | None) -> str:
    if found is None:
        return "it is not observed"
    return "; ".join(rule.sentence for rule in found.rules if not rule.holds)
