"""A pupil's grades: marks per subject, averages, and the class's average once it may be shown."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from cache.policy import M
from routes.answers import CallerRequest, cached
from routes.endpoint import CachedRead, Endpoint, QueryParameter, Reads, Source
from routes.wire import AS_OF_EXAMPLE, SUBJECT_EXAMPLE, Instant, Mark, MarkState


class GradeMark(msgspec.Struct, frozen=True):
    """The mark of one contrôle; `mark` is null unless `state` is `marked`."""

    number: int
    mark: Mark | None
    state: MarkState


class SubjectGrades(msgspec.Struct, frozen=True):
    """One subject's marks; `class_average` only once published and with at least ten marks."""

    code: str
    ar: str
    fr: str
    coefficient: float
    marks: list[GradeMark]
    activities: Mark | None
    average: Mark | None
    class_average: Mark | None


class Grades(msgspec.Struct, frozen=True):
    """One pupil's grades of one session."""

    year: int
    session: int
    published: bool
    subjects: list[SubjectGrades]
    average: Mark | None
    as_of: Instant


def grades_source(params: Mapping[str, str]) -> Source:
    """One entry per pupil, year and session; a new mark in the class purges it, for averages change for all."""
    pupil_id, year, session = params["pupil_id"], params["year"], params["session"]
    return Source(
        f"pupils/{pupil_id}/grades/{year}/{session}",
        "family",
        f"/v1/pupils/{pupil_id}/grades?view=family&year={year}&session={session}",
        (f"grades:{params['class_id']}",),
    )


GRADES = Endpoint(
    method="GET",
    path="/v1/pupils/{pupil_id}/grades",
    rule=Rule.PUPIL_FAMILY,
    summary="The pupil's grades of one session",
    tag="pupil",
    answer=Grades,
    read=CachedRead(freshness=M, source=grades_source, answer=Grades),
    query=(
        QueryParameter(
            "year", "year", "year in which the school year began", "2026", lambda calendar: str(calendar.year)
        ),
        QueryParameter("session", "session", "1 or 2", "1", lambda calendar: str(calendar.session)),
    ),
    example={
        "year": 2026,
        "session": 1,
        "published": True,
        "subjects": [
            {
                **SUBJECT_EXAMPLE,
                "coefficient": 3,
                "marks": [{"number": 1, "mark": "14.50", "state": "marked"}],
                "activities": "15.00",
                "average": "14.62",
                "class_average": "12.10",
            }
        ],
        "average": "13.80",
        "as_of": AS_OF_EXAMPLE,
    },
)


@route("/v1/pupils/{pupil_id:str}/grades", http_method=["GET", "HEAD"], opt={"endpoint": GRADES})
async def read_grades(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """The pupil's grades of one session."""
    return await cached(request, GRADES, reads)
