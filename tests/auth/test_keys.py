"""The key folder: what may be in it, what a start says when it is wrong, and that a reload is all or nothing."""

from __future__ import annotations

import stat
from pathlib import Path

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from auth.keys import KEYS_MAX, SigningKeys, generate, thumbprint
from auth.refusals import KeysUnusable


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """The key as a file holds it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_a_generated_key_signs_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    kid = generate(tmp_path / "access")
    keys = SigningKeys.load(tmp_path / "access")
    assert keys.signing_kid == kid == thumbprint(keys.verifying[kid])
    assert set(keys.verifying) == {kid}
    assert stat.S_IMODE((tmp_path / "access" / f"{kid}.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "access").stat().st_mode) == 0o700


def test_the_published_set_holds_every_public_key_and_no_private_part(tmp_path: Path) -> None:
    old, new = generate(tmp_path), generate(tmp_path)
    keys = SigningKeys.load(tmp_path)
    assert keys.signing_kid == new
    published = msgspec.json.decode(keys.jwks())["keys"]
    assert {entry["kid"] for entry in published} == {old, new}
    for entry in published:
        assert set(entry) == {"kty", "use", "alg", "kid", "crv", "x", "y"}
        assert (entry["kty"], entry["use"], entry["alg"], entry["crv"]) == ("EC", "sig", "ES256", "P-256")
        assert jwt.PyJWK(entry).key == keys.verifying[entry["kid"]]


def test_a_reload_takes_a_new_key_and_raises_the_generation(tmp_path: Path) -> None:
    old = generate(tmp_path)
    keys = SigningKeys.load(tmp_path)
    assert not keys.reload()
    assert keys.generation == 1
    new = generate(tmp_path)
    assert keys.reload()
    assert (keys.generation, keys.signing_kid, set(keys.verifying)) == (2, new, {old, new})
    (tmp_path / f"{old}.pem").unlink()
    assert keys.reload()
    assert (keys.generation, set(keys.verifying)) == (3, {new})


def test_a_key_replaced_under_its_name_is_noticed(tmp_path: Path) -> None:
    kid = generate(tmp_path)
    keys = SigningKeys.load(tmp_path)
    (tmp_path / f"{kid}.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    assert keys.reload()
    assert keys.generation == 2


def test_a_broken_reload_keeps_the_keys_it_had(tmp_path: Path) -> None:
    kid = generate(tmp_path)
    keys = SigningKeys.load(tmp_path)
    (tmp_path / "current").write_text("nothing")
    with pytest.raises(KeysUnusable):
        keys.reload()
    assert (keys.signing_kid, keys.generation) == (kid, 1)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_a_key_for_another_algorithm_stops_the_start(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    generate(tmp_path)
    (tmp_path / "other.pem").write_bytes(pem(key))
    with pytest.raises(KeysUnusable, match=r"other\.pem: not an EC P-256 key"):
        SigningKeys.load(tmp_path)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="cannot be read"):
        SigningKeys.load(tmp_path / "nowhere")
    (tmp_path / "current").write_text("mine")
    with pytest.raises(KeysUnusable, match="names no key"):
        SigningKeys.load(tmp_path)
    (tmp_path / "mine.pem").write_text("not a key")
    with pytest.raises(KeysUnusable, match=r"mine\.pem: not an unencrypted"):
        SigningKeys.load(tmp_path)
    (tmp_path / "mine.pem").rename(tmp_path / "a kid.pem")
    with pytest.raises(KeysUnusable, match="a kid is"):
        SigningKeys.load(tmp_path)


def test_a_folder_full_of_keys_is_refused(tmp_path: Path) -> None:
    for _ in range(KEYS_MAX + 1):
        generate(tmp_path)
    with pytest.raises(KeysUnusable, match="more than"):
        SigningKeys.load(tmp_path)
