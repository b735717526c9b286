from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.entering import Present, enter, judge, parse
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.writes import Occasion
from tests.conformance import seed

NOW = Occasion(scope="t", now=datetime(2026, 11, 18, 9, 0, tzinfo=UTC))
PRESENT = Present(dispensed=False, versions={1: 3})
PLANNED = frozenset({1, 2})


def entry(
    mark: str | None = "14.50", state: str = "marked", *, number: int = 1, version: int = 3
) -> shapes.Entry:
    return msgspec.convert(
        {"pupil_id": "p", "number": number, "mark": mark, "state": state, "version": version}, shapes.Entry
    )


def verdict(one: shapes.Entry, pupil: Present | None = PRESENT) -> object:
    result = judge(one, pupil=pupil, planned=PLANNED)
    return result.version if result.status == "accepted" else result.slug


@given(st.decimals(min_value=0, max_value=20, places=2))
def test_every_mark_up_to_twenty_is_taken(mark: Decimal) -> None:
    assert verdict(entry(str(mark))) == 4


@given(st.text(max_size=16))
def test_nothing_else_is_a_mark(mark: str) -> None:
    taken = verdict(entry(mark)) == 4
    assert not taken or (0 <= Decimal(mark) <= 20 and len(mark.partition(".")[2]) == 2)


def test_the_first_reason_is_told() -> None:
    assert verdict(entry("x"), None) == "mark-invalid"
    assert verdict(entry(), None) == "pupil-not-in-class"
    assert verdict(entry(number=3)) == "control-unknown"
    assert verdict(entry(), Present(dispensed=True, versions={})) == "pupil-dispensed"
    assert verdict(entry(None, "dispensed", version=0), Present(dispensed=True, versions={})) == 1
    assert verdict(entry(version=2)) == "version-conflict"
    assert verdict(entry(number=2, version=1)) == "version-conflict"
    assert verdict(entry(None, "pending")) == "mark-invalid"


def test_the_highest_versions_are_judged_like_any_other_and_none_is_beyond_them() -> None:
    highest = shapes.VERSION_MAX
    for version in (highest - 1, highest):
        assert verdict(entry(version=version)) == "version-conflict"
    assert verdict(entry(version=highest - 1), Present(dispensed=False, versions={1: highest - 1})) == highest
    assert (
        verdict(entry(version=highest), Present(dispensed=False, versions={1: highest})) == "version-conflict"
    )
    with pytest.raises(msgspec.ValidationError):
        entry(version=highest + 1)


async def test_a_cell_takes_the_highest_version_there_is(connection: AsyncConnection) -> None:
    highest = shapes.VERSION_MAX
    cell_ = {"pupil": seed.PUPIL, "version": highest - 1}
    await connection.execute(
        text("UPDATE marks SET version = :version WHERE pupil = :pupil AND subject = 'MATH' AND number = 1"),
        cell_,
    )
    for version, status in ((highest - 1, "accepted"), (highest, "rejected")):
        said = await enter(
            connection,
            teacher=seed.TEACHER,
            class_id=seed.CLASS,
            subject="MATH",
            session=1,
            entries=[msgspec.structs.replace(entry(version=version), pupil_id=seed.PUPIL)],
            occasion=NOW,
        )
        (result,) = msgspec.json.decode(said.body)["results"]
        assert (result["status"], result.get("version", result.get("current"))) == (status, highest)


@pytest.mark.parametrize("state", ["absent", "dispensed"])
def test_only_a_marked_cell_has_a_mark(state: Literal["absent", "dispensed"]) -> None:
    assert verdict(entry(None, state)) == 4
    assert verdict(entry("10.00", state)) == "mark-invalid"
    assert verdict(entry(None)) == "mark-invalid"


def test_a_cell_named_twice_is_a_bad_batch() -> None:
    row = {"pupil_id": "p", "number": 1, "mark": None, "state": "absent", "version": 0}
    assert len(parse(msgspec.json.encode({"entries": [row, {**row, "number": 2}]}))) == 2
    with pytest.raises(Refused, match="bad-request"):
        parse(msgspec.json.encode({"entries": [row, row]}))


async def test_accepted_cells_are_written_with_their_next_version(connection: AsyncConnection) -> None:
    cells = [
        shapes.Entry(pupil_id=seed.PUPIL, number=1, mark="16.75", state="marked", version=3),
        shapes.Entry(pupil_id=seed.PUPILS[5], number=2, mark=None, state="absent", version=0),
        shapes.Entry(pupil_id=seed.STRANGER, number=2, mark=None, state="absent", version=0),
    ]
    said = await enter(
        connection,
        teacher=seed.TEACHER,
        class_id=seed.CLASS,
        subject="MATH",
        session=1,
        entries=cells,
        occasion=NOW,
    )
    assert said.status == 200
    rows = await connection.execute(
        text(
            "SELECT pupil, number, state, mark, version, class_id FROM marks WHERE updated_at > now() - interval '1 minute'"
        )
    )
    assert sorted(tuple(row) for row in rows) == sorted(
        [
            (seed.PUPIL, 1, "marked", Decimal("16.75"), 4, seed.CLASS),
            (seed.PUPILS[5], 2, "absent", None, 1, seed.CLASS),
        ]
    )


@pytest.mark.parametrize(
    ("teacher", "subject", "slug"),
    [
        (seed.TEACHER, "AR", "gradebook-locked"),
        (seed.TEACHER, "FR", "not-found"),
        (seed.OTHER_TEACHER, "MATH", "not-found"),
    ],
)
async def test_who_may_not_is_told_before_anything_is_read(
    connection: AsyncConnection, teacher: str, subject: str, slug: str
) -> None:
    with pytest.raises(Refused, match=slug):
        await enter(
            connection,
            teacher=teacher,
            class_id=seed.CLASS,
            subject=subject,
            session=1,
            entries=[],
            occasion=NOW,
        )


async def test_a_gradebook_that_was_locked_since_takes_what_was_accepted_before(
    connection: AsyncConnection,
) -> None:
    said = await enter(
        connection,
        teacher=seed.TEACHER,
        class_id=seed.CLASS,
        subject="AR",
        session=1,
        entries=[],
        occasion=msgspec.structs.replace(NOW, replayed=True),
    )
    assert said.status == 200
