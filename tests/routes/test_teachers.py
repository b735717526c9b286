"""The tableau de service."""

from __future__ import annotations

from routes.teachers import assignments_source
from tests.gateway.people import CLASS, PARENT, PUPIL, TEACHER
from tests.gateway.world import World

SERVICE = "/v1/teachers/me/service"


async def test_a_teacher_reads_his_own_service_and_nobody_elses(shared: World) -> None:
    answer = await shared.get(SERVICE, TEACHER)
    assert answer.status_code == 200
    assert (answer.json()["hours"], answer.json()["assignments"][0]["class_id"]) == (21, CLASS)
    assert (await shared.get(f"/v1/teachers/{TEACHER}/service", TEACHER)).status_code == 404
    for who in (PUPIL, PARENT):
        assert (await shared.get(SERVICE, who)).json()["slug"] == "role-not-allowed"


async def test_me_is_the_subject_of_the_token(world: World) -> None:
    await world.get(SERVICE, TEACHER)
    assert world.rabat.count(f"/v1/teachers/{TEACHER}/assignments?view=teacher") == 1


def test_new_relations_outdate_the_service() -> None:
    assert assignments_source({"subject_id": TEACHER}).tags == (
        f"assignments:{TEACHER}",
        f"relations:{TEACHER}",
    )
