"""The access check inside Litestar: every handler passes it, also those the edge has tried before.

Invariant: a handler runs only with a caller whom `gateway.admission` let in; a path that slips past the edge's table
under another spelling is still judged here.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from auth.access import Rule
from gateway import trail
from gateway.admission import Admission
from gateway.scope import ROUTE_KEY
from routes.endpoint import Endpoint

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


class Guard:
    """A Litestar guard that asks the admission."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Set the connection's user to a Caller, or raise the refusal."""
        endpoint = cast("Endpoint | None", handler.opt.get("endpoint"))
        if endpoint is None:
            return
        scope = cast("dict[str, Any]", connection.scope)
        scope[ROUTE_KEY] = endpoint.path
        trail.of(scope).rule = endpoint.rule
        if endpoint.rule is not Rule.OPEN:
            path = {name: str(value) for name, value in connection.path_params.items()}
            scope["user"] = await self._admission.admit(endpoint, path, scope)
