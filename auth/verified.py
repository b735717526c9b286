"""From an Authorization header to a principal, quickly the second time.

Invariant: a memo hit means exactly what a full verification would have said: same key-set generation, not yet
expired, and the denials asked anew every time. The memo holds digests, never a token, and a token has one spelling,
so it is verified once and takes one place.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict

from auth.denials import Denials
from auth.principal import Principal
from auth.refusals import SessionEnded, TokenExpired, TokenInvalid, TokenMissing
from auth.tokens import TOKEN_LENGTH_MAX, Tokens

MEMO_MAX = 50_000
_SCHEME = b"bearer "
_SCHEME_LENGTH = len(_SCHEME)
_AUTHORIZATION_LENGTH_MAX = _SCHEME_LENGTH + TOKEN_LENGTH_MAX
# Three unpadded base64url parts. The 64 bytes of an ES256 signature are 86 characters, of which the last carries
# two bits: decoders overlook the other four, which would be sixteen spellings of one token. Source: RFC 4648 §3.5.
_JWS = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{85}[AQgw]")
_sha256 = hashlib.sha256


class Verified:
    """The one door of access tokens: `check` on every request."""

    def __init__(self, tokens: Tokens, denials: Denials, *, memo_max: int = MEMO_MAX) -> None:
        self._tokens = tokens
        self._keys = tokens.keys
        self._generation = tokens.keys.generation
        self._denials = denials
        self._memo_max = memo_max
        # Oldest first, which is nearly the order in which they expire: the front makes room.
        self._memo: OrderedDict[bytes, Principal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._memo)

    def check(self, authorization: bytes | None, now: float) -> Principal:
        """The caller, from the raw value of the Authorization header; `now` in Unix seconds.

        Raises TokenMissing, TokenInvalid, TokenExpired, SessionEnded.
        """
        if authorization is None:
            raise TokenMissing
        if len(authorization) > _AUTHORIZATION_LENGTH_MAX:
            raise TokenInvalid
        if self._generation != self._keys.generation:
            self._memo.clear()
            self._generation = self._keys.generation
        if authorization[:_SCHEME_LENGTH].lower() != _SCHEME:
            raise TokenMissing
        digest = _sha256(authorization[_SCHEME_LENGTH:]).digest()
        principal = self._memo.get(digest)
        if principal is None:
            principal = self._tokens.verify(bearer(authorization), now)
            self._remember(digest, principal)
        expires_at = principal.expires_at
        if now >= expires_at:
            del self._memo[digest]
            raise TokenExpired
        denials = self._denials
        if denials.denied(principal.sid):
            raise SessionEnded
        if expires_at <= denials.expiry_floor:
            raise TokenExpired
        return principal

    def _remember(self, digest: bytes, principal: Principal) -> None:
        if len(self._memo) >= self._memo_max:
            self._memo.popitem(last=False)
        self._memo[digest] = principal


def bearer(authorization: bytes) -> str:
    """The token of a Bearer header, in its one spelling after one blank. Source: RFC 6750 §2.1.

    Raises TokenMissing for another scheme and for no token, TokenInvalid for what is no signed token.
    """
    token = authorization[_SCHEME_LENGTH:]
    if authorization[:_SCHEME_LENGTH].lower() != _SCHEME or not token:
        raise TokenMissing
    if _JWS.fullmatch(token) is None:
        raise TokenInvalid
    return token.decode("ascii")
