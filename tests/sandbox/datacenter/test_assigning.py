from __future__ import annotations

from datetime import date

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.assigning import assign, parse
from sandbox.datacenter.problems import Refused
from tests.conformance import seed


def wanted(due_on: date = date(2026, 11, 30), subject: str = "MATH") -> shapes.NewHomework:
    return shapes.NewHomework(subject=subject, text="Exercice 9", due_on=due_on)


async def test_homework_is_kept_with_its_teacher_and_today(connection: AsyncConnection) -> None:
    said = await assign(connection, teacher=seed.TEACHER, class_id=seed.CLASS, asked=wanted())
    given = msgspec.json.decode(said.body, type=shapes.Homework)
    assert said.headers["Location"] == f"/v1/classes/{seed.CLASS}/homework/{given.id}"
    row = (
        await connection.execute(
            text("SELECT teacher, body, assigned_on FROM homework WHERE id = :id"), {"id": given.id}
        )
    ).one()
    assert tuple(row) == (seed.TEACHER, "Exercice 9", seed.TODAY)


@pytest.mark.parametrize("due_on", [seed.TODAY, date(2027, 6, 30)])
async def test_it_is_due_within_the_school_year(connection: AsyncConnection, due_on: date) -> None:
    assert (
        await assign(connection, teacher=seed.TEACHER, class_id=seed.CLASS, asked=wanted(due_on))
    ).status == 201


@pytest.mark.parametrize(
    ("due_on", "subject", "slug"),
    [
        (date(2026, 11, 17), "MATH", "bad-request"),
        (date(2027, 7, 1), "MATH", "bad-request"),
        (seed.TODAY, "FR", "not-found"),
    ],
)
async def test_what_cannot_be_assigned_is_refused(
    connection: AsyncConnection, due_on: date, subject: str, slug: str
) -> None:
    with pytest.raises(Refused, match=slug):
        await assign(connection, teacher=seed.TEACHER, class_id=seed.CLASS, asked=wanted(due_on, subject))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"subject":"M","text":"t","due_on":"2026-11-30","more":1}',
        b'{"subject":"M","text":"t","due_on":"30/11/2026"}',
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="bad-request"):
        parse(body)
