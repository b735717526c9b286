"""An assertion is accepted for exactly the request it was signed for, and for nothing else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from datacenters import assertion
from datacenters.assertion import ActingRole, Assertion, AssertionInvalid, Sender

NOW = 1_790_000_000.0
KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
KEYS = {
    "gateway:rabat": KEY.public_key(),
    "director:rabat": OTHER_KEY.public_key(),
    "gateway:marrakech": OTHER_KEY.public_key(),
}
REQUEST: dict[str, Any] = {
    "audience": "datacenter:marrakech",
    "method": "PUT",
    "target": "/v1/gradebooks/abc/MATH/1/entries?x=1",
    "body": b'{"entries":[]}',
    "epoch": 7,
}


def signed(**changes: Any) -> str:
    values = {
        "key": KEY,
        "site": "rabat",
        "subject": "t" * 16,
        "role": "teacher",
        "now": NOW,
        **REQUEST,
        **changes,
    }
    return assertion.sign(**values)


def verified(token: str, **changes: Any) -> Assertion:
    return assertion.verify(token, **{"keys": KEYS, "now": NOW, **REQUEST, **changes})


def forged(header: dict[str, Any], claims: dict[str, Any], key: Ed25519PrivateKey = KEY) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = base64.urlsafe_b64encode(key.sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def parts_of(token: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def test_what_was_signed_is_read_back() -> None:
    claims = verified(signed())
    assert claims.iss == "gateway:rabat"
    assert claims.sub == "t" * 16
    assert claims.role is ActingRole.TEACHER
    assert claims.exp - claims.iat == assertion.LIFETIME_S


def test_header_is_of_the_agreed_kind() -> None:
    header, claims = parts_of(signed())
    assert header == {"alg": "EdDSA", "typ": "massar-assertion+jwt", "kid": "gateway:rabat"}
    assert set(claims) == {"iss", "aud", "sub", "role", "htm", "htu", "digest", "epoch", "iat", "exp", "jti"}


def test_every_assertion_is_another_one() -> None:
    assert verified(signed()).jti != verified(signed()).jti


@pytest.mark.parametrize(
    "change",
    [
        {"audience": "datacenter:rabat"},
        {"method": "POST"},
        {"target": "/v1/gradebooks/abc/MATH/1/entries"},
        {"body": b'{"entries":[1]}'},
        {"epoch": 8},
        {"epoch": 6},
        {"now": NOW + assertion.LIFETIME_S + assertion.LEEWAY_S},
        {"now": NOW - assertion.LEEWAY_S - 1},
        {"keys": {"gateway:rabat": OTHER_KEY.public_key()}},
        {"keys": {}},
    ],
)
def test_refused_for_any_other_request_time_or_key(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionInvalid):
        verified(signed(), **change)


@pytest.mark.parametrize("shift_s", [-assertion.LEEWAY_S, 0, assertion.LIFETIME_S + assertion.LEEWAY_S - 1])
def test_accepted_over_its_whole_life_and_the_leeway(shift_s: float) -> None:
    assert verified(signed(), now=NOW + shift_s)


@pytest.mark.parametrize("kid", ["gateway:marrakech", "director:rabat"])
def test_nobody_can_sign_in_another_ones_name(kid: str) -> None:
    header, claims = parts_of(signed())
    with pytest.raises(AssertionInvalid, match="another sender"):
        verified(forged({**header, "kid": kid}, claims, key=OTHER_KEY))


def test_a_director_speaks_in_its_own_name_and_by_its_own_key() -> None:
    claims = verified(signed(sender=Sender.DIRECTOR, key=OTHER_KEY))
    assert claims.iss == "director:rabat"
    for pretended in (signed(sender=Sender.DIRECTOR), signed(key=OTHER_KEY)):
        with pytest.raises(AssertionInvalid, match="signature"):
            verified(pretended)


@pytest.mark.parametrize("sender", [Sender.DIRECTOR, Sender.GATEWAY])
def test_a_sender_that_is_not_known_is_refused(sender: Sender) -> None:
    with pytest.raises(AssertionInvalid, match="unknown sender"):
        verified(signed(sender=sender, site="nowhere"))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "massar-assertion+jwt", "kid": "gateway:rabat"},
        {"alg": "HS256", "typ": "massar-assertion+jwt", "kid": "gateway:rabat"},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "gateway:rabat"},
        {"alg": "EdDSA", "typ": "massar-assertion+jwt", "kid": "gateway:rabat", "jwk": {}},
        {"alg": "EdDSA", "typ": "massar-assertion+jwt"},
    ],
)
def test_any_other_kind_of_token_is_refused(header: dict[str, Any]) -> None:
    _, claims = parts_of(signed())
    with pytest.raises(AssertionInvalid):
        verified(forged(header, claims))


@pytest.mark.parametrize(
    "change", [{"exp": NOW + 3600}, {"role": "director"}, {"epoch": "7"}, {"iat": NOW - 3600}, {"jti": None}]
)
def test_signed_nonsense_is_refused(change: dict[str, Any]) -> None:
    header, claims = parts_of(signed())
    with pytest.raises(AssertionInvalid):
        verified(forged(header, {**claims, **change}))


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_garbage_is_refused_and_never_breaks(text: str) -> None:
    with pytest.raises(AssertionInvalid):
        verified(text)


@given(st.integers(0, 10_000), st.integers(0, 5))
def test_no_bit_of_a_token_may_change(place: int, bit: int) -> None:
    token = signed()
    place %= len(token)
    changed = token[:place] + chr(ord(token[place]) ^ (1 << bit)) + token[place + 1 :]
    try:
        claims = verified(changed)
    except AssertionInvalid:
        return
    # The last character of base64 carries bits nobody reads.
    assert changed[:-1] == token[:-1]
    assert claims == verified(token)


def test_a_token_beyond_the_bound_is_refused_unread() -> None:
    with pytest.raises(AssertionInvalid, match="too long"):
        verified("a" * (assertion.TOKEN_CHARS_MAX + 1))


def test_a_role_nobody_has_is_never_signed() -> None:
    with pytest.raises(ValueError, match="director"):
        signed(role="director")
