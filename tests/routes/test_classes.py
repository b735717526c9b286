"""A class as its teachers see it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.origin import Canned, refusal
from tests.gateway.people import CLASS, CLASSMATE, PARENT, PUPIL, TEACHER
from tests.gateway.world import World
from tests.routes.writing import NOT_JSON, forwarded, send

ROSTER = f"/v1/classes/{CLASS}/pupils"
ATTENDANCE = f"/v1/classes/{CLASS}/attendance/2026-11-18/0830"
ROW = {"pupil_id": PUPIL, "state": "absent", "observed_at": "2026-11-18T08:41:00Z"}


def batch(*rows: Any) -> dict[str, Any]:
    return {"entries": list(rows)}


async def test_a_roster_is_for_the_teachers_of_the_class(shared: World) -> None:
    answer = await shared.get(ROSTER, TEACHER)
    assert answer.json()["class"]["id"] == CLASS
    assert answer.json()["pupils"] == [
        {"id": PUPIL, "number": 1, "name": {"ar": "سلمى", "fr": "Salma"}, "dispensations": []}
    ]
    for who in (PUPIL, PARENT):
        assert (await shared.get(ROSTER, who)).json()["slug"] == "role-not-allowed"


async def test_attendance_is_forwarded_and_judged_by_row(shared: World, fresh_key: str) -> None:
    late = {**ROW, "pupil_id": CLASSMATE, "state": "late"}
    answer = await send(shared, "PUT", ATTENDANCE, batch(ROW, late), key=fresh_key)
    assert answer.json() == {
        "results": [{"pupil_id": pupil, "status": "accepted"} for pupil in (PUPIL, CLASSMATE)]
    }
    assert forwarded(shared) == [batch(ROW, late)]
    assert [seen.target for seen in shared.rabat.seen if seen.method == "PUT"] == [ATTENDANCE]


async def test_what_an_instant_is_worth_is_for_the_datacenter_to_say(shared: World, fresh_key: str) -> None:
    odd = batch({**ROW, "observed_at": "tomorrow"})
    assert (await send(shared, "PUT", ATTENDANCE, odd, key=fresh_key)).status_code == 200
    assert forwarded(shared) == [odd]


async def test_a_pupil_of_another_class_is_rejected_in_his_row(shared: World, fresh_key: str) -> None:
    said = b'{"results":[{"pupil_id":"pupilaaaaaaaaaaa","status":"rejected","slug":"pupil-not-in-class"}]}'
    shared.rabat.canned[ATTENDANCE] = Canned(body=said)
    answer = await send(shared, "PUT", ATTENDANCE, batch(ROW), key=fresh_key, accept_language="en")
    (row,) = answer.json()["results"]
    assert (row["problem"]["slug"], row["problem"]["title"]) == (
        "pupil-not-in-class",
        "Pupil not in this class",
    )


async def test_what_a_pupil_missed_shows_at_once(world: World) -> None:
    absences = f"/v1/pupils/{PUPIL}/absences"
    await world.get(absences, PARENT)
    await send(world, "PUT", ATTENDANCE, batch(ROW), key="key-1")
    assert (await world.get(absences, PARENT)).headers["cache-status"] == "massar; fwd=miss; stored"


async def test_no_lesson_at_that_hour_is_not_found(shared: World, fresh_key: str) -> None:
    shared.rabat.canned[ATTENDANCE] = refusal(404, "not-found")
    answer = await send(shared, "PUT", ATTENDANCE, batch(ROW), key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


@pytest.mark.parametrize("kind", NOT_JSON)
async def test_what_is_no_batch_goes_nowhere(shared: World, kind: str, fresh_key: str) -> None:
    answer = await send(shared, "PUT", ATTENDANCE, NOT_JSON[kind], key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert forwarded(shared) == []


BAD = {
    "no rows": batch(),
    "61 rows": batch(*({**ROW, "pupil_id": f"pupil{number}"} for number in range(61))),
    "a pupil twice": batch(ROW, {**ROW, "state": "present"}),
    "an unknown field": batch({**ROW, "reason": "x"}),
    "a state nobody knows": batch({**ROW, "state": "dispensed"}),
    "an instant that is a novel": batch({**ROW, "observed_at": "2026-11-18T08:41:00." + "0" * 50 + "Z"}),
    "a number for an instant": batch({**ROW, "observed_at": 1_795_000_000}),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_envelope_writes_nothing(shared: World, kind: str, fresh_key: str) -> None:
    answer = await send(shared, "PUT", ATTENDANCE, BAD[kind], key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert forwarded(shared) == []
