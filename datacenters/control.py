"""Reading and changing the record in etcd: one transaction per change, with the audit row inside it.

Invariant: nothing is written unless the whole previous record and the epoch are still what the decision saw.
"""

from __future__ import annotations

import msgspec

from datacenters import etcd_keys, record
from datacenters.etcd import Etcd, Put
from datacenters.record import Policy, Protection, Record

INSTALLATION = "installation"
AUDIT_ROWS_SHOWN_MAX = 100
# What a write compares beside the epoch: whether it has to leave a journal record.
PROTECTED = b"journal"
UNPROTECTED = b"none"


class Held(msgspec.Struct, frozen=True):
    """The record as it lies in etcd: its meaning, and the very bytes a change must compare."""

    record: Record
    raw: bytes


class AuditRow(msgspec.Struct, frozen=True):
    """One change for ever: what it was, what it became (who, when, why and the evidence stand in the latter)."""

    before: Record | None
    after: Record


_row_encoder = msgspec.json.Encoder()
_row_decoder = msgspec.json.Decoder(AuditRow)


async def read(etcd: Etcd) -> Held | None:
    """The record as a majority has it now, or None before installation.

    Raises: EtcdUnavailable, msgspec.MsgspecError.
    """
    found = await etcd.read(etcd_keys.CONTROL)
    return None if found is None else Held(record=record.decode(found.value), raw=found.value)


async def change(etcd: Etcd, held: Held, after: Record) -> bool:
    """Write `after` if nothing changed since `held` was read; False when somebody else was first.

    Raises: EtcdUnavailable; with `maybe_applied` only reading again tells. ValueError when the epoch would fall.
    """
    if after.epoch < held.record.epoch:
        raise ValueError(f"epoch {after.epoch} after {held.record.epoch}: epochs never fall")
    row = AuditRow(before=held.record, after=after)
    done = await etcd.transact(
        unchanged={
            etcd_keys.CONTROL: held.raw,
            etcd_keys.EPOCH: _epoch(held.record),
            etcd_keys.audit(after.epoch, after.decided_at): None,  # a row is never written over
        },
        puts=_puts(row),
    )
    return done.succeeded


async def bootstrap(etcd: Etcd, *, active: str, now: float, policy: Policy | None = None) -> Record:
    """Declare `active` at epoch 1 if nothing was ever declared; the record that stands afterwards.

    Raises: EtcdUnavailable.
    """
    after = record.first(active=active, by=INSTALLATION, now=now, policy=policy)
    await etcd.transact(
        unchanged={etcd_keys.CONTROL: None, etcd_keys.EPOCH: None},
        puts=_puts(AuditRow(before=None, after=after)),
    )
    held = await read(etcd)
    if held is None:
        raise RuntimeError("an epoch without a record: somebody removed the record by hand")
    return held.record


async def audit(etcd: Etcd) -> tuple[AuditRow, ...]:
    """The latest changes, oldest first."""
    listing = await etcd.range(etcd_keys.AUDIT, prefix=True)
    rows = sorted(listing.items, key=lambda item: item.key)[-AUDIT_ROWS_SHOWN_MAX:]
    return tuple(_row_decoder.decode(item.value) for item in rows)


def _puts(row: AuditRow) -> tuple[Put, ...]:
    after = row.after
    return (
        Put(etcd_keys.CONTROL, record.encode(after)),
        Put(etcd_keys.EPOCH, _epoch(after)),
        Put(etcd_keys.PROTECTION, UNPROTECTED if after.protection is Protection.NONE else PROTECTED),
        Put(etcd_keys.audit(after.epoch, after.decided_at), _row_encoder.encode(row)),
    )


def _epoch(of: Record) -> bytes:
    return str(of.epoch).encode()
