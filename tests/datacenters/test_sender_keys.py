"""Key files are read by kind and site; anything but Ed25519 stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from datacenters.sender_keys import read_private_key, read_public_keys


def write_pair(folder: Path, name: str) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(pem)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub.pem").write_bytes(public)
    return key


def test_a_pair_signs_and_verifies(tmp_path: Path) -> None:
    write_pair(tmp_path, "gateway-rabat")
    key = read_private_key(tmp_path / "gateway-rabat.pem")
    read_public_keys(tmp_path, kind="gateway")["rabat"].verify(key.sign(b"x"), b"x")


def test_public_keys_are_by_site_and_of_the_kind_asked_for(tmp_path: Path) -> None:
    for name in ("gateway-rabat", "gateway-marrakech", "datacenter-rabat"):
        write_pair(tmp_path, name)
    assert set(read_public_keys(tmp_path, kind="gateway")) == {"rabat", "marrakech"}
    assert set(read_public_keys(tmp_path, kind="datacenter")) == {"rabat"}


def test_another_kind_of_key_is_refused_and_named(tmp_path: Path) -> None:
    key = generate_private_key(SECP256R1())
    private, public = tmp_path / "gateway-rabat.pem", tmp_path / "gateway-rabat.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match=r"gateway-rabat\.pem"):
        read_private_key(private)
    with pytest.raises(ValueError, match=r"gateway-rabat\.pub\.pem"):
        read_public_keys(tmp_path, kind="gateway")
