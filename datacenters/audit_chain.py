"""The chain of audit rows: every change of the record for ever, each row sealed into the next; pure.

Invariant: a row carries its number and the digest of the row before it, so that none can be lost, moved, changed or
put in between without breaking the chain at that very place.
What the chain alone cannot show is that its end was cut off: that takes its head, kept in etcd beside it, or a
head that somebody wrote down elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from datacenters.record import Record

DIGEST_OF_NOTHING = "0" * 64
PROBLEMS_SHOWN_MAX = 20


class AuditRow(msgspec.Struct, frozen=True):
    """One change for ever: what it was, what it became (who, when, why and the evidence stand in the latter).

    `previous` is the SHA-256 of the row before, as hex.
    """

    sequence: int
    previous: str
    before: Record | None
    after: Record


class Head(msgspec.Struct, frozen=True):
    """The newest row's number, and the digest of its bytes."""

    sequence: int
    digest: str


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with the row of this number."""

    sequence: int
    sentence: str


class Walk(msgspec.Struct, frozen=True):
    """What walking a chain found: how far it holds, where it breaks first, and what its rows lack.

    `head` and `last` are those of the last row that holds; `volume` is the bytes of all rows.
    """

    rows: int
    volume: int
    head: Head
    last: Record | None
    broken: Problem | None
    lacking: tuple[Problem, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.broken is None and not self.lacking


START = Head(sequence=0, digest=DIGEST_OF_NOTHING)

_encoder = msgspec.json.Encoder()
_row_decoder = msgspec.json.Decoder(AuditRow)
_head_decoder = msgspec.json.Decoder(Head)


def digest(raw: bytes) -> str:
    """What the next row will say of the row with these bytes."""
    return hashlib.sha256(raw).hexdigest()


def extend(head: Head, *, before: Record | None, after: Record) -> tuple[Head, bytes]:
    """The head and the row's bytes that come after `head`."""
    row = AuditRow(sequence=head.sequence + 1, previous=head.digest, before=before, after=after)
    raw = _encoder.encode(row)
    return Head(sequence=row.sequence, digest=digest(raw)), raw


def decode_row(raw: bytes) -> AuditRow:
    """The row in `raw`.

    Raises: msgspec.MsgspecError.
    """
    return _row_decoder.decode(raw)


def encode_head(head: Head) -> bytes:
    """The head as the bytes kept in etcd."""
    return _encoder.encode(head)


def decode_head(raw: bytes) -> Head:
    """The head in `raw`.

    Raises: msgspec.MsgspecError.
    """
    return _head_decoder.decode(raw)


def walk(rows: Iterable[bytes]) -> Walk:
    """Follow the rows, oldest first, as far as they hold together."""
    head, last, count, volume = START, None, 0, 0
    broken: Problem | None = None
    lacking: list[Problem] = []
    for raw in rows:
        count += 1
        volume += len(raw)
        if broken is not None:
            continue
        sentence = _break(head, last, raw)
        if sentence is not None:
            broken = Problem(sequence=head.sequence + 1, sentence=sentence)
            continue
        row = decode_row(raw)
        head, last = Head(sequence=row.sequence, digest=digest(raw)), row.after
        if _moved(row) and not row.after.evidence and len(lacking) < PROBLEMS_SHOWN_MAX:
            lacking.append(
                Problem(row.sequence, f"epoch {row.after.epoch} was declared without any evidence")
            )
    return Walk(rows=count, volume=volume, head=head, last=last, broken=broken, lacking=tuple(lacking))


def ends_as(found: Walk, *, head: Head | None, declared: Record | None, epoch: bytes | None) -> Walk:
    """The walk with what etcd holds beside the chain compared to its end: the head, the record, the epoch."""
    if found.broken is not None:
        return found
    sentences = [
        *_head_sentences(found, head),
        *(["the record in etcd is not the one the last row declared"] if declared != found.last else []),
        *(
            ["the epoch in etcd is not the last row's"]
            if found.last is not None and epoch != str(found.last.epoch).encode()
            else []
        ),
    ]
    if not sentences:
        return found
    return msgspec.structs.replace(
        found, broken=Problem(sequence=found.head.sequence + 1, sentence="; ".join(sentences))
    )


def against_head(found: Walk, head: Head) -> Walk:
    """The walk compared to a head that was written down elsewhere."""
    sentences = _head_sentences(found, head)
    if found.broken is not None or not sentences:
        return found
    return msgspec.structs.replace(
        found, broken=Problem(sequence=found.head.sequence + 1, sentence="; ".join(sentences))
    )


def passing(found: Walk, rows: Sequence[bytes], head: Head) -> Walk:
    """The walk of `rows` compared to a head of an earlier moment, through which they must lead."""
    earlier = against_head(walk(rows[: head.sequence]), head)
    if found.broken is not None or earlier.broken is None:
        return found
    return msgspec.structs.replace(found, broken=earlier.broken)


def export(rows: Sequence[bytes], head: Head) -> bytes:
    """The chain as a file: one row a line in its very bytes, and the head as the last line."""
    return b"".join(raw + b"\n" for raw in rows) + _encoder.encode({"head": head}) + b"\n"


class _Tail(msgspec.Struct, forbid_unknown_fields=True):
    head: Head


def read_export(content: bytes) -> tuple[tuple[bytes, ...], Head | None]:
    """The rows and the head of an exported file; None when its last line is no head (it was cut off)."""
    lines = content.splitlines()
    if not lines:
        return (), None
    try:
        return tuple(lines[:-1]), msgspec.json.decode(lines[-1], type=_Tail).head
    except msgspec.MsgspecError:
        return tuple(lines), None


def _break(head: Head, last: Record | None, raw: bytes) -> str | None:
    """Why `raw` cannot be the row after `head`, or None."""
    try:
        row = decode_row(raw)
    except msgspec.MsgspecError as error:
        return f"the row is unreadable: {error}"
    if row.sequence != head.sequence + 1:
        return (
            f"row {row.sequence} stands where row {head.sequence + 1} belongs: rows were lost, moved or added"
        )
    if row.previous != head.digest:
        return (
            f"row {row.sequence} names another row before it than row {head.sequence} is: "
            "one of the two was changed"
        )
    if row.before != last:
        return f"row {row.sequence} began from a record that no row declared"
    if row.before is not None and row.after.epoch < row.before.epoch:
        return f"the epoch falls from {row.before.epoch} to {row.after.epoch}"
    return None


def _moved(row: AuditRow) -> bool:
    return row.before is not None and row.after.epoch > row.before.epoch


def _head_sentences(found: Walk, head: Head | None) -> list[str]:
    if head is None:
        return ["the head of the chain is missing"] if found.rows else []
    if head == found.head:
        return []
    if head.sequence > found.head.sequence:
        return [f"the rows end at {found.head.sequence}, the head is at {head.sequence}: the end was cut off"]
    if head.sequence < found.head.sequence:
        return [f"the head is at {head.sequence}, but there are rows up to {found.head.sequence}"]
    return [f"row {head.sequence} is not the one whose digest the head keeps"]
