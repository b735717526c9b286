"""Timetables: one entry per class and week."""

from __future__ import annotations

import pytest

from routes.timetables import timetable_source
from tests.gateway.people import CLASS, PARENT, PUPIL, TEACHER
from tests.gateway.world import World

TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"


@pytest.mark.parametrize("who", [PUPIL, PARENT, TEACHER])
async def test_a_weeks_lessons_are_for_the_pupil_his_parents_and_his_teachers(
    shared: World, who: str
) -> None:
    answer = (await shared.get(TIMETABLE, who)).json()
    assert (answer["week"], answer["class_id"]) == ("2026-W47", CLASS)
    (lesson,) = answer["lessons"]
    assert (lesson["day"], lesson["start"], lesson["end"], lesson["change"]) == (1, "08:30", "10:30", None)


async def test_a_change_tells_its_kind_and_room(world: World) -> None:
    lesson = {
        "day": 2,
        "start": "08:30",
        "end": "09:30",
        "subject": {"code": "MATH", "ar": "x", "fr": "x"},
        "teacher": {"ar": "x", "fr": "x"},
        "room": "S1",
    }
    changes = [{"kind": "cancelled", "room": None}, {"kind": "moved", "room": "S2"}, {"kind": "cancelled"}]
    world.rabat.say(
        f"/v1/classes/{CLASS}/timetable",
        week="2026-W48",
        class_id=CLASS,
        lessons=[{**lesson, "change": change} for change in changes],
        as_of="2026-11-17T16:05:00Z",
    )
    lessons = (await world.get(f"{TIMETABLE}?week=2026-W48", PUPIL)).json()["lessons"]
    assert [one["change"]["room"] for one in lessons] == [None, "S2", None]


async def test_another_week_is_another_entry(world: World) -> None:
    for week in ("2026-W47", "2026-W48", "2026-W47"):
        assert (await world.get(f"{TIMETABLE}?week={week}", PUPIL)).json()["week"] == week
    assert [seen.target for seen in world.rabat.seen if "/timetable" in seen.target] == [
        f"/v1/classes/{CLASS}/timetable?view=class&week={week}" for week in ("2026-W47", "2026-W48")
    ]


def test_the_source_knows_the_class_and_not_the_pupil() -> None:
    source = timetable_source({"class_id": CLASS, "week": "2026-W47", "pupil_id": PUPIL})
    assert PUPIL not in str(source)
    assert source.tags == (f"timetable:{CLASS}",)
