"""Journal records that could not be replayed as they were acknowledged, and what a human decides about each.

A replay that comes out otherwise than the phone was told parks that record and the later ones of the same ordering
key; all others go on. Parked records count as lost until somebody has resolved them here.
Invariant: what was decided, by whom and why is in the audit chain before the first key is removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from datacenters import control, etcd_keys
from datacenters.etcd import Delete, Etcd, Put
from datacenters.record import SERVING_PHASES, Record, Refusal

SHOWN_MAX = 50


class Parked(msgspec.Struct, frozen=True):
    """One parked record: where it stood in the history it was acknowledged in, and its name; its content is sealed."""

    key: str
    timeline: int
    lsn: int
    name: str
    volume: int


class Waiting(msgspec.Struct, frozen=True):
    """The parked records of one ordering key (given by its digest), in their order."""

    ordering: str
    records: tuple[Parked, ...]


class Resolution(StrEnum):
    """What may be decided about an ordering key's records."""

    DISCARD = "discard"
    RETRY = "retry"


class Decision(msgspec.Struct, frozen=True):
    """Who decided it, why and when (Unix seconds)."""

    by: str
    reason: str
    now: float


# Does what was decided and says so in a sentence, or says why it cannot. Raises: EtcdUnavailable.
Resolve = Callable[[Etcd, Waiting, Decision], Awaitable[str | Refusal]]


async def waiting(etcd: Etcd, *, serializable: bool = False) -> tuple[Waiting, ...]:
    """Every ordering key with parked records.

    Raises: EtcdUnavailable.
    """
    listing = await etcd.range(etcd_keys.PARKED, prefix=True, serializable=serializable)
    found: dict[str, list[Parked]] = {}
    for item in sorted(listing.items, key=lambda item: item.key):
        parts = item.key.removeprefix(etcd_keys.PARKED).split("/")
        if len(parts) != 4 or not parts[1].isdecimal() or not parts[2].isdecimal():
            continue  # nothing of ours
        parked = Parked(item.key, int(parts[1]), int(parts[2]), parts[3], len(item.value))
        found.setdefault(parts[0], []).append(parked)
    return tuple(Waiting(ordering, tuple(records)) for ordering, records in found.items())


async def discard(etcd: Etcd, doomed: Waiting, decision: Decision) -> str | Refusal:
    """Declare the records lost for good: the audit chain says which, by whom and why; then they are removed."""
    held = await control.read(etcd)
    if held is None:
        return Refusal("nothing was ever declared in this etcd")
    after = _noted(held.record, doomed, decision, resolution=Resolution.DISCARD)
    if isinstance(after, Refusal):
        return after
    if not await control.change(etcd, held, after):
        return Refusal("the record changed meanwhile; look again")
    for parked in doomed.records:
        await etcd.delete(parked.key)
    return f"{len(doomed.records)} records of {doomed.ordering} are declared lost and removed"


async def retry(etcd: Etcd, again: Waiting, decision: Decision) -> str | Refusal:
    """Have the active datacenter judge the records once more: its own site's director takes them up."""
    held = await control.read(etcd)
    if held is None:
        return Refusal("nothing was ever declared in this etcd")
    after = _noted(held.record, again, decision, resolution=Resolution.RETRY)
    if isinstance(after, Refusal):
        return after
    if not await control.change(etcd, held, after):
        return Refusal("the record changed meanwhile; look again")
    for parked in again.records:
        found = await etcd.read(parked.key)
        if found is not None:
            await etcd.transact(
                unchanged={parked.key: found.value},
                puts=(Put(etcd_keys.retried(again.ordering, parked.key), found.value),),
                deletes=(Delete(parked.key),),
            )
    return f"{len(again.records)} records of {again.ordering} are judged once more; what mismatches is parked again"


RESOLUTIONS: Mapping[Resolution, Resolve] = MappingProxyType({
    Resolution.DISCARD: discard,
    Resolution.RETRY: retry,
})  # fmt: skip


def _noted(
    record: Record, resolved: Waiting, decision: Decision, *, resolution: Resolution
) -> Record | Refusal:
    if record.phase not in SERVING_PHASES:
        return Refusal(f"a move is under way (phase {record.phase}); wait for its end")
    named = [f"{parked.timeline}-{parked.lsn}/{parked.name}" for parked in resolved.records]
    word = {Resolution.DISCARD: "discarded", Resolution.RETRY: "retried"}[resolution]
    return msgspec.structs.replace(
        record,
        reason=f"parked records of {resolved.ordering} {word}: {decision.reason}",
        evidence={word: named, "ordering": resolved.ordering},
        decided_by=decision.by,
        decided_at=decision.now,
    )
