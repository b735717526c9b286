"""Announcements from the nation down to the class: one shared entry per class, joined for callers with several."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import msgspec
from litestar import Response, route
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from auth.access import Rule
from auth.principal import Facts
from cache.policy import D
from routes.answers import CallerRequest, composed, encode, parameters, respond
from routes.endpoint import Answered, CachedRead, Endpoint, QueryParameter, Reads, Source
from routes.wire import Day, Instant, Name

CLASSES_MAX = 64


class Announcement(msgspec.Struct, frozen=True):
    """One announcement and the level that made it."""

    id: str
    level: Literal["national", "region", "province", "school", "class"]
    title: Name
    body: Name
    valid_from: Day
    valid_to: Day


class ClassAnnouncements(msgspec.Struct, frozen=True):
    """The shared entry: all that concerns one class."""

    announcements: list[Announcement]
    as_of: Instant


class Announcements(msgspec.Struct, frozen=True):
    """All that concerns the caller, newest first."""

    announcements: list[Announcement]


def announcements_source(params: Mapping[str, str]) -> Source:
    """One entry per class."""
    class_id = params["class_id"]
    return Source(
        f"classes/{class_id}/announcements",
        "class",
        f"/v1/classes/{class_id}/announcements?view=class",
        (f"announcements:{class_id}",),
    )


CLASS_ANNOUNCEMENTS = CachedRead(
    freshness=D, source=announcements_source, answer=ClassAnnouncements, shared=True, part=True
)

ANNOUNCEMENTS = Endpoint(
    method="GET",
    path="/v1/announcements",
    rule=Rule.ANY_PRINCIPAL,
    with_facts=True,
    summary="Announcements for the caller's classes, schools and territory",
    tag="account",
    answer=Announcements,
    conditional=True,
    query=(QueryParameter("since", "date", "earliest first day of validity", "2026-11-01"),),
    example={
        "announcements": [
            {
                "id": "n2b7c4d5e6f3g2h7",
                "level": "school",
                "title": {"ar": "اجتماع الآباء", "fr": "Réunion des parents"},
                "body": {"ar": "يوم السبت صباحا", "fr": "Samedi matin"},
                "valid_from": "2026-11-16",
                "valid_to": "2026-11-30",
            }
        ]
    },
)

_entry = msgspec.json.Decoder(ClassAnnouncements)


async def caller_announcements(reads: Reads, facts: Facts, since: str | None) -> Answered:
    """Every announcement of the caller's classes once, newest first."""
    classes = sorted({*facts.classes, *(pupil.class_id for pupil in facts.pupils.values())})[:CLASSES_MAX]
    found: dict[str, Announcement] = {}
    parts = await asyncio.gather(
        *(reads.read(CLASS_ANNOUNCEMENTS, {"class_id": class_id}) for class_id in classes)
    )
    for part in parts:
        found.update((item.id, item) for item in _entry.decode(part.body).announcements)
    chosen = [item for item in found.values() if since is None or item.valid_from >= since]
    chosen.sort(key=lambda item: (item.valid_from, item.id), reverse=True)
    return composed(encode(Announcements(chosen)), parts)


@route("/v1/announcements", http_method=["GET", "HEAD"], opt={"endpoint": ANNOUNCEMENTS})
async def read_announcements(
    request: CallerRequest, reads: NamedDependency[SkipValidation[Reads]]
) -> Response[bytes]:
    """Announcements for the caller's classes, schools and territory."""
    params = await parameters(request, ANNOUNCEMENTS, reads)
    facts = request.user.facts or Facts(subject=request.user.principal.subject, generation=0)
    return respond(request, await caller_announcements(reads, facts, params.get("since")))
