"""How a datacenter tells the gateways that something changed: a short list of purge tags, signed by the sender.

Invariant: what `verify_notice` accepts came from a known datacenter within the last minute, once, and is bounded.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from datacenters.single_use import SingleUse

SIGNATURE_HEADER = "massar-signature"
PATH = "/internal/purge"
WINDOW_S = 60
TAGS_MAX = 64
TAG_CHARS_MAX = 128
BODY_BYTES_MAX = 65_536  # 64 tags of 128 characters, each escaped at its longest, fit

_NONCE_BYTES = 12
_NONCE_CHARS_MIN = 8
_NONCE_CHARS_MAX = 64
_SENDER_KIND = "datacenter:"
_SIGNATURE = re.compile(r'keyid="([a-z:-]{1,64})", sig=([A-Za-z0-9_-]{86})')

Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=TAG_CHARS_MAX)]


class NoticeRefused(Exception):
    """The notice is not to be believed; the text says why (for logs, never for the sender)."""

    slug: ClassVar[str] = "notice-refused"


class NoticeMalformed(Exception):
    """The notice came from a known sender but says nothing readable within the bounds."""

    slug: ClassVar[str] = "bad-request"


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a datacenter says: the things named by `tags` changed; `at` is Unix seconds."""

    sender: str
    nonce: Annotated[str, msgspec.Meta(min_length=_NONCE_CHARS_MIN, max_length=_NONCE_CHARS_MAX)]
    at: float
    tags: Annotated[tuple[Tag, ...], msgspec.Meta(min_length=1, max_length=TAGS_MAX)]


class SignedNotice(msgspec.Struct, frozen=True):
    """The bytes to POST and the value of the `Massar-Signature` header over them."""

    body: bytes
    signature: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Notice)


def sender_of(site: str) -> str:
    """The name by which the datacenter of `site` signs."""
    return _SENDER_KIND + site


def sign_notice(*, key: Ed25519PrivateKey, site: str, tags: Sequence[str], now: float) -> SignedNotice:
    """A notice of 1 to 64 tags, signed for this moment; repeat it with a new call, never with the same bytes.

    Raises: ValueError when the tags are beyond the bounds.
    """
    if not 1 <= len(tags) <= TAGS_MAX or not all(1 <= len(tag) <= TAG_CHARS_MAX for tag in tags):
        raise ValueError(f"a notice carries 1 to {TAGS_MAX} tags of at most {TAG_CHARS_MAX} characters")
    sender = sender_of(site)
    notice = Notice(sender=sender, nonce=secrets.token_urlsafe(_NONCE_BYTES), at=now, tags=tuple(tags))
    body = _encoder.encode(notice)
    signature = base64.urlsafe_b64encode(key.sign(body)).rstrip(b"=").decode()
    return SignedNotice(body=body, signature=f'keyid="{sender}", sig={signature}')


def verify_notice(
    body: bytes,
    signature: str | None,
    *,
    keys: Mapping[str, Ed25519PublicKey],
    seen: SingleUse,
    now: float,
) -> Notice:
    """The notice in `body` when its signature, time and nonce hold; `keys` are by site of the sender.

    Raises: NoticeRefused (answer 401), NoticeMalformed (answer 400).
    """
    if len(body) > BODY_BYTES_MAX:
        raise NoticeMalformed("too long")
    sender = _signer(body, signature, keys)
    try:
        notice = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise NoticeMalformed(str(error)) from error
    if notice.sender != sender:
        raise NoticeRefused("signed by another sender than it names")
    if abs(now - notice.at) > WINDOW_S:
        raise NoticeRefused("not of this minute")
    # A notice dated in the future stays playable until its own time plus the window.
    if not seen.admit(f"{sender} {notice.nonce}", until=max(now, notice.at) + WINDOW_S, now=now):
        raise NoticeRefused("said before")
    return notice


def _signer(body: bytes, signature: str | None, keys: Mapping[str, Ed25519PublicKey]) -> str:
    match = _SIGNATURE.fullmatch(signature or "")
    if match is None:
        raise NoticeRefused("no readable signature")
    sender = match[1]
    key = keys.get(sender.removeprefix(_SENDER_KIND)) if sender.startswith(_SENDER_KIND) else None
    if key is None:
        raise NoticeRefused("unknown sender")
    try:
        key.verify(base64.urlsafe_b64decode(match[2] + "=="), body)
    except (InvalidSignature, ValueError, binascii.Error) as error:
        raise NoticeRefused("signature does not match") from error
    return sender
