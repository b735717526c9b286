"""The Ed25519 keys by which sites know each other's messages: `<kind>-<site>.pem` and `<kind>-<site>.pub.pem`.

Invariant: only Ed25519 keys are ever returned; a file of another kind stops the start and is named.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

PUBLIC_SUFFIX = ".pub.pem"


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The signing key in the PEM file at `path`.

    Raises: ValueError when the file holds something else.
    """
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds no Ed25519 private key")  # noqa: TRY004 - the file is wrong, not the caller
    return key


def read_public_keys(directory: Path, *, kind: str) -> dict[str, Ed25519PublicKey]:
    """The public keys of every site by site name; `kind` is `gateway` (assertions) or `datacenter` (notices).

    Raises: ValueError when a file holds something else.
    """
    keys: dict[str, Ed25519PublicKey] = {}
    for path in sorted(directory.glob(f"{kind}-*{PUBLIC_SUFFIX}")):
        key = load_pem_public_key(path.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{path} holds no Ed25519 public key")  # noqa: TRY004 - the file is wrong
        keys[path.name.removeprefix(f"{kind}-").removesuffix(PUBLIC_SUFFIX)] = key
    return keys
