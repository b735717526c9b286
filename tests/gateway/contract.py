"""What the datacenter contract answers, for any id: the smallest bodies that have every part of their shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.gateway.people import AS_OF, CLASS, FACTS, MATH, NAME, PUPIL, SCHOOL, SUBJECT

Asked = dict[str, str]
Body = dict[str, Any]

CALENDAR: Body = {
    "year": 2026,
    "session": 1,
    "week": "2026-W47",
    "today": "2026-11-18",
    "first_day": "2026-09-02",
    "last_day": "2027-06-30",
    "as_of": AS_OF,
}


def _timetable(asked: Asked) -> Body:
    lesson = {
        "day": 1,
        "start": "08:30",
        "end": "10:30",
        "subject": SUBJECT,
        "teacher": NAME,
        "room": "S12",
        "change": None,
    }
    return {"week": asked["week"], "class_id": asked["id"], "lessons": [lesson], "as_of": AS_OF}


def _homework(asked: Asked) -> Body:
    tasks = [
        {
            "id": f"task{number}",
            "subject": SUBJECT,
            "text": "Exercice",
            "assigned_on": "2026-11-17",
            "due_on": asked["from"],
        }
        for number in (1, 2)
    ]
    return {"homework": tasks, "as_of": AS_OF}


def _announcements(asked: Asked) -> Body:
    own = {"id": f"own{asked['id']}", "level": "class", "valid_from": "2026-11-16"}
    national = {"id": "national", "level": "national", "valid_from": "2026-11-01"}
    texts = {"title": NAME, "body": NAME, "valid_to": "2026-11-30"}
    return {"announcements": [{**texts, **own}, {**texts, **national}], "as_of": AS_OF}


def _roster(asked: Asked) -> Body:
    card = {"id": asked["id"], "name": "2APIC-3", "level": "2APIC", "school_gresa": SCHOOL}
    pupil = {"id": PUPIL, "number": 1, "name": NAME, "dispensations": []}
    return {"class": card, "pupils": [pupil], "as_of": AS_OF}


def _grades(asked: Asked) -> Body:
    subject = {
        **SUBJECT,
        "coefficient": 3,
        "marks": [{"number": 1, "mark": "14.50", "state": "marked"}],
        "activities": "15.00",
        "average": "14.62",
        "class_average": "12.10",
    }
    return {
        "year": int(asked["year"]),
        "session": int(asked["session"]),
        "published": True,
        "subjects": [subject],
        "average": "13.80",
        "as_of": AS_OF,
    }


def _absences(asked: Asked) -> Body:
    absence = {
        "id": "absence1",
        "date": asked["from"],
        "slot": {"start": "08:30", "end": "10:30"},
        "kind": "absence",
        "justified": False,
        "reason": None if asked["view"] == "teacher" else "rendez-vous",
    }
    return {"absences": [absence], "as_of": AS_OF}


def _assignments(_asked: Asked) -> Body:
    assignment = {
        "class_id": CLASS,
        "class_name": "2APIC-3",
        "school_gresa": SCHOOL,
        "subject": SUBJECT,
        "hours": 4,
    }
    return {"year": 2026, "hours": 21, "assignments": [assignment], "as_of": AS_OF}


def _gradebook(asked: Asked) -> Body:
    mark = {"number": 1, "mark": "14.50", "state": "marked", "version": 3}
    return {
        "class_id": asked["id"],
        "subject": asked["subject"],
        "session": int(asked["term"]),
        "locked": False,
        "deadline": "2027-01-23T22:59:59Z",
        "controls": [{"number": 1, "date": "2026-10-15"}],
        "rows": [{"pupil_id": PUPIL, "marks": [mark]}],
        "as_of": AS_OF,
    }


def _profile(asked: Asked) -> Body:
    pupil = {
        "id": PUPIL,
        "name": NAME,
        "class_id": CLASS,
        "class_name": "2APIC-3",
        "level": "2APIC",
        "school_gresa": SCHOOL,
        "relation": "self",
    }
    return {"name": NAME, "pupils": [pupil], "classes": [], "as_of": AS_OF}


READS: tuple[tuple[str, Callable[[Asked], Body]], ...] = (
    (r"/v1/calendar", lambda _asked: CALENDAR),
    (r"/v1/classes/(?P<id>\w+)/timetable", _timetable),
    (r"/v1/classes/(?P<id>\w+)/homework", _homework),
    (r"/v1/classes/(?P<id>\w+)/announcements", _announcements),
    (r"/v1/classes/(?P<id>\w+)/pupils", _roster),
    (r"/v1/pupils/(?P<id>\w+)/grades", _grades),
    (r"/v1/pupils/(?P<id>\w+)/absences", _absences),
    (r"/v1/pupils/(?P<id>\w+)/homework-done", lambda _asked: {"done": ["task1"], "as_of": AS_OF}),
    (r"/v1/teachers/(?P<id>\w+)/assignments", _assignments),
    (r"/v1/gradebooks/(?P<id>\w+)/(?P<subject>\w+)/(?P<term>\d)", _gradebook),
    (r"/v1/people/(?P<id>\w+)/profile", _profile),
)


def answer(method: str, target: str, body: bytes) -> tuple[int, Body]:
    """Status and body for one request; unknown people and paths are 404."""
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if method != "GET":
        return _written(parts.path, msgspec.json.decode(body))
    found = re.fullmatch(r"/v1/people/(\w+)/relations", parts.path)
    if found is not None:
        facts = FACTS.get(found[1])
        return (404, {"slug": "not-found"}) if facts is None else (200, msgspec.to_builtins(facts))
    for pattern, make in READS:
        found = re.fullmatch(pattern, parts.path)
        if found is not None:
            return 200, make({**query, **found.groupdict()})
    return 404, {"slug": "not-found"}


def _written(path: str, body: Body) -> tuple[int, Body]:
    if path.endswith("/homework"):
        return 201, {
            "id": "task3",
            "subject": {**SUBJECT, "code": body.get("subject", MATH)},
            "text": body["text"],
            "assigned_on": "2026-11-18",
            "due_on": body["due_on"],
        }
    if "/attendance/" in path:
        return 200, {
            "results": [{"pupil_id": row["pupil_id"], "status": "accepted"} for row in body["entries"]]
        }
    return 200, {
        "results": [
            {
                "pupil_id": row["pupil_id"],
                "number": row["number"],
                "status": "accepted",
                "version": row["version"] + 1,
            }
            for row in body["entries"]
        ]
    }
