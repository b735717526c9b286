"""The sandbox datacenter: SI-MASSAR's side of openapi/datacenter.yaml, as one site runs it.

Invariant: nothing but `/health` is answered before the caller was admitted; every answer says which epoch this
datacenter knows and where in the log it stands; it changes its role only because PostgreSQL did. One process per
site: the memory of used assertions is not shared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar import Litestar, Request, Response, get, post, put
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from datacenters.assertion import ActingRole, Sender, issuer
from datacenters.sender_keys import read_private_key, read_public_keys
from sandbox.datacenter import answers, parameters, shapes
from sandbox.datacenter.admission import Admission, Admitted, HighestEpoch
from sandbox.datacenter.contract import READS, WRITES, Read, Write
from sandbox.datacenter.fence import Guard, StaleEpoch
from sandbox.datacenter.outbox import Outbox
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.records import Records, sqlstate
from sandbox.datacenter.replaying import read_replay
from sandbox.datacenter.settings import Settings
from sandbox.datacenter.standing import Observer, Standing
from sandbox.datacenter.writes import Occasion, decide, key_of
from sandbox.datacenter.writes import Request as WriteRequest

READ_WITHIN_S = 2.0
WRITE_WITHIN_S = 4.0

HttpRequest = Request[Any, Any, Any]
_encoder = msgspec.json.Encoder()
_SLUGS = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}


class Datacenter:
    """What one process holds and how it answers."""

    def __init__(
        self,
        settings: Settings,
        *,
        records: Records,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._records = records
        self._clock = clock
        self._monotonic = monotonic
        self._log = log
        self._guard = Guard(site=settings.site, heard_within_s=settings.guard_s)
        self._observer = Observer(monotonic)
        self._highest = HighestEpoch()
        self._seen: Standing | None = None
        self._admission = Admission(
            site=settings.site,
            keys=_senders(settings),
            highest=self._highest,
            clock=clock,
        )

    async def read(self, request: HttpRequest, read: Read) -> Response[bytes]:
        """Answer a read by its view, or 304."""
        admitted = await self._admitted(request)
        path = parameters.read_path(request.path_params, people=read.people)
        query = parameters.read_query(
            request.scope["query_string"].decode("latin-1"),
            required={"view": parameters.one_of(*read.views), **read.required},
            optional=read.optional,
        )
        async with asyncio.timeout(READ_WITHIN_S), self._records.reading() as connection:
            standing = await self._look(connection)
            # Others look meanwhile: what this answer says of itself is what was seen before its own snapshot.
            own = answers.standing_headers(epoch=self._highest.value, standing=standing)
            self._highest.refuse_below(admitted.epoch)
            try:
                found = await read.find(connection, {**path, **query})
            except Refused as refused:
                refused.headers = {**own, **refused.headers}
                raise
        body = _encoder.encode(found)
        tag = answers.etag(body)
        headers = own | {
            "ETag": tag,
            "Cache-Control": read.cache_control,
            "Last-Modified": answers.http_date(found.as_of),
        }
        if answers.matches(request.headers.get("if-none-match"), tag):
            return answers.answer(304, b"", headers)
        return answers.answer(200, body, headers)

    async def write(self, request: HttpRequest, write: Write) -> Response[bytes]:
        """Do a write once, or repeat what was answered the first time."""
        admitted = await self._admitted(request)
        path = parameters.read_path(request.path_params)
        parameters.read_query(request.scope["query_string"].decode("latin-1"), required={})
        if admitted.role is not ActingRole.TEACHER:
            raise Refused("not-found")
        body = await request.body()
        replay = read_replay(admitted, request.headers)
        asked = WriteRequest(
            principal=admitted.subject,
            route=f"{write.method} {write.path}",
            key=key_of(request.headers.get("idempotency-key")),
            target=request.scope["path"],
            body=body,
            epoch=admitted.epoch,
            recorded=replay.recorded if replay else None,
        )
        now = replay.decided_at if replay else datetime.fromtimestamp(self._clock(), UTC)
        occasion = Occasion(scope=asked.scope, now=now, replayed=replay is not None and replay.accepted)
        occasions = [occasion]
        if occasion.replayed:
            occasions.append(msgspec.structs.replace(occasion, without_predecessors=True))
        effects = [write.prepare(admitted.subject, path, body, one) for one in occasions]
        deadline = asyncio.get_running_loop().time() + WRITE_WITHIN_S
        async with asyncio.timeout_at(deadline):
            async with self._records.reading() as connection:
                standing = await self._look(connection)
            if standing.in_recovery:
                raise Refused("read-only")
            verdict = await decide(self._records, asked, *effects, guard=self._guard)
        standing = await self._look_after_commit(deadline)
        headers = answers.standing_headers(epoch=self._highest.value, standing=standing) | verdict.headers
        headers["Massar-Order"] = str(verdict.order)
        if verdict.replayed:
            headers["Massar-Replayed"] = "1"
        return answers.answer(verdict.status, verdict.body, headers, headers.pop("Content-Type"))

    async def health(self, request: HttpRequest) -> Response[bytes]:
        """Tell a director how this site stands."""
        query = parameters.read_query(
            request.scope["query_string"].decode("latin-1"), required={}, optional={"nonce": parameters.nonce}
        )
        async with asyncio.timeout(READ_WITHIN_S), self._records.reading() as connection:
            standing = await self._look(connection)
        body = shapes.Health(
            site=self._settings.site,
            role="standby" if standing.in_recovery else "primary",
            epoch=self._highest.value,
            position=standing.position,
            receipt_age_s=standing.receipt_age_s,
            lag_s=standing.lag_s,
            writable=not standing.in_recovery
            and standing.epoch == self._highest.value
            and standing.guarded(self._guard),
            nonce=query["nonce"],
        )
        return answers.answer(200, _encoder.encode(body), self._headers() | {"Cache-Control": "no-store"})

    async def answered(self, request: HttpRequest, route: str, work: Callable[[], Any]) -> Response[bytes]:
        """Do `work`, turn its refusals into problems, and log one line about it."""
        started = self._monotonic()
        slug = None
        try:
            # One path, one spelling: Litestar also routes doubled and trailing slashes and needless escapes here.
            if request.scope["raw_path"] != request.scope["path"].encode():
                raise Refused("not-found")
            response: Response[bytes] = await work()
        except Refused as refused:
            if isinstance(refused, StaleEpoch):
                self._highest.learn(refused.epoch)
            slug = refused.slug
            if refused.status < 500 and refused.__cause__ is not None and sqlstate(refused.__cause__):
                # The caller is told that he sent no value; should it be a statement of ours, this line tells.
                self._log.warning("value refused by the records", **_trouble(refused.__cause__))
            response = self._problem(refused)
        except TimeoutError:
            slug = "records-unavailable"
            response = self._problem(Refused(slug))
        status = response.status_code or 200
        took_ms = round((self._monotonic() - started) * 1000, 1)
        self._log.info(
            "answered", method=request.method, route=route, status=status, slug=slug, took_ms=took_ms
        )
        return response

    def routing_problem(self, _: HttpRequest, error: Exception) -> Response[bytes]:
        """A problem for what Litestar itself refuses, and for our own mistakes."""
        if isinstance(error, Refused):
            return self._problem(error)
        slug = (
            _SLUGS.get(error.status_code, "bad-request") if isinstance(error, HTTPException) else "internal"
        )
        headers: Mapping[str, str] = {}
        if slug == "internal" or (isinstance(error, HTTPException) and error.status_code >= 500):
            slug = "internal"
            self._log.error("internal", **_trouble(error))
        elif slug == "method-not-allowed" and isinstance(error, HTTPException):
            headers = {name: text for name, text in (error.headers or {}).items() if name.lower() == "allow"}
        return self._problem(Refused(slug, headers=headers))

    async def _admitted(self, request: HttpRequest) -> Admitted:
        query = request.scope["query_string"].decode("latin-1")
        path = request.scope["path"]
        return self._admission.admit(
            method=request.method,
            target=f"{path}?{query}" if query else path,
            body=await request.body(),
            epoch_header=request.headers.get("massar-epoch"),
            token=request.headers.get("massar-assertion"),
        )

    async def _look_after_commit(self, deadline: float) -> Standing:
        """Where the log stands beyond a commit: whoever reads there has the write, whoever read before it stood below.

        Raises: Refused (`outcome-unknown`): it is done, but nobody could say yet from where on it is safe.
        """
        try:
            async with asyncio.timeout_at(deadline), self._records.reading() as connection:
                return self._noted(await self._observer.look_beyond(connection))
        except (Refused, TimeoutError, DBAPIError) as error:
            raise Refused("outcome-unknown") from error

    async def _look(self, connection: AsyncConnection) -> Standing:
        return self._noted(await self._observer.look(connection))

    def _noted(self, standing: Standing) -> Standing:
        self._seen = standing
        self._highest.learn(standing.epoch)
        return standing

    def _headers(self) -> dict[str, str]:
        return answers.standing_headers(epoch=self._highest.value, standing=self._seen)

    def _problem(self, refused: Refused) -> Response[bytes]:
        return answers.problem(refused.slug, self._headers() | refused.headers, refused.detail)


def create_datacenter(
    settings: Settings,
    *,
    log: structlog.typing.FilteringBoundLogger,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Litestar:
    """Build one site's datacenter; it reaches for PostgreSQL when it is asked something, and waits for none."""
    records = Records(settings)
    datacenter = Datacenter(settings, records=records, clock=clock, monotonic=monotonic, log=log)
    outbox = Outbox(settings, key=read_private_key(settings.notice_key_file), clock=clock, log=log)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        sending = asyncio.create_task(outbox.run(), name="outbox")
        try:
            yield
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            await records.close()

    return Litestar(
        route_handlers=[
            _health_handler(datacenter),
            *(_read_handler(datacenter, read) for read in READS),
            *(_write_handler(datacenter, write) for write in WRITES),
        ],
        lifespan=[lifespan],
        exception_handlers={Exception: datacenter.routing_problem},
        request_max_body_size=settings.body_bytes_max,
        openapi_config=None,
        logging_config=None,
    )


