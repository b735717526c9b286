"""The keys of a sandbox country, made fresh at every start.

Invariant: private parts are files that only their owner may read; nothing here is ever printed.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from auth import keys as access_keys
from datacenters.sender_keys import PUBLIC_SUFFIX

SEAL_KEY_BYTES = 32
ACCESS = "access"
SEAL_KEY = "seal.key"
JOURNAL_KEY = "journal.key"


def make(folder: Path, *, sites: tuple[str, ...]) -> None:
    """Fill `folder`: `access/` (tokens), an Ed25519 pair per gateway, datacenter and director, both secrets in hex."""
    folder.mkdir(mode=0o700)
    access_keys.generate(folder / ACCESS)
    for site in sites:
        for kind in ("gateway", "datacenter", "director"):
            _pair(folder, f"{kind}-{site}")
    write_secret(folder / SEAL_KEY, b"0 %b\nnames %b\n" % (_secret(), _secret()))
    write_secret(folder / JOURNAL_KEY, b"%b\n" % _secret())


def write_secret(path: Path, content: bytes) -> None:
    """Create a file that only its owner may read; an existing one is an error."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(content)


def _secret() -> bytes:
    return secrets.token_hex(SEAL_KEY_BYTES).encode()


def _pair(folder: Path, name: str) -> None:
    key = Ed25519PrivateKey.generate()
    write_secret(folder / f"{name}.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_secret(folder / f"{name}{PUBLIC_SUFFIX}", public)
