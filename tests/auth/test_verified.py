"""The memo: as good as a full verification every time, and never more than its bound."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from auth.denials import Denials
from auth.keys import SigningKeys, generate
from auth.principal import Principal, Role
from auth.refusals import SessionEnded, TokenExpired, TokenInvalid, TokenMissing
from auth.tokens import ACCESS_TTL_S, CLOCK_LEEWAY_S, TOKEN_LENGTH_MAX, Tokens
from auth.verified import Verified, bearer
from tests.auth.people import ISSUER
from tests.auth.people import START as NOW

SID = "sidaaaaaaaaaaaaa"


class CountingTokens(Tokens):
    """The real thing, counting full verifications."""

    verifications = 0

    def verify(self, token: str, now: float) -> Principal:
        """Verify, and count."""
        self.verifications += 1
        return super().verify(token, now)


@pytest.fixture
def counting(keys: SigningKeys) -> CountingTokens:
    """Tokens that tell how often they were fully verified."""
    return CountingTokens(keys, issuer=ISSUER)


@pytest.fixture
def denials() -> Denials:
    """Nobody denied yet."""
    return Denials()


@pytest.fixture
def verified(counting: CountingTokens, denials: Denials) -> Verified:
    """The door under test."""
    return Verified(counting, denials)


def header(tokens: Tokens, *, sid: str = SID, subject: str = "pupil", now: float = NOW) -> bytes:
    """An Authorization header with a fresh access token."""
    token, _ = tokens.issue_access(subject=subject, role=Role.STUDENT, sid=sid, now=now)
    return b"Bearer " + token.encode()


def test_the_second_time_nothing_is_verified_again(verified: Verified, counting: CountingTokens) -> None:
    authorization = header(counting)
    first = verified.check(authorization, NOW)
    assert verified.check(authorization, NOW + 1) is first
    assert (first.subject, first.role, first.sid) == ("pupil", Role.STUDENT, SID)
    assert counting.verifications == 1


def test_a_denial_holds_on_a_memo_hit(verified: Verified, counting: CountingTokens, denials: Denials) -> None:
    authorization, other = header(counting), header(counting, sid="sidbbbbbbbbbbbbb")
    verified.check(authorization, NOW)
    verified.check(other, NOW)
    denials.deny(SID, NOW + 660, NOW)
    with pytest.raises(SessionEnded):
        verified.check(authorization, NOW + 1)
    assert verified.check(other, NOW + 1)


def test_a_denial_holds_the_first_time_too(
    verified: Verified, counting: CountingTokens, denials: Denials
) -> None:
    denials.deny(SID, NOW + 660, NOW)
    with pytest.raises(SessionEnded):
        verified.check(header(counting), NOW)


def test_a_memo_hit_expires_with_its_token_and_leaves(verified: Verified, counting: CountingTokens) -> None:
    authorization = header(counting)
    verified.check(authorization, NOW)
    assert verified.check(authorization, NOW + ACCESS_TTL_S - 0.001)
    assert len(verified) == 1
    with pytest.raises(TokenExpired):
        verified.check(authorization, NOW + ACCESS_TTL_S)
    assert len(verified) == 0
    with pytest.raises(TokenExpired):
        verified.check(authorization, NOW + ACCESS_TTL_S)


def test_a_change_of_keys_empties_the_memo(tmp_path: Path) -> None:
    old = generate(tmp_path)
    keys = SigningKeys.load(tmp_path)
    tokens = CountingTokens(keys, issuer=ISSUER)
    verified = Verified(tokens, Denials())
    authorization = header(tokens)
    verified.check(authorization, NOW)
    generate(tmp_path)
    keys.reload()
    assert verified.check(authorization, NOW)
    assert tokens.verifications == 2
    (tmp_path / f"{old}.pem").unlink()
    keys.reload()
    with pytest.raises(TokenInvalid):
        verified.check(authorization, NOW)
    assert len(verified) == 0


def test_the_memo_is_bounded_and_the_oldest_makes_room(counting: CountingTokens) -> None:
    verified = Verified(counting, Denials(), memo_max=3)
    headers = [header(counting, subject=f"p{n}") for n in range(5)]
    for authorization in headers:
        verified.check(authorization, NOW)
    assert len(verified) == 3
    verified.check(headers[4], NOW)
    assert counting.verifications == 5
    verified.check(headers[0], NOW)
    assert counting.verifications == 6


def test_an_overflow_of_denials_sends_older_tokens_to_be_exchanged(counting: CountingTokens) -> None:
    denials = Denials(max_entries=1)
    verified = Verified(counting, denials)
    authorization = header(counting)
    verified.check(authorization, NOW)
    denials.deny("one", NOW + 660, NOW)
    denials.deny("two", NOW + 660, NOW)
    with pytest.raises(TokenExpired):
        verified.check(authorization, NOW)
    later = NOW + CLOCK_LEEWAY_S + 1
    assert verified.check(header(counting, now=later), later)


def test_refused_tokens_are_not_remembered(verified: Verified, counting: CountingTokens) -> None:
    forged = header(counting)[:-86] + b"A" * 86
    for _ in range(3):
        with pytest.raises(TokenInvalid):
            verified.check(forged, NOW)
    assert counting.verifications == 3
    assert len(verified) == 0


def test_the_memo_holds_no_token(verified: Verified, counting: CountingTokens) -> None:
    authorization = header(counting)
    verified.check(authorization, NOW)
    reachable = gc.get_referents(verified._memo)
    assert reachable
    assert all(not isinstance(held, bytes) or len(held) == 32 for held in reachable)


@pytest.mark.parametrize(
    ("authorization", "refusal"),
    [
        (None, TokenMissing),
        (b"", TokenMissing),
        (b"Bearer", TokenMissing),
        (b"Bearer ", TokenMissing),
        (b"Bearer    ", TokenInvalid),
        (b"Bearer nonsense", TokenInvalid),
        (b"Bearer a.b", TokenInvalid),
        (b"Bearer a.b.c.d", TokenInvalid),
        (b"Basic dXNlcjpwYXNz", TokenMissing),
        (b"BearerX abc", TokenMissing),
        (b"Bearer\tabc", TokenMissing),
        (b"Bearer a b", TokenInvalid),
        (b"Bearer \xff\xfe", TokenInvalid),
        (b"Bearer " + b"a" * (TOKEN_LENGTH_MAX + 1), TokenInvalid),
        (b"Basic " + b"a" * (TOKEN_LENGTH_MAX + 10), TokenInvalid),
    ],
)
def test_what_is_no_bearer_token_is_told_apart(
    verified: Verified, authorization: bytes | None, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        verified.check(authorization, NOW)


def test_the_scheme_is_read_as_http_asks(verified: Verified, counting: CountingTokens) -> None:
    token = header(counting)[7:]
    for scheme in (b"Bearer ", b"bearer ", b"BEARER "):
        assert bearer(scheme + token) == token.decode()
        assert verified.check(scheme + token, NOW)
    assert (counting.verifications, len(verified)) == (1, 1)


def test_a_token_has_one_spelling(verified: Verified, counting: CountingTokens) -> None:
    token = header(counting)[7:]
    first_part, rest = token.split(b".", 1)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1:])
    others = [token[:-1] + alphabet[last + more : last + more + 1] for more in range(1, 16)]
    others += [token + ending for ending in (b"=", b"==", b" ", b"\n", b"\r\n", b".", b"A")]
    others += [b" " + token, b"\t" + token, first_part + b"=." + rest, first_part + b" ." + rest]
    for other in others:
        with pytest.raises(TokenInvalid):
            verified.check(b"Bearer " + other, NOW)
    assert (counting.verifications, len(verified)) == (0, 0)
    assert verified.check(b"Bearer " + token, NOW)


def test_a_token_under_another_scheme_opens_nothing(verified: Verified, counting: CountingTokens) -> None:
    token = header(counting)[7:]
    for scheme in (b"Basic ", b"DPoP ", b""):
        with pytest.raises(TokenMissing):
            verified.check(scheme + token, NOW)
