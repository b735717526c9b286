"""Cached reads before the router: the same answers as behind it, without any of its layers."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from gateway.hot_routes import HotRoutes
from tests.gateway.people import CLASSMATE, PARENT, PUPIL, TEACHER
from tests.gateway.world import Plain, World, answered, scope_of

GRADES = f"/v1/pupils/{PUPIL}/grades"
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"


async def ask(
    world: World, path: str, who: str | None, *, method: str = "GET", query: bytes = b"", **headers: str
) -> Plain:
    """One request over ASGI, the caches of this process as they are."""
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    if who is not None:
        pairs.append((b"authorization", world.authorization(who).encode()))
    return await answered(world.app, scope_of(method, path, query=query, headers=pairs))


async def both_ways(world: World, path: str, who: str | None, **more: Any) -> tuple[Plain, Plain]:
    """The answers before the router and behind it, each from an empty tier 1; ids and ages are left out."""
    table, found = world.app._hot_routes, []
    for way in (table, HotRoutes(())):
        world.app._hot_routes = way
        world.app._reads._cache.clear_memory()
        answer = await ask(world, path, who, **more)
        answer.headers = sorted(
            line for line in answer.headers if line[0] not in {b"massar-request-id", b"age"}
        )
        if b"urn:request:" in answer.body:
            answer.body = answer.body[: answer.body.index(b"urn:request:")]
        found.append(answer)
    world.app._hot_routes = table
    return found[0], found[1]


@pytest.mark.parametrize(
    ("path", "who", "more"),
    [
        (GRADES, PUPIL, {}),
        (GRADES, PUPIL, {"method": "HEAD"}),
        (GRADES, PUPIL, {"if_none_match": "*"}),
        (GRADES, PUPIL, {"if_none_match": '"other"'}),
        (GRADES, PUPIL, {"query": b"session=2"}),
        (GRADES, PUPIL, {"query": b"session=9"}),
        (GRADES, PUPIL, {"query": b"session=1&session=2"}),
        (GRADES, PUPIL, {"massar_position": "1-1000"}),
        (GRADES, PUPIL, {"massar_position": "never"}),
        (GRADES, PUPIL, {"massar_position": "\xe9"}),
        (GRADES, PARENT, {}),
        (GRADES, CLASSMATE, {}),
        (GRADES, CLASSMATE, {"accept_language": "ar"}),
        (GRADES, TEACHER, {}),
        (GRADES, None, {}),
        (TIMETABLE, TEACHER, {}),
        (TIMETABLE, PUPIL, {"query": b"week=2026-W47"}),
        (TIMETABLE, PUPIL, {"query": b"week=2031-W01"}),
        (f"/v1/pupils/{'A' * 16}/grades", PUPIL, {}),
    ],
)
async def test_the_answer_is_that_of_the_router(
    shared: World, path: str, who: str | None, more: dict[str, Any]
) -> None:
    before, behind = await both_ways(shared, path, who, **more)
    assert before == behind
    assert before.status in {200, 304, 400, 401, 403, 404}


async def test_a_datacenters_failure_is_told_as_the_router_does(world: World) -> None:
    await world.rabat.stop()
    await world.marrakech.stop()
    before, behind = await both_ways(world, GRADES, PUPIL)
    assert before == behind
    assert before.status == 503


async def test_a_cold_read_enters_no_frame_of_the_router(shared: World) -> None:
    await ask(shared, GRADES, PUPIL)
    shared.app._reads._cache.clear_memory()
    entered: list[str] = []

    def watch(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and "/litestar/" in frame.f_code.co_filename:
            entered.append(frame.f_code.co_qualname)

    sys.setprofile(watch)
    try:
        answer = await ask(shared, GRADES, PUPIL)
    finally:
        sys.setprofile(None)
    assert answer.status == 200
    assert entered == []


async def test_a_bug_is_told_as_internal_and_says_nothing_of_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_args: Any, **_more: Any) -> None:
        raise RuntimeError("salma 14.50")

    monkeypatch.setattr(world.app._reads, "read", fails)
    answer = await ask(world, GRADES, PUPIL)
    assert (answer.status, answer.slug) == (500, "internal")
    assert b"14.50" not in answer.body
