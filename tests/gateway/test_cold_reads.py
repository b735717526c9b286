"""Cached reads before the router: the same answers as behind it, without any of its layers."""

from __future__ import annotations

import asyncio
import sys
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import brotli
import pytest
import zstandard
from redis.asyncio import Redis

from cache import coding, leases, store
from cache.coding import Coded
from cache.store import Cache
from cache.valkey import ValkeyTier
from datacenters import forwarding
from gateway import reading
from gateway.hot_routes import HotRoutes
from sandbox import valkey
from sandbox.valkey import ValkeyServer
from tests.gateway.conftest import MakeWorld
from tests.gateway.origin import refusal
from tests.gateway.people import CLASSMATE, PARENT, PUPIL, TEACHER
from tests.gateway.world import Plain, World, answered, scope_of
from tests.waiting import eventually

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
        world.app._warm_reads._reads._cache.clear_memory()
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
        (GRADES, PUPIL, {"accept_encoding": "br"}),
        (GRADES, PUPIL, {"accept_encoding": "gzip", "method": "HEAD"}),
        (GRADES, PUPIL, {"accept_encoding": "zstd", "if_none_match": "*"}),
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
    shared.app._warm_reads._reads._cache.clear_memory()
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

    monkeypatch.setattr(world.app._warm_reads._reads, "read", fails)
    answer = await ask(world, GRADES, PUPIL)
    assert (answer.status, answer.slug) == (500, "internal")
    assert b"14.50" not in answer.body


# Content codings

DECODE = {
    "br": brotli.decompress,
    "zstd": zstandard.decompress,
    "gzip": lambda coded: zlib.decompress(coded, 31),
}


@pytest.mark.parametrize("coding", list(DECODE))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_cold_and_warm_answers_come_in_the_coding_that_is_accepted(
    world: World, coding: str, method: str
) -> None:
    plain = await ask(world, TIMETABLE, PUPIL)
    world.app._warm_reads._reads._cache.clear_memory()
    for _ in range(3):  # cold, then warm
        answer = await ask(
            world, TIMETABLE, PUPIL, method=method, accept_encoding=f"{coding}, identity;q=0.5"
        )
        assert answer.header("content-encoding") == coding
        assert answer.header("vary") == "Accept-Encoding, Authorization"
        assert answer.header("etag") == (plain.header("etag") or "")[:-1] + f'-{coding}"'
        if method == "GET":
            assert DECODE[coding](answer.body) == plain.body
            assert answer.header("content-length") == str(len(answer.body))
    assert plain.header("content-encoding") is None


async def test_a_tag_of_one_coding_says_nothing_of_another(world: World) -> None:
    tags = {
        coding: (await ask(world, TIMETABLE, PUPIL, accept_encoding=coding)).header("etag") or ""
        for coding in ("br", "gzip", "identity")
    }
    assert len(set(tags.values())) == 3
    for held, tag in tags.items():
        for asked in tags:
            answer = await ask(world, TIMETABLE, PUPIL, accept_encoding=asked, if_none_match=tag)
            assert answer.status == (304 if held == asked else 200)
            assert answer.status == 200 or answer.header("content-encoding") is None


async def test_codings_are_made_once_at_the_fill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def encode(body: bytes) -> Coded:
        made.append(body)
        return coding.encode(body)

    monkeypatch.setattr(reading, "encode", encode)
    for accepted in ("br", "gzip", "zstd", "br;q=0.1, gzip", "identity"):
        for who in (PUPIL, PARENT):
            assert (await ask(world, TIMETABLE, who, accept_encoding=accepted)).status == 200
    assert sum(b'"lessons"' in body for body in made) == 1


async def test_what_is_put_together_is_not_coded(world: World) -> None:
    answer = await ask(world, "/v1/home", PUPIL, accept_encoding="br")
    assert (answer.status, answer.header("content-encoding")) == (200, None)


