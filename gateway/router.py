"""The Litestar object behind the edge: every handler, the guard, and the parts that handlers ask for by name.

Invariant: a handler gets its parts as arguments and keeps none; what a method may not do on a path is told for all of its
handlers together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from litestar import Litestar, Request, Response, route
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler

from gateway.failures import Failures
from gateway.guard import Guard
from gateway.reading import CachedReads
from gateway.settings import Settings
from routes import (
    absences,
    announcements,
    classes,
    gradebooks,
    grades,
    home,
    homework,
    me,
    sessions,
    status,
    teachers,
    timetables,
    tokens,
)
from routes.endpoint import Endpoint, Reads

HANDLERS: tuple[HTTPRouteHandler, ...] = (
    tokens.sign_in,
    tokens.refresh,
    sessions.list_sessions,
    sessions.end_sessions,
    sessions.end_session,
    me.read_me,
    home.read_home,
    announcements.read_announcements,
    timetables.read_timetable,
    grades.read_grades,
    absences.read_absences,
    homework.read_homework,
    teachers.read_assignments,
    classes.read_roster,
    classes.record_attendance,
    gradebooks.read_gradebook,
    gradebooks.enter_marks,
    homework.assign_homework,
    status.read_status,
    status.read_jwks,
    status.read_livez,
    status.read_readyz,
)


def endpoints() -> tuple[Endpoint, ...]:
    """What every handler declares about itself, in documentation order."""
    return tuple(handler.opt["endpoint"] for handler in HANDLERS)


Lifespan: TypeAlias = Callable[[Litestar], AbstractAsyncContextManager[None]]


def lifespan_of(start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> Lifespan:
    """What Litestar does at the start and at the end of a worker."""

    @asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await start()
        try:
            yield
        finally:
            await stop()

    return lifespan


def build_router(
    settings: Settings, failures: Failures, *, guard: Guard, lifespan: Lifespan, **provided: Any
) -> Litestar:
    """The application, its parts handed to handlers under the names of `provided`."""
    # All on the application itself, not on a Router: Litestar deep-copies routers, parts and all.
    return Litestar(
        [*_options_handlers(), *HANDLERS],
        guards=[guard],
        dependencies=_provided(**provided),
        exception_handlers={Exception: failures.handle},
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=settings.body_bytes_max,
    )


def _provided(reads: CachedReads, **existing: Any) -> dict[str, Provide]:
    def handing_over(part: Any) -> Callable[[], Any]:
        return lambda: part

    provided = {
        name: Provide(handing_over(part), use_cache=True, sync_to_thread=False)
        for name, part in existing.items()
    }
    return provided | {"reads": Provide(_reads_of(reads), sync_to_thread=False)}


def _reads_of(reads: CachedReads) -> Callable[..., Reads]:
    def reads_of(request: Request[Any, Any, Any]) -> Reads:
        caller = request.scope.get("user")
        return reads if caller is None else reads.after(caller.not_before)

    return reads_of


def _options_handlers() -> list[HTTPRouteHandler]:
    """One per path, and before the others: of a path with two handlers Litestar's own knows only the first's methods."""
    methods: dict[str, set[str]] = {}
    for handler in HANDLERS:
        for path in handler.paths:
            methods.setdefault(path, {"OPTIONS"}).update(map(str, handler.http_methods))
    return [_options_handler(path, ", ".join(sorted(found))) for path, found in methods.items()]


def _options_handler(path: str, allow: str) -> HTTPRouteHandler:
    @route(path, http_method=["OPTIONS"], sync_to_thread=False)
    def tell_methods() -> Response[None]:
        return Response(None, status_code=204, headers={"allow": allow})

    return tell_methods
