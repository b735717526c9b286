"""Every read and write of openapi/datacenter.yaml in one table: path, views, parameters, freshness, what answers.

Invariant: this table and the paths of the document are the same set; a test compares them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import assigning, attendance, entering, grades, parameters, reads, relations
from sandbox.datacenter.parameters import Parse
from sandbox.datacenter.reads import Parameters
from sandbox.datacenter.writes import Effect, Occasion

SHARED_FOR_HOURS = "private, max-age=21600"
FOR_MINUTES = "private, max-age=900"
FOR_A_MINUTE = "private, max-age=60"

Answer = Callable[[AsyncConnection, Parameters], Awaitable[Any]]


class Read(msgspec.Struct, frozen=True):
    """One GET: which views it has, what its query may say, how fresh its answers stay."""

    path: str
    views: tuple[str, ...]
    find: Answer
    cache_control: str
    required: Mapping[str, Parse] = {}
    optional: Mapping[str, Parse] = {}
    people: bool = False


class Write(msgspec.Struct, frozen=True):
    """One PUT or POST; `prepare(teacher, path, body, occasion)` reads the body and returns what is done in the transaction."""

    method: str
    path: str
    prepare: Callable[[str, Parameters, bytes, Occasion], Effect]


READS: tuple[Read, ...] = (
    Read("/v1/calendar", ("public",), reads.read_calendar, "max-age=60"),
    Read(
        "/v1/classes/{class_id}/timetable",
        ("class",),
        reads.read_timetable,
        SHARED_FOR_HOURS,
        required={"week": parameters.week},
    ),
    Read(
        "/v1/classes/{class_id}/homework",
        ("class",),
        reads.read_homework,
        SHARED_FOR_HOURS,
        required={"from": parameters.day},
    ),
    Read("/v1/classes/{class_id}/announcements", ("class",), reads.read_announcements, SHARED_FOR_HOURS),
    Read("/v1/classes/{class_id}/pupils", ("teacher",), reads.read_roster, SHARED_FOR_HOURS),
    Read(
        "/v1/pupils/{pupil_id}/grades",
        ("family",),
        grades.read_grades,
        FOR_MINUTES,
        optional={"year": parameters.year, "session": parameters.session},
    ),
    Read(
        "/v1/pupils/{pupil_id}/absences",
        ("family", "teacher"),
        reads.read_absences,
        FOR_A_MINUTE,
        required={"from": parameters.day},
    ),
    Read("/v1/pupils/{pupil_id}/homework-done", ("family",), reads.read_homework_done, FOR_A_MINUTE),
    Read("/v1/teachers/{teacher_id}/assignments", ("teacher",), reads.read_assignments, SHARED_FOR_HOURS),
    Read(
        "/v1/gradebooks/{class_id}/{subject}/{session}",
        ("teacher",),
        grades.read_gradebook,
        FOR_A_MINUTE,
    ),
    Read("/v1/people/{subject}/profile", ("self",), relations.read_profile, FOR_A_MINUTE, people=True),
    Read("/v1/people/{subject}/relations", ("gateway",), relations.read_relations, FOR_A_MINUTE, people=True),
)


def _entries(teacher: str, path: Parameters, body: bytes, occasion: Occasion) -> Effect:
    entries = entering.parse(body)
    return partial(
        entering.enter,
        teacher=teacher,
        class_id=path["class_id"],
        subject=path["subject"],
        session=path["session"],
        entries=entries,
        occasion=occasion,
    )


def _attendance(teacher: str, path: Parameters, body: bytes, occasion: Occasion) -> Effect:
    entries = attendance.parse(body)
    return partial(
        attendance.call_roll,
        teacher=teacher,
        class_id=path["class_id"],
        held_on=path["date"],
        start_at=path["slot"],
        entries=entries,
        occasion=occasion,
    )


def _homework(teacher: str, path: Parameters, body: bytes, occasion: Occasion) -> Effect:
    asked = assigning.parse(body)
    return partial(
        assigning.assign, teacher=teacher, class_id=path["class_id"], asked=asked, occasion=occasion
    )


WRITES: tuple[Write, ...] = (
    Write("PUT", "/v1/gradebooks/{class_id}/{subject}/{session}/entries", _entries),
    Write("PUT", "/v1/classes/{class_id}/attendance/{date}/{slot}", _attendance),
    Write("POST", "/v1/classes/{class_id}/homework", _homework),
)
