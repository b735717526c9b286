"""Open to everyone: how the gateway fares, for apps and operators."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from auth.principal import Name
from routes.answers import JSON, NO_STORE, encode
from routes.endpoint import Endpoint

Mode = Literal["normal", "read-only", "survival", "switching", "unprotected"]


class Status(msgspec.Struct, frozen=True):
    """The gateway's mode, the declared active datacenter, and how long to wait before writing (seconds)."""

    mode: Mode
    datacenter: Name
    epoch: int
    retry_after_s: int | None


class Condition(Protocol):
    """What the status routes ask the gateway."""

    def status(self) -> Status:
        """The mode as it is now."""
        ...

    def ready(self) -> bool:
        """Whether anything at all can be answered."""
        ...

    def jwks(self) -> bytes:
        """The public keys of access tokens, as a JWK Set."""
        ...


class PublicKey(msgspec.Struct, frozen=True):
    """One JSON Web Key. Source: RFC 7517."""

    kty: str
    crv: str
    kid: str
    x: str
    y: str
    use: str
    alg: str


class PublicKeys(msgspec.Struct, frozen=True):
    """A JWK Set."""

    keys: list[PublicKey]


class Alive(msgspec.Struct, frozen=True):
    """Whether a probe passed."""

    status: str


STATUS = Endpoint(
    method="GET",
    path="/v1/status",
    rule=Rule.OPEN,
    summary="Modes, the active datacenter, waits",
    tag="operations",
    answer=Status,
    example={
        "mode": "normal",
        "datacenter": {"ar": "الرباط", "fr": "Rabat"},
        "epoch": 7,
        "retry_after_s": None,
    },
)
JWKS = Endpoint(
    method="GET",
    path="/.well-known/jwks.json",
    rule=Rule.OPEN,
    summary="Public keys of access tokens",
    tag="operations",
    answer=PublicKeys,
    example={
        "keys": [
            {"kty": "EC", "crv": "P-256", "kid": "2026-11", "x": "…", "y": "…", "use": "sig", "alg": "ES256"}
        ]
    },
)
LIVEZ = Endpoint(
    method="GET",
    path="/livez",
    rule=Rule.OPEN,
    summary="Whether the process runs",
    tag="operations",
    answer=Alive,
    example={"status": "alive"},
)
READYZ = Endpoint(
    method="GET",
    path="/readyz",
    rule=Rule.OPEN,
    summary="Whether the gateway can serve; 503 while draining",
    tag="operations",
    answer=Alive,
    problems=("overloaded",),
    example={"status": "ready"},
)


class NotReady(Exception):
    """The gateway is draining, or nothing can be answered."""

    slug = "overloaded"
    retry_after_s = 1.0


@route("/v1/status", http_method=["GET", "HEAD"], opt={"endpoint": STATUS})
async def read_status(
    condition: NamedDependency[SkipValidation[Condition]],
) -> Response[bytes]:
    """Modes, the active datacenter, waits."""
    return Response(encode(condition.status()), headers={"cache-control": NO_STORE}, media_type=JSON)


@route("/.well-known/jwks.json", http_method=["GET", "HEAD"], opt={"endpoint": JWKS})
async def read_jwks(condition: NamedDependency[SkipValidation[Condition]]) -> Response[bytes]:
    """Public keys of access tokens."""
    return Response(condition.jwks(), headers={"cache-control": "public, max-age=300"}, media_type=JSON)


@route("/livez", http_method=["GET", "HEAD"], opt={"endpoint": LIVEZ})
async def read_livez() -> Response[bytes]:
    """Whether the process runs."""
    return Response(encode(Alive("alive")), headers={"cache-control": NO_STORE}, media_type=JSON)


@route("/readyz", http_method=["GET", "HEAD"], opt={"endpoint": READYZ})
async def read_readyz(condition: NamedDependency[SkipValidation[Condition]]) -> Response[bytes]:
    """Whether the gateway can serve. Raises: NotReady."""
    if not condition.ready():
        raise NotReady
    return Response(encode(Alive("ready")), headers={"cache-control": NO_STORE}, media_type=JSON)
