"""Absences, in two views."""

from __future__ import annotations

from routes.absences import absences_source
from tests.gateway.people import PARENT, PUPIL, TEACHER
from tests.gateway.world import World

ABSENCES = f"/v1/pupils/{PUPIL}/absences"


async def test_absences_begin_with_the_school_year_unless_told_otherwise(
    shared: World, fresh_day: str
) -> None:
    for target, day in ((ABSENCES, "2026-09-02"), (f"{ABSENCES}?from={fresh_day}", fresh_day)):
        (absence,) = (await shared.get(target, PARENT)).json()["absences"]
        assert absence["date"] == day
        assert absence["slot"] == {"start": "08:30", "end": "10:30"}


async def test_the_familys_reason_is_the_familys(shared: World, fresh_day: str) -> None:
    target = f"{ABSENCES}?from={fresh_day}"
    answers = {who: (await shared.get(target, who)).json() for who in (PARENT, PUPIL, TEACHER)}
    assert answers[PARENT] == answers[PUPIL]
    assert answers[PARENT]["absences"][0]["reason"] == "rendez-vous"
    assert answers[TEACHER]["absences"][0]["reason"] is None
    asked = [seen.target for seen in shared.rabat.seen if "/absences" in seen.target]
    assert asked == [f"{ABSENCES}?view={view}&from={fresh_day}" for view in ("family", "teacher")]


def test_the_two_views_lie_under_two_keys() -> None:
    views = {
        role: absences_source({"pupil_id": PUPIL, "from": "2026-09-02", "role": role})
        for role in ("student", "parent", "teacher")
    }
    assert views["student"] == views["parent"]
    assert views["teacher"].view != views["parent"].view
    assert views["teacher"].tags == views["parent"].tags == (f"absences:{PUPIL}",)
