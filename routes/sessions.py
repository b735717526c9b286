"""The caller's own devices: list them, sign one or all out."""

from __future__ import annotations

from typing import Protocol

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from auth.principal import Principal
from routes.answers import CallerRequest, no_store
from routes.endpoint import Endpoint
from routes.wire import AS_OF_EXAMPLE, Instant


class SessionDevice(msgspec.Struct, frozen=True):
    """The phone of a session."""

    id: str
    name: str


class SessionCard(msgspec.Struct, frozen=True):
    """One signed-in device; `current` is the one that asks."""

    id: str
    device: SessionDevice
    created_at: Instant
    last_used_at: Instant
    current: bool


class SessionList(msgspec.Struct, frozen=True):
    """All signed-in devices of the account."""

    sessions: list[SessionCard]


class Sessions(Protocol):
    """What the session routes need from below; implemented in the gateway package."""

    async def of(self, principal: Principal) -> SessionList:
        """The account's live sessions."""
        ...

    async def end(self, principal: Principal, sid: str) -> None:
        """End one session of the account. Raises: NotFound."""
        ...

    async def end_all(self, principal: Principal) -> None:
        """End every session of the account."""
        ...


LIST_SESSIONS = Endpoint(
    method="GET",
    path="/v1/auth/sessions",
    rule=Rule.ANY_PRINCIPAL,
    summary="The caller's signed-in devices",
    tag="account",
    answer=SessionList,
    example={
        "sessions": [
            {
                "id": "s2b7c4d5e6f3g2h7",
                "device": {"id": "6f1d2c3b", "name": "Téléphone de démonstration"},
                "created_at": AS_OF_EXAMPLE,
                "last_used_at": AS_OF_EXAMPLE,
                "current": True,
            }
        ]
    },
)
END_SESSIONS = Endpoint(
    method="DELETE",
    path="/v1/auth/sessions",
    rule=Rule.ANY_PRINCIPAL,
    summary="Sign out everywhere",
    tag="account",
    status=204,
    problems=("read-only", "switching"),
)
END_SESSION = Endpoint(
    method="DELETE",
    path="/v1/auth/sessions/{id}",
    rule=Rule.ANY_PRINCIPAL,
    summary="Sign one device out",
    tag="account",
    status=204,
    problems=("not-found", "read-only", "switching"),
)


def _ended() -> Response[None]:
    return Response(None, status_code=204, headers={"cache-control": "no-store"})


@route("/v1/auth/sessions", http_method=["GET", "HEAD"], opt={"endpoint": LIST_SESSIONS})
async def list_sessions(
    request: CallerRequest, sessions: NamedDependency[SkipValidation[Sessions]]
) -> Response[bytes]:
    """The caller's signed-in devices."""
    return no_store(await sessions.of(request.user.principal))


@route("/v1/auth/sessions", http_method=["DELETE"], opt={"endpoint": END_SESSIONS})
async def end_sessions(
    request: CallerRequest, sessions: NamedDependency[SkipValidation[Sessions]]
) -> Response[None]:
    """Sign out everywhere."""
    await sessions.end_all(request.user.principal)
    return _ended()


@route("/v1/auth/sessions/{id:str}", http_method=["DELETE"], opt={"endpoint": END_SESSION})
async def end_session(
    request: CallerRequest, sessions: NamedDependency[SkipValidation[Sessions]]
) -> Response[None]:
    """Sign one device out."""
    await sessions.end(request.user.principal, str(request.path_params["id"]))
    return _ended()
