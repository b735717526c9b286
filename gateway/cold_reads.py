"""Cached reads that this process cannot answer by what it holds: from Valkey, or from a datacenter.

They are answered before the router, as warm ones are, because Litestar's layers cost more than everything else a read
does. Invariant: the same functions let the caller in, resolve the parameters, read and answer as behind the router, so
the bytes are the same on either way.
"""

from __future__ import annotations

from collections.abc import Mapping

from cache.asking import NOT_LOOKED, Ask, Found
from gateway import trail
from gateway.admission import Admission
from gateway.decisions import ALLOWED_KEY, Allowed
from gateway.failures import Failures
from gateway.reading import CachedReads
from gateway.scope import ROUTE_KEY, Message, Receive, Scope, Send, header_values
from routes.answers import JSON, read_parameters, select
from routes.endpoint import OUTCOME_KEY, Answered, CachedRead, Endpoint

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class ColdReads:
    """Answers the endpoints of the table of hot routes without the router."""

    def __init__(self, admission: Admission, reads: CachedReads, failures: Failures) -> None:
        self._admission = admission
        self._reads = reads
        self._failures = failures

    async def answer(
        self,
        endpoint: Endpoint,
        read: CachedRead,
        path: Mapping[str, str],
        scope: Scope,
        _receive: Receive,
        send: Send,
    ) -> None:
        """Answer one request for `endpoint`, whose path parameters are `path`."""
        scope[ROUTE_KEY] = endpoint.path
        trail.of(scope).rule = endpoint.rule
        try:
            ask, found = await self._question(endpoint, read, path, scope)
            answered = await self._reads.answer(ask, found)
            scope[OUTCOME_KEY] = answered.outcome
            status, headers, body = _answer(answered, scope)
        except Exception as error:  # noqa: BLE001 - every error becomes a problem, as behind the router
            status, headers, body = self._failures.render(scope, error)
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _question(
        self, endpoint: Endpoint, read: CachedRead, path: Mapping[str, str], scope: Scope
    ) -> tuple[Ask, Found]:
        allowed: Allowed | None = scope.get(ALLOWED_KEY)
        if allowed is not None:
            trail.of(scope).role = allowed.role
            trail.of(scope).relation = allowed.relation or trail.NOTHING
            return allowed.ask, allowed.found
        caller = await self._admission.admit(endpoint, path, scope)
        params = await read_parameters(
            endpoint, self._reads, caller=caller, path=path, query_string=scope["query_string"]
        )
        return self._reads.ask(read, params, not_before=caller.not_before), NOT_LOOKED


def _answer(answered: Answered, scope: Scope) -> Answer:
    if_none_match = b",".join(header_values(scope, b"if-none-match"))
    selected = select(
        answered,
        accept_encoding=b",".join(header_values(scope, b"accept-encoding")),
        if_none_match=if_none_match.decode("latin-1") or None,
    )
    headers = [(name.encode(), value.encode("latin-1")) for name, value in selected.headers.items()]
    if selected.status != 304:
        headers.append((b"content-type", JSON.encode()))
        headers.append((b"content-length", b"%d" % len(selected.body)))
    return selected.status, headers, selected.body
