"""What lies in a folder of keys: whether each can be read by its owner alone, is whole, and when it ends.

Invariant: no key material leaves this module, not even its digest.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

FILES_MAX = 512
CURRENT = "current"
_KINDS = (("gateway-", "assertion key"), ("datacenter-", "notice key"), ("operator-", "operator's key"))


class KeyFile(msgspec.Struct, frozen=True):
    """One file: what it is, what is wrong with it (None: nothing), and when its certificate ends (Unix seconds)."""

    path: str
    kind: str
    problem: str | None = None
    ends_at: float | None = None


def inspect(folder: Path) -> tuple[KeyFile, ...]:
    """Every file of the folder and the folders in it, by path; OSError when it cannot be listed."""
    paths = sorted(path for path in (*folder.iterdir(), *folder.glob("*/*")) if path.is_file())
    return tuple(_inspected(path) for path in paths[:FILES_MAX])


def missing(files: tuple[KeyFile, ...]) -> tuple[str, ...]:
    """The kinds of keys of which a gateway needs one and there is none."""
    kinds = {one.kind for one in files if one.problem is None}
    return tuple(kind for kind in ("access signing key", "assertion key", "notice key") if kind not in kinds)


def _inspected(path: Path) -> KeyFile:
    kind = _kind(path)
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
        folder_mode = path.parent.stat().st_mode
    except OSError as error:
        return KeyFile(str(path), kind, problem=f"cannot be read ({type(error).__name__})")
    if folder_mode & 0o022:
        return KeyFile(str(path), kind, problem="its folder can be written by others")
    if mode & 0o022:
        return KeyFile(str(path), kind, problem="can be written by others")
    try:
        return _parsed(path, kind, content, mode)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return KeyFile(str(path), kind, problem="holds no key that can be read")


def _parsed(path: Path, kind: str, content: bytes, mode: int) -> KeyFile:
    if b"PRIVATE KEY-----" in content:
        load_pem_private_key(content, password=None)
        closed = not mode & 0o077
        return KeyFile(str(path), kind, problem=None if closed else "can be read by others than its owner")
    if b"BEGIN CERTIFICATE" in content:
        ends = x509.load_pem_x509_certificate(content).not_valid_after_utc
        return KeyFile(str(path), "certificate", ends_at=ends.timestamp())
    if b"PUBLIC KEY-----" in content:
        load_pem_public_key(content)
        return KeyFile(str(path), kind)
    if path.name == CURRENT:
        there = (path.parent / f"{content.decode('ascii').strip()}.pem").exists()
        return KeyFile(str(path), "pointer", problem=None if there else "names a key that is not there")
    closed = not mode & 0o077
    return KeyFile(str(path), "secret", problem=None if closed else "can be read by others than its owner")


def _kind(path: Path) -> str:
    for prefix, kind in _KINDS:
        if path.name.startswith(prefix):
            return kind
    if path.suffix == ".pem" and (path.parent / CURRENT).exists():
        return "access signing key"
    return "key" if path.suffix == ".pem" else "secret"
