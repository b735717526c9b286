"""What was decided for a request stands in its line, in words of closed lists."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway import trail
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import CLASS, FACTS, PARENT, PUPIL, STRANGER, TEACHER
from tests.gateway.world import World

GRADES = f"/v1/pupils/{PUPIL}/grades"


def last_line(world: World) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(world.app._access_log._lines[-1])
    return line


def decided(world: World, *names: str) -> tuple[Any, ...]:
    line = last_line(world)
    return tuple(line[name] for name in names)


async def test_a_cold_and_a_warm_read_tell_role_relation_rule_and_who_was_asked(world: World) -> None:
    names = ("cache", "role", "relation", "rule", "datacenter", "epoch", "slug")
    await world.get(GRADES, PUPIL)
    assert decided(world, *names) == ("miss", "student", "self", "pupil-family", "rabat", 1, "-")
    await world.get(GRADES, PARENT)
    await world.get(GRADES, PARENT)
    assert decided(world, *names) == ("hit", "parent", "child", "pupil-family", "-", 1, "-")


async def test_a_refusal_tells_its_slug_and_the_rule_it_met(world: World) -> None:
    await world.get(GRADES, STRANGER)
    assert decided(world, "status", "slug", "relation", "role") == (404, "not-found", "-", "student")
    await world.ask("GET", GRADES)
    assert decided(world, "status", "role", "rule") == (401, "-", "pupil-family")
    await world.ask("GET", "/nothing/here")
    assert decided(world, "status", "slug", "rule") == (404, "not-found", "-")
    await world.ask("GET", "/v1/me/")
    assert decided(world, "status", "slug") == (404, "not-found")


async def test_no_line_holds_an_id_of_anybody(make_world: MakeWorld) -> None:
    world = await make_world()
    for who in (PUPIL, PARENT, TEACHER, STRANGER):
        await world.get(GRADES, who)
        await world.get(f"/v1/classes/{CLASS}/pupils", who)
    written = b"".join(world.app._access_log._lines)
    for secret in (*FACTS, CLASS, PUPIL):
        assert secret.encode() not in written


async def test_what_is_noted_outside_a_request_is_noted_nowhere() -> None:
    async def outside() -> None:
        trail.note_datacenter("rabat")
        trail.note_journal("kept")

    await asyncio.create_task(outside())
    assert trail.of({}).datacenter == "-"


async def test_what_a_task_of_the_request_meets_is_the_requests() -> None:
    async def request(site: str) -> str:
        begun = trail.begin()

        async def fetch() -> None:
            await asyncio.sleep(0)
            trail.note_datacenter(site)
            trail.note_journal("kept")

        await asyncio.create_task(fetch())
        assert begun.journal == "kept"
        return begun.datacenter

    sites = ("rabat", "marrakech")
    assert tuple(await asyncio.gather(*(request(site) for site in sites))) == sites
