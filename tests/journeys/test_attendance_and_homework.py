"""Attendance and homework: judged row by row, done once, and on the family's next page."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from tests.journeys.books import Book, Cell, batch, new_key, slugs, tell
from tests.journeys.lines import Line, heard_everywhere, outcome
from tests.journeys.people import NOBODY, Mint, People

SEEN_AT = "2026-11-20T09:00:00Z"


async def lesson_of(records: asyncpg.Connection, class_id: str) -> str:
    """Day and start of a lesson of the class two weeks ago."""
    row = await records.fetchrow(
        "SELECT day, start_at FROM lessons WHERE class_id = $1 ORDER BY day DESC, start_at DESC LIMIT 1",
        class_id,
    )
    assert row is not None
    monday = date.fromisocalendar(2026, 45, 1)
    return f"{monday + timedelta(days=row['day'] - 1)}/{row['start_at']:%H%M}"


async def kinds_shown(line: Line, pupil: str, lesson: str, token: str) -> list[str]:
    """How one lesson stands among the pupil's absences."""
    day, slot = lesson.split("/")
    listed = (await line.get(f"/v1/pupils/{pupil}/absences", token)).json()["absences"]
    start = f"{slot[:2]}:{slot[2:]}"
    return [each["kind"] for each in listed if (each["date"], each["slot"]["start"]) == (day, start)]


async def test_attendance_is_on_the_familys_next_page_here_and_soon_everywhere(
    book: Book,
    cell: Cell,
    teacher: str,
    mint: Mint,
    records: asyncpg.Connection,
    everywhere: tuple[Line, ...],
) -> None:
    lesson = await lesson_of(records, book.class_id)
    path = f"/v1/classes/{book.class_id}/attendance/{lesson}"
    family = [mint.token("parent", cell.guardian), mint.token("student", cell.pupil)]
    for state, kinds in [("absent", ["absence"]), ("late", ["late"]), ("present", [])]:
        entry = {"pupil_id": cell.pupil, "state": state, "observed_at": SEEN_AT}
        answer = await everywhere[0].put(path, batch(entry), token=teacher, key=new_key())
        answered_at = time.monotonic()
        assert answer.json() == {"results": [{"pupil_id": cell.pupil, "status": "accepted"}]}
        for token in family:
            assert await kinds_shown(everywhere[0], cell.pupil, lesson, token) == kinds

        async def shown(line: Line, kinds: list[str] = kinds) -> bool:
            return all([await kinds_shown(line, cell.pupil, lesson, token) == kinds for token in family])

        tell(state, await heard_everywhere(everywhere, shown, what=f"{state} is shown", since=answered_at))


async def test_attendance_is_judged_row_by_row(
    book: Book, cell: Cell, teacher: str, people: People, records: asyncpg.Connection, rabat: Line
) -> None:
    path = f"/v1/classes/{book.class_id}/attendance/{await lesson_of(records, book.class_id)}"
    rows = [
        {"pupil_id": pupil, "state": "late", "observed_at": SEEN_AT}
        for pupil in (cell.pupil, people.student.id, NOBODY)
    ]
    key = new_key()
    answer = await rabat.put(path, batch(*rows), token=teacher, key=key)
    assert slugs(answer) == ["accepted", "pupil-not-in-class", "pupil-not-in-class"]
    again = await rabat.put(path, batch(*rows), token=teacher, key=key)
    assert (again.content, again.headers["massar-replayed"]) == (answer.content, "1")


@pytest.mark.parametrize("lesson", ["2026-11-15/0830", "2026-11-09/0001", "2025-11-10/0830"])
async def test_there_is_no_attendance_of_a_lesson_that_is_not(
    lesson: str, book: Book, untouched: Cell, teacher: str, rabat: Line
) -> None:
    entry = {"pupil_id": untouched.pupil, "state": "late", "observed_at": SEEN_AT}
    path = f"/v1/classes/{book.class_id}/attendance/{lesson}"
    answer = await rabat.put(path, batch(entry), token=teacher, key=new_key())
    assert outcome(answer) == (404, "not-found")


BAD_ROLLS: dict[str, Any] = {
    "a pupil twice": lambda row: batch(row, row),
    "61 rows": lambda row: batch(
        *({**row, "pupil_id": f"{'a' * 14}{n // 10 + 2}{n % 6 + 2}"} for n in range(61))
    ),
    "no rows": lambda _: batch(),
    "an unknown state": lambda row: batch({**row, "state": "ill"}),
    "an unknown field": lambda row: batch({**row, "reason": "grippe"}),
    "an endless instant": lambda row: batch({**row, "observed_at": "2" * 65}),
}


