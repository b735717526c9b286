"""Parts of one call: side by side, each bounded, each failing alone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import structlog

from auth.principal import App, Principal, Role
from auth.refusals import NotFound
from gateway import home_parts
from gateway.home_parts import HomeParts
from routes.endpoint import Answered, Caller

CALLER = Caller(
    principal=Principal("pupil", Role.STUDENT, App.MOUTAMADRIS, "sid", 0.0),
    facts=None,
    relation=None,
    language="en",
    request_id="abc-1",
)
PARTS = HomeParts(problem_base_url="https://massar.example/problems/")


def answered(body: bytes) -> Answered:
    return Answered(body=body, etag=b'"x"', cache_status="", age_s=0.0, mode="normal")


async def test_parts_run_side_by_side_and_keep_their_order() -> None:
    everyone = asyncio.Barrier(3)

    async def part() -> Answered:
        await everyone.wait()
        return answered(b'{"a":1}')

    async with asyncio.timeout(5):
        done = await PARTS.gather(CALLER, dict.fromkeys(("z", "a", "m"), part))
    assert list(done) == ["z", "a", "m"]
    assert {part.status for part in done.values()} == {200}
    assert msgspec.json.encode(done["a"]) == b'{"status":200,"body":{"a":1}}'


async def test_a_part_that_fails_carries_its_problem_and_leaves_the_others_alone() -> None:
    async def well() -> Answered:
        return answered(b"{}")

    async def missing() -> Answered:
        raise NotFound

    done = await PARTS.gather(CALLER, {"well": well, "missing": missing})
    assert done["well"].status == 200
    problem = done["missing"].problem
    assert problem is not None
    assert (done["missing"].status, problem.slug, problem.title) == (404, "not-found", "Not found")
    assert problem.instance == "urn:request:abc-1"


async def test_a_bug_in_a_part_is_internal_and_logged() -> None:
    async def broken() -> Answered:
        raise ZeroDivisionError("salma@famille.example")

    with structlog.testing.capture_logs() as logged:
        done = await PARTS.gather(CALLER, {"broken": broken})
    assert done["broken"].status == 500
    assert b"salma" not in msgspec.json.encode(done["broken"])
    assert [line["request_id"] for line in logged] == ["abc-1"]


async def test_a_part_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_parts, "PART_WAIT_MAX_S", 0.001)
    given_up = asyncio.Event()

    async def slow() -> Answered:
        try:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never comes
        finally:
            given_up.set()

    done = await PARTS.gather(CALLER, {"slow": slow})
    problem = done["slow"].problem
    assert problem is not None
    assert (done["slow"].status, problem.slug) == (503, "datacenters-unavailable")
    assert given_up.is_set()