async def test_a_large_body_is_coded_beside_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def encode(body: bytes) -> Coded:
        threads.append(threading.current_thread())
        return coding.encode(body)

    monkeypatch.setattr(reading, "encode", encode)
    monkeypatch.setattr(reading, "CODED_HERE_BYTES_MAX", 64)
    answer = await ask(world, TIMETABLE, PUPIL, accept_encoding="br")
    assert answer.header("content-encoding") == "br"
    assert threads != []
    assert threading.main_thread() not in threads


# Ten thousand at once

CROWD = 10_000
CROWD_STEP = 20
# Four workers share one loop here: what each does in milliseconds takes them seconds, and nobody's time is to run out.
COME_WITHIN_S = 60.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (forwarding, "READ_TOTAL_S"),
        (store, "PROMPT_MAX_S"),
        (leases, "LEASE_S"),
        (leases, "OUTCOME_S"),
    ):
        monkeypatch.setattr(module, name, COME_WITHIN_S)
    for made, names in (
        (Cache.__init__, ("fetch_max_s", "wait_max_s")),
        (ValkeyTier.__init__, ("operation_max_s",)),
    ):
        bounds = made.__kwdefaults__
        assert bounds is not None
        for name in names:
            monkeypatch.setitem(bounds, name, COME_WITHIN_S)


@pytest.fixture
async def fleet(
    patient: None, make_world: MakeWorld, valkey_server: ValkeyServer, tmp_path: Path, logs: Path
) -> AsyncIterator[list[World]]:
    """Two sites of two workers, each site with its own Valkey; they know the caller and the calendar, and no grades."""
    _ = patient
    other = await valkey.start(folder=tmp_path / "marrakech-valkey", logs=logs)
    worlds = [
        await make_world(site=site, valkey_url=url, rate_burst=2 * CROWD)
        for site, url in (("rabat", valkey_server.url), ("marrakech", other.url))
        for _ in range(2)
    ]
    for world in worlds:
        async with Redis.from_url(world.settings.valkey_url) as raw:
            await raw.flushall()
    for world in worlds:
        assert (await ask(world, TIMETABLE, PUPIL)).status == 200
    yield worlds
    await other.process.stop()


async def crowd(fleet: list[World]) -> list[Plain]:
    """The answers to CROWD requests for the same grades, a quarter of them to each worker, all before any is answered."""
    scopes = [
        scope_of("GET", GRADES, headers=[(b"authorization", world.authorization(PUPIL).encode())])
        for world in fleet
    ]
    asking = []
    for at in range(CROWD):
        asking.append(asyncio.create_task(answered(fleet[at % 4].app, dict(scopes[at % 4]))))
        if at % CROWD_STEP == 0:  # four workers share this loop; each would have its own
            await asyncio.sleep(0)
    return await asyncio.gather(*asking)


async def test_ten_thousand_at_once_on_one_cold_key_cost_the_datacenter_one_request_a_site(
    fleet: list[World],
) -> None:
    origin = fleet[0].rabat
    origin.seen.clear()
    origin.gate = asyncio.Event()
    asking = asyncio.create_task(crowd(fleet))
    await eventually(lambda: sum(len(world.app._places) for world in fleet) == CROWD, within_s=COME_WITHIN_S)
    assert origin.count("/grades") == 2
    origin.gate.set()
    answers = await asking
    assert Counter(answer.status for answer in answers) == {200: CROWD}
    assert len({answer.body for answer in answers}) == 1
    assert origin.count("/grades") == 2
    for world in fleet:
        cache = world.app._warm_reads._cache
        assert not cache._looks
        assert not cache._flights


async def test_an_error_is_shared_by_all_who_wait_and_not_multiplied(fleet: list[World]) -> None:
    origin = fleet[0].rabat
    for each in (fleet[0].rabat, fleet[0].marrakech):
        each.seen.clear()
        each.canned[GRADES] = refusal(404, "not-found")
    origin.gate = asyncio.Event()
    asking = asyncio.create_task(crowd(fleet))
    await eventually(lambda: sum(len(world.app._places) for world in fleet) == CROWD, within_s=COME_WITHIN_S)
    assert origin.count("/grades") == 2
    origin.gate.set()
    answers = await asking
    assert Counter((answer.status, answer.slug) for answer in answers) == {(404, "not-found"): CROWD}
    assert origin.count("/grades") == 2
