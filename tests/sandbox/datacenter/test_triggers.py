from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter.triggers import TAGS_PER_NOTICE_MAX
from tests.conformance import seed


async def told(connection: AsyncConnection, statement: str, **values: object) -> set[str]:
    """Every tag in the outbox after the statement."""
    await connection.execute(text(statement), values)
    rows = (await connection.execute(text("SELECT tags FROM outbox"))).scalars().all()
    assert all(1 <= len(tags) <= TAGS_PER_NOTICE_MAX for tags in rows)
    return {tag for tags in rows for tag in tags}


async def generation(connection: AsyncConnection, subject: str) -> int | None:
    found = await connection.execute(
        text("SELECT generation FROM generations WHERE subject = :s"), {"s": subject}
    )
    return found.scalar_one_or_none()


def about(*people: str, kinds: tuple[str, ...] = ("relations", "profile")) -> set[str]:
    return {f"{kind}:{who}" for kind in kinds for who in people}


@pytest.mark.parametrize(
    ("statement", "concerned"),
    [
        (f"INSERT INTO guardianships (guardian, pupil, kind, status) VALUES ('{seed.FATHER}', '{seed.STRANGER}', 'father', 'active')", [seed.FATHER]),
        (f"UPDATE guardianships SET status = 'revoked' WHERE pupil = '{seed.PUPIL}'", [seed.MOTHER, seed.FATHER, seed.FORMER_GUARDIAN]),
        (f"UPDATE guardianships SET guardian = 'someone else' WHERE guardian = '{seed.FATHER}'", [seed.FATHER, "someone else"]),
        (f"DELETE FROM guardianships WHERE guardian = '{seed.MOTHER}'", [seed.MOTHER]),
    ],
)  # fmt: skip
async def test_a_change_of_guardianships_concerns_the_guardians(
    connection: AsyncConnection, statement: str, concerned: list[str]
) -> None:
    assert await told(connection, statement) == about(*concerned)
    assert [await generation(connection, who) for who in concerned] == [2] * len(concerned)


@pytest.mark.parametrize(
    ("statement", "concerned"),
    [
        (f"INSERT INTO assignments (teacher, class_id, subject, hours) VALUES ('{seed.IDLE_TEACHER}', '{seed.CLASS}', 'SPORT', 2)", [seed.IDLE_TEACHER]),
        (f"UPDATE assignments SET teacher = '{seed.IDLE_TEACHER}' WHERE subject = 'FR'", [seed.IDLE_TEACHER, seed.FRENCH_TEACHER]),
        (f"DELETE FROM assignments WHERE teacher = '{seed.TEACHER}'", [seed.TEACHER]),
    ],
)  # fmt: skip
async def test_a_change_of_assignments_concerns_the_teachers(
    connection: AsyncConnection, statement: str, concerned: list[str]
) -> None:
    assert await told(connection, statement) == about(
        *concerned, kinds=("relations", "profile", "assignments")
    )


async def test_a_pupils_move_concerns_himself_his_active_guardians_and_both_classes_teachers(
    connection: AsyncConnection,
) -> None:
    tags = await told(
        connection, "UPDATE pupils SET class_id = :to WHERE id = :who", to=seed.OTHER_CLASS, who=seed.PUPIL
    )
    people = (seed.PUPIL, seed.MOTHER, seed.FATHER, seed.TEACHER, seed.FRENCH_TEACHER, seed.OTHER_TEACHER)
    assert tags == about(*people) | {f"roster:{seed.CLASS}", f"roster:{seed.OTHER_CLASS}"}


async def test_a_pupil_who_comes_or_goes_concerns_his_class(connection: AsyncConnection) -> None:
    await told(connection, "DELETE FROM pupils WHERE id = :who", who=seed.NEWCOMER)
    assert await generation(connection, seed.OTHER_TEACHER) == 2
    await told(
        connection,
        "INSERT INTO pupils (id, massar_code, name_ar, name_fr, class_id, number, birth_date)"
        " VALUES (:who, 'T1', 'x', 'x', :at, 9, '2013-01-01')",
        who=seed.NEWCOMER,
        at=seed.OTHER_CLASS,
    )
    assert await generation(connection, seed.OTHER_TEACHER) == 3


async def test_another_change_of_a_pupil_concerns_nobody(connection: AsyncConnection) -> None:
    assert await told(connection, "UPDATE pupils SET number = number + 1") == set()
    assert await told(connection, "UPDATE guardianships SET status = 'revoked' WHERE false") == set()


async def test_a_bulk_load_concerns_nobody(connection: AsyncConnection) -> None:
    await connection.execute(text("SET LOCAL massar.bulk_load = 'on'"))
    assert await told(connection, "UPDATE guardianships SET status = 'revoked'") == set()
    assert await generation(connection, seed.MOTHER) is None
