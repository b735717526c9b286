"""Content codings of answers: made once when an entry is filled, chosen per request.

Invariant: a coding is kept only where it saves bytes, and sent only to who accepts it; identity goes to everybody else.
Source: RFC 9110 §8.4 and §12.5.3, RFC 7932 (br), RFC 8878 (zstd), RFC 1952 (gzip).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Container

import brotli
import zstandard

from cache.http.fields import weighted

IDENTITY = "identity"
# Best first, where the caller likes two of them equally.
CODINGS = ("br", "zstd", "gzip")
# Below it headers weigh more than what a coding saves.
CODED_BYTES_MIN = 256
# What a coding has to save to be worth its room in both tiers.
CODED_SHARE_MAX = 0.9
ACCEPT_ENCODING_BYTES_MAX = 256
MEMO_MAX = 1024

_BROTLI_QUALITY = 4
_BROTLI_WINDOW_BITS = 16  # 64 KB: most answers are smaller, and a larger window costs more to set up
_ZSTD_LEVEL = 3
_KEPT_FOR_BYTES_MAX = 16_384
_GZIP_LEVEL = 6
_GZIP_WINDOW_BITS = 31  # 15 bits of window, and 16 for the gzip wrapper

Coded = tuple[tuple[str, bytes], ...]

_memo: dict[bytes, tuple[str, ...]] = {}


class _Compressors(threading.local):
    """Made once for each thread: to make one costs four times what 1.4 KB do, and none may be used by two at once."""

    def __init__(self) -> None:
        self._zstd = _zstd_compressor()

    def zstd(self, size_bytes: int) -> zstandard.ZstdCompressor:
        """One for a body of this size; it keeps the room that it needed, so a large body has one of its own."""
        return self._zstd if size_bytes <= _KEPT_FOR_BYTES_MAX else _zstd_compressor()


def _zstd_compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL)


_compressors = _Compressors()


def encode(body: bytes) -> Coded:
    """`body` in every coding that makes it smaller by a tenth at least, in the order of `CODINGS`."""
    if len(body) < CODED_BYTES_MIN:
        return ()
    made = (
        ("br", brotli.compress(body, quality=_BROTLI_QUALITY, lgwin=_BROTLI_WINDOW_BITS)),
        ("zstd", _compressors.zstd(len(body)).compress(body)),
        ("gzip", zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW_BITS)),
    )
    most = len(body) * CODED_SHARE_MAX
    return tuple((coding, coded) for coding, coded in made if len(coded) <= most)


def accepted(accept_encoding: bytes | None) -> tuple[str, ...]:
    """The codings to look for, best first; identity ends the search and is not among them.

    A header of absurd length accepts nothing but identity. Source: RFC 9110 §12.5.3.
    """
    if not accept_encoding or len(accept_encoding) > ACCEPT_ENCODING_BYTES_MAX:
        return ()
    known = _memo.get(accept_encoding)
    if known is None:
        if len(_memo) >= MEMO_MAX:
            _memo.clear()
        known = _memo[accept_encoding] = _negotiate(accept_encoding.decode("latin-1"))
    return known


def choose(codings: Container[str], accept_encoding: bytes | None) -> str:
    """The best of `codings` for this `Accept-Encoding` value, else identity."""
    for coding in accepted(accept_encoding):
        if coding in codings:
            return coding
    return IDENTITY


def coded_etag(etag: bytes, coding: str) -> bytes:
    """The strong tag of one coding's bytes; identity's is the entry's own. Source: RFC 9110 §8.8.3.3."""
    return etag if coding == IDENTITY else etag[:-1] + b"-" + coding.encode() + b'"'


def _negotiate(header: str) -> tuple[str, ...]:
    wanted = {coding: weight for weight, coding in weighted(header)}
    others = wanted.get("*", 0.0)
    # Identity is acceptable unless it is excluded, but only who weighs it prefers it.
    identity = wanted.get(IDENTITY, 0.0)
    liked = {coding: wanted.get(coding, others) for coding in CODINGS}
    found = [coding for coding in CODINGS if liked[coding] > 0 and liked[coding] >= identity]
    return tuple(sorted(found, key=lambda coding: -liked[coding]))
