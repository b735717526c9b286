"""The EC P-256 keys that tokens are signed with, read from a folder of `<kid>.pem` files.

Invariant: a key is found by its kid in this set alone and is used for ES256 alone; nothing in a token can bring
another key or another algorithm.

To change the signing key: put the new file into every site's folder and reload, then let `current` name it and
reload again. A retired key stays for as long as refresh tokens live; then its file is deleted.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from auth.refusals import KeysUnusable

CURRENT = "current"
KEYS_MAX = 16
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class SigningKeys:
    """All keys whose signatures hold, and the one that signs. Read with `load`; changed by `reload` alone."""

    def __init__(
        self, directory: Path, *, current: str, private: Mapping[str, ec.EllipticCurvePrivateKey]
    ) -> None:
        self._directory = directory
        self.generation = 1
        self._adopt(current, private)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The keys in `directory`. Raises KeysUnusable with the name of the file that is wrong."""
        current, private = _read(directory)
        return cls(directory, current=current, private=private)

    def reload(self) -> bool:
        """Read the folder again; true when something changed, which raises `generation`.

        Raises KeysUnusable and keeps the keys it had.
        """
        current, private = _read(self._directory)
        public = {kid: key.public_key() for kid, key in private.items()}
        if current == self.signing_kid and public == self.verifying:
            return False
        self._adopt(current, private)
        self.generation += 1
        return True

    def jwks(self) -> bytes:
        """The JWK Set (RFC 7517) of all public keys, as final bytes."""
        return self._jwks

    def _adopt(self, current: str, private: Mapping[str, ec.EllipticCurvePrivateKey]) -> None:
        self.signing_kid = current
        self.signing_key = private[current]
        public = {kid: key.public_key() for kid, key in private.items()}
        self.verifying: Mapping[str, ec.EllipticCurvePublicKey] = MappingProxyType(public)
        entries = [
            {"kty": "EC", "use": "sig", "alg": "ES256", "kid": kid, **_coordinates(key)}
            for kid, key in sorted(public.items())
        ]
        self._jwks = msgspec.json.encode({"keys": entries})


def generate(directory: Path) -> str:
    """Make a new key in `directory` (created if need be), name it `current`, return its kid."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    kid = thumbprint(key.public_key())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_whole(directory / f"{kid}.pem", pem)
    _write_whole(directory / CURRENT, kid.encode("ascii"))
    return kid


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """The key's name: base64url SHA-256 of its canonical JWK. Source: RFC 7638 §3."""
    members = {"kty": "EC", **_coordinates(key)}
    return _base64url(hashlib.sha256(msgspec.json.encode(members, order="deterministic")).digest())


def _read(directory: Path) -> tuple[str, dict[str, ec.EllipticCurvePrivateKey]]:
    try:
        current = (directory / CURRENT).read_text("ascii").strip()
        paths = sorted(directory.glob("*.pem"))
        pems = {path.stem: path.read_bytes() for path in paths}
    except (OSError, ValueError) as error:
        raise KeysUnusable(f"{directory}: cannot be read ({type(error).__name__})") from None
    if len(pems) > KEYS_MAX:
        raise KeysUnusable(f"{directory}: more than {KEYS_MAX} keys")
    private = {kid: _parse(directory / f"{kid}.pem", kid, pem) for kid, pem in pems.items()}
    if current not in private:
        raise KeysUnusable(f"{directory / CURRENT}: names no key of this folder")
    return current, private


def _parse(path: Path, kid: str, pem: bytes) -> ec.EllipticCurvePrivateKey:
    if _KID.fullmatch(kid) is None:
        raise KeysUnusable(f"{path}: a kid is 1 to 64 characters of A-Z a-z 0-9 _ -")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeysUnusable(f"{path}: not an unencrypted PKCS#8 private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeysUnusable(f"{path}: not an EC P-256 key")
    return key


def _coordinates(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {
        "crv": "P-256",
        "x": _base64url(numbers.x.to_bytes(32, "big")),
        "y": _base64url(numbers.y.to_bytes(32, "big")),
    }


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _write_whole(path: Path, content: bytes) -> None:
    """Write so that a reader sees the old file or the new one, and nobody but the owner sees either."""
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
