"""A gradebook: one class, subject and session; read as a table, written as a batch with a verdict per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from cache.policy import S
from routes.answers import CallerRequest, cached, decode, idempotency_key, json_body
from routes.endpoint import BadRequest, CachedRead, Endpoint, Reads, Source, Writes
from routes.problems import row_problem
from routes.verdicts import ROWS_MAX, EntryVerdicts, RawVerdicts, entry_verdicts, verdict_response
from routes.wire import AS_OF_EXAMPLE, CLASS_ID_EXAMPLE, PUPIL_ID_EXAMPLE, Day, Id, Instant, Mark, MarkState

MARK_CHARS_MAX = 16


class Control(msgspec.Struct, frozen=True):
    """One contrôle and its day."""

    number: int
    date: Day


class GradebookMark(msgspec.Struct, frozen=True):
    """One mark and its optimistic version (0 when there is none yet)."""

    number: int
    mark: Mark | None
    state: MarkState
    version: int


class GradebookRow(msgspec.Struct, frozen=True):
    """One pupil's marks."""

    pupil_id: str
    marks: list[GradebookMark]


class Gradebook(msgspec.Struct, frozen=True):
    """A class's marks in one subject and session."""

    class_id: str
    subject: str
    session: int
    locked: bool
    deadline: Instant
    controls: list[Control]
    rows: list[GradebookRow]
    as_of: Instant


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One mark to enter; the text of `mark` is judged per row."""

    pupil_id: Id
    number: Annotated[int, msgspec.Meta(ge=0, le=99)]
    mark: Annotated[str, msgspec.Meta(max_length=MARK_CHARS_MAX)] | None
    state: Literal["marked", "absent", "dispensed", "pending"]
    version: Annotated[int, msgspec.Meta(ge=0, le=2_147_483_647)]


class Entries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of at most ROWS_MAX marks, each pupil and contrôle at most once."""

    entries: Annotated[list[Entry], msgspec.Meta(min_length=1, max_length=ROWS_MAX)]


def gradebook_source(params: Mapping[str, str]) -> Source:
    """One entry per class, subject and session."""
    class_id, subject, session = params["class_id"], params["subject"], params["session"]
    return Source(
        f"gradebooks/{class_id}/{subject}/{session}",
        "teacher",
        f"/v1/gradebooks/{class_id}/{subject}/{session}?view=teacher",
        (f"gradebook:{class_id}:{subject}:{session}",),
    )


GRADEBOOK = Endpoint(
    method="GET",
    path="/v1/gradebooks/{class_id}/{subject}/{session}",
    rule=Rule.CLASS_SUBJECT_TAUGHT,
    summary="A class's marks in one subject and session",
    tag="teacher",
    answer=Gradebook,
    read=CachedRead(freshness=S, source=gradebook_source, answer=Gradebook),
    example={
        "class_id": CLASS_ID_EXAMPLE,
        "subject": "MATH",
        "session": 1,
        "locked": False,
        "deadline": "2027-01-23T22:59:59Z",
        "controls": [{"number": 1, "date": "2026-10-15"}],
        "rows": [
            {
                "pupil_id": PUPIL_ID_EXAMPLE,
                "marks": [{"number": 1, "mark": "14.50", "state": "marked", "version": 3}],
            }
        ],
        "as_of": AS_OF_EXAMPLE,
    },
)

ENTRIES = Endpoint(
    method="PUT",
    path="/v1/gradebooks/{class_id}/{subject}/{session}/entries",
    rule=Rule.CLASS_SUBJECT_TAUGHT,
    summary="Enter marks; a verdict per row",
    tag="teacher",
    answer=EntryVerdicts,
    body=Entries,
    idempotent=True,
    problems=("gradebook-locked",),
    example={
        "results": [
            {"pupil_id": PUPIL_ID_EXAMPLE, "number": 1, "status": "accepted", "version": 4},
            {
                "pupil_id": "p2b7c4d5e6f3g2h7",
                "number": 1,
                "status": "rejected",
                "problem": msgspec.to_builtins(
                    row_problem(
                        "version-conflict", language="fr", base_url="https://massar.example/problems/"
                    )
                ),
                "current": 4,
            },
        ]
    },
    body_example={
        "entries": [
            {"pupil_id": PUPIL_ID_EXAMPLE, "number": 1, "mark": "14.50", "state": "marked", "version": 3}
        ]
    },
)

_entries = msgspec.json.Decoder(Entries)
_raw_verdicts = msgspec.json.Decoder(RawVerdicts)


@route(
    "/v1/gradebooks/{class_id:str}/{subject:str}/{session:str}",
    http_method=["GET", "HEAD"],
    opt={"endpoint": GRADEBOOK},
)
async def read_gradebook(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """A class's marks in one subject and session."""
    return await cached(request, GRADEBOOK, reads)


@route(
    "/v1/gradebooks/{class_id:str}/{subject:str}/{session:str}/entries",
    http_method=["PUT"],
    opt={"endpoint": ENTRIES},
)
async def enter_marks(
    request: CallerRequest,
    writes: NamedDependency[SkipValidation[Writes]],
    problem_base_url: NamedDependency[str],
) -> Response[bytes]:
    """Enter marks in one batch; a bad row is rejected in place, the others stand."""
    key = idempotency_key(request)
    body = await json_body(request)
    entries = decode(_entries, body).entries
    if len({(entry.pupil_id, entry.number) for entry in entries}) != len(entries):
        raise BadRequest("/entries")
    class_id, subject, session = (
        str(request.path_params[name]) for name in ("class_id", "subject", "session")
    )
    written = await writes.write(
        request.user,
        "PUT",
        f"/v1/gradebooks/{class_id}/{subject}/{session}/entries",
        body,
        key=key,
        tags=(f"grades:{class_id}", f"gradebook:{class_id}:{subject}:{session}"),
    )
    language = request.user.language
    verdicts = entry_verdicts(
        _raw_verdicts.decode(written.body), language=language, base_url=problem_base_url
    )
    return verdict_response(verdicts, written, language=language)
