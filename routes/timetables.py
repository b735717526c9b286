"""A pupil's timetable: one entry per class and week, shared by pupils, parents and teachers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from cache.policy import D
from routes.answers import CallerRequest, cached
from routes.endpoint import CachedRead, Endpoint, QueryParameter, Reads, Source
from routes.wire import (
    AS_OF_EXAMPLE,
    CLASS_ID_EXAMPLE,
    NAME_EXAMPLE,
    SUBJECT_EXAMPLE,
    Clock,
    Instant,
    Name,
    Subject,
)


class Change(msgspec.Struct, frozen=True):
    """What differs from the regular week: the lesson is cancelled, or moved to `room`."""

    kind: str
    room: str | None = None


class Lesson(msgspec.Struct, frozen=True):
    """One lesson; `day` is ISO (1 is Monday)."""

    day: int
    start: Clock
    end: Clock
    subject: Subject
    teacher: Name
    room: str
    change: Change | None


class Timetable(msgspec.Struct, frozen=True):
    """One class's lessons in one ISO week."""

    week: str
    class_id: str
    lessons: list[Lesson]
    as_of: Instant


def timetable_source(params: Mapping[str, str]) -> Source:
    """One entry per class and week."""
    class_id, week = params["class_id"], params["week"]
    return Source(
        f"classes/{class_id}/timetable/{week}",
        "class",
        f"/v1/classes/{class_id}/timetable?view=class&week={week}",
        (f"timetable:{class_id}",),
    )


TIMETABLE = Endpoint(
    method="GET",
    path="/v1/pupils/{pupil_id}/timetable",
    rule=Rule.PUPIL_ALL,
    summary="The pupil's lessons of one week",
    tag="pupil",
    answer=Timetable,
    read=CachedRead(freshness=D, source=timetable_source, answer=Timetable, shared=True),
    query=(
        QueryParameter(
            "week",
            "week",
            "ISO week; the current school week by default",
            "2026-W47",
            lambda calendar: calendar.week,
        ),
    ),
    example={
        "week": "2026-W47",
        "class_id": CLASS_ID_EXAMPLE,
        "lessons": [
            {
                "day": 1,
                "start": "08:30",
                "end": "10:30",
                "subject": SUBJECT_EXAMPLE,
                "teacher": NAME_EXAMPLE,
                "room": "S12",
                "change": None,
            }
        ],
        "as_of": AS_OF_EXAMPLE,
    },
)


@route("/v1/pupils/{pupil_id:str}/timetable", http_method=["GET", "HEAD"], opt={"endpoint": TIMETABLE})
async def read_timetable(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """The pupil's lessons of one week."""
    return await cached(request, TIMETABLE, reads)
