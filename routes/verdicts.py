"""Batches are judged row by row: a bad row is rejected in place, the others stand."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response

from routes.answers import JSON, NO_STORE
from routes.endpoint import Written
from routes.problems import RowProblem, row_problem

ROWS_MAX = 60


class EntryVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict on one mark; `version` when accepted, `problem` and `current` when rejected."""

    pupil_id: str
    number: int
    status: str
    version: int | None = None
    problem: RowProblem | None = None
    current: int | None = None


class EntryVerdicts(msgspec.Struct, frozen=True):
    """One verdict per row, in the order of the request."""

    results: list[EntryVerdict]


class AttendanceVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict on one pupil's attendance."""

    pupil_id: str
    status: str
    problem: RowProblem | None = None


class AttendanceVerdicts(msgspec.Struct, frozen=True):
    """One verdict per row, in the order of the request."""

    results: list[AttendanceVerdict]


class RawVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row as the datacenter judged it: a slug in place of a problem."""

    pupil_id: str
    status: str
    number: int | None = None
    version: int | None = None
    slug: str | None = None
    current: int | None = None


class RawVerdicts(msgspec.Struct, frozen=True):
    """The datacenter's answer to a batch."""

    results: list[RawVerdict]


def entry_verdicts(raw: RawVerdicts, *, language: str, base_url: str) -> EntryVerdicts:
    """The verdicts on marks with their problems in `language`."""
    return EntryVerdicts(
        [
            EntryVerdict(
                pupil_id=row.pupil_id,
                number=row.number or 0,
                status=row.status,
                version=row.version,
                problem=_problem(row, language, base_url),
                current=row.current,
            )
            for row in raw.results
        ]
    )


def attendance_verdicts(raw: RawVerdicts, *, language: str, base_url: str) -> AttendanceVerdicts:
    """The verdicts on attendance with their problems in `language`."""
    return AttendanceVerdicts(
        [
            AttendanceVerdict(
                pupil_id=row.pupil_id, status=row.status, problem=_problem(row, language, base_url)
            )
            for row in raw.results
        ]
    )


def _problem(row: RawVerdict, language: str, base_url: str) -> RowProblem | None:
    return None if row.slug is None else row_problem(row.slug, language=language, base_url=base_url)


def verdict_response(payload: Any, written: Written, *, language: str) -> Response[bytes]:
    """200 with the verdicts; `Massar-Replayed` when they were given before."""
    headers = {
        "cache-control": NO_STORE,
        "content-language": language,
        "vary": "Accept-Language",
        "massar-position": written.position,
    }
    if written.replayed:
        headers["massar-replayed"] = "1"
    return Response(
        msgspec.json.encode(payload), status_code=written.status, headers=headers, media_type=JSON
    )
