"""Homework: one list per class, each pupil's own ticks merged in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.origin import Canned, refusal
from tests.gateway.people import CLASS, CLASSMATE, OTHER_PARENT, PARENT, PUPIL, SUBJECT, TEACHER
from tests.gateway.world import World
from tests.routes.writing import NOT_JSON, forwarded, send

HOMEWORK = f"/v1/pupils/{PUPIL}/homework"
ASSIGN = f"/v1/classes/{CLASS}/homework"
TASK = {"subject": "MATH", "text": "Exercices 4 et 5, page 62", "due_on": "2026-11-24"}


async def test_each_pupil_sees_the_class_list_with_his_own_ticks(world: World) -> None:
    world.rabat.say(
        f"/v1/pupils/{CLASSMATE}/homework-done", done=["task2", "gone"], as_of="2026-11-18T08:00:00Z"
    )
    own = (await world.get(HOMEWORK, PUPIL)).json()
    mates = (await world.get(f"/v1/pupils/{CLASSMATE}/homework", CLASSMATE)).json()
    assert [(task["id"], task["done"]) for task in own["homework"]] == [("task1", True), ("task2", False)]
    assert [(task["id"], task["done"]) for task in mates["homework"]] == [("task1", False), ("task2", True)]
    assert (own["as_of"], mates["as_of"]) == ("2026-11-17T16:05:00Z", "2026-11-18T08:00:00Z")
    assert world.rabat.count(f"/v1/classes/{CLASS}/homework") == 1
    assert world.rabat.count("/homework-done") == 2


async def test_both_parents_see_the_same_and_a_teacher_no_ticks(world: World) -> None:
    one, other = await world.get(HOMEWORK, PARENT), await world.get(HOMEWORK, OTHER_PARENT)
    assert one.content == other.content
    assert one.headers["etag"] == other.headers["etag"]
    asked = world.rabat.count("/homework-done")
    teachers = (await world.get(HOMEWORK, TEACHER)).json()
    assert {task["done"] for task in teachers["homework"]} == {False}
    assert world.rabat.count("/homework-done") == asked


async def test_the_list_begins_today_unless_told_otherwise(shared: World, fresh_day: str) -> None:
    for target, day in ((HOMEWORK, "2026-11-18"), (f"{HOMEWORK}?from={fresh_day}", fresh_day)):
        tasks = (await shared.get(target, PUPIL)).json()["homework"]
        assert {task["due_on"] for task in tasks} == {day}


async def test_a_ticked_list_is_revalidated(shared: World) -> None:
    etag = (await shared.get(HOMEWORK, PUPIL)).headers["etag"]
    assert (await shared.get(HOMEWORK, PUPIL, if_none_match=etag)).status_code == 304


async def test_new_homework_is_created_and_shows_at_once(world: World) -> None:
    await world.get(HOMEWORK, PUPIL)
    answer = await send(world, "POST", ASSIGN, TASK, key="key-1")
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{ASSIGN}/task3"
    assert answer.json() == {
        "id": "task3",
        "subject": SUBJECT,
        "text": "Exercices 4 et 5, page 62",
        "assigned_on": "2026-11-18",
        "due_on": "2026-11-24",
    }
    assert forwarded(world) == [TASK]
    await world.get(HOMEWORK, PUPIL)
    assert world.rabat.count(f"/v1/classes/{CLASS}/homework?") == 2


async def test_a_repeated_assignment_says_that_it_was_there(shared: World, fresh_key: str) -> None:
    body = (await send(shared, "POST", ASSIGN, TASK, key=fresh_key)).content
    again = {"massar-replayed": "1", "location": f"{ASSIGN}/task3"}
    shared.rabat.canned[ASSIGN] = Canned(status=201, body=body, headers=again)
    answer = await send(shared, "POST", ASSIGN, TASK, key=fresh_key)
    assert (answer.status_code, answer.content) == (201, body)
    assert answer.headers["massar-replayed"] == "1"
    assert answer.headers["location"] == f"{ASSIGN}/task3"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_subject_he_does_not_teach_there_is_not_found(shared: World, fresh_key: str) -> None:
    shared.rabat.canned[ASSIGN] = refusal(404, "not-found")
    answer = await send(shared, "POST", ASSIGN, {**TASK, "subject": "PHYS"}, key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


BAD: dict[str, Any] = {
    "no text": {**TASK, "text": ""},
    "a text beyond its bound": {**TASK, "text": "x" * 4001},
    "no subject": {**TASK, "subject": ""},
    "a subject beyond its bound": {**TASK, "subject": "x" * 33},
    "no day": {k: v for k, v in TASK.items() if k != "due_on"},
    "a day in words": {**TASK, "due_on": "demain"},
    "a day with a time": {**TASK, "due_on": "2026-11-24T08:00"},
    "an unknown field": {**TASK, "done": True},
    "a number for a text": {**TASK, "text": 7},
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_assignment_goes_nowhere(shared: World, kind: str, fresh_key: str) -> None:
    answer = await send(shared, "POST", ASSIGN, BAD[kind], key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert forwarded(shared) == []


@pytest.mark.parametrize("kind", NOT_JSON)
async def test_what_is_no_assignment_goes_nowhere(shared: World, kind: str, fresh_key: str) -> None:
    answer = await send(shared, "POST", ASSIGN, NOT_JSON[kind], key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert forwarded(shared) == []
