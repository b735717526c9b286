"""Gradebooks: read as a table, written as a batch with a verdict per row."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.origin import Canned
from tests.gateway.people import CLASS, CLASSMATE, MATH, PARENT, PUPIL, TEACHER
from tests.gateway.world import World
from tests.routes.writing import NOT_JSON, forwarded, send

GRADEBOOK = f"/v1/gradebooks/{CLASS}/{MATH}/1"
ENTRIES = f"{GRADEBOOK}/entries"
ROW = {"pupil_id": PUPIL, "number": 1, "mark": "14.50", "state": "marked", "version": 3}


def batch(*rows: Any) -> dict[str, Any]:
    return {"entries": list(rows)}


def rows(count: int) -> list[dict[str, Any]]:
    return [{**ROW, "number": number} for number in range(count)]


async def test_a_gradebook_is_read_by_its_teacher(shared: World) -> None:
    answer = await shared.get(GRADEBOOK, TEACHER)
    assert answer.status_code == 200
    assert answer.json()["rows"] == [
        {"pupil_id": PUPIL, "marks": [{"number": 1, "mark": "14.50", "state": "marked", "version": 3}]}
    ]
    assert (await shared.get(GRADEBOOK, PARENT)).json()["slug"] == "role-not-allowed"


@pytest.mark.parametrize("kind", NOT_JSON)
async def test_what_is_no_batch_is_a_bad_request_and_goes_nowhere(
    shared: World, kind: str, fresh_key: str
) -> None:
    answer = await send(shared, "PUT", ENTRIES, NOT_JSON[kind], key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert forwarded(shared) == []


BAD = {
    "no rows": (batch(), "/entries"),
    "61 rows": (batch(*rows(61)), "/entries"),
    "the same row twice": (batch(ROW, {**ROW, "mark": "3.00"}), "/entries"),
    "an unknown field outside": ({**batch(ROW), "note": 1}, "/"),
    "an unknown field inside": (batch({**ROW, "note": 1}), "/entries/0"),
    "rows that are no objects": (batch("x"), "/entries/0"),
    "a missing version": (batch({k: v for k, v in ROW.items() if k != "version"}), "/entries/0"),
    "a missing mark": (batch({k: v for k, v in ROW.items() if k != "mark"}), "/entries/0"),
    "a number as a mark": (batch({**ROW, "mark": 14.5}), "/entries/0/mark"),
    "a mark that is a novel": (batch({**ROW, "mark": "1" * 17}), "/entries/0/mark"),
    "a state nobody knows": (batch({**ROW, "state": "late"}), "/entries/0/state"),
    "a version below zero": (batch({**ROW, "version": -1}), "/entries/0/version"),
    "a version beyond every integer": (batch({**ROW, "version": 2**31}), "/entries/0/version"),
    "a version in text": (batch({**ROW, "version": "3"}), "/entries/0/version"),
    "a version with a fraction": (batch({**ROW, "version": 3.5}), "/entries/0/version"),
    "a version that is true": (batch({**ROW, "version": True}), "/entries/0/version"),
    "a control beyond a hundred": (batch({**ROW, "number": 100}), "/entries/0/number"),
    "nobody": (batch({**ROW, "pupil_id": ""}), "/entries/0/pupil_id"),
    "a pupil of 65 letters": (batch({**ROW, "pupil_id": "a" * 65}), "/entries/0/pupil_id"),
    "the second row": (batch(ROW, {**ROW, "number": 2, "version": None}), "/entries/1/version"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_envelope_writes_nothing_and_names_the_part(
    shared: World, kind: str, fresh_key: str
) -> None:
    body, pointer = BAD[kind]
    answer = await send(shared, "PUT", ENTRIES, body, key=fresh_key)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert answer.json()["pointer"] == pointer
    assert forwarded(shared) == []


async def test_sixty_rows_are_not_too_many(shared: World, fresh_key: str) -> None:
    answer = await send(shared, "PUT", ENTRIES, batch(*rows(60)), key=fresh_key)
    assert answer.status_code == 200
    assert [row["number"] for row in answer.json()["results"]] == list(range(60))


async def test_two_pupils_and_two_controls_are_four_rows(shared: World, fresh_key: str) -> None:
    four = [{**ROW, "pupil_id": pupil, "number": number} for pupil in (PUPIL, CLASSMATE) for number in (1, 2)]
    assert (await send(shared, "PUT", ENTRIES, batch(*four), key=fresh_key)).status_code == 200
    assert forwarded(shared) == [batch(*four)]


async def test_what_a_mark_is_worth_is_for_the_datacenter_to_say(shared: World, fresh_key: str) -> None:
    odd = [
        {**ROW, "number": number, "mark": mark} for number, mark in enumerate(["20.01", "x", "", "\u0661"])
    ]
    assert (await send(shared, "PUT", ENTRIES, batch(*odd), key=fresh_key)).status_code == 200
    assert forwarded(shared) == [batch(*odd)]


REJECTED = (
    b'{"results":[{"pupil_id":"pupilaaaaaaaaaaa","number":1,"status":"accepted","version":4},'
    b'{"pupil_id":"pupilaaaaaaaaaaa","number":2,"status":"rejected","slug":"version-conflict","current":0},'
    b'{"pupil_id":"pupilaaaaaaaaaaa","number":3,"status":"rejected","slug":"words of a datacenter"}]}'
)


@pytest.mark.parametrize(
    ("language", "title"),
    [("fr", "Version dépassée"), ("ar", "الإصدار متجاوز"), ("en", "Version out of date")],
)
async def test_a_rejected_row_carries_its_problem_in_the_callers_language(
    shared: World, language: str, title: str, fresh_key: str
) -> None:
    shared.rabat.canned[ENTRIES] = Canned(body=REJECTED)
    answer = await send(shared, "PUT", ENTRIES, batch(ROW), key=fresh_key, accept_language=language)
    assert answer.status_code == 200
    assert answer.headers["content-language"] == language
    assert answer.headers["vary"] == "Accept-Language"
    accepted, conflict, odd = answer.json()["results"]
    assert accepted == {"pupil_id": PUPIL, "number": 1, "status": "accepted", "version": 4}
    assert (conflict["status"], conflict["current"]) == ("rejected", 0)
    assert conflict["problem"] == {
        "type": "https://massar.example/problems/version-conflict",
        "title": title,
        "status": 409,
        "detail": conflict["problem"]["detail"],
        "slug": "version-conflict",
    }
    assert odd["problem"]["slug"] == "internal"
    assert "words of a datacenter" not in answer.text


async def test_a_replayed_answer_is_the_same_bytes_and_says_so(shared: World, fresh_key: str) -> None:
    first = await send(shared, "PUT", ENTRIES, batch(ROW), key=fresh_key)
    assert "massar-replayed" not in first.headers
    shared.rabat.canned[ENTRIES] = Canned(body=first.content, headers={"Massar-Replayed": "1"})
    again = await send(shared, "PUT", ENTRIES, batch(ROW), key=fresh_key)
    assert again.headers["massar-replayed"] == "1"
    assert again.content == first.content
