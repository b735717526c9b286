"""A class as its teachers see it: the list of pupils, and attendance of one lesson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from cache.policy import D
from routes.answers import CallerRequest, cached, decode, idempotency_key, json_body
from routes.endpoint import BadRequest, CachedRead, Endpoint, Reads, Source, Writes
from routes.verdicts import ROWS_MAX, AttendanceVerdicts, RawVerdicts, attendance_verdicts, verdict_response
from routes.wire import AS_OF_EXAMPLE, CLASS_ID_EXAMPLE, NAME_EXAMPLE, PUPIL_ID_EXAMPLE, Id, Instant, Name


class ClassCard(msgspec.Struct, frozen=True):
    """The class itself."""

    id: str
    name: str
    level: str
    school_gresa: str


class RosterPupil(msgspec.Struct, frozen=True):
    """One pupil of the class; `dispensations` are subject codes."""

    id: str
    number: int
    name: Name
    dispensations: list[str]


class Roster(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """A class and its pupils by number."""

    class_: ClassCard
    pupils: list[RosterPupil]
    as_of: Instant


class Presence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pupil at one lesson; `observed_at` is when the teacher saw it, also offline."""

    pupil_id: Id
    state: Literal["present", "absent", "late"]
    observed_at: Annotated[str, msgspec.Meta(max_length=64, description="RFC 3339; judged per row")]


class Attendance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of at most ROWS_MAX pupils, each at most once."""

    entries: Annotated[list[Presence], msgspec.Meta(min_length=1, max_length=ROWS_MAX)]


def roster_source(params: Mapping[str, str]) -> Source:
    """One entry per class."""
    class_id = params["class_id"]
    return Source(
        f"classes/{class_id}/pupils",
        "teacher",
        f"/v1/classes/{class_id}/pupils?view=teacher",
        (f"roster:{class_id}",),
    )


ROSTER = Endpoint(
    method="GET",
    path="/v1/classes/{class_id}/pupils",
    rule=Rule.CLASS_TAUGHT,
    summary="The pupils of a class",
    tag="class",
    answer=Roster,
    read=CachedRead(freshness=D, source=roster_source, answer=Roster),
    example={
        "class": {"id": CLASS_ID_EXAMPLE, "name": "2APIC-3", "level": "2APIC", "school_gresa": "01234A"},
        "pupils": [{"id": PUPIL_ID_EXAMPLE, "number": 1, "name": NAME_EXAMPLE, "dispensations": []}],
        "as_of": AS_OF_EXAMPLE,
    },
)

ATTENDANCE = Endpoint(
    method="PUT",
    path="/v1/classes/{class_id}/attendance/{date}/{slot}",
    rule=Rule.CLASS_TAUGHT,
    summary="Record attendance of one lesson; a verdict per row",
    tag="class",
    answer=AttendanceVerdicts,
    body=Attendance,
    idempotent=True,
    example={"results": [{"pupil_id": PUPIL_ID_EXAMPLE, "status": "accepted"}]},
    body_example={
        "entries": [{"pupil_id": PUPIL_ID_EXAMPLE, "state": "absent", "observed_at": "2026-11-18T08:41:00Z"}]
    },
)

_attendance = msgspec.json.Decoder(Attendance)
_raw_verdicts = msgspec.json.Decoder(RawVerdicts)


@route("/v1/classes/{class_id:str}/pupils", http_method=["GET", "HEAD"], opt={"endpoint": ROSTER})
async def read_roster(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """The pupils of a class the teacher teaches."""
    return await cached(request, ROSTER, reads)


@route(
    "/v1/classes/{class_id:str}/attendance/{date:str}/{slot:str}",
    http_method=["PUT"],
    opt={"endpoint": ATTENDANCE},
)
async def record_attendance(
    request: CallerRequest,
    writes: NamedDependency[SkipValidation[Writes]],
    problem_base_url: NamedDependency[str],
) -> Response[bytes]:
    """Record who was absent or late at one lesson."""
    key = idempotency_key(request)
    body = await json_body(request)
    entries = decode(_attendance, body).entries
    if len({entry.pupil_id for entry in entries}) != len(entries):
        raise BadRequest("/entries")
    class_id, day, slot = (str(request.path_params[name]) for name in ("class_id", "date", "slot"))
    written = await writes.write(
        request.user,
        "PUT",
        f"/v1/classes/{class_id}/attendance/{day}/{slot}",
        body,
        key=key,
        tags=tuple(f"absences:{entry.pupil_id}" for entry in entries),
    )
    language = request.user.language
    verdicts = attendance_verdicts(
        _raw_verdicts.decode(written.body), language=language, base_url=problem_base_url
    )
    return verdict_response(verdicts, written, language=language)
