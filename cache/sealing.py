"""AES-256-GCM around everything that leaves the process for Valkey.

Invariant: what opens was sealed by a key of this ring, for exactly this name; anything else is `SealBroken`, which
the cache counts and treats as a miss. Random 96-bit nonces: a key must be replaced before 2^32 seals
(Source: NIST SP 800-38D §8.3), which is 50 days of a thousand fills a second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
KID_MAX = 255
_NAMES = "names"
_HEAD_BYTES = 1 + NONCE_BYTES


class SealBroken(Exception):
    """Not sealed by us, not for this name, or damaged; never leaves the package."""


class SealingKeys(msgspec.Struct, frozen=True):
    """A ring of keys: `current` seals, all open. Keys never show in a repr.

    `names` is what names outside the process come from, so that keys come and go and names stay; without it they come
    from the oldest key, and change when that one is taken out.
    """

    current: int
    keys: Mapping[int, bytes]
    names: bytes | None = None

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise ValueError("the current key is not in the ring")
        if any(not 0 <= kid <= KID_MAX for kid in self.keys):
            raise ValueError("a key id is one byte")
        if any(len(key) != KEY_BYTES for key in (*self.keys.values(), self._named_by)):
            raise ValueError(f"a sealing key is {KEY_BYTES} bytes")

    def __repr__(self) -> str:
        return f"SealingKeys(current={self.current}, kids={sorted(self.keys)})"

    @classmethod
    def parse(cls, text: str) -> SealingKeys:
        """Read a key file: one `[kid ]hex` a line, the current one first; a line without kid has kid 0.

        One line more, anywhere, may be `names hex`: the secret for names. With the hex of the oldest key (the last line)
        the names are those that they were without it.
        Raises `ValueError`, which never contains key material.
        """
        keys: dict[int, bytes] = {}
        names: bytes | None = None
        for line in text.split("\n"):
            word, _, key = line.strip().rpartition(" ")
            word = word.rstrip()
            if not key:
                continue
            if word == _NAMES:
                if names is not None:
                    raise ValueError("the secret for names stands twice in the sealing key file")
                names = _from_hex(key)
                continue
            kid = _kid(word)
            if kid in keys:
                raise ValueError("a key id stands twice in the sealing key file")
            keys[kid] = _from_hex(key)
        if not keys:
            raise ValueError("the sealing key file holds no key")
        return cls(current=next(iter(keys)), keys=keys, names=names)

    @property
    def name_secret(self) -> bytes:
        """The secret for names outside the process."""
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"massar cache names").derive(
            self._named_by
        )

    @property
    def _named_by(self) -> bytes:
        return self.names if self.names is not None else list(self.keys.values())[-1]


class Sealer:
    """Seals and opens with a ring of keys."""

    def __init__(self, keys: SealingKeys) -> None:
        self._ring = {kid: AESGCM(_body_key(key)) for kid, key in keys.keys.items()}
        self._current = self._ring[keys.current]
        self._kid = bytes([keys.current])

    def seal(self, plain: bytes, name: bytes) -> bytes:
        """Key id, nonce, ciphertext and tag; `name` must be given again to open."""
        nonce = os.urandom(NONCE_BYTES)
        return self._kid + nonce + self._current.encrypt(nonce, plain, self._kid + name)

    def open(self, sealed: bytes, name: bytes) -> bytes:
        """What was sealed under this name. Raises `SealBroken`."""
        if len(sealed) < _HEAD_BYTES + TAG_BYTES:
            raise SealBroken("too short")
        key = self._ring.get(sealed[0])
        if key is None:
            raise SealBroken("unknown key id")
        try:
            return key.decrypt(sealed[1:_HEAD_BYTES], sealed[_HEAD_BYTES:], sealed[:1] + name)
        except InvalidTag:
            raise SealBroken("damaged, or sealed for another name") from None


def _body_key(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"massar cache bodies").derive(key)


def _kid(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= len(str(KID_MAX))):
        raise ValueError("a key id is one byte, written in decimal")
    return int(text or 0)


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("a sealing key is written in hexadecimal") from None
