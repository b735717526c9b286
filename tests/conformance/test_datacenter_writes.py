"""The writes of openapi/datacenter.yaml: who may, what is taken, and a verdict for every row."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.conformance import seed
from tests.conformance.acting import (
    ENTRIES,
    EXERCISE,
    GRADEBOOK,
    HOMEWORK,
    ROLL,
    SEEN_AT,
    blocked,
    call_roll,
    cell,
    enter,
    gradebook,
    version,
)
from tests.conformance.ground import Ground
from tests.waiting import eventually

# --- marks -------------------------------------------------------------------------------------------------------


async def test_an_entered_mark_is_read_back_at_its_new_version(own: Ground) -> None:
    pupil = seed.PUPILS[3]
    answer = await enter(own, cell(pupil, version=await version(own, pupil)))
    (result,) = answer.json()["results"]
    assert (answer.status_code, result["status"]) == (200, "accepted")
    assert result["version"] == await version(own, pupil)
    grades = (await own.get(f"/v1/pupils/{pupil}/grades?view=family")).json()
    (mathematics,) = (one for one in grades["subjects"] if one["code"] == "MATH")
    assert mathematics["marks"][1] == {"number": 2, "mark": "13.25", "state": "marked"}


async def test_a_writes_position_is_that_of_its_commit_and_a_later_read_is_not_before_it(own: Ground) -> None:
    def place(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("-"))

    present = await version(own, seed.PUPILS[4])
    await own.hear()
    before = (await own.client.get("/health")).headers["massar-position"]
    written = (await enter(own, cell(seed.PUPILS[4], version=present), heard=False)).headers[
        "massar-position"
    ]
    after = (await own.get(f"{GRADEBOOK}?view=teacher")).headers["massar-position"]
    assert place(before) < place(written) <= place(after)


async def test_every_row_gets_its_own_verdict_and_bad_rows_leave_the_others_standing(own: Ground) -> None:
    good, present = seed.PUPILS[5], await version(own, seed.PUPILS[5])
    answer = await enter(
        own,
        cell(seed.PUPILS[6], mark="20.01"),
        cell(seed.STRANGER),
        cell("nobody knows him"),
        cell(good, number=9),
        cell(seed.DISPENSED),
        cell(seed.PUPIL, number=1, version=2),
        cell(good, version=present),
        cell(seed.PUPILS[6], number=1, mark=None, state="pending", version=1),
    )
    verdicts = [
        (one["status"], one.get("slug"), one.get("current"), one.get("version"))
        for one in answer.json()["results"]
    ]
    assert verdicts == [
        ("rejected", "mark-invalid", None, None),
        ("rejected", "pupil-not-in-class", None, None),
        ("rejected", "pupil-not-in-class", None, None),
        ("rejected", "control-unknown", None, None),
        ("rejected", "pupil-dispensed", None, None),
        ("rejected", "version-conflict", 3, None),
        ("accepted", None, None, present + 1),
        ("rejected", "mark-invalid", None, None),
    ]
    assert await version(own, good) == present + 1


@pytest.mark.parametrize(
    "mark", ["14.5", "14", "-1.00", "20.01", "1e1", "٠١.٥٠", "014.50", " 14.50", "", None]
)
async def test_a_mark_is_text_with_two_decimals_up_to_twenty(own: Ground, mark: str | None) -> None:
    (result,) = (await enter(own, cell(seed.PUPILS[7], mark=mark))).json()["results"]
    assert (result["status"], result["slug"]) == ("rejected", "mark-invalid")


async def test_the_highest_versions_are_conflicts_of_their_rows(own: Ground) -> None:
    pupil = seed.PUPILS[7]
    for version_ in (2_147_483_646, 2_147_483_647):
        (result,) = (await enter(own, cell(pupil, version=version_))).json()["results"]
        assert (result["slug"], result["current"]) == ("version-conflict", await version(own, pupil))


async def test_absent_and_dispensed_carry_no_mark(own: Ground) -> None:
    pupil = seed.PUPILS[7]
    for state in ("absent", "dispensed"):
        (result,) = (await enter(own, cell(pupil, mark="10.00", state=state))).json()["results"]
        assert result["slug"] == "mark-invalid"
        (result,) = (
            await enter(own, cell(pupil, mark=None, state=state, version=await version(own, pupil)))
        ).json()["results"]
        assert result["status"] == "accepted"


async def test_of_two_teachers_at_the_same_version_one_wins(own: Ground) -> None:
    pupil = seed.PUPILS[8]
    present = await version(own, pupil)
    answers = await asyncio.gather(
        *(enter(own, cell(pupil, mark=f"1{n}.00", version=present)) for n in range(6))
    )
    results = [answer.json()["results"][0] for answer in answers]
    assert sorted(one["status"] for one in results) == ["accepted"] + ["rejected"] * 5
    assert {one["current"] for one in results if one["status"] == "rejected"} == {present + 1}


async def test_a_mark_changed_by_another_program_meanwhile_is_a_version_conflict(own: Ground) -> None:
    pupil = seed.PUPILS[9]
    connection = await asyncpg.connect(own.dsn, ssl=False)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "UPDATE marks SET version = 2 WHERE pupil = $1 AND subject = 'MATH' AND number = 1", pupil
        )
        waiting = asyncio.create_task(enter(own, cell(pupil, number=1, mark="05.00", version=1)))
        await eventually(lambda: blocked(own), within_s=2)
        await transaction.commit()
    finally:
        await connection.close()
    (result,) = (await waiting).json()["results"]
    assert (result["slug"], result["current"]) == ("version-conflict", 2)


BAD_BATCHES: list[Any] = [
    b"",
    b"[]",
    b"{",
    b"\xff\xfe",
    {"entries": []},
    {"entries": [cell(seed.PUPIL)], "more": 1},
    {"entries": [{**cell(seed.PUPIL), "more": 1}]},
    {"entries": [{"pupil_id": seed.PUPIL, "number": 1}]},
    {"entries": [{**cell(seed.PUPIL), "version": "3"}]},
    {"entries": [{**cell(seed.PUPIL), "version": -1}]},
    {"entries": [{**cell(seed.PUPIL), "version": 2_147_483_648}]},
    {"entries": [{**cell(seed.PUPIL), "mark": 13.25}]},
    {"entries": [{**cell(seed.PUPIL), "state": "sick"}]},
    {"entries": [{**cell(seed.PUPIL), "pupil_id": "a\u0000b"}]},
    {"entries": [cell(seed.PUPILS[3]), cell(seed.PUPILS[3], mark="01.00")]},
    {"entries": [cell(f"pupil {number}") for number in range(60)] + [cell(seed.PUPILS[3])]},
]


@pytest.mark.parametrize("payload", BAD_BATCHES)
async def test_a_bad_envelope_is_refused_and_nothing_is_written(own: Ground, payload: Any) -> None:
    before = await gradebook(own)
    answer = await own.write("PUT", ENTRIES, payload)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert await gradebook(own) == before


async def test_sixty_rows_are_taken(own: Ground) -> None:
    answer = await enter(own, *(cell(f"pupil {number}") for number in range(60)))
    assert [one["slug"] for one in answer.json()["results"]] == ["pupil-not-in-class"] * 60


async def test_a_body_above_the_bound_is_413(own: Ground) -> None:
    answer = await own.write("PUT", ENTRIES, b"[" + b" " * 262_144 + b"]")
    assert (answer.status_code, answer.json()["slug"]) == (413, "body-too-large")


async def test_a_locked_gradebook_is_refused_and_the_refusal_is_remembered(own: Ground) -> None:
    path = f"/v1/gradebooks/{seed.CLASS}/AR/1/entries"
    for replayed in (None, "1"):
        answer = await enter(own, cell(seed.PUPIL, number=1, version=1), path=path, key="locked")
        assert (answer.status_code, answer.json()["slug"]) == (409, "gradebook-locked")
        assert answer.headers.get("massar-replayed") == replayed


@pytest.mark.parametrize(
    ("subject", "role", "path"),
    [
        (seed.OTHER_TEACHER, "teacher", ENTRIES),
        (seed.FRENCH_TEACHER, "teacher", ENTRIES),
        (seed.PUPIL, "student", ENTRIES),
        (seed.TEACHER, "parent", ENTRIES),
        ("-", "gateway", ENTRIES),
        (seed.TEACHER, "teacher", f"/v1/gradebooks/{seed.OTHER_CLASS}/MATH/1/entries"),
        (seed.TEACHER, "teacher", f"/v1/gradebooks/{seed.CLASS}/MATH/2/entries"),
        (seed.TEACHER, "teacher", f"/v1/gradebooks/{seed.NOBODY}/MATH/1/entries"),
    ],
)
async def test_who_does_not_teach_it_finds_nothing(own: Ground, subject: str, role: str, path: str) -> None:
    answer = await enter(own, cell(seed.PUPIL, number=1, version=3), path=path, subject=subject, role=role)
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


# --- the roll ----------------------------------------------------------------------------------------------------


async def absences(ground: Ground, pupil: str) -> list[tuple[str, str]]:
    body = (await ground.get(f"/v1/pupils/{pupil}/absences?view=family&from=2026-11-16")).json()
    return [(one["slot"]["start"], one["kind"]) for one in body["absences"]]


async def test_the_roll_makes_changes_and_takes_away_absences(own: Ground) -> None:
    pupil = seed.PUPILS[2]
    for state, left in (("absent", [("08:30", "absence")]), ("late", [("08:30", "late")]), ("present", [])):
        answer = await call_roll(own, pupil, state)
        assert answer.json() == {"results": [{"pupil_id": pupil, "status": "accepted"}]}
        assert await absences(own, pupil) == left


async def test_the_later_observation_stands_in_whatever_order_they_arrive(own: Ground) -> None:
    pupil = seed.PUPILS[3]
    await call_roll(own, pupil, "late", at="2026-11-16T08:50:00Z")
    for state in ("absent", "present"):
        answer = await call_roll(own, pupil, state, at="2026-11-16T08:31:00+00:00")
        (result,) = answer.json()["results"]
        assert (result["status"], result["slug"]) == ("rejected", "observation-superseded")
        assert await absences(own, pupil) == [("08:30", "late")]


async def test_a_pupil_of_another_class_is_rejected_and_the_others_stand(own: Ground) -> None:
    rows = [
        {"pupil_id": one, "state": "absent", "observed_at": SEEN_AT}
        for one in (seed.STRANGER, seed.PUPILS[4])
    ]
    answer = await own.write("PUT", ROLL, {"entries": rows})
    assert [(one["status"], one.get("slug")) for one in answer.json()["results"]] == [
        ("rejected", "pupil-not-in-class"),
        ("accepted", None),
    ]
    assert await absences(own, seed.PUPILS[4]) == [("08:30", "absence")]


@pytest.mark.parametrize(
    "at",
    [
        "9999-12-31T23:59:59-12:00",
        "9000-01-01T00:00:00Z",
        "2026-11-15T22:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "2026-11-16T08:35:00",
        "2026-11-16",
        "a\u0000b",
        "",
        "x" * 64,
    ],
)
async def test_an_observation_nobody_can_have_made_is_rejected_and_the_others_stand(
    own: Ground, at: str
) -> None:
    one, other = seed.PUPILS[7], seed.PUPILS[8]
    for state in ("late", "present"):
        rows = [{"pupil_id": one, "state": state, "observed_at": at}]
        rows += [{"pupil_id": other, "state": state, "observed_at": SEEN_AT}]
        answer = await own.write("PUT", ROLL, {"entries": rows})
        assert answer.status_code == 200
        assert [(row["status"], row.get("slug")) for row in answer.json()["results"]] == [
            ("rejected", "observation-invalid"),
            ("accepted", None),
        ]
        assert await absences(own, one) == []
        assert len(await absences(own, other)) == (state == "late")


async def test_an_observation_far_ahead_does_not_bar_the_ones_to_come(own: Ground) -> None:
    pupil = seed.PUPILS[9]
    now = datetime.now(UTC)
    for state, at, slug, left in (
        ("late", now + timedelta(minutes=6), "observation-invalid", []),
        ("late", now + timedelta(minutes=4), None, [("08:30", "late")]),
        ("present", now, "observation-superseded", [("08:30", "late")]),
        ("present", now + timedelta(minutes=4), None, []),
    ):
        (result,) = (await call_roll(own, pupil, state, at=at.isoformat())).json()["results"]
        assert result.get("slug") == slug
        assert await absences(own, pupil) == left


async def test_many_calls_of_one_roll_take_turns_and_the_latest_stands(own: Ground) -> None:
    pupils = seed.PUPILS[:6]

    def rows(turn: int) -> list[dict[str, str]]:
        states = ("absent", "late", "present")
        chosen = [
            {
                "pupil_id": pupil,
                "state": states[(turn + place) % 3],
                "observed_at": f"2026-11-16T09:{turn:02}:00Z",
            }
            for place, pupil in enumerate(pupils)
        ]
        return chosen if turn % 2 else chosen[::-1]

    turns = [7, 3, 9, 0, 5, 8, 1, 6, 2, 4]
    answers = await asyncio.gather(*(own.write("PUT", ROLL, {"entries": rows(turn)}) for turn in turns))
    assert [answer.status_code for answer in answers] == [200] * len(turns)
    final = {row["pupil_id"]: row["state"] for row in rows(9)}
    last = answers[turns.index(9)].json()["results"]
    assert {one["status"] for one in last} == {"accepted"}
    kinds = {"absent": [("08:30", "absence")], "late": [("08:30", "late")]}
    for pupil in pupils:
        if final[pupil] in kinds:
            assert await absences(own, pupil) == kinds[final[pupil]]


@pytest.mark.parametrize(
    "rest",
    [
        "2026-11-16/0900",
        "2026-11-17/0830",
        "2026-11-15/0830",
        "2028-11-13/0830",
        "2026-11-16/2530",
        "2026-02-30/0830",
        "today/0830",
    ],
)
async def test_a_lesson_that_is_not_held_is_not_found(own: Ground, rest: str) -> None:
    answer = await call_roll(own, seed.PUPIL, "absent", path=f"/v1/classes/{seed.CLASS}/attendance/{rest}")
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


async def test_any_teacher_of_the_class_may_call_the_roll_and_no_other(own: Ground) -> None:
    body = {"entries": [{"pupil_id": seed.PUPILS[5], "state": "late", "observed_at": SEEN_AT}]}
    assert (await own.write("PUT", ROLL, body, subject=seed.FRENCH_TEACHER)).status_code == 200
    assert (await own.write("PUT", ROLL, body, subject=seed.OTHER_TEACHER)).status_code == 404


@pytest.mark.parametrize(
    "row",
    [
        {"pupil_id": seed.PUPIL, "state": "gone", "observed_at": SEEN_AT},
        {"pupil_id": seed.PUPIL, "state": "late", "observed_at": "x" * 65},
        {"pupil_id": seed.PUPIL, "state": "late", "observed_at": 1_795_000_000},
        {"pupil_id": seed.PUPIL, "state": "late"},
        {"pupil_id": seed.PUPIL, "state": "late", "observed_at": SEEN_AT, "more": 1},
    ],
)
async def test_a_roll_that_cannot_be_read_is_refused(own: Ground, row: dict[str, Any]) -> None:
    assert (await own.write("PUT", ROLL, {"entries": [row]})).status_code == 400
    good = {"pupil_id": seed.PUPILS[6], "state": "late", "observed_at": SEEN_AT}
    assert (await own.write("PUT", ROLL, {"entries": [good, good]})).status_code == 400
    assert await absences(own, seed.PUPILS[6]) == []


# --- homework ----------------------------------------------------------------------------------------------------


async def test_assigned_homework_is_read_back(own: Ground) -> None:
    answer = await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Exercice 8 ✓"})
    body = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"{HOMEWORK}/{body['id']}")
    listed = (await own.get(f"{HOMEWORK}?view=class&from=2026-11-30")).json()["homework"]
    assert body in listed
    assert (body["assigned_on"], body["text"]) == ("2026-11-18", "Exercice 8 ✓")


@pytest.mark.parametrize(
    "changed",
    [{"due_on": "2026-11-17"}, {"due_on": "2027-07-01"}, {"due_on": "soon"}, {"text": ""}, {"text": "x" * 4001},
     {"text": "a\u0000b"}, {"subject": ""}, {"subject": 5}, {"more": 1}],
)  # fmt: skip
async def test_homework_that_cannot_be_given_is_refused(own: Ground, changed: dict[str, Any]) -> None:
    answer = await own.write("POST", HOMEWORK, {**EXERCISE, **changed})
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")


async def test_homework_in_a_subject_not_taught_there_is_not_found(own: Ground) -> None:
    for changed in ({"subject": "FR"}, {"subject": "NONE"}):
        assert (await own.write("POST", HOMEWORK, {**EXERCISE, **changed})).status_code == 404
    assert (await own.write("POST", f"/v1/classes/{seed.OTHER_CLASS}/homework", EXERCISE)).status_code == 404
