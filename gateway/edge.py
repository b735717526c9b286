"""The plain ASGI callable around the Litestar object: it answers cached reads before the router, and keeps the bounds of
every request.

Litestar runs its middleware only after route lookup, so what must be cheaper than routing has to stand outside.
Invariant: of a warm hit nothing is awaited before its first message is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from cache.request import Places, Request, begin_request
from cache.store import WAITERS_MAX
from gateway import trail
from gateway.answering import Answering
from gateway.decisions import ALLOWED_KEY, Allowed
from gateway.hot_routes import HotRoutes
from gateway.logs import AccessLog, words
from gateway.metrics import Metrics
from gateway.request_ids import RequestIds
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
from gateway.standing import Standing
from gateway.warm_reads import Messages, Wanted, WarmReads
from routes.endpoint import OUTCOME_KEY, CachedRead, Endpoint
from routes.problems import language_of, render

if TYPE_CHECKING:
    from gateway.school_sites import SchoolSites

# Answers a cached read of this endpoint and these path parameters.
ColdRead: TypeAlias = Callable[[Endpoint, CachedRead, dict[str, str], Scope, Receive, Send], Awaitable[None]]

RETRY_AFTER_S = 1.0
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_LENGTH_DIGITS_MAX = 18


class Edge:
    """`Edge(Litestar(...))`: warm hits here, other cached reads in `cold_reads`, everything else inside."""

    def __init__(
        self,
        inner: ASGI,
        *,
        settings: Settings,
        hot_routes: HotRoutes,
        warm_reads: WarmReads,
        cold_reads: ColdRead,
        standing: Standing,
        request_ids: RequestIds,
        metrics: Metrics,
        access_log: AccessLog,
        monotonic: Callable[[], float] = time.monotonic,
        school_sites: SchoolSites | None = None,
    ) -> None:
        self._inner = inner
        self._school_sites = school_sites
        self._settings = settings
        self._hot_routes = hot_routes
        self._warm_reads = warm_reads
        self._cold_reads = cold_reads
        self._standing = standing
        self._request_ids = request_ids
        self._metrics = metrics
        self._access_log = access_log
        self._monotonic = monotonic
        self._places = Places(working_max=settings.in_flight_max, waiting_max=WAITERS_MAX)
        self._receiving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass the lifespan through."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        inner, started, request = self._inner, self._monotonic(), None
        if self._school_sites is not None and self._school_sites.are_asked(scope):
            inner = self._school_sites
        elif scope["method"] in ("GET", "HEAD") and (found := self._hot_routes.match(scope["path"])):
            endpoint, read, path = found
            warm = self._warm_reads.answer(endpoint, read, path, scope)
            if warm is None or isinstance(warm, Wanted):
                request = begin_request(self._places)
                warm = await self._found(warm, scope, request)
            if warm is not None:
                await send(warm[0])
                await send(warm[1])
                return
            inner = partial(self._cold_reads, endpoint, read, path)
        request = request or begin_request(self._places)
        await self._through(scope, receive, send, inner, started, request)

    async def _found(self, wanted: Wanted | None, scope: Scope, request: Request) -> Messages | None:
        """A hit in tier 2; else the cold read goes on from what was found out."""
        if wanted is None or self._places.full:
            return None
        try:
            with request:
                found = await self._warm_reads.find(wanted)
        except asyncio.CancelledError:
            self._warm_reads.left(wanted)
            raise
        except Exception:  # noqa: BLE001 - the cold read meets it again, where it is rendered and told
            found = Allowed(wanted.role, wanted.relation, wanted.ask)
        if isinstance(found, Allowed):
            scope[ALLOWED_KEY] = found
            return None
        return found

    async def _through(
        self, scope: Scope, receive: Receive, send: Send, inner: ASGI, started: float, request: Request
    ) -> None:
        """Pass the request on within its bounds, with our headers on whatever comes back."""
        request_id = self._request_ids.next()
        language = language_of(_header(scope, b"accept-language"))
        scope[REQUEST_ID_KEY], scope[LANGUAGE_KEY] = request_id.decode(), language
        scope[trail.TRAIL_KEY] = trail.begin()
        answering = Answering(
            send,
            request_id=request_id,
            without_body=scope["method"] == "HEAD",
            standing=lambda: self._standing.headers,
            finished=lambda status: self._finished(scope, status, request_id, started),
        )
        refusal = self._refusal(scope, inner)
        if refusal is None and scope["method"] in WITH_BODY:
            received = await self._receive_body(receive)
            if isinstance(received, str):
                refusal = received
            elif self._places.full:
                refusal = "overloaded"  # others came while this body was on its way
            else:
                receive = _replay(received, receive)
        if refusal is not None:
            await self._refuse(refusal, scope, answering)
            return
        try:
            with request:
                await inner(scope, receive, answering.send)
        finally:
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
        if self._places.full:
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
        self._metrics.request(route, method, status, seconds)
        marked = trail.of(scope)
        said = words(
            route=route,
            method=method,
            status=status,
            outcome=scope.get(OUTCOME_KEY, "-"),
            ms=seconds * 1000,
            epoch=self._standing.now().epoch,
            role=marked.role,
            relation=marked.relation,
            rule=marked.rule,
            datacenter=marked.datacenter,
            journal=marked.journal,
            slug=marked.slug,
        )
        self._access_log.write(request_id, said)


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
