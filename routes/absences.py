"""A pupil's absences and lates. The `teacher` view leaves the family's reason out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from cache.policy import S
from routes.answers import CallerRequest, cached
from routes.endpoint import CachedRead, Endpoint, QueryParameter, Reads, Source
from routes.wire import AS_OF_EXAMPLE, Clock, Day, Instant


class Slot(msgspec.Struct, frozen=True):
    """The lesson missed, in local time."""

    start: Clock
    end: Clock


class Absence(msgspec.Struct, frozen=True):
    """One absence or late."""

    id: str
    date: Day
    slot: Slot
    kind: Literal["absence", "late"]
    justified: bool
    reason: str | None


class Absences(msgspec.Struct, frozen=True):
    """A pupil's absences since a day, oldest first."""

    absences: list[Absence]
    as_of: Instant


def absences_source(params: Mapping[str, str]) -> Source:
    """One entry per pupil, first day and view."""
    pupil_id, since = params["pupil_id"], params["from"]
    view = "teacher" if params["role"] == "teacher" else "family"
    return Source(
        f"pupils/{pupil_id}/absences/{since}",
        view,
        f"/v1/pupils/{pupil_id}/absences?view={view}&from={since}",
        (f"absences:{pupil_id}",),
    )


ABSENCES = Endpoint(
    method="GET",
    path="/v1/pupils/{pupil_id}/absences",
    rule=Rule.PUPIL_ALL,
    summary="The pupil's absences and lates",
    tag="pupil",
    answer=Absences,
    read=CachedRead(freshness=S, source=absences_source, answer=Absences),
    query=(
        QueryParameter(
            "from",
            "date",
            "first day; the school year's by default",
            "2026-09-02",
            lambda calendar: calendar.first_day,
        ),
    ),
    example={
        "absences": [
            {
                "id": "a2b7c4d5e6f3g2h7",
                "date": "2026-11-12",
                "slot": {"start": "08:30", "end": "10:30"},
                "kind": "absence",
                "justified": False,
                "reason": None,
            }
        ],
        "as_of": AS_OF_EXAMPLE,
    },
)


@route("/v1/pupils/{pupil_id:str}/absences", http_method=["GET", "HEAD"], opt={"endpoint": ABSENCES})
async def read_absences(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """The pupil's absences and lates."""
    return await cached(request, ABSENCES, reads)