def _senders(settings: Settings) -> dict[str, Ed25519PublicKey]:
    """By issuer: every gateway, and of the directors the own site's alone."""
    folder, own = settings.assertion_keys_dir, settings.site
    gateways = read_public_keys(folder, kind=Sender.GATEWAY)
    directors = read_public_keys(folder, kind=Sender.DIRECTOR)
    senders = {issuer(Sender.GATEWAY, site): key for site, key in gateways.items()}
    return senders | {issuer(Sender.DIRECTOR, site): key for site, key in directors.items() if site == own}


def _trouble(error: BaseException) -> dict[str, str | None]:
    return {"error": type(error).__name__, "where": _where(error), "sqlstate": sqlstate(error) or None}


def _where(error: BaseException) -> str:
    """The innermost line of ours that an error passed; its text is not told, for it may hold what was asked."""
    trace, where = error.__traceback__, "?"
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith(__package__ or ""):
            where = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where


def _health_handler(datacenter: Datacenter) -> HTTPRouteHandler:
    @get("/health")
    async def health(request: HttpRequest) -> Response[bytes]:
        return await datacenter.answered(request, "/health", lambda: datacenter.health(request))

    return health


def _read_handler(datacenter: Datacenter, read: Read) -> HTTPRouteHandler:
    @get(_typed(read.path))
    async def handle_read(request: HttpRequest) -> Response[bytes]:
        return await datacenter.answered(request, read.path, lambda: datacenter.read(request, read))

    return handle_read


def _write_handler(datacenter: Datacenter, write: Write) -> HTTPRouteHandler:
    declare = {"PUT": put, "POST": post}[write.method]

    @declare(_typed(write.path))
    async def handle_write(request: HttpRequest) -> Response[bytes]:
        return await datacenter.answered(request, write.path, lambda: datacenter.write(request, write))

    return handle_write


def _typed(path: str) -> str:
    """The contract's path template in Litestar's spelling."""
    return path.replace("}", ":str}")
