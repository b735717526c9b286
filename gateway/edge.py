"""The plain ASGI callable around the Litestar object: it answers cached reads before the router, and keeps the bounds of
every request.

Litestar runs its middleware only after route lookup, so what must be cheaper than routing has to stand outside.
Invariant: a warm hit passes the same token check, access table and rate limit as any other request, and nothing
is awaited before its first message is sent.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from auth.access import allow
from auth.principal import Relation, Role
from auth.verified import Verified
from cache.memory import Held
from cache.reading import Event
from datacenters.directory import Directory
from datacenters.position import parse
from gateway import trail
from gateway.answering import Answering
from gateway.hot_routes import HotRoutes
from gateway.logs import AccessLog
from gateway.metrics import Metrics
from gateway.prepared import EMPTY, prepare
from gateway.rate_limit import RateLimit
from gateway.reading import CachedReads
from gateway.relations import Relations
from gateway.scope import (
    ASGI,
    LANGUAGE_KEY,
    REQUEST_ID_KEY,
    ROUTE_KEY,
    Message,
    Receive,
    Scope,
    Send,
    header_values,
)
from gateway.settings import Settings
from routes.answers import etag_matches
from routes.endpoint import OUTCOME_KEY, CachedRead, Endpoint, parse_query, path_names_something, resolve
from routes.problems import language_of, render

if TYPE_CHECKING:
    from gateway.school_sites import SchoolSites

# An entry, and as whom its reader was let in.
Permitted: TypeAlias = tuple[Held, Role, Relation | None]
# Answers a cached read of this endpoint and these path parameters.
ColdRead: TypeAlias = Callable[[Endpoint, CachedRead, dict[str, str], Scope, Receive, Send], Awaitable[None]]

RETRY_AFTER_S = 1.0
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_LENGTH_DIGITS_MAX = 18
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
_HIT = Event.HIT_TIER1.value


class Edge:
    """`Edge(Litestar(...))`: warm hits here, other cached reads in `cold_reads`, everything else inside."""

    def __init__(
        self,
        inner: ASGI,
        *,
        settings: Settings,
        hot_routes: HotRoutes,
        cold_reads: ColdRead,
        verified: Verified,
        relations: Relations,
        reads: CachedReads,
        rate_limit: RateLimit,
        directory: Directory,
        metrics: Metrics,
        access_log: AccessLog,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        school_sites: SchoolSites | None = None,
    ) -> None:
        self._inner = inner
        self._school_sites = school_sites
        self._settings = settings
        self._hot_routes = hot_routes
        self._cold_reads = cold_reads
        self._verified = verified
        self._relations = relations
        self._reads = reads
        self._rate_limit = rate_limit
        self._directory = directory
        self._metrics = metrics
        self._access_log = access_log
        self._clock = clock
        self._monotonic = monotonic
        self._request_prefix = secrets.token_hex(6)
        self._request_number = itertools.count(1)
        self._in_flight = 0
        self._receiving = 0
        self._header_bytes_max = settings.header_bytes_max
        self._target_bytes_max = settings.target_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass the lifespan through."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        inner = self._inner
        if self._school_sites is not None and self._school_sites.are_asked(scope):
            inner = self._school_sites
        elif scope["method"] in ("GET", "HEAD") and (found := self._hot_routes.match(scope["path"])):
            endpoint, read, path = found
            warm = self._warm(endpoint, read, path, scope)
            if warm is not None:
                await send(warm[0])
                await send(warm[1])
                return
            inner = partial(self._cold_reads, endpoint, read, path)
        await self._through(scope, receive, send, inner)

    def _warm(
        self, endpoint: Endpoint, read: CachedRead, path: dict[str, str], scope: Scope
    ) -> tuple[Message, Message] | None:
        """The two messages of a warm hit, or None when this process cannot say at once."""
        query = scope["query_string"]
        authorization = if_none_match = position = accept_encoding = None
        header_bytes = 0
        for name, value in scope["headers"]:
            header_bytes += len(name) + len(value)
            if name == b"authorization":
                # Two of them are refused inside; the join is no token either way.
                authorization = value if authorization is None else authorization + b"," + value
            elif name == b"if-none-match":
                if_none_match = value if if_none_match is None else if_none_match + b"," + value
            elif name == b"accept-encoding":
                accept_encoding = value if accept_encoding is None else accept_encoding + b"," + value
            elif name == b"massar-position":
                position = value if position is None else position + b"," + value
            elif name in _OF_A_BODY:
                return None  # judged where those of every request are
        if header_bytes > self._header_bytes_max or len(scope["path"]) + len(query) > self._target_bytes_max:
            return None
        now = self._clock()
        try:
            permitted = self._permitted(endpoint, read, path, query, authorization, position, now)
        except Exception:  # noqa: BLE001 - every refusal is made inside, where its problem is rendered
            return None
        if permitted is None:
            return None
        return self._answer(endpoint, scope["method"], permitted, if_none_match, accept_encoding, now)

    def _permitted(
        self,
        endpoint: Endpoint,
        read: CachedRead,
        path: dict[str, str],
        query: bytes,
        authorization: bytes | None,
        position: bytes | None,
        now: float,
    ) -> Permitted | None:
        """The entry this caller may be shown at once, and as whom; or None. Raises: every refusal of auth and limits."""
        principal = self._verified.check(authorization, now)
        facts = self._relations.peek(principal.subject, now)
        if facts is None or not path_names_something(path):
            return None
        relation = allow(principal, facts, endpoint.rule, path)
        params = resolve(
            endpoint,
            path=path,
            query=parse_query(endpoint, query) if query else {},
            calendar=self._reads.known_calendar(now),
            principal=principal,
            facts=facts,
        )
        held = None if params is None else self._reads.peek(read, params, now)
        if held is None or (position is not None and held.entry.position < parse(position.decode("ascii"))):
            return None
        self._rate_limit.admit(principal.subject)
        return held, principal.role, relation

    def _answer(
        self,
        endpoint: Endpoint,
        method: str,
        permitted: Permitted,
        if_none_match: bytes | None,
        accept_encoding: bytes | None,
        now: float,
    ) -> tuple[Message, Message]:
        held, role, relation = permitted
        route = endpoint.path
        prepared = prepare(held, accept_encoding)
        body = prepared.body
        request_id = self._next_request_id()
        status, own = 200, prepared.full
        if if_none_match is not None and etag_matches(if_none_match.decode("latin-1"), prepared.etag):
            status, own, body = 304, prepared.unchanged, EMPTY
        elif method == "HEAD":
            body = EMPTY
        epoch = self._directory.epoch
        headers = [*own, (b"massar-request-id", request_id), *self._standing()]
        if self._settings.show_cache_status:
            age = max(0, int(now - held.entry.stored_at))
            headers += [(b"cache-status", b"massar; hit; detail=memory"), (b"age", b"%d" % age)]
        self._metrics.request(route, method, status)
        self._metrics.cache_event(_HIT)
        self._access_log.write(
            request_id=request_id,
            route=route,
            method=method,
            status=status,
            outcome="hit",
            ms=0.0,
            epoch=epoch,
            role=role,
            relation=relation or "-",
            rule=endpoint.rule,
        )
        return {"type": "http.response.start", "status": status, "headers": headers}, body

    def _next_request_id(self) -> bytes:
        return b"%s-%x" % (self._request_prefix.encode(), next(self._request_number))

    async def _through(self, scope: Scope, receive: Receive, send: Send, inner: ASGI) -> None:
        """Pass the request on within its bounds, with our headers on whatever comes back."""
        started = self._monotonic()
        request_id = self._next_request_id()
        language = language_of(_header(scope, b"accept-language"))
        scope[REQUEST_ID_KEY], scope[LANGUAGE_KEY] = request_id.decode(), language
        scope[trail.TRAIL_KEY] = trail.begin()
        answering = Answering(
            send,
            request_id=request_id,
            without_body=scope["method"] == "HEAD",
            standing=self._standing,
            finished=lambda status: self._finished(scope, status, request_id, started),
        )
        refusal = self._refusal(scope, inner)
        if refusal is None and scope["method"] in WITH_BODY:
            received = await self._receive_body(receive)
            if isinstance(received, str):
                refusal = received
            elif self._in_flight >= self._settings.in_flight_max:
                refusal = "overloaded"  # others came while this body was on its way
            else:
                receive = _replay(received, receive)
        if refusal is not None:
            await self._refuse(refusal, scope, answering)
            return
        self._in_flight += 1
        try:
            await inner(scope, receive, answering.send)
        finally:
            self._in_flight -= 1
            answering.end()

    async def _refuse(self, slug: str, scope: Scope, answering: Answering) -> None:
        trail.of(scope).slug = slug
        status, headers, body = render(
            slug,
            language=scope[LANGUAGE_KEY],
            base_url=self._settings.problem_base_url,
            request_id=scope[REQUEST_ID_KEY],
            retry_after_s=RETRY_AFTER_S if slug in {"overloaded", "request-timeout"} else None,
        )
        await answering.send({"type": "http.response.start", "status": status, "headers": headers})
        await answering.send({"type": "http.response.body", "body": body, "more_body": False})

    def _refusal(self, scope: Scope, inner: ASGI) -> str | None:
        """The slug to refuse with before anything is read, or None."""
        settings = self._settings
        path = scope["path"]
        if len(path) + len(scope["query_string"]) > settings.target_bytes_max:
            return "uri-too-long"
        if sum(len(name) + len(value) for name, value in scope["headers"]) > settings.header_bytes_max:
            return "headers-too-large"
        if inner is self._inner and ((path.endswith("/") and path != "/") or "//" in path):
            return "not-found"  # Litestar would fold these onto another path
        length = _header(scope, b"content-length")
        if length is not None and not _within(length, settings.body_bytes_max):
            return "body-too-large" if length.isdigit() else "bad-request"
        if self._in_flight >= settings.in_flight_max:
            return "overloaded"
        return None

    async def _receive_body(self, receive: Receive) -> Message | str:
        """A bounded body as one message, however many pieces it came in, or the slug of what was wrong with it."""
        if self._receiving >= self._settings.receiving_max:
            return "overloaded"
        body = bytearray()
        self._receiving += 1
        try:
            async with asyncio.timeout(self._settings.body_wait_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return "bad-request"  # hung up before the end; nobody reads this
                    body += message.get("body", b"")
                    if len(body) > self._settings.body_bytes_max:
                        return "body-too-large"
                    if not message.get("more_body", False):
                        return {"type": "http.request", "body": bytes(body), "more_body": False}
        except TimeoutError:
            return "request-timeout"
        finally:
            self._receiving -= 1

    def _finished(self, scope: Scope, status: int, request_id: bytes, started: float) -> None:
        """Count and log a request that was no warm hit."""
        route = scope.get(ROUTE_KEY, "-")
        seconds = self._monotonic() - started
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request(route, method, status)
        self._metrics.seconds.labels(route).observe(seconds)
        marked = trail.of(scope)
        self._access_log.write(
            request_id=request_id,
            route=route,
            method=method,
            status=status,
            outcome=scope.get(OUTCOME_KEY, "-"),
            ms=seconds * 1000,
            epoch=self._directory.epoch,
            role=marked.role,
            relation=marked.relation,
            rule=marked.rule,
            datacenter=marked.datacenter,
            journal=marked.journal,
            slug=marked.slug,
        )

    def _standing(self) -> list[tuple[bytes, bytes]]:
        """What every answer says of the declared state."""
        return [(b"massar-epoch", b"%d" % self._directory.epoch), (b"massar-mode", self._reads.mode.encode())]


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _within(length: bytes, most: int) -> bool:
    return length.isdigit() and len(length) <= _LENGTH_DIGITS_MAX and int(length) <= most


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next(iter(header_values(scope, name)), None)


def _replay(body: Message, receive: Receive) -> Receive:
    waiting = [body]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
