"""A folder of keys: what is there, what is open to others, what ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from datacenters import key_files
from sandbox import keys

ENDS = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    keys.make(made, sites=("rabat", "marrakech"))
    return made


def problems(folder: Path) -> dict[str, str]:
    return {Path(one.path).name: one.problem for one in key_files.inspect(folder) if one.problem}


def test_a_fresh_countrys_keys_are_all_there_and_well(folder: Path) -> None:
    files = key_files.inspect(folder)
    assert problems(folder) == {}
    assert key_files.missing(files) == ()
    assert {one.kind for one in files} >= {"access signing key", "assertion key", "notice key", "pointer"}


@pytest.mark.parametrize("name", ["gateway-rabat.pem", "seal.key"])
def test_a_secret_that_others_may_read_is_named(folder: Path, name: str) -> None:
    (folder / name).chmod(0o644)
    assert problems(folder) == {name: "can be read by others than its owner"}


def test_a_public_key_may_be_read_but_not_written_by_others(folder: Path) -> None:
    public = folder / "gateway-rabat.pub.pem"
    public.chmod(0o644)
    assert problems(folder) == {}
    public.chmod(0o666)
    assert problems(folder) == {public.name: "can be written by others"}
    public.chmod(0o644)
    folder.chmod(0o777)
    assert "gateway-rabat.pem" in problems(folder)


def test_what_is_missing_or_broken_is_said(folder: Path) -> None:
    for path in folder.glob("datacenter-*"):
        path.unlink()
    (folder / "gateway-rabat.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nnothing\n")
    next((folder / "access").glob("*.pem")).unlink()
    found = problems(folder)
    assert found["gateway-rabat.pem"] == "holds no key that can be read"
    assert found["current"] == "names a key that is not there"
    assert key_files.missing(key_files.inspect(folder)) == ("access signing key", "notice key")


def test_a_certificate_tells_when_it_ends(folder: Path) -> None:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rabat")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ENDS - timedelta(days=90))
        .not_valid_after(ENDS)
        .sign(key, None)
    )
    (folder / "rabat.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (one,) = [file for file in key_files.inspect(folder) if file.kind == "certificate"]
    assert (one.ends_at, one.problem) == (ENDS.timestamp(), None)


def test_no_key_material_is_told(folder: Path) -> None:
    told = repr(key_files.inspect(folder))
    for path in folder.rglob("*"):
        if path.is_file() and "pub" not in path.name and path.name != "current":
            body = path.read_text().splitlines()
            assert body[min(1, len(body) - 1)][:20] not in told
