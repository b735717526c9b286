"""Access and refresh tokens: made here, and believed only here.

Invariant: a token counts only if an ES256 key of our own set, found by its kid, signed it, for exactly this use.
Its header may say `alg`, `typ` and `kid` and nothing else, so neither a key nor a way to fetch one travels in it;
`typ` and `aud` keep the two kinds apart, and an access token lives no longer than a denial of its session does.
Source: RFC 9068 (access tokens), RFC 8725 (JWT best practices).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Any

import jwt
import msgspec

from auth.keys import SigningKeys
from auth.opaque_id import new_id
from auth.principal import APP_OF_ROLE, Principal, Role
from auth.refusals import RefreshInvalid, TokenExpired, TokenInvalid

ACCESS_TTL_S = 600
REFRESH_TTL_S = 30 * 24 * 3600
CLOCK_LEEWAY_S = 5
TOKEN_LENGTH_MAX = 2048
ALGORITHM = "ES256"
ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
REFRESH_TYPES = frozenset({"refresh+jwt"})
HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Issuer = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class RefreshClaims(msgspec.Struct, frozen=True):
    """What a refresh token says of itself; `expires_at` in Unix seconds."""

    family: str
    sequence: int
    device_digest: str
    expires_at: int


class _AccessPayload(msgspec.Struct, frozen=True):
    iss: _Issuer
    aud: _Name
    sub: _Name
    client_id: _Name
    iat: _Seconds
    exp: _Seconds
    jti: _Name
    sid: _Name
    role: Role


class _RefreshPayload(msgspec.Struct, frozen=True):
    iss: _Issuer
    aud: _Issuer
    iat: _Seconds
    exp: _Seconds
    sid: _Name
    seq: _Sequence
    dev: _Name


_access_decoder = msgspec.json.Decoder(_AccessPayload)
_refresh_decoder = msgspec.json.Decoder(_RefreshPayload)
_encoder = msgspec.json.Encoder()


class Tokens:
    """Issues and verifies both kinds of token under one issuer."""

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        access_ttl_s: int = ACCESS_TTL_S,
        refresh_ttl_s: int = REFRESH_TTL_S,
        leeway_s: int = CLOCK_LEEWAY_S,
    ) -> None:
        self.keys = keys
        self.access_ttl_s = access_ttl_s
        self.refresh_ttl_s = refresh_ttl_s
        self._issuer = issuer
        self._leeway_s = leeway_s
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])

    def issue_access(self, *, subject: str, role: Role, sid: str, now: float) -> tuple[str, int]:
        """A signed access token and the seconds it lives; its audience is the app of `role`."""
        app = APP_OF_ROLE[role].value
        issued_at = int(now)
        payload = _AccessPayload(
            iss=self._issuer,
            aud=app,
            sub=subject,
            client_id=app,
            iat=issued_at,
            exp=issued_at + self.access_ttl_s,
            jti=new_id(),
            sid=sid,
            role=role,
        )
        return self._sign(_encoder.encode(payload), "at+jwt"), self.access_ttl_s

    def issue_refresh(self, *, family: str, sequence: int, device_id: str, now: float) -> tuple[str, int]:
        """A signed refresh token of the session `family` and the seconds it lives."""
        issued_at = int(now)
        payload = _RefreshPayload(
            iss=self._issuer,
            aud=self._issuer,
            iat=issued_at,
            exp=issued_at + self.refresh_ttl_s,
            sid=family,
            seq=sequence,
            dev=device_digest(device_id),
        )
        return self._sign(_encoder.encode(payload), "refresh+jwt"), self.refresh_ttl_s

    def verify(self, token: str, now: float) -> Principal:
        """The principal of an access token, every claim checked. Raises TokenInvalid, TokenExpired."""
        body = self._opened(token, ACCESS_TYPES)
        if body is None:
            raise TokenInvalid
        try:
            claims = _access_decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise TokenInvalid from None
        app = APP_OF_ROLE[claims.role]
        for_its_app = claims.aud == claims.client_id == app.value
        in_time = claims.iat <= now + self._leeway_s and 0 < claims.exp - claims.iat <= self.access_ttl_s
        if claims.iss != self._issuer or not for_its_app or not in_time:
            raise TokenInvalid
        if now >= claims.exp:
            raise TokenExpired
        return Principal(
            subject=claims.sub, role=claims.role, app=app, sid=claims.sid, expires_at=float(claims.exp)
        )

    def read_refresh(self, token: str, now: float) -> RefreshClaims:
        """What a refresh token of ours says. Raises RefreshInvalid, for one that has run out as well."""
        body = self._opened(token, REFRESH_TYPES)
        if body is None:
            raise RefreshInvalid
        try:
            claims = _refresh_decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise RefreshInvalid from None
        ours = claims.iss == claims.aud == self._issuer
        if not ours or claims.iat > now + self._leeway_s or now >= claims.exp:
            raise RefreshInvalid
        return RefreshClaims(
            family=claims.sid, sequence=claims.seq, device_digest=claims.dev, expires_at=claims.exp
        )

    def _sign(self, payload: bytes, kind: str) -> str:
        headers = {"kid": self.keys.signing_kid, "typ": kind}
        return self._jws.encode(payload, self.keys.signing_key, algorithm=ALGORITHM, headers=headers)

    def _opened(self, token: str, types: frozenset[str]) -> bytes | None:
        """The payload of a token that one of our keys signed as one of `types`, else None."""
        if len(token) > TOKEN_LENGTH_MAX or not token.isascii():
            return None
        try:
            header: dict[str, Any] = self._jws.get_unverified_header(token)
            kid, kind = header.get("kid"), header.get("typ")
            if not header.keys() <= HEADER_MEMBERS or not isinstance(kid, str) or not isinstance(kind, str):
                return None
            key = self.keys.verifying.get(kid)
            if key is None or kind.lower() not in types:
                return None
            opened = self._jws.decode_complete(token, key, algorithms=[ALGORITHM])
        except jwt.InvalidTokenError:
            return None
        payload: bytes = opened["payload"]
        return payload


def device_digest(device_id: str) -> str:
    """What a refresh token carries instead of the device's id: base64url SHA-256."""
    digest = hashlib.sha256(b"massar device\x00" + device_id.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
