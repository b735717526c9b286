"""The app's first screen in one call: the resources below it side by side, each with its own status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule, allow
from auth.principal import Facts, Principal, Role
from routes.absences import ABSENCES
from routes.announcements import caller_announcements
from routes.answers import CallerRequest, composed, encode, parameters, respond
from routes.endpoint import Answered, BadRequest, Caller, Endpoint, Home, Part, QueryParameter, Reads, resolve
from routes.grades import GRADES
from routes.homework import HOMEWORK, pupil_homework
from routes.teachers import ASSIGNMENTS
from routes.timetables import TIMETABLE
from routes.wire import AS_OF_EXAMPLE, PUPIL_ID_EXAMPLE, Instant

PartCall = Callable[[], Awaitable[Answered]]


class HomePage(msgspec.Struct, frozen=True):
    """Parts by resource name; `as_of` is the newest of the parts'."""

    parts: dict[str, Part]
    as_of: Instant | None


class _Dated(msgspec.Struct, frozen=True):
    as_of: str | None = None


_dated = msgspec.json.Decoder(_Dated)

HOME = Endpoint(
    method="GET",
    path="/v1/home",
    rule=Rule.ANY_PRINCIPAL,
    with_facts=True,
    summary="The app's first screen in one call",
    tag="account",
    answer=HomePage,
    conditional=True,
    query=(
        QueryParameter("pupil_id", "id", "which child; the parent's first unless named", PUPIL_ID_EXAMPLE),
    ),
    problems=("not-found",),
    example={
        "parts": {"announcements": {"status": 200, "body": {"announcements": []}}},
        "as_of": AS_OF_EXAMPLE,
    },
)


def _part(reads: Reads, endpoint: Endpoint, caller: Caller, path: dict[str, str]) -> PartCall:
    async def call() -> Answered:
        params = resolve(
            endpoint,
            path=path,
            query={},
            calendar=await reads.calendar() if endpoint.query else None,
            principal=caller.principal,
            facts=caller.facts,
        )
        if params is None:
            raise BadRequest
        if endpoint is HOMEWORK:
            return await pupil_homework(reads, params, caller.relation)
        if endpoint.read is None:
            raise BadRequest
        return await reads.read(endpoint.read, params)

    return call


def _pupil_of(principal: Principal, facts: Facts, asked: str | None) -> str | None:
    """The pupil the page is about. Raises: NotFound where the caller asks for one who is not his."""
    if asked is not None:
        allow(principal, facts, GRADES.rule, {"pupil_id": asked})
        return asked
    return next(iter(facts.pupils), None)


@route("/v1/home", http_method=["GET", "HEAD"], opt={"endpoint": HOME})
async def read_home(
    request: CallerRequest,
    reads: NamedDependency[SkipValidation[Reads]],
    home: NamedDependency[SkipValidation[Home]],
) -> Response[bytes]:
    """The app's first screen in one call."""
    caller = request.user
    principal = caller.principal
    facts = caller.facts or Facts(subject=principal.subject, generation=0)
    params = await parameters(request, HOME, reads)
    asked = params.get("pupil_id")
    parts: dict[str, PartCall] = {}
    if principal.role is Role.TEACHER:
        if asked is not None:
            allow(principal, facts, TIMETABLE.rule, {"pupil_id": asked})
        parts["service"] = _part(reads, ASSIGNMENTS, caller, {})
    else:
        pupil = _pupil_of(principal, facts, asked)
        if pupil is not None:
            for name, endpoint in _PUPIL_PARTS.items():
                parts[name] = _part(reads, endpoint, caller, {"pupil_id": pupil})
    parts["announcements"] = lambda: caller_announcements(reads, facts, None)
    page, answered = await _gather(home, caller, parts)
    return respond(request, composed(encode(page), answered))


_PUPIL_PARTS = {"timetable": TIMETABLE, "grades": GRADES, "absences": ABSENCES, "homework": HOMEWORK}


async def _gather(home: Home, caller: Caller, calls: dict[str, PartCall]) -> tuple[HomePage, list[Answered]]:
    answered: list[Answered] = []

    def noting(call: PartCall) -> PartCall:
        async def noted() -> Answered:
            answer = await call()
            answered.append(answer)
            return answer

        return noted

    parts = await home.gather(caller, {name: noting(call) for name, call in calls.items()})
    dates: list[Any] = [_dated.decode(part.body).as_of for part in parts.values() if part.body is not None]
    return HomePage(parts, max(filter(None, dates), default=None)), answered
