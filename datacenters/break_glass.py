"""The two-person order for when etcd's majority is lost for good: what is stated, who has signed it, what it allows.

Invariant: nothing is declared by it unless two different people's keys have signed the same statement, within its
quarter of an hour, about the very epoch that the surviving member holds; both names go into the audit chain.
Source: docs/decisions/0017.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from datacenters.record import Phase, Record, Refusal, Rule

VALID_S = 900.0
# Two people's clocks may differ; a statement from further in the future than this is none.
CLOCK_TOLERANCE_S = 60.0
SIGNATURES_MIN = 2
SIGNATURES_MAX = 4
REASON_CHARS_MAX = 500
NONCE_BYTES = 16
OTHERS_ARE_OFF = (
    "The other sites' etcd members are destroyed, powered off or cut off for good; I have made sure."
)
# What a signature is about, so that none made for another purpose counts.
_PURPOSE = b"massar break-glass 1\n"


class Statement(msgspec.Struct, frozen=True):
    """What is asked: `site` is to serve at the epoch after `epoch`; times are Unix seconds."""

    site: str
    epoch: int
    reason: str
    others: str
    nonce: str
    prepared_at: float
    valid_until: float


class Signature(msgspec.Struct, frozen=True):
    """One operator's Ed25519 signature (base64) under the statement."""

    by: str
    signature: str


class Order(msgspec.Struct, frozen=True):
    """A statement with the signatures it has so far: the content of the file that goes from hand to hand."""

    statement: Statement
    signatures: tuple[Signature, ...]


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Order)


def encode(order: Order) -> bytes:
    """The order as a file's content."""
    return msgspec.json.format(_encoder.encode(order), indent=1) + b"\n"


def decode(raw: bytes) -> Order:
    """The order in a file.

    Raises: msgspec.MsgspecError.
    """
    return _decoder.decode(raw)


def prepare(*, site: str, epoch: int, reason: str, key: Ed25519PrivateKey, by: str, now: float) -> Order:
    """A new statement, valid from now for a quarter of an hour, under its first signature."""
    statement = Statement(
        site=site,
        epoch=epoch,
        reason=reason,
        others=OTHERS_ARE_OFF,
        nonce=secrets.token_hex(NONCE_BYTES),
        prepared_at=now,
        valid_until=now + VALID_S,
    )
    return Order(statement=statement, signatures=(_signed(statement, key, by),))


def approve(order: Order, *, key: Ed25519PrivateKey, by: str, now: float) -> Order | Refusal:
    """The order under a further signature, of somebody else."""
    if any(signature.by == by for signature in order.signatures):
        return Refusal(f"{by} has signed already: the second signature is another person's")
    if now > order.statement.valid_until:
        return Refusal("the statement has run out: prepare a new one")
    if len(order.signatures) >= SIGNATURES_MAX:
        return Refusal("it has more signatures than anybody needs")
    return msgspec.structs.replace(order, signatures=(*order.signatures, _signed(order.statement, key, by)))


def rules(
    order: Order, *, keys: Mapping[str, Ed25519PublicKey], record: Record, now: float
) -> tuple[Rule, ...]:
    """Every rule of the order against the record of the surviving member; all must hold."""
    stated = order.statement
    good = signers(order, keys=keys)
    people = {keys[name].public_bytes_raw() for name in good}
    lasts_s = stated.valid_until - stated.prepared_at
    fresh = stated.prepared_at - CLOCK_TOLERANCE_S <= now <= stated.valid_until
    unknown = [one.by for one in order.signatures if one.by not in good]
    return (
        Rule(
            "two-people",
            len(people) >= SIGNATURES_MIN,
            f"{len(people)} different people's keys have signed ({', '.join(good) or 'nobody'}), "
            f"{SIGNATURES_MIN} are asked",
        ),
        Rule(
            "signatures-hold",
            not unknown,
            f"no valid signature of a known key: {', '.join(unknown)}"
            if unknown
            else "every signature holds",
        ),
        Rule(
            "fresh",
            fresh and lasts_s <= VALID_S,
            f"prepared {now - stated.prepared_at:.0f} s ago, valid for {lasts_s:.0f} s, at most {VALID_S:.0f}",
        ),
        Rule(
            "this-epoch",
            stated.epoch == record.epoch,
            f"stated at epoch {stated.epoch}, the surviving member holds epoch {record.epoch}",
        ),
        Rule(
            "others-are-off",
            stated.others == OTHERS_ARE_OFF,
            "both have stated that the other members are off for good"
            if stated.others == OTHERS_ARE_OFF
            else "it is not stated that the other members are off for good",
        ),
    )


def signers(order: Order, *, keys: Mapping[str, Ed25519PublicKey]) -> tuple[str, ...]:
    """Who has signed, by the known keys that hold; sorted, each once."""
    said = message(order.statement)
    return tuple(
        sorted({one.by for one in order.signatures if one.by in keys and _holds(one, keys[one.by], said)})
    )


def declared(record: Record, order: Order, *, by: tuple[str, ...], now: float) -> Record:
    """The record by which the stated site serves, or takes over, at the next epoch."""
    stated = order.statement
    stays = record.active == stated.site
    return msgspec.structs.replace(
        record,
        epoch=record.epoch + 1,
        phase=Phase.ACTIVE if stays else Phase.PROMOTING,
        target=None if stays else stated.site,
        planned=False,
        frozen_position=None,
        switch_position=None,
        reason=f"break-glass: {stated.reason}",
        evidence={"break_glass": msgspec.to_builtins(stated), "signed_by": list(by)},
        decided_by=f"operators:{'+'.join(by)}",
        decided_at=now,
    )


def message(statement: Statement) -> bytes:
    """What is signed."""
    return _PURPOSE + _encoder.encode(statement)


def _signed(statement: Statement, key: Ed25519PrivateKey, by: str) -> Signature:
    return Signature(by=by, signature=base64.b64encode(key.sign(message(statement))).decode())


def _holds(signature: Signature, key: Ed25519PublicKey, said: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature.signature, validate=True), said)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
