"""What the servers show is a P-256 certificate for the name that is asked for, with its key beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench.peers import certificate

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_it_is_for_the_name_that_is_asked_for_and_lives_a_day(tmp_path: Path) -> None:
    made = x509.load_pem_x509_certificate(certificate.make(tmp_path / "pem", now=NOW).read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [certificate.HOST]
    assert made.not_valid_before_utc < NOW < made.not_valid_after_utc
    assert made.not_valid_after_utc - made.not_valid_before_utc == certificate.LIVES


def test_its_key_stands_beside_it_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    path = certificate.make(tmp_path / "pem")
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    assert path.stat().st_mode & 0o077 == 0
