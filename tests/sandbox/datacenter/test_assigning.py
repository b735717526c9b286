from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.assigning import assign, parse
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.writes import Occasion, Verdict
from tests.conformance import seed

NOW = datetime(2026, 11, 18, 9, 0, tzinfo=UTC)


def wanted(due_on: date = date(2026, 11, 30), subject: str = "MATH") -> shapes.NewHomework:
    return shapes.NewHomework(subject=subject, text="Exercice 9", due_on=due_on)


async def given(connection: AsyncConnection, asked: shapes.NewHomework, **how: bool) -> Verdict:
    occasion = Occasion(scope="t", now=NOW, **how)
    return await assign(connection, teacher=seed.TEACHER, class_id=seed.CLASS, asked=asked, occasion=occasion)


async def test_homework_is_kept_with_its_teacher_and_today(connection: AsyncConnection) -> None:
    said = await given(connection, wanted())
    homework = msgspec.json.decode(said.body, type=shapes.Homework)
    assert said.headers["Location"] == f"/v1/classes/{seed.CLASS}/homework/{homework.id}"
    row = (
        await connection.execute(
            text("SELECT teacher, body, assigned_on FROM homework WHERE id = :id"), {"id": homework.id}
        )
    ).one()
    assert tuple(row) == (seed.TEACHER, "Exercice 9", seed.TODAY)


@pytest.mark.parametrize("due_on", [seed.TODAY, date(2027, 6, 30)])
async def test_it_is_due_within_the_school_year(connection: AsyncConnection, due_on: date) -> None:
    assert (await given(connection, wanted(due_on))).status == 201


@pytest.mark.parametrize("due_on", [date(2026, 11, 17), date(2027, 7, 1)])
async def test_a_due_date_that_was_accepted_is_not_judged_again(
    connection: AsyncConnection, due_on: date
) -> None:
    assert (await given(connection, wanted(due_on), replayed=True)).status == 201


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
        await given(connection, wanted(due_on, subject))


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
