"""The teacher's tableau de service."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from cache.policy import D
from routes.answers import CallerRequest, cached
from routes.endpoint import CachedRead, Endpoint, Reads, Source
from routes.wire import AS_OF_EXAMPLE, CLASS_ID_EXAMPLE, SUBJECT_EXAMPLE, Instant, Subject


class Assignment(msgspec.Struct, frozen=True):
    """One class and subject, with its weekly hours."""

    class_id: str
    class_name: str
    school_gresa: str
    subject: Subject
    hours: float


class Assignments(msgspec.Struct, frozen=True):
    """All a teacher teaches this school year."""

    year: int
    hours: float
    assignments: list[Assignment]
    as_of: Instant


def assignments_source(params: Mapping[str, str]) -> Source:
    """One entry per teacher."""
    teacher = params["subject_id"]
    return Source(
        f"teachers/{teacher}/assignments",
        "teacher",
        f"/v1/teachers/{teacher}/assignments?view=teacher",
        (f"assignments:{teacher}", f"relations:{teacher}"),
    )


ASSIGNMENTS_READ = CachedRead(freshness=D, source=assignments_source, answer=Assignments)

ASSIGNMENTS = Endpoint(
    method="GET",
    path="/v1/teachers/me/service",
    rule=Rule.TEACHER_SELF,
    summary="The teacher's classes, subjects and hours",
    tag="teacher",
    answer=Assignments,
    read=ASSIGNMENTS_READ,
    example={
        "year": 2026,
        "hours": 21,
        "assignments": [
            {
                "class_id": CLASS_ID_EXAMPLE,
                "class_name": "2APIC-3",
                "school_gresa": "01234A",
                "subject": SUBJECT_EXAMPLE,
                "hours": 4,
            }
        ],
        "as_of": AS_OF_EXAMPLE,
    },
)


@route("/v1/teachers/me/service", http_method=["GET", "HEAD"], opt={"endpoint": ASSIGNMENTS})
async def read_assignments(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """The teacher's classes, subjects and hours."""
    return await cached(request, ASSIGNMENTS, reads)
