"""Reading and changing the record in etcd: one transaction per change, with the audit row inside it.

Invariant: nothing is written unless the whole previous record, the epoch and the audit chain's head are still what the
decision saw, so that no row of the chain is lost, moved or written twice.
A row holds two records and the evidence, some kilobytes; automatic moves are bounded by the policy, all others are a
human's. `massar doctor` says when the chain has grown beyond what etcd should hold.
"""

from __future__ import annotations

import contextlib
import itertools

import msgspec

from datacenters import audit_chain, etcd_keys, record
from datacenters.audit_chain import AuditRow, Head
from datacenters.etcd import Etcd, KeyValue, Listing, Put
from datacenters.record import Policy, Protection, Record

INSTALLATION = "installation"
AUDIT_ROWS_SHOWN_MAX = 100
SNAPSHOT_TRIES_MAX = 5
# What a write compares beside the epoch: whether it has to leave a journal record.
PROTECTED = b"journal"
UNPROTECTED = b"none"


class Held(msgspec.Struct, frozen=True):
    """The record as it lies in etcd: its meaning, and the very bytes a change must compare."""

    record: Record
    raw: bytes


class Chain(msgspec.Struct, frozen=True):
    """The audit chain as it lies in etcd beside what it ends in; rows are their very bytes, oldest first."""

    rows: tuple[bytes, ...]
    head: Head | None
    declared: Record | None
    epoch: bytes | None

    def walked(self) -> audit_chain.Walk:
        """What following it finds, its end compared to the head, the record and the epoch."""
        return audit_chain.ends_as(
            audit_chain.walk(self.rows), head=self.head, declared=self.declared, epoch=self.epoch
        )


async def read(etcd: Etcd, *, serializable: bool = False) -> Held | None:
    """The record as a majority has it now, or None before installation; `serializable`: as one member last knew it.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    found = await etcd.read(etcd_keys.CONTROL, serializable=serializable)
    return None if found is None else Held(record=record.decode(found.value), raw=found.value)


async def change(etcd: Etcd, held: Held, after: Record) -> bool:
    """Write `after` if nothing changed since `held` was read; False when somebody else was first.

    Raises: EtcdUnavailable; with `maybe_applied` only reading again tells. ValueError when the epoch would fall.
    """
    if after.epoch < held.record.epoch:
        raise ValueError(f"epoch {after.epoch} after {held.record.epoch}: epochs never fall")
    raw_head, head = await _head(etcd)
    done = await etcd.transact(
        unchanged={
            etcd_keys.CONTROL: held.raw,
            etcd_keys.EPOCH: _epoch(held.record),
            etcd_keys.AUDIT_HEAD: raw_head,
            etcd_keys.audit(head.sequence + 1): None,  # a row is never written over
        },
        puts=_puts(head, held.record, after),
    )
    return done.succeeded


async def bootstrap(etcd: Etcd, *, active: str, now: float, policy: Policy | None = None) -> Record:
    """Declare `active` at epoch 1 if nothing was ever declared; the record that stands afterwards.

    Raises: EtcdUnavailable.
    """
    after = record.first(active=active, by=INSTALLATION, now=now, policy=policy)
    await etcd.transact(
        unchanged={etcd_keys.CONTROL: None, etcd_keys.EPOCH: None, etcd_keys.AUDIT_HEAD: None},
        puts=_puts(audit_chain.START, None, after),
    )
    held = await read(etcd)
    if held is None:
        raise RuntimeError("an epoch without a record: somebody removed the record by hand")
    return held.record


async def audit(etcd: Etcd) -> tuple[AuditRow, ...]:
    """The latest changes, oldest first.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    rows = _rows(await etcd.range(etcd_keys.AUDIT, prefix=True))
    return tuple(audit_chain.decode_row(row.value) for row in rows[-AUDIT_ROWS_SHOWN_MAX:])


async def chain(etcd: Etcd, *, serializable: bool = False) -> Chain:
    """The whole audit chain with its head and the record, all as of one moment.

    Raises: EtcdUnavailable, msgspec.MsgspecError (an unreadable head or record; rows are not looked into).
    """
    tries = itertools.count(1)
    while True:
        listing = await etcd.range(etcd_keys.AUDIT_AND_HEAD, prefix=True, serializable=serializable)
        declared = await etcd.read(etcd_keys.CONTROL, serializable=serializable)
        epoch = await etcd.read(etcd_keys.EPOCH, serializable=serializable)
        newest = max((item.revision for item in (declared, epoch) if item is not None), default=0)
        if newest <= listing.revision or next(tries) >= SNAPSHOT_TRIES_MAX:
            break  # neither has changed since the rows were read
    head = next((item.value for item in listing.items if item.key == etcd_keys.AUDIT_HEAD), None)
    return Chain(
        rows=tuple(row.value for row in _rows(listing)),
        head=None if head is None else audit_chain.decode_head(head),
        declared=None if declared is None else record.decode(declared.value),
        epoch=None if epoch is None else epoch.value,
    )


async def _head(etcd: Etcd) -> tuple[bytes | None, Head]:
    """The head as it lies in etcd, and what it says.

    Where somebody has removed or spoiled it, the last row's: a move must not wait for the chain to be mended.
    """
    found = await etcd.read(etcd_keys.AUDIT_HEAD)
    raw = None if found is None else found.value
    if raw is not None:
        with contextlib.suppress(msgspec.MsgspecError):
            return raw, audit_chain.decode_head(raw)
    rows = _rows(await etcd.range(etcd_keys.AUDIT, prefix=True))
    if not rows:
        return raw, audit_chain.START
    sequence = int(rows[-1].key.removeprefix(etcd_keys.AUDIT))
    return raw, Head(sequence=sequence, digest=audit_chain.digest(rows[-1].value))


def _rows(listing: Listing) -> list[KeyValue]:
    """The rows by their number; what else lies there is none of ours."""
    found = [
        item
        for item in listing.items
        if item.key.startswith(etcd_keys.AUDIT) and item.key.removeprefix(etcd_keys.AUDIT).isdecimal()
    ]
    return sorted(found, key=lambda item: item.key)


def _puts(head: Head, before: Record | None, after: Record) -> tuple[Put, ...]:
    head, row = audit_chain.extend(head, before=before, after=after)
    return (
        Put(etcd_keys.CONTROL, record.encode(after)),
        Put(etcd_keys.EPOCH, _epoch(after)),
        Put(etcd_keys.PROTECTION, UNPROTECTED if after.protection is Protection.NONE else PROTECTED),
        Put(etcd_keys.AUDIT_HEAD, audit_chain.encode_head(head)),
        Put(etcd_keys.audit(head.sequence), row),
    )


def _epoch(of: Record) -> bytes:
    return str(of.epoch).encode()
