"""Who may use an endpoint: authenticate, limit, relate, allow, in that order and nowhere else.

Invariant: what comes out is a caller whom `auth.access` let in for exactly these path parameters. The edge's warm hits
go through the same functions without waiting; whoever they do not let in comes here, and is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from auth.access import admit_role, allow, needs_facts
from auth.refusals import NotFound, TokenInvalid
from auth.verified import Verified
from datacenters.position import NOWHERE, Position, parse
from gateway import trail
from gateway.rate_limit import RateLimit
from gateway.relations import Relations
from gateway.scope import LANGUAGE_KEY, REQUEST_ID_KEY, header_values
from routes.endpoint import BadRequest, Caller, Endpoint, path_names_something

POSITION_HEADER = b"massar-position"


class Admission:
    """Lets callers in to endpoints that are not open to all."""

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

    async def admit(self, endpoint: Endpoint, path: Mapping[str, str], scope: Mapping[str, Any]) -> Caller:
        """The caller of this ASGI request, or the refusal raised; `path` holds the path parameters as text."""
        marked = trail.of(scope)
        authorizations = header_values(scope, b"authorization")
        if len(authorizations) > 1:
            raise TokenInvalid
        principal = self._verified.check(authorizations[0] if authorizations else None, self._clock())
        marked.role = principal.role
        self._rate_limit.admit(principal.subject)
        admit_role(principal, endpoint.rule)
        if not path_names_something(path):
            raise NotFound
        facts = None
        if endpoint.with_facts or needs_facts(endpoint.rule):
            facts = await self._relations.facts(principal.subject)
        relation = allow(principal, facts, endpoint.rule, path)
        marked.relation = relation or trail.NOTHING
        return Caller(
            principal=principal,
            facts=facts,
            relation=relation,
            language=scope[LANGUAGE_KEY],
            request_id=scope[REQUEST_ID_KEY],
            not_before=_not_before(scope) if endpoint.reads else NOWHERE,
        )


def _not_before(scope: Mapping[str, Any]) -> Position:
    """The position of a write that is to be seen. Raises: BadRequest, for to pass it over would break the promise."""
    given = header_values(scope, POSITION_HEADER)
    if not given:
        return NOWHERE
    try:
        return parse(b",".join(given).decode("latin-1"))
    except ValueError:
        raise BadRequest("Massar-Position") from None
