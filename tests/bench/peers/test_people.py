"""Tokens of the measured gateway's own keys."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest

from auth import keys
from auth.keys import SigningKeys
from auth.tokens import Tokens
from bench.peers.people import AUDIENCE, ISSUER, Issuer, Pupil

PUPILS = [Pupil("a", "/v1/pupils/a/timetable"), Pupil("b", "/v1/pupils/b/timetable")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    keys.generate(tmp_path)
    return tmp_path


def test_the_pupils_take_turns_and_every_token_is_a_session_of_its_own(place: Path) -> None:
    made = list(Issuer({"MASSAR_ACCESS_KEYS_DIR": str(place)}).tokens(PUPILS, 5))
    assert [pupil.subject for pupil, _ in made] == ["a", "b", "a", "b", "a"]
    verifier = Tokens(SigningKeys.load(place), issuer=ISSUER)
    principals = [verifier.verify(token, time.time()) for _, token in made]
    assert [principal.subject for principal in principals] == ["a", "b", "a", "b", "a"]
    assert len({principal.sid for principal in principals}) == 5


def test_other_programs_can_read_the_key_in_both_forms(place: Path) -> None:
    issuer = Issuer({"MASSAR_ACCESS_KEYS_DIR": str(place)})
    ((_, token),) = issuer.tokens(PUPILS, 1)
    (from_set,) = jwt.PyJWKSet.from_json(issuer.jwks.decode()).keys
    for key in (issuer.public_pem, from_set):
        assert jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)["sub"] == "a"
