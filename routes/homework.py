"""Homework: one list per class, each pupil's own ticks merged in after the shared entry was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from auth.principal import Relation
from cache.policy import D, S
from routes.answers import (
    NO_STORE,
    CallerRequest,
    composed,
    decode,
    encode,
    idempotency_key,
    json_body,
    parameters,
    respond,
)
from routes.endpoint import Answered, CachedRead, Endpoint, QueryParameter, Reads, Source, Writes
from routes.wire import AS_OF_EXAMPLE, SUBJECT_EXAMPLE, Day, Instant, Subject

TEXT_CHARS_MAX = 4000


class ClassHomework(msgspec.Struct, frozen=True):
    """One task as the class sees it."""

    id: str
    subject: Subject
    text: str
    assigned_on: Day
    due_on: Day


class ClassHomeworkList(msgspec.Struct, frozen=True):
    """The shared entry."""

    homework: list[ClassHomework]
    as_of: Instant


class Done(msgspec.Struct, frozen=True):
    """Which tasks one pupil has ticked."""

    done: list[str]
    as_of: Instant


class Homework(msgspec.Struct, frozen=True):
    """One task with the pupil's own tick."""

    id: str
    subject: Subject
    text: str
    assigned_on: Day
    due_on: Day
    done: bool


class HomeworkList(msgspec.Struct, frozen=True):
    """A pupil's tasks by due date."""

    homework: list[Homework]
    as_of: Instant


class NewHomework(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task to assign to a class."""

    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
    due_on: Day


def homework_source(params: Mapping[str, str]) -> Source:
    """One entry per class and first due date."""
    class_id, since = params["class_id"], params["from"]
    return Source(
        f"classes/{class_id}/homework/{since}",
        "class",
        f"/v1/classes/{class_id}/homework?view=class&from={since}",
        (f"homework:{class_id}",),
    )


def done_source(params: Mapping[str, str]) -> Source:
    """One entry per pupil."""
    pupil_id = params["pupil_id"]
    return Source(
        f"pupils/{pupil_id}/homework-done",
        "family",
        f"/v1/pupils/{pupil_id}/homework-done?view=family",
        (f"done:{pupil_id}",),
    )


CLASS_HOMEWORK = CachedRead(
    freshness=D, source=homework_source, answer=ClassHomeworkList, shared=True, part=True
)
HOMEWORK_DONE = CachedRead(freshness=S, source=done_source, answer=Done, part=True)

HOMEWORK = Endpoint(
    method="GET",
    path="/v1/pupils/{pupil_id}/homework",
    rule=Rule.PUPIL_ALL,
    summary="The pupil's homework by due date",
    tag="pupil",
    answer=HomeworkList,
    conditional=True,
    query=(
        QueryParameter(
            "from",
            "date",
            "earliest due date; today by default",
            "2026-11-22",
            lambda calendar: calendar.today,
        ),
    ),
    example={
        "homework": [
            {
                "id": "h4k2m5q3x4a6b2c7",
                "subject": SUBJECT_EXAMPLE,
                "text": "Exercices 4 et 5, page 62",
                "assigned_on": "2026-11-17",
                "due_on": "2026-11-24",
                "done": False,
            }
        ],
        "as_of": AS_OF_EXAMPLE,
    },
)

NEW_HOMEWORK = Endpoint(
    method="POST",
    path="/v1/classes/{class_id}/homework",
    rule=Rule.CLASS_TAUGHT,
    summary="Assign homework to a class",
    tag="class",
    answer=ClassHomework,
    status=201,
    body=NewHomework,
    idempotent=True,
    example={
        "id": "h4k2m5q3x4a6b2c7",
        "subject": SUBJECT_EXAMPLE,
        "text": "Exercices 4 et 5, page 62",
        "assigned_on": "2026-11-18",
        "due_on": "2026-11-24",
    },
    body_example={"subject": "MATH", "text": "Exercices 4 et 5, page 62", "due_on": "2026-11-24"},
)

_class_homework = msgspec.json.Decoder(ClassHomeworkList)
_done = msgspec.json.Decoder(Done)
_new_homework = msgspec.json.Decoder(NewHomework)


async def pupil_homework(reads: Reads, params: Mapping[str, str], relation: Relation | None) -> Answered:
    """The class's list with this pupil's ticks; a teacher sees no ticks."""
    shared = await reads.read(CLASS_HOMEWORK, params)
    tasks = _class_homework.decode(shared.body)
    parts, ticked, as_of = [shared], frozenset[str](), tasks.as_of
    if relation is not Relation.TAUGHT:
        own = await reads.read(HOMEWORK_DONE, params)
        ticks = _done.decode(own.body)
        parts, ticked, as_of = [shared, own], frozenset(ticks.done), max(as_of, ticks.as_of)
    merged = [
        Homework(
            id=task.id,
            subject=task.subject,
            text=task.text,
            assigned_on=task.assigned_on,
            due_on=task.due_on,
            done=task.id in ticked,
        )
        for task in tasks.homework
    ]
    return composed(encode(HomeworkList(merged, as_of)), parts)


@route("/v1/pupils/{pupil_id:str}/homework", http_method=["GET", "HEAD"], opt={"endpoint": HOMEWORK})
async def read_homework(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """The pupil's homework by due date."""
    params = await parameters(request, HOMEWORK, reads)
    return respond(request, await pupil_homework(reads, params, request.user.relation))


@route("/v1/classes/{class_id:str}/homework", http_method=["POST"], opt={"endpoint": NEW_HOMEWORK})
async def assign_homework(
    request: CallerRequest, writes: NamedDependency[SkipValidation[Writes]]
) -> Response[bytes]:
    """Assign homework to a class the teacher teaches."""
    key = idempotency_key(request)
    body = await json_body(request)
    decode(_new_homework, body)
    class_id = str(request.path_params["class_id"])
    written = await writes.write(
        request.user,
        "POST",
        f"/v1/classes/{class_id}/homework",
        body,
        key=key,
        tags=(f"homework:{class_id}",),
    )
    headers = {"cache-control": NO_STORE, "massar-position": written.position}
    if written.location is not None:
        headers["location"] = written.location
    if written.replayed:
        headers["massar-replayed"] = "1"
    return Response(written.body, status_code=written.status, headers=headers, media_type="application/json")
