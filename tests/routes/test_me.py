"""Who the caller is."""

from __future__ import annotations

import pytest

from routes.me import profile_source
from tests.gateway.people import CLASS, PARENT, PUPIL, TEACHER
from tests.gateway.world import World


@pytest.mark.parametrize(
    ("who", "role", "app"),
    [(PUPIL, "student", "moutamadris"), (PARENT, "parent", "waliye"), (TEACHER, "teacher", "moudaris")],
)
async def test_the_principal_is_the_tokens_and_the_rest_the_records(
    shared: World, who: str, role: str, app: str
) -> None:
    answer = (await shared.get("/v1/me", who)).json()
    assert answer["principal"] == {"id": who, "role": role, "app": app, "name": {"ar": "سلمى", "fr": "Salma"}}
    assert answer["pupils"][0]["class_id"] == CLASS
    assert answer["features"]
    assert "as_of" not in answer


async def test_each_caller_has_an_entry_of_his_own(world: World) -> None:
    for who in (PUPIL, PARENT, PUPIL):
        await world.get("/v1/me", who)
    assert [seen.target for seen in world.rabat.seen if "/profile" in seen.target] == [
        f"/v1/people/{who}/profile?view=self" for who in (PUPIL, PARENT)
    ]


async def test_somebody_the_records_do_not_know_is_not_found(world: World) -> None:
    from tests.gateway.origin import refusal

    world.rabat.canned[f"/v1/people/{PUPIL}/profile"] = refusal(404, "not-found")
    assert (await world.get("/v1/me", PUPIL)).status_code == 404


def test_new_relations_outdate_the_profile() -> None:
    assert profile_source({"subject_id": PARENT}).tags == (f"profile:{PARENT}", f"relations:{PARENT}")
