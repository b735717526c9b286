"""AES-256-GCM around journal records: who reads etcd learns that there was a write, and nothing of it.

Invariant: what opens was sealed by a key of this ring, under exactly this record's name. The witness has no key.
Random 96-bit nonces: a key must be replaced before 2^32 seals (Source: NIST SP 800-38D §8.3), which is eight months
of 200 writes a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_HEAD_BYTES = 1 + NONCE_BYTES


class SealBroken(Exception):
    """Not sealed by us, not under this name, or damaged."""

    slug: ClassVar[str] = "internal"


class JournalKeys(msgspec.Struct, frozen=True):
    """A ring of keys by a number below 256: `current` seals, all open. Keys never show in a repr."""

    current: int
    keys: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"JournalKeys(current={self.current}, kids={sorted(self.keys)})"

    @classmethod
    def parse(cls, text: str) -> JournalKeys:
        """Read a key file: one `[kid ]hex` a line, the current one first; a line without kid has kid 0.

        Raises: ValueError, which never contains key material.
        """
        keys: dict[int, bytes] = {}
        for line in text.splitlines():
            kid_text, _, hexadecimal = line.strip().rpartition(" ")
            if not hexadecimal:
                continue
            kid, key = _parsed(kid_text or "0", hexadecimal)
            if kid in keys:
                raise ValueError(f"journal key {kid} stands twice")
            keys[kid] = key
        if not keys:
            raise ValueError("the journal key file is empty")
        return cls(current=next(iter(keys)), keys=keys)


class JournalSeal:
    """Seals and opens with a ring of keys."""

    def __init__(self, keys: JournalKeys) -> None:
        self._ring = {kid: AESGCM(key) for kid, key in keys.keys.items()}
        self._current = self._ring[keys.current]
        self._kid = bytes([keys.current])

    @classmethod
    def load(cls, path: Path) -> JournalSeal:
        """The seal of the key file at `path`.

        Raises: ValueError, OSError.
        """
        return cls(JournalKeys.parse(path.read_text("ascii")))

    def seal(self, plain: bytes, name: bytes) -> bytes:
        """Key id, nonce, ciphertext and tag; `name` must be given again to open."""
        nonce = os.urandom(NONCE_BYTES)
        return self._kid + nonce + self._current.encrypt(nonce, plain, self._kid + name)

    def open(self, sealed: bytes, name: bytes) -> bytes:
        """What was sealed under this name.

        Raises: SealBroken.
        """
        if len(sealed) < _HEAD_BYTES + TAG_BYTES:
            raise SealBroken("too short")
        key = self._ring.get(sealed[0])
        if key is None:
            raise SealBroken("sealed by a key that is not in the ring")
        try:
            return key.decrypt(sealed[1:_HEAD_BYTES], sealed[_HEAD_BYTES:], sealed[:1] + name)
        except InvalidTag:
            raise SealBroken("damaged, or sealed under another name") from None


def _parsed(kid: str, hexadecimal: str) -> tuple[int, bytes]:
    try:
        number, key = int(kid), bytes.fromhex(hexadecimal)
    except ValueError:
        raise ValueError("a journal key is written as `[number ]hexadecimal`") from None
    if not 0 <= number < 256 or len(key) != KEY_BYTES:
        raise ValueError(f"a journal key has {KEY_BYTES} bytes and a number below 256")
    return number, key
