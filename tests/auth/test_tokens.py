"""Tokens: what ours say, and everything that must not pass for one of ours."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from auth.keys import SigningKeys, generate
from auth.principal import APP_OF_ROLE, App, Principal, Role
from auth.refusals import RefreshInvalid, TokenExpired, TokenInvalid
from auth.tokens import (
    ACCESS_TTL_S,
    CLOCK_LEEWAY_S,
    REFRESH_TTL_S,
    TOKEN_LENGTH_MAX,
    RefreshClaims,
    Tokens,
    device_digest,
)
from tests.auth.people import ISSUER, START

SUBJECT, SID, DEVICE = "pupilaaaaaaaaaaa", "sidaaaaaaaaaaaaa", "phone-1"

Headers = dict[str, Any]
Claims = dict[str, Any]


def claims(**changes: object) -> Claims:
    """The claims of a good access token, changed; None removes one."""
    good: Claims = {
        "iss": ISSUER,
        "aud": "moutamadris",
        "sub": SUBJECT,
        "client_id": "moutamadris",
        "iat": int(START),
        "exp": int(START) + ACCESS_TTL_S,
        "jti": "jti",
        "sid": SID,
        "role": "student",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def refresh_claims(**changes: object) -> Claims:
    """The claims of a good refresh token, changed; None removes one."""
    good: Claims = {
        "iss": ISSUER,
        "aud": ISSUER,
        "iat": int(START),
        "exp": int(START) + REFRESH_TTL_S,
        "sid": SID,
        "seq": 1,
        "dev": device_digest(DEVICE),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def forged(
    keys: SigningKeys, body: Claims, *, key: object = None, alg: str = "ES256", **headers: object
) -> str:
    """A token signed by our own key unless told otherwise, so that only what the test changes can be wrong."""
    header: Headers = {"kid": keys.signing_kid, "typ": "at+jwt", **headers}
    signing: Any = keys.signing_key if key is None else key
    return jwt.PyJWS().encode(json.dumps(body).encode(), signing, algorithm=alg, headers=header)


def parts(token: str) -> tuple[Headers, Claims]:
    """Header and claims as anybody can read them."""
    header, body, _ = token.split(".")
    return json.loads(base64.urlsafe_b64decode(header + "==")), json.loads(
        base64.urlsafe_b64decode(body + "==")
    )


@pytest.mark.parametrize("role", list(Role))
def test_an_access_token_says_what_rfc_9068_asks_and_is_believed(tokens: Tokens, role: Role) -> None:
    token, expires_in = tokens.issue_access(subject=SUBJECT, role=role, sid=SID, now=START + 0.9)
    header, body = parts(token)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": tokens.keys.signing_kid}
    app = APP_OF_ROLE[role]
    assert body.pop("jti")
    assert body == {
        "iss": ISSUER,
        "aud": app.value,
        "sub": SUBJECT,
        "client_id": app.value,
        "iat": int(START),
        "exp": int(START) + 600,
        "sid": SID,
        "role": role.value,
    }
    assert expires_in == 600
    assert tokens.verify(token, START) == Principal(
        subject=SUBJECT, role=role, app=app, sid=SID, expires_at=START + 600
    )


def test_no_two_access_tokens_are_the_same(tokens: Tokens) -> None:
    made = {tokens.issue_access(subject=SUBJECT, role=Role.STUDENT, sid=SID, now=START)[0] for _ in range(20)}
    assert len(made) == 20


def test_an_access_token_runs_out_to_the_second(tokens: Tokens) -> None:
    token, expires_in = tokens.issue_access(subject=SUBJECT, role=Role.STUDENT, sid=SID, now=START)
    assert tokens.verify(token, START + expires_in - 0.001)
    with pytest.raises(TokenExpired):
        tokens.verify(token, START + expires_in)


def test_a_forged_token_with_nothing_wrong_is_believed(tokens: Tokens, keys: SigningKeys) -> None:
    assert tokens.verify(forged(keys, claims()), START).subject == SUBJECT
    assert tokens.verify(forged(keys, claims(), typ="application/at+jwt"), START).subject == SUBJECT
    assert tokens.verify(forged(keys, claims(future="claim")), START).subject == SUBJECT
    assert tokens.read_refresh(forged(keys, refresh_claims(), typ="refresh+jwt"), START).family == SID


@pytest.mark.parametrize("app", [App.WALIYE, App.MOUDARIS])
@pytest.mark.parametrize("also_client", [False, True])
def test_a_token_for_another_roles_app_is_refused(
    tokens: Tokens, keys: SigningKeys, app: App, *, also_client: bool
) -> None:
    client = app.value if also_client else "moutamadris"
    with pytest.raises(TokenInvalid):
        tokens.verify(forged(keys, claims(aud=app.value, client_id=client)), START)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": None},
        {"aud": ["moutamadris"]},
        {"aud": ISSUER},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a" * 65},
        {"client_id": None},
        {"client_id": "waliye"},
        {"iat": None},
        {"iat": "now"},
        {"iat": -1},
        {"iat": int(START) + CLOCK_LEEWAY_S + 1, "exp": int(START) + 60},
        {"exp": None},
        {"exp": True},
        {"exp": int(START) + ACCESS_TTL_S + 1},
        {"exp": 2**60},
        {"exp": int(START)},
        {"jti": None},
        {"jti": ""},
        {"jti": "j" * 65},
        {"sid": None},
        {"sid": ["sid"]},
        {"sid": "s" * 65},
        {"role": None},
        {"role": "admin"},
        {"role": "parent"},
    ],
    ids=str,
)
def test_every_claim_is_checked(tokens: Tokens, keys: SigningKeys, changes: Claims) -> None:
    with pytest.raises(TokenInvalid):
        tokens.verify(forged(keys, claims(**changes)), START)


def test_a_clock_a_little_behind_is_forgiven(tokens: Tokens, keys: SigningKeys) -> None:
    ahead = int(START) + CLOCK_LEEWAY_S
    assert tokens.verify(forged(keys, claims(iat=ahead, exp=ahead + ACCESS_TTL_S)), START)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'"claims"'])
def test_a_signed_body_that_is_not_claims_is_refused(tokens: Tokens, keys: SigningKeys, body: bytes) -> None:
    token = jwt.PyJWS().encode(
        body, keys.signing_key, algorithm="ES256", headers={"kid": keys.signing_kid, "typ": "at+jwt"}
    )
    with pytest.raises(TokenInvalid):
        tokens.verify(token, START)


@pytest.mark.parametrize("typ", ["JWT", "refresh+jwt", "dpop+jwt", "", "at+jwt2", 7, None, ["at+jwt"]])
def test_another_typ_is_another_kind_of_token(tokens: Tokens, keys: SigningKeys, typ: object) -> None:
    header = {"alg": "ES256", "kid": keys.signing_kid, "typ": typ}
    token = raw(header, claims(), keys.signing_key)
    with pytest.raises(TokenInvalid):
        tokens.verify(token, START)


def raw(header: Headers, body: Claims, key: ec.EllipticCurvePrivateKey) -> str:
    """A correctly signed ES256 token with exactly this header, however odd."""
    signing_input = b".".join(b64(json.dumps(part).encode()) for part in (header, body))
    signature = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(signing_input, key)
    return (signing_input + b"." + b64(signature)).decode()


def b64(octets: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def test_an_unsigned_token_is_refused(tokens: Tokens, keys: SigningKeys) -> None:
    for alg in ("none", "None", "NONE"):
        header = {"alg": alg, "typ": "at+jwt", "kid": keys.signing_kid}
        for signature in (b"", b"AAAA"):
            token = b".".join(
                [b64(json.dumps(header).encode()), b64(json.dumps(claims()).encode()), signature]
            )
            with pytest.raises(TokenInvalid):
                tokens.verify(token.decode(), START)


def test_the_algorithm_is_the_keys_and_not_the_tokens(tokens: Tokens, keys: SigningKeys) -> None:
    public = keys.verifying[keys.signing_kid]
    as_secret = [
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
    ]
    import hmac

    for secret in as_secret:
        for alg, hash_name in (("HS256", "sha256"), ("HS512", "sha512"), ("ES256", "sha256")):
            header = {"alg": alg, "typ": "at+jwt", "kid": keys.signing_kid}
            signing_input = b".".join(b64(json.dumps(part).encode()) for part in (header, claims()))
            token = signing_input + b"." + b64(hmac.digest(secret, signing_input, hash_name))
            with pytest.raises(TokenInvalid):
                tokens.verify(token.decode(), START)


def test_a_right_signature_under_another_algorithms_name_is_refused(
    tokens: Tokens, keys: SigningKeys
) -> None:
    for alg in ("ES384", "ES512", "ES256K", "EdDSA", "RS256", "es256", "", None, 7):
        token = raw({"alg": alg, "typ": "at+jwt", "kid": keys.signing_kid}, claims(), keys.signing_key)
        with pytest.raises(TokenInvalid):
            tokens.verify(token, START)
    token = raw({"typ": "at+jwt", "kid": keys.signing_kid}, claims(), keys.signing_key)
    with pytest.raises(TokenInvalid):
        tokens.verify(token, START)


def test_only_a_key_of_ours_counts(tokens: Tokens, keys: SigningKeys) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (
        forged(keys, claims(), key=stranger),
        forged(keys, claims(), key=stranger, kid="unknown"),
        forged(keys, claims(), key=big, alg="RS256"),
        forged(keys, claims(), kid="../access/current"),
        raw({"alg": "ES256", "typ": "at+jwt"}, claims(), keys.signing_key),
        raw({"alg": "ES256", "typ": "at+jwt", "kid": ["a"]}, claims(), keys.signing_key),
        raw({"alg": "ES256", "typ": "at+jwt", "kid": None}, claims(), keys.signing_key),
    ):
        with pytest.raises(TokenInvalid):
            tokens.verify(token, START)


def test_a_key_never_travels_in_the_token(tokens: Tokens, keys: SigningKeys) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key()))
    brought: list[Headers] = [
        {"jwk": jwk},
        {"jku": "https://elsewhere.example/jwks.json"},
        {"x5u": "https://elsewhere.example/chain.pem"},
        {"x5c": ["MIIB"]},
        {"x5t": "AAAA"},
        {"crit": ["exp"]},
        {"b64": True},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ]
    base = {"alg": "ES256", "typ": "at+jwt", "kid": keys.signing_kid}
    for extra in brought:
        for key in (stranger, keys.signing_key):
            with pytest.raises(TokenInvalid):
                tokens.verify(raw({**base, **extra}, claims(), key), START)
            with pytest.raises(RefreshInvalid):
                tokens.read_refresh(
                    raw({**base, "typ": "refresh+jwt", **extra}, refresh_claims(), key), START
                )


def test_a_retired_key_verifies_until_its_file_is_gone(tmp_path: Path) -> None:
    old = generate(tmp_path)
    keys = SigningKeys.load(tmp_path)
    tokens = Tokens(keys, issuer=ISSUER)
    token, _ = tokens.issue_access(subject=SUBJECT, role=Role.STUDENT, sid=SID, now=START)
    generate(tmp_path)
    keys.reload()
    assert tokens.verify(token, START)
    (tmp_path / f"{old}.pem").unlink()
    keys.reload()
    with pytest.raises(TokenInvalid):
        tokens.verify(token, START)


def test_access_and_refresh_tokens_never_stand_in_for_each_other(tokens: Tokens, keys: SigningKeys) -> None:
    access, _ = tokens.issue_access(subject=SUBJECT, role=Role.STUDENT, sid=SID, now=START)
    refresh, _ = tokens.issue_refresh(family=SID, sequence=1, device_id=DEVICE, now=START)
    both = {**refresh_claims(), **claims()}
    for token in (refresh, forged(keys, both, typ="refresh+jwt"), forged(keys, refresh_claims())):
        with pytest.raises(TokenInvalid):
            tokens.verify(token, START)
    for token in (
        access,
        forged(keys, both, typ="refresh+jwt"),
        forged(keys, refresh_claims(), typ="at+jwt"),
    ):
        with pytest.raises(RefreshInvalid):
            tokens.read_refresh(token, START)


def test_a_refresh_token_describes_itself(tokens: Tokens) -> None:
    token, expires_in = tokens.issue_refresh(family=SID, sequence=41, device_id=DEVICE, now=START)
    assert expires_in == 30 * 24 * 3600
    assert tokens.read_refresh(token, START + expires_in - 1) == RefreshClaims(
        family=SID, sequence=41, device_digest=device_digest(DEVICE), expires_at=int(START) + expires_in
    )
    assert DEVICE not in json.dumps(parts(token))
    with pytest.raises(RefreshInvalid):
        tokens.read_refresh(token, START + expires_in)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "moutamadris"},
        {"aud": None},
        {"iat": int(START) + CLOCK_LEEWAY_S + 1},
        {"sid": None},
        {"seq": 0},
        {"seq": "1"},
        {"seq": None},
        {"dev": None},
        {"dev": ""},
    ],
    ids=str,
)
def test_every_claim_of_a_refresh_token_is_checked(
    tokens: Tokens, keys: SigningKeys, changes: Claims
) -> None:
    with pytest.raises(RefreshInvalid):
        tokens.read_refresh(forged(keys, refresh_claims(**changes), typ="refresh+jwt"), START)


def test_a_token_longer_than_ours_can_be_is_not_even_parsed(tokens: Tokens, keys: SigningKeys) -> None:
    token = forged(keys, claims(padding="p" * TOKEN_LENGTH_MAX))
    assert len(token) > TOKEN_LENGTH_MAX
    with pytest.raises(TokenInvalid):
        tokens.verify(token, START)
    with pytest.raises(RefreshInvalid):
        tokens.read_refresh("." * (TOKEN_LENGTH_MAX + 1), START)


def test_one_changed_character_anywhere_spoils_a_token(tokens: Tokens) -> None:
    token, _ = tokens.issue_access(subject=SUBJECT, role=Role.STUDENT, sid=SID, now=START)
    refresh, _ = tokens.issue_refresh(family=SID, sequence=1, device_id=DEVICE, now=START)
    alphabet = string.ascii_letters + string.digits + "-_"
    for position in range(len(token)):
        other = alphabet[(alphabet.find(token[position]) + 1) % len(alphabet)]
        with pytest.raises(TokenInvalid):
            tokens.verify(token[:position] + other + token[position + 1 :], START)
    for position in range(0, len(refresh), 7):
        with pytest.raises(RefreshInvalid):
            tokens.read_refresh(refresh[:position] + "!" + refresh[position + 1 :], START)


@given(
    st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)
)
def test_any_text_is_refused_and_breaks_nothing(tokens_for_any_text: Tokens, text: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens_for_any_text.verify(text, START)
    with pytest.raises(RefreshInvalid):
        tokens_for_any_text.read_refresh(text, START)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "typ", "kid", "crit", "b64", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=10)
        | st.just("at+jwt")
        | st.just("ES256"),
    )
)
def test_any_header_is_refused_and_breaks_nothing(tokens_for_any_text: Tokens, header: Headers) -> None:
    token = b".".join([b64(msgspec.json.encode(header)), b64(json.dumps(claims()).encode()), b64(bytes(64))])
    with pytest.raises(TokenInvalid):
        tokens_for_any_text.verify(token.decode(), START)


@pytest.fixture(scope="session")
def tokens_for_any_text(keys: SigningKeys) -> Tokens:
    """Stateless, so that Hypothesis may use one for all examples."""
    return Tokens(keys, issuer=ISSUER)


def test_devices_are_told_apart_by_digest_whatever_their_ids_hold() -> None:
    digest: Callable[[str], str] = device_digest
    assert len({digest(device) for device in ("", "a", "b", "a\x00", "\ud800", "ا")}) == 6
