"""Grades of one pupil and session."""

from __future__ import annotations

import pytest

from routes.grades import grades_source
from tests.gateway.people import CLASS, OTHER_PARENT, PARENT, PUPIL, TEACHER
from tests.gateway.world import World

GRADES = f"/v1/pupils/{PUPIL}/grades"


@pytest.mark.parametrize("who", [PUPIL, PARENT, OTHER_PARENT])
async def test_grades_are_for_the_family(shared: World, who: str) -> None:
    answer = (await shared.get(GRADES, who)).json()
    assert (answer["year"], answer["session"], answer["published"]) == (2026, 1, True)
    assert answer["subjects"][0]["marks"] == [{"number": 1, "mark": "14.50", "state": "marked"}]
    assert (await shared.get(GRADES, TEACHER)).json()["slug"] == "role-not-allowed"


async def test_year_and_session_are_asked_for_and_kept_apart(shared: World) -> None:
    for query, expected in (
        ("", (2026, 1)),
        ("?session=2", (2026, 2)),
        ("?year=2025", (2025, 1)),
        ("?session=2&year=2025", (2025, 2)),
    ):
        answer = (await shared.get(GRADES + query, PUPIL)).json()
        assert (answer["year"], answer["session"]) == expected


async def test_a_session_that_is_not_published_has_no_marks(world: World) -> None:
    subject = {
        "code": "MATH",
        "ar": "x",
        "fr": "x",
        "coefficient": 2.5,
        "marks": [],
        "activities": None,
        "average": None,
        "class_average": None,
    }
    world.rabat.say(
        GRADES,
        year=2026,
        session=1,
        published=False,
        subjects=[subject],
        average=None,
        as_of="2026-11-17T16:05:00Z",
    )
    answer = (await world.get(GRADES, PUPIL)).json()
    assert answer["published"] is False
    assert answer["subjects"] == [subject]


@pytest.mark.parametrize("mark", ["20.01", "14.5", "-1.00", "15", "1e1", "014.50", "abc", "21.00", "14,50"])
async def test_a_mark_of_another_form_is_shown_to_nobody(shared: World, mark: str) -> None:
    shared.rabat.say(
        f"{GRADES}?view=family&year=2019",
        year=2019,
        session=1,
        published=True,
        subjects=[],
        average=mark,
        as_of="2026-11-17T16:05:00Z",
    )
    answer = await shared.get(f"{GRADES}?year=2019", PUPIL)
    assert (answer.status_code, answer.json()["slug"]) == (503, "datacenters-unavailable")


def test_a_new_mark_in_the_class_outdates_the_grades_of_all_its_pupils() -> None:
    source = grades_source({"pupil_id": PUPIL, "class_id": CLASS, "year": "2026", "session": "1"})
    assert source.tags == (f"grades:{CLASS}",)
    assert (source.view, source.resource) == ("family", f"pupils/{PUPIL}/grades/2026/1")
