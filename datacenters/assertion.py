"""How a gateway tells a datacenter who is asking: a compact JWS bound to one request, one site and one epoch.

A director says the same when it replays the journal into its own site's datacenter.
Invariant: what `verify` accepts was signed by a known sender for exactly this method, target, body, datacenter
and epoch, less than half a minute ago. That it is used once is the verifier's `SingleUse` to say.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

HEADER_NAME = "massar-assertion"
LIFETIME_S = 30
LEEWAY_S = 5  # two sites' clocks may differ by this much
TOKEN_CHARS_MAX = 4096
NOBODY = "-"

_ALGORITHM = "EdDSA"
_TYPE = "massar-assertion+jwt"
_JTI_BYTES = 12
# In whose name one process signs: its gateway's, its director's; many more in tests.
_SENDERS_MAX = 16


class ActingRole(StrEnum):
    """For whom a gateway asks; `GATEWAY` when it fills a shared view for nobody in particular."""

    STUDENT = "student"
    PARENT = "parent"
    TEACHER = "teacher"
    GATEWAY = "gateway"


class Sender(StrEnum):
    """What speaks to a datacenter; only a director may replay."""

    GATEWAY = "gateway"
    DIRECTOR = "director"


class AssertionInvalid(Exception):
    """The assertion proves nothing about this request; the text says why (for logs, never for the caller)."""

    slug: ClassVar[str] = "assertion-invalid"


class Assertion(msgspec.Struct, frozen=True):
    """A verified statement: `iss` (`gateway:{site}` or `director:{site}`) asks datacenter `aud` for `sub` (`-` for nobody) as `role`.

    `htu` is path and query exactly as sent; `digest` is the body's SHA-256, base64url without padding;
    `iat` and `exp` are Unix seconds.
    """

    iss: str
    aud: str
    sub: str
    role: ActingRole
    htm: str
    htu: str
    digest: str
    epoch: int
    iat: int
    exp: int
    jti: str


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    kid: str


_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(_Header)
_claims_decoder = msgspec.json.Decoder(Assertion)


def issuer(sender: Sender, site: str) -> str:
    """The `iss` of a sender, which is its key's id as well."""
    return f"{sender}:{site}"


def datacenter_audience(site: str) -> str:
    """The `aud` of the datacenter of `site`."""
    return f"datacenter:{site}"


def body_digest(body: bytes) -> str:
    """The body's SHA-256 as base64url without padding."""
    return _b64(hashlib.sha256(body).digest()).decode() if body else _DIGEST_OF_NOTHING


def sign(
    *,
    key: Ed25519PrivateKey,
    site: str,
    sender: Sender = Sender.GATEWAY,
    audience: str,
    subject: str,
    role: str,
    method: str,
    target: str,
    body: bytes,
    epoch: int,
    now: float,
) -> str:
    """A compact JWS by the gateway (or director) of `site` for one request to `audience` (`datacenter:{site}`).

    Raises: ValueError for a role that is no `ActingRole`.
    """
    issued_at = int(now)
    claims = Assertion(
        iss=issuer(sender, site),
        aud=audience,
        sub=subject,
        role=ActingRole(role),
        htm=method,
        htu=target,
        digest=body_digest(body),
        epoch=epoch,
        iat=issued_at,
        exp=issued_at + LIFETIME_S,
        jti=secrets.token_urlsafe(_JTI_BYTES),
    )
    signed = _header(claims.iss) + b"." + _b64(_encoder.encode(claims))
    return (signed + b"." + _b64(key.sign(signed))).decode()


def verify(
    token: str,
    *,
    keys: Mapping[str, Ed25519PublicKey],
    audience: str,
    method: str,
    target: str,
    body: bytes,
    epoch: int,
    now: float,
) -> Assertion:
    """The assertion in `token` when it holds for exactly this request; `keys` are by `issuer`.

    `audience` is the full `datacenter:{site}`; `now` is Unix seconds.
    Raises: AssertionInvalid.
    """
    claims = _open(token, keys)
    expected = {
        "aud": (claims.aud, audience),
        "htm": (claims.htm, method),
        "htu": (claims.htu, target),
        "digest": (claims.digest, body_digest(body)),
        "epoch": (claims.epoch, epoch),
    }
    for name, (said, true) in expected.items():
        if said != true:
            raise AssertionInvalid(f"{name} is of another request")
    if claims.exp - claims.iat > LIFETIME_S:
        raise AssertionInvalid("lives too long")
    if not claims.iat - LEEWAY_S <= now < claims.exp + LEEWAY_S:
        raise AssertionInvalid("not valid at this time")
    return claims


@functools.lru_cache(maxsize=_SENDERS_MAX)
def _header(kid: str) -> bytes:
    return _b64(_encoder.encode(_Header(alg=_ALGORITHM, typ=_TYPE, kid=kid)))


def _open(token: str, keys: Mapping[str, Ed25519PublicKey]) -> Assertion:
    if len(token) > TOKEN_CHARS_MAX:
        raise AssertionInvalid("too long")
    try:
        signed_text, signature_text = token.encode("ascii").rsplit(b".", 1)
        header_text, claims_text = signed_text.split(b".")
        header = _header_decoder.decode(_unb64(header_text))
        if (header.alg, header.typ) != (_ALGORITHM, _TYPE):
            raise AssertionInvalid("another kind of token")
        key = keys.get(header.kid)
        if key is None:
            raise AssertionInvalid("unknown sender")
        key.verify(_unb64(signature_text), signed_text)
        claims = _claims_decoder.decode(_unb64(claims_text))
    except InvalidSignature as error:
        raise AssertionInvalid("signature does not match") from error
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise AssertionInvalid("not a compact JWS of ours") from error
    if claims.iss != header.kid:
        raise AssertionInvalid("issued in another sender's name")
    return claims


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _unb64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


# Every read's.
_DIGEST_OF_NOTHING = _b64(hashlib.sha256(b"").digest()).decode()