@pytest.mark.parametrize("roll", BAD_ROLLS)
async def test_a_bad_roll_call_writes_nothing(
    roll: str, book: Book, untouched: Cell, teacher: str, mint: Mint, records: asyncpg.Connection, rabat: Line
) -> None:
    lesson = await lesson_of(records, book.class_id)
    row = {"pupil_id": untouched.pupil, "state": "late", "observed_at": SEEN_AT}
    path = f"/v1/classes/{book.class_id}/attendance/{lesson}"
    answer = await rabat.put(path, BAD_ROLLS[roll](row), token=teacher, key=new_key())
    assert outcome(answer) == (400, "bad-request")
    assert await kinds_shown(rabat, untouched.pupil, lesson, mint.token("student", untouched.pupil)) == []


@pytest.mark.parametrize(
    "observed_at",
    ["2026-11-20", "2026-11-20T09:00:00", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", ""],
)
async def test_a_row_observed_at_no_possible_time_is_rejected_alone(
    observed_at: str,
    book: Book,
    untouched: Cell,
    teacher: str,
    mint: Mint,
    records: asyncpg.Connection,
    rabat: Line,
) -> None:
    lesson = await lesson_of(records, book.class_id)
    row = {"pupil_id": untouched.pupil, "state": "late", "observed_at": observed_at}
    path = f"/v1/classes/{book.class_id}/attendance/{lesson}"
    answer = await rabat.put(path, batch(row), token=teacher, key=new_key())
    assert answer.status_code == 200
    (verdict,) = answer.json()["results"]
    assert (verdict["status"], verdict["problem"]["slug"]) == ("rejected", "observation-invalid")
    assert await kinds_shown(rabat, untouched.pupil, lesson, mint.token("student", untouched.pupil)) == []


async def test_homework_is_on_the_pupils_next_page_here_and_soon_everywhere(
    book: Book, cell: Cell, teacher: str, mint: Mint, everywhere: tuple[Line, ...]
) -> None:
    readers = [("student", cell.pupil), ("parent", cell.guardian), ("teacher", book.teacher)]
    tokens = [mint.token(role, who) for role, who in readers]

    async def tasks(line: Line, token: str) -> list[dict[str, Any]]:
        return list((await line.get(f"/v1/pupils/{cell.pupil}/homework", token)).json()["homework"])

    for line in everywhere:
        await tasks(line, tokens[0])
    path, key = f"/v1/classes/{book.class_id}/homework", new_key()
    task = {"subject": book.subject, "text": "Préparer le cross: إعداد العدو", "due_on": "2026-12-01"}
    answer = await everywhere[0].post(path, task, token=teacher, key=key)
    answered_at = time.monotonic()
    assert answer.status_code == 201
    given = answer.json()
    assert answer.headers["location"] == f"{path}/{given['id']}"
    assert {name: given[name] for name in ("text", "due_on", "assigned_on")} == {
        "text": task["text"],
        "due_on": task["due_on"],
        "assigned_on": "2026-11-20",
    }
    for token in tokens:
        assert {**given, "done": False} in await tasks(everywhere[0], token)

    async def shown(line: Line) -> bool:
        return all([{**given, "done": False} in await tasks(line, token) for token in tokens])

    tell("homework", await heard_everywhere(everywhere, shown, what="the task is shown", since=answered_at))
    again = await everywhere[-1].post(path, task, token=teacher, key=key)
    assert (again.status_code, again.content, again.headers["massar-replayed"]) == (201, answer.content, "1")
    assert again.headers["location"] == answer.headers["location"]
    assert [each["id"] for each in await tasks(everywhere[0], tokens[0])].count(given["id"]) == 1


BAD_TASKS: dict[str, dict[str, Any]] = {
    "due yesterday": {"due_on": "2026-11-19"},
    "due next year": {"due_on": "2027-09-01"},
    "due on no day": {"due_on": "demain"},
    "nothing to do": {"text": ""},
    "too much to do": {"text": "a" * 4001},
    "an unknown field": {"files": []},
    "no subject": {"subject": ""},
}


@pytest.mark.parametrize("change", BAD_TASKS)
async def test_bad_homework_is_refused(change: str, book: Book, teacher: str, rabat: Line) -> None:
    task = {"subject": book.subject, "text": "Courir", "due_on": "2026-12-01", **BAD_TASKS[change]}
    answer = await rabat.post(f"/v1/classes/{book.class_id}/homework", task, token=teacher, key=new_key())
    assert outcome(answer) == (400, "bad-request")
