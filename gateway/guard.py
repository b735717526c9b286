"""The access check inside Litestar: every handler passes it, also those the edge has tried before.

Invariant: a handler runs only with a caller whom `auth.access` let in for exactly its path parameters; a path that
slips past the edge's table under another spelling is still judged here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from auth.access import Rule, admit_role, allow, needs_facts
from auth.refusals import NotFound, TokenInvalid
from auth.verified import Verified
from datacenters.position import NOWHERE, Position, parse
from gateway import trail
from gateway.edge import LANGUAGE_KEY, REQUEST_ID_KEY, ROUTE_KEY
from gateway.rate_limit import RateLimit
from gateway.relations import Relations
from routes.endpoint import BadRequest, Caller, Endpoint, path_names_something

POSITION_HEADER = "massar-position"

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


class Guard:
    """A Litestar guard: authenticate, limit, relate, allow."""

    def __init__(
        self,
        verified: Verified,
        relations: Relations,
        rate_limit: RateLimit,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._verified = verified
        self._relations = relations
        self._rate_limit = rate_limit
        self._clock = clock

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Set the connection's user to a Caller, or raise the refusal."""
        endpoint = cast("Endpoint | None", handler.opt.get("endpoint"))
        if endpoint is None:
            return
        scope = cast("dict[str, Any]", connection.scope)
        scope[ROUTE_KEY] = endpoint.path
        marked = trail.of(scope)
        marked.rule = endpoint.rule
        if endpoint.rule is Rule.OPEN:
            return
        authorizations = connection.headers.getall("authorization", [])
        if len(authorizations) > 1:
            raise TokenInvalid
        presented = authorizations[0].encode("latin-1") if authorizations else None
        principal = self._verified.check(presented, self._clock())
        marked.role = principal.role
        self._rate_limit.admit(principal.subject)
        admit_role(principal, endpoint.rule)
        path = {name: str(value) for name, value in connection.path_params.items()}
        if not path_names_something(path):
            raise NotFound
        facts = None
        if endpoint.with_facts or needs_facts(endpoint.rule):
            facts = await self._relations.facts(principal.subject)
        relation = allow(principal, facts, endpoint.rule, path)
        marked.relation = relation or trail.NOTHING
        scope["user"] = Caller(
            principal=principal,
            facts=facts,
            relation=relation,
            language=scope[LANGUAGE_KEY],
            request_id=scope[REQUEST_ID_KEY],
            not_before=_not_before(connection) if endpoint.reads else NOWHERE,
        )


def _not_before(connection: Connection) -> Position:
    """The position of a write that is to be seen. Raises: BadRequest, for to pass it over would break the promise."""
    given = connection.headers.getall(POSITION_HEADER, [])
    if not given:
        return NOWHERE
    try:
        return parse(",".join(given))
    except ValueError:
        raise BadRequest("Massar-Position") from None
