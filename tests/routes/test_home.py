"""The first screen in one call."""

from __future__ import annotations

import pytest

from tests.gateway.origin import refusal
from tests.gateway.people import CLASS, CLASSMATE, OTHER_CLASS, PARENT, PUPIL, STRANGER, TEACHER
from tests.gateway.world import World

HOME = "/v1/home"
PARTS = ["timetable", "grades", "absences", "homework", "announcements"]


@pytest.mark.parametrize("who", [PUPIL, PARENT])
async def test_a_family_gets_the_pupils_parts_as_their_own_routes_tell_them(shared: World, who: str) -> None:
    page = (await shared.get(HOME, who)).json()
    assert list(page["parts"]) == PARTS
    for name, part in page["parts"].items():
        target = f"/v1/pupils/{PUPIL}/{name}" if name != "announcements" else "/v1/announcements"
        assert part == {"status": 200, "body": (await shared.get(target, who)).json()}, name
    assert page["as_of"] == "2026-11-17T16:05:00Z"


async def test_a_teacher_gets_his_service(shared: World) -> None:
    page = (await shared.get(HOME, TEACHER)).json()
    assert list(page["parts"]) == ["service", "announcements"]
    assert page["parts"]["service"]["body"]["hours"] == 21
    assert list((await shared.get(f"{HOME}?pupil_id={PUPIL}", TEACHER)).json()["parts"]) == [
        "service",
        "announcements",
    ]


async def test_a_parent_names_the_child(shared: World) -> None:
    pages = {
        pupil: (await shared.get(f"{HOME}?pupil_id={pupil}", PARENT)).json() for pupil in (PUPIL, STRANGER)
    }
    classes = [page["parts"]["timetable"]["body"]["class_id"] for page in pages.values()]
    assert classes == [CLASS, OTHER_CLASS]
    assert (await shared.get(HOME, PARENT)).json()["parts"] == pages[PUPIL]["parts"]


@pytest.mark.parametrize(("who", "pupil"), [(PUPIL, CLASSMATE), (PARENT, CLASSMATE), (TEACHER, STRANGER)])
async def test_somebody_elses_child_does_not_exist(shared: World, who: str, pupil: str) -> None:
    answer = await shared.get(f"{HOME}?pupil_id={pupil}", who)
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


async def test_a_parent_without_children_gets_an_empty_page(world: World) -> None:
    world.rabat.say(f"/v1/people/{PARENT}/relations", subject=PARENT, generation=3, pupils={}, classes={})
    page = (await world.get(HOME, PARENT)).json()
    assert page == {
        "parts": {"announcements": {"status": 200, "body": {"announcements": []}}},
        "as_of": None,
    }


async def test_a_part_that_fails_carries_its_problem_and_the_others_stand(world: World) -> None:
    for origin in (world.rabat, world.marrakech):
        origin.canned[f"/v1/pupils/{PUPIL}/grades"] = refusal(500, "internal")
    world.rabat.canned[f"/v1/pupils/{PUPIL}/absences"] = refusal(404, "not-found")
    answer = await world.get(HOME, PUPIL, accept_language="en")
    assert answer.status_code == 200
    parts = answer.json()["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "timetable": 200,
        "grades": 503,
        "absences": 404,
        "homework": 200,
        "announcements": 200,
    }
    problem = parts["grades"]["problem"]
    assert (problem["slug"], problem["title"]) == ("datacenters-unavailable", "Datacenters unreachable")
    assert problem["instance"] == "urn:request:" + answer.headers["massar-request-id"]
    assert "body" not in parts["grades"]


async def test_without_a_calendar_the_parts_that_need_none_stand(world: World) -> None:
    for origin in (world.rabat, world.marrakech):
        origin.canned["/v1/calendar"] = refusal(500, "internal")
    parts = (await world.get(HOME, TEACHER)).json()["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {"service": 200, "announcements": 200}
    parts = (await world.get(HOME, PUPIL)).json()["parts"]
    assert {name for name, part in parts.items() if part["status"] == 200} == {"announcements"}


async def test_a_page_is_composed_of_what_is_cached(world: World) -> None:
    await world.get(HOME, PUPIL)
    asked = len(world.rabat.seen)
    again = await world.get(HOME, PUPIL)
    assert len(world.rabat.seen) == asked
    assert (await world.get(HOME, PUPIL, if_none_match=again.headers["etag"])).status_code == 304
    assert "cache-status" not in again.headers
