"""What the tiers keep: an answer's bytes with all that decides whether they may be shown again.

Invariant: an entry is immutable; its `generations` were read before the fetch began, so a purge that ran
beside the fetch always outdates it. Fields are only ever appended, with defaults.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b

import msgspec

from cache.coding import Coded

Position = tuple[int, int]
NOWHERE: Position = (0, 0)
ETAG_DIGEST_BYTES = 18  # 24 characters of base64, no padding


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A stored answer.

    `etag`: strong, quoted, over view and body. `stored_at`: Unix seconds at which the fetch began, less the age
    the origin gave. `position`: (timeline, LSN) of the datacenter when it answered. `generations[i]` belongs to
    `tags[i]`. `last_modified` and `origin_etag` as the origin wrote them. `max_age_s`: the origin's own limit. `coded`:
    the body in other content codings, by name.
    """

    body: bytes
    etag: bytes
    stored_at: float
    epoch: int
    position: Position
    tags: tuple[str, ...]
    generations: tuple[int, ...]
    last_modified: str | None = None
    status: int = 200
    origin_etag: str | None = None
    max_age_s: float | None = None
    coded: Coded = ()


class EntryBroken(Exception):
    """The bytes are no entry of this schema; treated as a miss and never shown."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The entry as MessagePack."""
    return _encoder.encode(entry)


def decode(raw: bytes) -> Entry:
    """Read what `encode` wrote. Raises `EntryBroken`."""
    try:
        entry = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EntryBroken(str(error)) from error
    if len(entry.tags) != len(entry.generations):
        raise EntryBroken("tags and generations differ in number")
    return entry


def make_etag(view: str, body: bytes) -> bytes:
    """A strong, quoted entity tag: equal exactly when view and bytes are. Source: RFC 9110 §8.8.3."""
    digest = blake2b(body, digest_size=ETAG_DIGEST_BYTES, key=view.encode()[:64])
    return b'"' + urlsafe_b64encode(digest.digest()) + b'"'
