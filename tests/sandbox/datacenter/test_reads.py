from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import reads
from sandbox.datacenter.problems import Refused
from tests.conformance import seed

FROM = date(2026, 9, 1)


async def test_as_of_follows_the_rows(connection: AsyncConnection) -> None:
    parameters = {"class_id": seed.CLASS, "from": FROM}
    assert (await reads.read_homework(connection, parameters)).as_of == "2026-11-10T17:30:00Z"
    await connection.execute(
        text("UPDATE homework SET updated_at = '2026-11-19T10:00:00Z' WHERE subject = 'FR'")
    )
    assert (await reads.read_homework(connection, parameters)).as_of == "2026-11-19T10:00:00Z"
    empty = await reads.read_homework(connection, {"class_id": seed.EMPTY_CLASS, "from": FROM})
    assert (empty.homework, empty.as_of) == ([], "2026-09-01T08:00:00Z")


async def test_a_region_and_a_province_of_one_code_are_not_mixed_up(connection: AsyncConnection) -> None:
    # The seed has a province 02 in region 01 and a region 02 elsewhere: both have announcements.
    heard = await reads.read_announcements(connection, {"class_id": seed.CLASS})
    assert [one.level for one in heard.announcements] == ["class", "school", "province", "region", "national"]
    other = await reads.read_announcements(connection, {"class_id": seed.OTHER_CLASS})
    assert [(one.level, one.valid_from.day) for one in other.announcements] == [
        ("school", 7),
        ("region", 6),
        ("national", 1),
    ]


async def test_a_class_without_lessons_has_an_empty_timetable(connection: AsyncConnection) -> None:
    found = await reads.read_timetable(connection, {"class_id": seed.EMPTY_CLASS, "week": seed.WEEK})
    assert found.lessons == []


async def test_a_reason_is_for_the_family_view_alone(connection: AsyncConnection) -> None:
    family = await reads.read_absences(connection, {"pupil_id": seed.PUPIL, "from": FROM, "view": "family"})
    teacher = await reads.read_absences(connection, {"pupil_id": seed.PUPIL, "from": FROM, "view": "teacher"})
    assert ([one.reason for one in family.absences], [one.reason for one in teacher.absences]) == (
        [None, "Motif synthétique"],
        [None, None],
    )


async def test_what_is_not_there_is_not_found(connection: AsyncConnection) -> None:
    for read in (reads.read_timetable, reads.read_homework, reads.read_announcements, reads.read_roster):
        with pytest.raises(Refused, match="not-found"):
            await read(connection, {"class_id": seed.NOBODY, "week": seed.WEEK, "from": FROM})
    for read_pupil in (reads.read_absences, reads.read_homework_done):
        with pytest.raises(Refused, match="not-found"):
            await read_pupil(connection, {"pupil_id": seed.NOBODY, "from": FROM, "view": "family"})
    with pytest.raises(Refused, match="not-found"):
        await reads.read_assignments(connection, {"teacher_id": seed.PUPIL})
    await connection.execute(text("DELETE FROM calendar"))
    with pytest.raises(Refused, match="not-found"):
        await reads.read_calendar(connection, {})


async def test_other_reads_of_the_seed(connection: AsyncConnection) -> None:
    assert (await reads.read_calendar(connection, {})).today == seed.TODAY
    assert (await reads.read_homework_done(connection, {"pupil_id": seed.PUPIL})).done == [seed.HOMEWORK]
    assert (await reads.read_assignments(connection, {"teacher_id": seed.TEACHER})).hours == 9.5
    roster = await reads.read_roster(connection, {"class_id": seed.CLASS})
    assert [pupil.number for pupil in roster.pupils] == list(range(1, 13))
