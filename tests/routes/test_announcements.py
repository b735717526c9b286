"""Announcements: one shared entry per class, joined for callers with several."""

from __future__ import annotations

import pytest

from tests.gateway.people import CLASS, OTHER_CLASS, OTHER_PARENT, PARENT, PUPIL, TEACHER
from tests.gateway.world import World

ANNOUNCEMENTS = "/v1/announcements"


async def ids(world: World, who: str, query: str = "") -> list[str]:
    answer = await world.get(ANNOUNCEMENTS + query, who)
    assert answer.status_code == 200
    return [item["id"] for item in answer.json()["announcements"]]


@pytest.mark.parametrize("who", [PUPIL, OTHER_PARENT, TEACHER])
async def test_a_caller_of_one_class_gets_what_concerns_it_newest_first(shared: World, who: str) -> None:
    assert await ids(shared, who) == [f"own{CLASS}", "national"]


async def test_a_caller_of_two_classes_gets_each_announcement_once(shared: World) -> None:
    assert sorted(await ids(shared, PARENT)) == sorted([f"own{CLASS}", f"own{OTHER_CLASS}", "national"])
    assert (await ids(shared, PARENT))[-1] == "national"


async def test_since_leaves_out_what_was_valid_before(shared: World) -> None:
    assert await ids(shared, PUPIL, "?since=2026-11-16") == [f"own{CLASS}"]
    assert await ids(shared, PUPIL, "?since=2026-11-17") == []


async def test_the_class_is_asked_once_for_all_of_it(world: World) -> None:
    for who in (PUPIL, OTHER_PARENT, TEACHER, PARENT):
        await ids(world, who)
    assert world.rabat.count("/announcements") == 2


async def test_who_has_no_class_has_no_announcements(world: World) -> None:
    world.rabat.say(f"/v1/people/{PARENT}/relations", subject=PARENT, generation=3, pupils={}, classes={})
    assert await ids(world, PARENT) == []


async def test_announcements_are_revalidated(shared: World) -> None:
    etag = (await shared.get(ANNOUNCEMENTS, PUPIL)).headers["etag"]
    assert (await shared.get(ANNOUNCEMENTS, PUPIL, if_none_match=etag)).status_code == 304
