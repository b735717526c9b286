from __future__ import annotations

from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sandbox.datacenter import grades, shapes
from tests.conformance import seed


async def read(connection: AsyncConnection, pupil: str = seed.PUPIL, **changed: Any) -> shapes.Grades:
    return await grades.read_grades(connection, {"pupil_id": pupil, "year": 2026, "session": 1, **changed})


def subject(found: shapes.Grades, code: str) -> shapes.SubjectGrades:
    return next(one for one in found.subjects if one.code == code)


async def test_an_unpublished_subject_shows_nothing_not_even_its_time(connection: AsyncConnection) -> None:
    before = await read(connection)
    await connection.execute(
        text("UPDATE marks SET mark = 1, version = 9, updated_at = clock_timestamp() WHERE subject = 'FR'")
    )
    await connection.execute(text("INSERT INTO activities VALUES (:p, 'FR', 1, 12)"), {"p": seed.PUPIL})
    await connection.execute(text("UPDATE gradebooks SET updated_at = clock_timestamp() WHERE NOT published"))
    assert await read(connection) == before


async def test_publishing_shows_the_subject_and_its_time(connection: AsyncConnection) -> None:
    await connection.execute(
        text(
            "UPDATE gradebooks SET published = true, updated_at = '2026-11-20T08:00:00Z' WHERE subject = 'FR'"
        )
    )
    found = await read(connection)
    assert (subject(found, "FR").average, found.as_of) == ("9.75", "2026-11-20T08:00:00Z")


async def test_the_tenth_mark_makes_a_class_average(connection: AsyncConnection) -> None:
    assert subject(await read(connection), "AR").class_average is None
    await connection.execute(
        text("INSERT INTO marks VALUES (:p, 'AR', 1, 1, :c, 'absent', NULL, 1, '2026-11-10T17:30:00Z')"),
        {"p": seed.PUPILS[9], "c": seed.CLASS},
    )
    # 12.19 (with his activities), eight times 11.25, and an absence that counts 0
    assert subject(await read(connection), "AR").class_average == "10.22"


async def test_a_dispensed_pupil_has_no_average_and_lowers_nobodys(connection: AsyncConnection) -> None:
    found = subject(await read(connection, seed.DISPENSED), "MATH")
    assert (found.average, found.class_average) == (None, "11.39")
    assert [mark.state for mark in found.marks] == ["dispensed", "pending"]


async def test_another_year_or_an_empty_session_has_no_figures(connection: AsyncConnection) -> None:
    past = await read(connection, year=2020)
    assert (past.subjects, past.published, past.average) == ([], False, None)
    second = await read(connection, session=2)
    assert ({one.average for one in second.subjects}, second.published) == ({None}, False)
    current = await read(connection, year=None, session=None)
    assert (current.year, current.session) == (2026, 1)


async def test_each_read_is_one_statement(engine: AsyncEngine, connection: AsyncConnection) -> None:
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    await read(connection)
    await grades.read_gradebook(connection, {"class_id": seed.CLASS, "subject": "MATH", "session": 1})
    assert len(statements) == 2


async def test_a_gradebook_of_an_empty_class_still_has_its_controls(connection: AsyncConnection) -> None:
    await connection.execute(text("UPDATE pupils SET class_id = :c"), {"c": seed.OTHER_CLASS})
    found = await grades.read_gradebook(connection, {"class_id": seed.CLASS, "subject": "MATH", "session": 1})
    assert ([control.number for control in found.controls], found.rows) == ([1, 2], [])
