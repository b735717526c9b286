"""Signing in and refreshing: credentials in, tokens out. Nothing here is ever cached."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec
from litestar import Request, Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from auth.principal import App, Name, Role
from auth.refusals import UnsupportedGrant
from routes.answers import decode, json_body, no_store
from routes.endpoint import Endpoint
from routes.me import PrincipalCard
from routes.wire import NAME_EXAMPLE, PUPIL_ID_EXAMPLE

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
DeviceId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
TokenText = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The phone that signs in; its id is the app's own and stays the same."""

    id: DeviceId
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""


class DeviceReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The phone that refreshes."""

    id: DeviceId
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""


class SignInRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Credentials of one account of one app."""

    grant: Annotated[str, msgspec.Meta(min_length=1, max_length=64, description="only `password` for now")]
    app: App
    login: Text
    password: Text
    device: Device


class _Grant(msgspec.Struct, frozen=True):
    grant: str


class RefreshRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A refresh token and the device it was given to."""

    refresh_token: TokenText
    device: DeviceReference


class Tokens(msgspec.Struct, frozen=True):
    """A fresh pair of tokens; `expires_in` and `refresh_expires_in` in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    principal: PrincipalCard


class SigningIn(Protocol):
    """What signing in needs from below; implemented in the gateway package."""

    async def sign_in(self, request: SignInRequest) -> Tokens:
        """Exchange credentials for tokens."""
        ...

    async def refresh(self, request: RefreshRequest) -> Tokens:
        """Exchange a refresh token for its successor."""
        ...


_EXAMPLE = {
    "access_token": "eyJhbGciOiJFUzI1NiJ9.e30.c2ln",
    "token_type": "Bearer",
    "expires_in": 600,
    "refresh_token": "eyJhbGciOiJFUzI1NiJ9.e30.c2ln",
    "refresh_expires_in": 2592000,
    "principal": {"id": PUPIL_ID_EXAMPLE, "role": "parent", "app": "waliye", "name": NAME_EXAMPLE},
}

SIGN_IN = Endpoint(
    method="POST",
    path="/v1/auth/tokens",
    rule=Rule.OPEN,
    summary="Sign in",
    tag="account",
    answer=Tokens,
    body=SignInRequest,
    problems=("credentials-invalid", "too-many-attempts", "unsupported-grant", "read-only", "switching"),
    example=_EXAMPLE,
    body_example={
        "grant": "password",
        "app": "waliye",
        "login": "parent@famille.example",
        "password": "correct horse battery staple",
        "device": {"id": "6f1d2c3b", "name": "Téléphone de démonstration"},
    },
)
REFRESH = Endpoint(
    method="POST",
    path="/v1/auth/tokens/refresh",
    rule=Rule.OPEN,
    summary="Exchange a refresh token",
    tag="account",
    answer=Tokens,
    body=RefreshRequest,
    problems=("refresh-invalid", "refresh-reused", "read-only", "switching"),
    example=_EXAMPLE,
    body_example={"refresh_token": "eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "device": {"id": "6f1d2c3b"}},
)

_grant = msgspec.json.Decoder(_Grant)
_sign_in = msgspec.json.Decoder(SignInRequest)
_refresh = msgspec.json.Decoder(RefreshRequest)


def principal_card(subject: str, role: Role, app: App, name: Name) -> PrincipalCard:
    """The principal as a sign-in answers it."""
    return PrincipalCard(id=subject, role=role, app=app, name=name)


@route("/v1/auth/tokens", http_method=["POST"], opt={"endpoint": SIGN_IN})
async def sign_in(
    request: Request[Any, Any, Any], signing_in: NamedDependency[SkipValidation[SigningIn]]
) -> Response[bytes]:
    """Sign in with a password."""
    body = await json_body(request)
    if decode(_grant, body).grant != "password":
        raise UnsupportedGrant
    return no_store(await signing_in.sign_in(decode(_sign_in, body)))


@route("/v1/auth/tokens/refresh", http_method=["POST"], opt={"endpoint": REFRESH})
async def refresh(
    request: Request[Any, Any, Any], signing_in: NamedDependency[SkipValidation[SigningIn]]
) -> Response[bytes]:
    """Exchange a refresh token for its successor."""
    return no_store(await signing_in.refresh(decode(_refresh, await json_body(request))))
