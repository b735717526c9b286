"""The edge: what a warm hit may cost, what it says, and the bounds that every request passes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from auth.principal import Role
from cache.request import Places, Request, begin_request
from gateway import edge
from gateway.scope import Message
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import CLASSMATE, PARENT, PUPIL, STRANGER, TEACHER
from tests.gateway.world import Plain, World, answered, scope_of
from tests.waiting import eventually

GRADES = f"/v1/pupils/{PUPIL}/grades"
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"
ROUTE = "/v1/pupils/{pupil_id}/grades"

# Measured: 22 Python calls, 23 with a position (CPython 3.11), and one for comfort.
WARM_CALLS_MAX = 24
FORBIDDEN_FRAMES = (
    "/litestar/",
    "/msgspec/",
    "/json/",
    "/httpx/",
    "/sqlalchemy/",
    "/redis/",
    "/asyncio/tasks.py",
)


def bearer(world: World, who: str, **more: Any) -> tuple[bytes, bytes]:
    return b"authorization", world.authorization(who, **more).encode()


async def warmed(world: World, path: str = GRADES, who: str = PUPIL) -> dict[str, Any]:
    """The scope of a request that the edge answers by itself, tried twice so that nothing is made for the first time."""
    await world.get(path, who)
    scope = scope_of("GET", path, headers=[(b"host", b"gateway"), bearer(world, who)])
    for _ in range(2):
        assert (await answered(world.app, dict(scope))).status == 200
    return scope


class Paused:
    """Suspends once, handing `token` to whoever drives the coroutine."""

    def __await__(self) -> Generator[object, None, None]:
        yield self


async def never() -> Message:
    raise AssertionError("a warm hit reads no body")


def drive(world: World, scope: dict[str, Any], during: Callable[[], None] = lambda: None) -> list[Message]:
    """Run a warm hit by hand: whatever it waits for before or between its two messages fails the test."""
    sent: list[Message] = []
    pauses: list[Paused] = []

    async def send(message: Message) -> None:
        sent.append(message)
        pauses.append(Paused())
        await pauses[-1]

    coroutine = world.app(scope, never, send)
    during()
    try:
        for expected in (1, 2):
            assert coroutine.send(None) is pauses[-1], "suspended outside `send`"
            assert len(sent) == len(pauses) == expected
        coroutine.send(None)
    except StopIteration:
        return sent
    finally:
        sys.setprofile(None)
        coroutine.close()
    raise AssertionError("a warm hit goes on after its two messages")


async def test_a_warm_hit_waits_for_nothing_but_its_two_messages(shared: World) -> None:
    start, body = drive(shared, await warmed(shared))
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert body["type"] == "http.response.body"
    assert body["body"].startswith(b'{"year":2026')


async def test_a_warm_hit_calls_little_and_neither_json_nor_litestar(shared: World) -> None:
    scope = await warmed(shared)
    frames: list[str] = []
    foreign: list[str] = []

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            frames.append(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")
        elif event == "c_call":
            owner = getattr(argument, "__self__", None)
            foreign.append(
                f"{getattr(argument, '__module__', '')}.{type(owner).__module__}.{argument.__qualname__}"
            )

    drive(shared, scope, during=lambda: sys.setprofile(watch))
    ours = [frame for frame in frames if "/tests/" not in frame]
    assert not [frame for frame in ours if any(part in frame for part in FORBIDDEN_FRAMES)]
    assert not [call for call in foreign if "msgspec" in call or "json" in call.lower()]
    print(f"\na warm hit: {len(ours)} Python calls, {len(foreign)} C calls")
    assert 0 < len(ours) <= WARM_CALLS_MAX, "\n".join(ours)


async def test_a_warm_hit_that_shows_the_callers_write_costs_little_more(shared: World) -> None:
    scope = await warmed(shared)
    scope["headers"] = [*scope["headers"], (b"massar-position", b"1-1000")]
    frames: list[str] = []

    def watch(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and "/tests/" not in frame.f_code.co_filename:
            frames.append(frame.f_code.co_qualname)

    start, _ = drive(shared, scope, during=lambda: sys.setprofile(watch))
    assert start["status"] == 200
    print(f"\na warm hit with a position: {len(frames)} Python calls")
    assert 0 < len(frames) <= WARM_CALLS_MAX, "\n".join(frames)


async def test_every_request_but_a_warm_hit_has_patience_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    target = GRADES

    def begin(places: Places) -> Request:
        begun.append(target)
        return begin_request(places)

    monkeypatch.setattr(edge, "begin_request", begin)
    for target in (GRADES, "/v1/me", "/livez", GRADES):
        await world.get(target, PUPIL)
    assert begun == [GRADES, "/v1/me", "/livez"]


async def test_a_warm_answer_is_the_cold_one_again(world: World) -> None:
    cold = await world.get(GRADES, PUPIL)
    warm = await world.get(GRADES, PARENT)  # another principal: his facts are cold, the entry is not
    warmer = await world.get(GRADES, PARENT)
    assert warm.content == warmer.content == cold.content
    differing = {"massar-request-id", "cache-status"}
    plain = [{k: v for k, v in one.headers.items() if k not in differing} for one in (cold, warm, warmer)]
    assert plain[0] == plain[1] == plain[2]
    assert [one.headers["cache-status"] for one in (cold, warmer)] == [
        "massar; fwd=miss; stored",
        "massar; hit; detail=memory",
    ]
    assert world.rabat.count("/grades") == 1


async def test_every_answer_says_where_things_stand_under_an_id_of_its_own(shared: World) -> None:
    await warmed(shared)
    answers = [await shared.get(target, PUPIL) for target in (GRADES, GRADES, "/v1/me", "/nothing", "/livez")]
    for answer in answers:
        assert answer.headers["massar-epoch"] == "1"
        assert answer.headers["massar-mode"] == "normal"
    assert len({answer.headers["massar-request-id"] for answer in answers}) == len(answers)


async def test_personal_answers_are_private_and_revalidated(shared: World) -> None:
    await warmed(shared)
    for target in (GRADES, f"{GRADES}?session=2", "/v1/me", "/v1/home"):
        answer = await shared.get(target, PUPIL)
        assert answer.headers["cache-control"] == "private, no-cache", target
        assert answer.headers["vary"] == "Accept-Encoding, Authorization"
        assert answer.headers["etag"].startswith('"')
        assert answer.headers["content-type"] == "application/json"


async def test_cache_status_and_age_are_shown_only_where_the_setting_says_so(make_world: MakeWorld) -> None:
    world = await make_world(show_cache_status=False)
    for _ in range(2):
        answer = await world.get(GRADES, PUPIL)
        assert "cache-status" not in answer.headers
        assert "age" not in answer.headers


async def test_age_grows_with_the_entry(world: World) -> None:
    await warmed(world)
    world.clock.advance(2)
    assert (await world.get(GRADES, PUPIL)).headers["age"] == "2"


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{} , "more"', "*", " * "])
@pytest.mark.parametrize("target", [GRADES, "/v1/me"])
async def test_a_phone_that_holds_the_bytes_gets_a_304_without_any(
    shared: World, target: str, form: str
) -> None:
    etag = (await shared.get(target, PUPIL)).headers["etag"]
    answer = await shared.get(target, PUPIL, if_none_match=form.format(etag))
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "content-length" not in answer.headers
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("form", ['"other"', "{bare}", '"{bare}x"', ""])
async def test_another_tag_gets_the_bytes(shared: World, form: str) -> None:
    etag = (await shared.get(GRADES, PUPIL)).headers["etag"]
    answer = await shared.get(GRADES, PUPIL, if_none_match=form.format(bare=etag.strip('"')))
    assert answer.status_code == 200


async def test_two_if_none_match_headers_are_one_list(shared: World) -> None:
    scope = await warmed(shared)
    etag = (await answered(shared.app, dict(scope))).header("etag") or ""
    for tags in ((etag, '"other"'), ('"other"', etag)):
        pairs = [(b"if-none-match", tag.encode()) for tag in tags]
        assert (await answered(shared.app, {**scope, "headers": scope["headers"] + pairs})).status == 304


@pytest.mark.parametrize("target", [GRADES, "/v1/me", "/v1/status", "/livez", "/.well-known/jwks.json"])
async def test_head_is_get_without_the_body(shared: World, target: str) -> None:
    plain = {"accept-encoding": "identity"}
    whole = await shared.ask("GET", target, who=PUPIL, headers=plain)
    head = await shared.ask("HEAD", target, who=PUPIL, headers=plain)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers.get("etag") == whole.headers.get("etag")


async def test_warm_hits_are_counted_and_logged_by_their_route(world: World) -> None:
    scope = await warmed(world)
    before = len(world.app._access_log._lines)
    await answered(world.app, dict(scope))
    (line,) = world.app._access_log._lines[before:]
    assert f'"route":"{ROUTE}"'.encode() in line
    assert b'"cache":"hit"' in line
    world.metrics.flush()
    counted = world.metrics._requests.labels(ROUTE, "GET", "200")._value.get()
    assert counted == 4
    assert world.metrics._cache.labels("hit_tier1")._value.get() == 3


async def test_reads_through_the_router_say_in_the_log_how_they_were_come_by(world: World) -> None:
    for target, word in ((GRADES, "miss"), ("/v1/me", "composed"), ("/v1/status", "-")):
        await world.get(target, PUPIL)
        assert f'"cache":"{word}"'.encode() in world.app._access_log._lines[-1]


# Who is let in


async def unwelcome(world: World, *headers: tuple[bytes, bytes]) -> Plain:
    return await answered(world.app, scope_of("GET", GRADES, headers=headers))


async def test_a_warm_entry_is_shown_to_nobody_without_a_token_of_its_own(shared: World) -> None:
    await warmed(shared)
    good = bearer(shared, PUPIL)[1]
    tampered = good[:-8] + (b"AAAAAAAA" if good[-8:] != b"AAAAAAAA" else b"BBBBBBBB")
    expected = {
        (): "token-missing",
        ((b"authorization", b"Basic " + good[7:]),): "token-missing",
        ((b"authorization", b"Bearer"),): "token-missing",
        ((b"authorization", b"Bearer x.y.z"),): "token-invalid",
        ((b"authorization", tampered),): "token-invalid",
        ((b"authorization", good), (b"authorization", good)): "token-invalid",
        ((b"authorization", good), (b"authorization", b"")): "token-invalid",
        ((b"authorization", b"Bearer " + b"x" * 9000),): "token-invalid",
        ((b"authorization", b"Bearer \xff"),): "token-invalid",
    }
    for headers, slug in expected.items():
        answer = await unwelcome(shared, *headers)
        assert (answer.status, answer.slug) == (401, slug), headers
        assert (answer.header("www-authenticate") or "").startswith("Bearer"), headers


async def test_an_expired_token_is_told_so_even_where_it_was_good_a_moment_ago(world: World) -> None:
    scope = await warmed(world)
    world.clock.advance(600)
    answer = await answered(world.app, scope)
    assert (answer.status, answer.slug) == (401, "token-expired")


async def test_a_warm_entry_stays_hidden_from_strangers_and_from_roles_it_is_not_for(shared: World) -> None:
    await warmed(shared)
    for who in (CLASSMATE, STRANGER):
        assert (await shared.get(GRADES, who)).status_code == 404
    for _ in range(2):
        assert (await shared.get(GRADES, TEACHER)).json()["slug"] == "role-not-allowed"


async def test_the_same_person_in_another_role_is_another_caller(shared: World) -> None:
    await warmed(shared)
    authorization = shared.authorization(PUPIL, role=Role.PARENT)
    assert (await shared.ask("GET", GRADES, headers={"authorization": authorization})).status_code == 404


async def test_who_asks_too_fast_is_told_when_to_come_back(make_world: MakeWorld) -> None:
    world = await make_world(rate_per_s=1, rate_burst=2)
    answers = [await world.get(GRADES, PUPIL) for _ in range(4)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[-1].status_code == 429
    assert answers[-1].json()["slug"] == "rate-limited"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (await world.get(GRADES, PARENT)).status_code == 200


# Other spellings of a path


@pytest.mark.parametrize(
    "path",
    [
        f"{GRADES}/",
        f"/{GRADES}",
        GRADES.replace("/v1/", "/v1//"),
        GRADES.replace("/grades", "//grades"),
        f"{GRADES}//",
        "//",
        f"/v1/pupils/./{PUPIL}/grades",
        f"/v1/./pupils/{PUPIL}/grades",
        f"/v1/pupils/{STRANGER}/../{PUPIL}/grades",
        f"/v1/pupils/{PUPIL}/../{PUPIL}/grades",
        f"/v1/pupils/{PUPIL}/grades/.",
        f"/v1/pupils/{PUPIL}/Grades",
        f"/V1/pupils/{PUPIL}/grades",
        f"/v1/pupils/{PUPIL.upper()}/grades",
        f"/v1/pupils/{PUPIL} /grades",
        f"/v1/pupils/{PUPIL}\x00/grades",
        f"/v1/pupils/{PUPIL}%2e/grades",
        f"/v1/pupils/{PUPIL};x=1/grades",
        "/v1/pupils//grades",
        "/v1/pupils/\u0665\u0665/grades",
    ],
)
@pytest.mark.parametrize("who", [PUPIL, CLASSMATE])
async def test_another_spelling_is_another_path(shared: World, path: str, who: str) -> None:
    await warmed(shared)
    answer = await answered(shared.app, scope_of("GET", path, headers=[bearer(shared, who)]))
    assert (answer.status, answer.slug) == (404, "not-found")


async def test_an_escaped_spelling_of_the_same_path_is_judged_like_the_path(shared: World) -> None:
    await warmed(shared)
    escaped = GRADES.replace("pupila", "%70%75pila").replace("grades", "gr%61des")
    assert (await shared.get(escaped, PUPIL)).status_code == 200
    assert (await shared.get(escaped, CLASSMATE)).status_code == 404
    assert (await shared.get(escaped)).status_code == 401


# Bounds

ENTRIES = "/v1/gradebooks/classaaaaaaaaaaa/MATH/1/entries"


def chunks(*parts: bytes) -> list[Message]:
    last = len(parts) - 1
    return [
        {"type": "http.request", "body": part, "more_body": number < last}
        for number, part in enumerate(parts)
    ]


@pytest.mark.parametrize(
    ("headers", "parts", "status", "slug"),
    [
        ([(b"content-length", b"65537")], [b"{}"], 413, "body-too-large"),
        ([(b"content-length", b"9" * 5000)], [b"{}"], 413, "body-too-large"),
        ([(b"content-length", b"-1")], [b"{}"], 400, "bad-request"),
        ([(b"content-length", b"many")], [b"{}"], 400, "bad-request"),
        ([], [b"x" * 40_000, b"x" * 40_000], 413, "body-too-large"),
        ([(b"transfer-encoding", b"chunked")], [b"x"] * 65_537, 413, "body-too-large"),
        ([(b"x", b"y" * 16_384)], [b"{}"], 431, "headers-too-large"),
        ([(b"n%d" % number, b"y" * 100) for number in range(200)], [b"{}"], 431, "headers-too-large"),
    ],
)
async def test_what_is_too_much_is_refused(
    shared: World, headers: list[tuple[bytes, bytes]], parts: list[bytes], status: int, slug: str
) -> None:
    for pairs in (headers, [*headers, bearer(shared, TEACHER)]):
        answer = await answered(shared.app, scope_of("PUT", ENTRIES, headers=pairs), chunks(*parts))
        assert (answer.status, answer.slug) == (status, slug)
        assert answer.header("content-type") == "application/problem+json"


@pytest.mark.parametrize(("path", "query"), [("/v1/" + "x" * 2048, b""), ("/v1/status", b"q=" + b"x" * 2048)])
async def test_a_target_beyond_its_bound_is_414(shared: World, path: str, query: bytes) -> None:
    answer = await answered(shared.app, scope_of("GET", path, query=query))
    assert (answer.status, answer.slug) == (414, "uri-too-long")


async def test_a_warm_entry_does_not_excuse_a_request_beyond_its_bounds(shared: World) -> None:
    scope = await warmed(shared)
    padded = {**scope, "headers": [*scope["headers"], (b"cookie", b"x" * 16_384)]}
    assert (await answered(shared.app, padded)).slug == "headers-too-large"
    long = {**scope, "query_string": b"unknown=" + b"x" * 2048}
    assert (await answered(shared.app, long)).slug == "uri-too-long"


@pytest.mark.parametrize(
    ("framing", "status", "slug"),
    [
        ((b"content-length", b"65537"), 413, "body-too-large"),
        ((b"content-length", b"9" * 5000), 413, "body-too-large"),
        ((b"content-length", b"-1"), 400, "bad-request"),
        ((b"content-length", b"many"), 400, "bad-request"),
        ((b"content-length", b""), 400, "bad-request"),
        ((b"content-length", b"0"), 200, None),
        ((b"content-length", b"2"), 200, None),
        ((b"transfer-encoding", b"chunked"), 200, None),
    ],
)
async def test_what_a_read_says_of_a_body_is_judged_alike_cold_and_warm(
    world: World, framing: tuple[bytes, bytes], status: int, slug: str | None
) -> None:
    read = scope_of("GET", GRADES, headers=[(b"host", b"gateway"), bearer(world, PUPIL), framing])
    cold = await answered(world.app, dict(read))
    await warmed(world)
    warm = await answered(world.app, dict(read))
    for answer in (cold, warm):
        assert answer.status == status
        if slug is not None:
            assert answer.slug == slug


async def test_bodies_on_their_way_are_bounded_in_number(make_world: MakeWorld) -> None:
    world = await make_world(receiving_max=1)
    rest = asyncio.Event()

    async def receive() -> Message:
        await rest.wait()
        return {"type": "http.request", "body": b"{}", "more_body": False}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    slow = asyncio.create_task(world.app(scope_of("PUT", ENTRIES), receive, send))
    await asyncio.sleep(0)
    refused = await answered(world.app, scope_of("PUT", ENTRIES), chunks(b"{}"))
    assert (refused.status, refused.slug, refused.header("retry-after")) == (503, "overloaded", "1")
    assert (await world.get(GRADES, PUPIL)).status_code == 200
    rest.set()
    await slow
    assert sent[0]["status"] == 401
    assert (await answered(world.app, scope_of("PUT", ENTRIES), chunks(b"{}"))).status == 401


async def test_a_body_that_does_not_arrive_in_time_is_408(make_world: MakeWorld) -> None:
    world = await make_world(body_wait_s=0.001)
    sent: list[Message] = []

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never comes

    async def send(message: Message) -> None:
        sent.append(message)

    await world.app(scope_of("PUT", ENTRIES, headers=[bearer(world, TEACHER)]), receive, send)
    assert sent[0]["status"] == 408
    assert b"request-timeout" in sent[1]["body"]


async def test_a_caller_who_hangs_up_while_sending_disturbs_nobody(shared: World, fresh_key: str) -> None:
    gone: list[Message] = [
        {"type": "http.request", "body": b'{"ent', "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = [
        bearer(shared, TEACHER),
        (b"idempotency-key", fresh_key.encode()),
        (b"content-type", b"application/json"),
    ]
    answer = await answered(shared.app, scope_of("PUT", ENTRIES, headers=headers), gone)
    assert answer.status == 400
    assert not shared.rabat.count("/entries")
    assert (await shared.get("/livez")).status_code == 200


async def test_a_worker_with_enough_to_do_says_so_and_still_answers_what_is_warm(
    make_world: MakeWorld,
) -> None:
    world = await make_world(in_flight_max=1)
    await warmed(world)
    world.rabat.gate = asyncio.Event()
    slow = asyncio.create_task(world.get(TIMETABLE, PUPIL))
    await world.rabat.arrived.wait()
    await eventually(lambda: world.rabat.count("/timetable"), within_s=10.0)
    refused = await world.get("/v1/status")
    assert (refused.status_code, refused.json()["slug"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert (await world.get(GRADES, PUPIL)).status_code == 200
    world.rabat.gate.set()
    assert (await slow).status_code == 200
    assert (await world.get("/v1/status")).status_code == 200


async def test_who_waits_for_what_another_one_asked_for_takes_no_place_from_those_who_work(
    make_world: MakeWorld,
) -> None:
    world = await make_world(in_flight_max=2)
    await warmed(world)
    origin = world.rabat
    origin.gate = asyncio.Event()
    crowd = [asyncio.create_task(world.get(TIMETABLE, PUPIL)) for _ in range(20)]
    await eventually(lambda: len(world.app._places) == 20, within_s=10.0)
    assert (await world.get("/v1/status")).status_code == 200
    other = asyncio.create_task(world.get(f"/v1/pupils/{PUPIL}/absences", PUPIL))
    await eventually(lambda: origin.count("/absences"), within_s=10.0)
    assert (await world.get("/v1/status")).json()["slug"] == "overloaded"
    origin.gate.set()
    assert {answer.status_code for answer in await asyncio.gather(other, *crowd)} == {200}
    assert origin.count("/timetable") == 1
    assert (world.app._places.working, world.app._places.waiting) == (0, 0)


async def test_a_page_of_many_reads_works_while_any_of_them_is_its_own(make_world: MakeWorld) -> None:
    world = await make_world(in_flight_max=2)
    for who in (PUPIL, CLASSMATE):
        assert (await world.get(f"/v1/pupils/{who}/absences", who)).status_code == 200
    world.rabat.gate = asyncio.Event()
    pages = []
    for who in (PUPIL, CLASSMATE):  # of one class, whose timetable both want
        pages.append(asyncio.create_task(world.get("/v1/home", who)))
        await eventually(partial(world.rabat.count, f"{who}/grades"), within_s=10.0)
    assert world.rabat.count("/timetable") == 1
    assert (world.app._places.working, world.app._places.waiting) == (2, 0)
    assert (await world.get("/v1/status")).json()["slug"] == "overloaded"
    world.rabat.gate.set()
    assert {(await page).status_code for page in pages} == {200}
    assert (world.app._places.working, world.app._places.waiting) == (0, 0)


async def test_who_leaves_while_he_waits_for_anothers_answer_leaves_no_place_behind(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    await warmed(world)
    world.rabat.gate = asyncio.Event()
    crowd = [asyncio.create_task(world.get(TIMETABLE, PUPIL)) for _ in range(6)]
    await eventually(lambda: len(world.app._places) == 6, within_s=10.0)
    for left in crowd[1::2]:
        left.cancel()
    await asyncio.wait(crowd[1::2])
    assert (world.app._places.working, world.app._places.waiting) == (1, 2)
    world.rabat.gate.set()
    assert {(await answer).status_code for answer in crowd[::2]} == {200}
    assert (world.app._places.working, world.app._places.waiting) == (0, 0)


async def test_bodies_on_their_way_do_not_slip_past_the_bound_on_work(make_world: MakeWorld) -> None:
    world = await make_world(in_flight_max=1)
    rest = asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        await rest.wait()
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    upload = asyncio.create_task(
        world.app(scope_of("PUT", ENTRIES, headers=[bearer(world, TEACHER)]), receive, send)
    )
    await asyncio.sleep(0)
    world.rabat.gate = asyncio.Event()
    slow = asyncio.create_task(world.get(GRADES, PUPIL))
    await world.rabat.arrived.wait()
    rest.set()
    await upload
    assert sent[0]["status"] == 503
    world.rabat.gate.set()
    assert (await slow).status_code == 200
