"""Cached reads: asked for once, the same for all who may see them, and honest about where they come from."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable

import msgspec
import pytest

import routes
from cache.memory import Held, MemoryTier
from cache.policy import SHARED_LIFE_MIN_S
from datacenters.record import Phase
from gateway import reading
from gateway.standing import PURGES_SILENT_MAX_S
from routes.endpoint import CachedRead, Endpoint
from tests.gateway.conftest import MakeWorld
from tests.gateway.origin import Canned, refusal
from tests.gateway.people import CLASSMATE, OTHER_PARENT, PARENT, PUPIL, TEACHER
from tests.gateway.world import World

GRADES = f"/v1/pupils/{PUPIL}/grades"
ABSENCES = f"/v1/pupils/{PUPIL}/absences"
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"
HOUR_S = 3600.0


def both(world: World, target: str, canned: Canned) -> None:
    for origin in (world.rabat, world.marrakech):
        origin.canned[target] = canned


async def test_many_cold_readers_at_once_cost_the_datacenter_one_request(world: World) -> None:
    for who in (PUPIL, PARENT, OTHER_PARENT):  # facts and calendar are known, the grades are not
        await world.get(TIMETABLE, who)
    world.rabat.arrived.clear()
    world.rabat.gate = asyncio.Event()
    asking = [asyncio.create_task(world.get(GRADES, who)) for who in (PUPIL, PARENT, OTHER_PARENT) * 10]
    await world.rabat.arrived.wait()
    world.rabat.gate.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert world.rabat.count("/grades") == 1
    assert {answer.headers["cache-status"] for answer in answers} == {
        "massar; fwd=miss; stored",
        "massar; fwd=miss; collapsed",
    }


@pytest.mark.parametrize("target", [GRADES, ABSENCES, TIMETABLE])
async def test_the_pupil_and_both_parents_get_the_same_bytes_of_one_request(
    world: World, target: str
) -> None:
    answers = [await world.get(target, who) for who in (PUPIL, PARENT, OTHER_PARENT)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.content for answer in answers}) == 1
    assert world.rabat.count(target.removeprefix(f"/v1/pupils/{PUPIL}")) == 1


async def test_classmates_share_their_timetable(world: World) -> None:
    first = await world.get(TIMETABLE, PUPIL)
    second = await world.get(f"/v1/pupils/{CLASSMATE}/timetable", CLASSMATE)
    assert second.content == first.content
    assert world.rabat.count("/timetable") == 1


async def test_a_teacher_sees_another_view_under_another_key(world: World) -> None:
    family, teacher = await world.get(ABSENCES, PUPIL), await world.get(ABSENCES, TEACHER)
    assert family.json()["absences"][0]["reason"] == "rendez-vous"
    assert teacher.json()["absences"][0]["reason"] is None
    assert family.headers["etag"] != teacher.headers["etag"]
    assert [(await world.get(ABSENCES, who)).content for who in (PARENT, TEACHER)] == [
        family.content,
        teacher.content,
    ]


async def test_the_datacenter_is_asked_for_a_view_and_for_nobody(world: World) -> None:
    await world.get(f"{GRADES}?session=2&year=2025&unknown=1", PARENT)
    (seen,) = [seen for seen in world.rabat.seen if "/grades" in seen.target]
    assert seen.target == f"/v1/pupils/{PUPIL}/grades?view=family&year=2025&session=2"
    assert seen.headers["massar-epoch"] == "1"
    assert PARENT not in str(seen)


async def test_what_the_datacenter_adds_to_a_view_stops_here(world: World) -> None:
    world.rabat.say("/v1/pupils", done=[], as_of="2026-11-17T16:05:00Z", guardian_phone="0612345678")
    world.rabat.say(
        f"{TIMETABLE}".replace(f"pupils/{PUPIL}", "classes/classaaaaaaaaaaa"),
        week="2026-W47",
        class_id="classaaaaaaaaaaa",
        lessons=[],
        as_of="2026-11-17T16:05:00Z",
        guardian_phone="0612345678",
    )
    answer = await world.get(TIMETABLE, PUPIL)
    assert answer.status_code == 200
    assert "0612345678" not in answer.text


async def test_a_datacenters_404_is_not_found_and_is_not_kept(world: World) -> None:
    world.rabat.canned[GRADES] = refusal(404, "not-found")
    for _ in range(2):
        answer = await world.get(GRADES, PUPIL)
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    assert world.rabat.count("/grades") == 2
    world.rabat.canned.clear()
    assert (await world.get(GRADES, PUPIL)).status_code == 200


UNUSABLE = [
    Canned(body=b""),
    Canned(body=b"null"),
    Canned(body=b"{}"),
    Canned(body=b'{"absences":"none","as_of":""}'),
    Canned(body=b"\xff\xfe\x00"),
    Canned(body=b'{"absences":[],"as_of":"\xff"}'),
    Canned(body=b'{"absences":' + b"[" * 20_000),
    Canned(body=b'{"absences":1e999}'),
    Canned(status=204, body=b""),
    Canned(status=302, headers={"location": "http://elsewhere.example/"}),
    Canned(status=304, body=b""),
    refusal(400, "bad-request"),
    refusal(403, "forbidden"),
]


@pytest.mark.parametrize("canned", UNUSABLE, ids=lambda canned: f"{canned.status} {canned.body[:20]!r}")
async def test_an_answer_of_another_shape_is_no_answer(shared: World, canned: Canned, fresh_day: str) -> None:
    shared.rabat.canned[ABSENCES] = canned
    answer = await shared.get(f"{ABSENCES}?from={fresh_day}", PUPIL)
    assert (answer.status_code, answer.json()["slug"]) == (503, "datacenters-unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_an_older_answer_stands_in_for_a_failure_and_says_its_age(world: World) -> None:
    fresh = await world.get(GRADES, PUPIL)
    world.clock.advance(20 * 60)
    both(world, GRADES, refusal(500, "internal"))
    stale = await world.get(GRADES, PUPIL)
    assert stale.status_code == 200
    assert stale.content == fresh.content
    assert stale.headers["massar-data-age"] == "1200"
    assert "stale-if-error" in stale.headers["cache-status"]
    head = await world.ask("HEAD", GRADES, who=PUPIL)
    assert (head.headers["massar-data-age"], head.content) == ("1200", b"")
    world.rabat.canned.clear()
    again = await world.get(GRADES, PUPIL)
    assert "massar-data-age" not in again.headers


async def test_an_entry_past_its_time_is_confirmed_without_its_bytes(world: World) -> None:
    fresh = await world.get(GRADES, PUPIL)
    held = next(seen for seen in world.rabat.seen if "/grades" in seen.target)
    assert "if-none-match" not in held.headers
    world.clock.advance(20 * 60)
    world.rabat.canned[GRADES] = Canned(status=304, body=b"", headers={"etag": '"v1"'})
    again = await world.get(GRADES, PUPIL)
    assert (again.status_code, again.content) == (200, fresh.content)
    assert again.headers["cache-status"] == "massar; hit; fwd=stale; fwd-status=304"
    assert again.headers["etag"] == fresh.headers["etag"]
    assert world.rabat.seen[-1].headers["if-none-match"] == '"v1"'
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; hit; detail=memory"


async def test_survival_is_for_when_no_datacenter_answers_at_all(world: World) -> None:
    fresh = await world.get(GRADES, PUPIL)
    world.clock.advance(3 * HOUR_S)
    both(world, GRADES, refusal(500, "internal"))  # they answer, if only to fail: too old to stand in
    assert (await world.get(GRADES, PUPIL)).status_code == 503
    await world.rabat.stop()
    await world.marrakech.stop()
    world.monotonic.advance(1)
    survived = await world.get(GRADES, PUPIL)
    assert (survived.status_code, survived.content) == (200, fresh.content)
    assert survived.headers["massar-mode"] == "survival"
    assert survived.headers["massar-data-age"] == str(int(3 * HOUR_S))


async def test_the_standbys_answer_is_marked_and_not_kept(world: World) -> None:
    await world.rabat.stop()
    world.marrakech.data_age = "7.4"
    for _ in range(2):
        answer = await world.get(GRADES, PUPIL)
        assert answer.status_code == 200
        assert answer.headers["massar-mode"] == "read-only"
        assert answer.headers["massar-data-age"] == "7"
        assert "stored" not in answer.headers["cache-status"]
    assert world.marrakech.count("/grades") == 2
    await world.rabat.start()
    world.monotonic.advance(1)
    back = await world.get(GRADES, PUPIL)
    assert back.headers["massar-mode"] == "normal"
    assert "massar-data-age" not in back.headers
    assert world.rabat.count("/grades") == 1


async def test_composed_answers_tell_the_worst_of_their_parts(world: World) -> None:
    await world.rabat.stop()
    world.marrakech.data_age = "7.4"
    for target in ("/v1/me", f"/v1/pupils/{PUPIL}/homework", "/v1/home"):
        answer = await world.get(target, PUPIL)
        assert answer.headers["massar-mode"] == "read-only", target
        assert answer.headers["massar-data-age"] == "7"


async def test_nothing_is_kept_while_a_move_is_under_way(make_world: MakeWorld) -> None:
    world = await make_world(record={"phase": Phase.PROMOTING, "target": "marrakech", "epoch": 2})
    for _ in range(2):
        answer = await world.get(GRADES, PUPIL)
        assert answer.status_code == 200
        assert "stored" not in answer.headers["cache-status"]
    assert world.marrakech.count("/grades") == 2
    assert world.rabat.seen == []


async def test_nothing_is_kept_of_an_epoch_that_the_record_does_not_know_yet(world: World) -> None:
    world.rabat.epoch = 2
    for _ in range(2):
        assert (await world.get(GRADES, PUPIL)).status_code == 200
    assert world.rabat.count("/grades") == 2


async def test_personal_reads_end_when_sign_outs_cannot_be_heard_and_shared_ones_go_on(
    world: World, cut_off: Callable[..., World]
) -> None:
    deaf = cut_off()
    assert (await deaf.get(GRADES, PUPIL)).status_code == 200
    deaf.monotonic.advance(61)
    for target in (GRADES, ABSENCES, "/v1/me"):
        answer = await deaf.get(target, PUPIL)
        assert (answer.status_code, answer.json()["slug"]) == (503, "denials-unavailable"), target
        assert "retry-after" in answer.headers
    for target in (TIMETABLE, "/v1/announcements"):
        assert (await deaf.get(target, PUPIL)).status_code == 200, target
    parts = (await deaf.get("/v1/home", PUPIL)).json()["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "timetable": 200,
        "grades": 503,
        "absences": 503,
        "homework": 503,
        "announcements": 200,
    }


async def test_a_warm_entry_is_not_shown_either_when_sign_outs_cannot_be_heard(make_world: MakeWorld) -> None:
    world = await make_world(denial_silence_max_s=1.0)
    await world.get(GRADES, PUPIL)
    standing = world.app._standing
    heard_s = [0.0]
    standing._denials_silent_for_s = lambda: heard_s[0]  # etcd answers here: the silence is put in its mouth
    standing._known = None
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; hit; detail=memory"
    heard_s[0] = 1.5
    world.monotonic.advance(1.5)
    assert (await world.get(GRADES, PUPIL)).json()["slug"] == "denials-unavailable"
    assert (await world.get(TIMETABLE, PUPIL)).status_code == 200


async def test_what_may_have_missed_a_purge_says_so(world: World) -> None:
    await world.get(GRADES, PUPIL)
    standing = world.app._standing
    silent_s = [PURGES_SILENT_MAX_S]
    standing._purges_silent_for_s = lambda: silent_s[0]  # etcd answers here: the silence is put in its mouth
    standing._known = None
    assert (await world.get(GRADES, PUPIL)).headers["massar-mode"] == "normal"
    silent_s[0] += 0.1
    warm = await world.get(GRADES, PUPIL)
    assert (warm.headers["cache-status"], warm.headers["massar-mode"]) == (
        "massar; hit; detail=memory",
        "degraded",
    )


async def test_the_calendar_is_asked_for_once_a_minute_at_most(world: World) -> None:
    for target in (GRADES, ABSENCES, TIMETABLE, "/v1/home"):
        await world.get(target, PUPIL)
    assert world.rabat.count("/v1/calendar") == 1
    world.clock.advance(121)
    await world.get(TIMETABLE, PUPIL)
    assert world.rabat.count("/v1/calendar") == 2


async def test_a_new_school_week_asks_for_another_entry(world: World) -> None:
    calendar = msgspec.json.decode(
        b'{"year":2026,"session":1,"week":"2026-W48","today":"2026-11-25","first_day":"2026-09-02",'
        b'"last_day":"2027-06-30","as_of":"2026-11-17T16:05:00Z"}'
    )
    assert (await world.get(TIMETABLE, PUPIL)).json()["week"] == "2026-W47"
    world.clock.advance(121)
    world.rabat.say("/v1/calendar", **calendar)
    assert (await world.get(TIMETABLE, PUPIL)).json()["week"] == "2026-W48"


# Reading one's own writes


async def test_an_entry_from_before_the_callers_write_is_passed_over(world: World) -> None:
    await world.get(GRADES, PUPIL)
    world.rabat.position = "1-1500"
    for position, word in (("1-1000", "hit"), ("1-1001", "fwd=miss"), ("1-1500", "hit"), ("0-0", "hit")):
        answer = await world.get(GRADES, PUPIL, massar_position=position)
        assert answer.status_code == 200
        assert answer.headers["cache-status"].split("; ")[1] == word, position
    assert world.rabat.count("/grades") == 2


async def test_a_write_that_nobody_shows_yet_is_503(world: World) -> None:
    await world.get(GRADES, PUPIL)
    for target in (GRADES, "/v1/me", "/v1/announcements", f"/v1/pupils/{PUPIL}/homework"):
        answer = await world.get(target, PUPIL, massar_position="1-1001")
        assert (answer.status_code, answer.json()["slug"]) == (503, "position-not-reached"), target
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    parts = (await world.get("/v1/home", PUPIL, massar_position="1-1001")).json()["parts"]
    assert {part["status"] for part in parts.values()} == {503}
    assert (await world.get(GRADES, PUPIL)).status_code == 200


async def test_nothing_older_stands_in_for_what_the_caller_wrote(world: World) -> None:
    await world.get(GRADES, PUPIL)
    await world.rabat.stop()
    world.marrakech.position, world.marrakech.data_age = "1-1400", "2"
    assert (await world.get(GRADES, PUPIL, massar_position="1-1400")).headers["massar-mode"] == "read-only"
    answer = await world.get(GRADES, PUPIL, massar_position="1-1500")
    assert answer.json()["slug"] == "position-not-reached"
    await world.marrakech.stop()
    world.clock.advance(HOUR_S)
    world.monotonic.advance(1)
    answer = await world.get(GRADES, PUPIL, massar_position="1-1001")
    assert answer.json()["slug"] == "datacenters-unavailable"
    assert (await world.get(GRADES, PUPIL, massar_position="1-1000")).headers["massar-data-age"]


@pytest.mark.parametrize("position", ["", "x", "1-", "1-2-3", "1-2,1-3", "-1-2"])
async def test_a_position_that_is_none_is_refused_cold_and_warm(world: World, position: str) -> None:
    for _ in range(2):
        answer = await world.get(GRADES, PUPIL, massar_position=position)
        assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
        assert answer.json()["pointer"] == "Massar-Position"
        await world.get(GRADES, PUPIL)
    assert (await world.get(GRADES, massar_position=position)).status_code == 401


async def test_a_position_means_nothing_where_nothing_is_read(world: World) -> None:
    assert (await world.get("/v1/status", massar_position="x")).status_code == 200


# Cache poisoning and cache deception: each test is named for the attack. Source: CWE-349, CWE-444, CWE-524.

UNKEYED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Scheme": "http",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "/v1/me",
    "X-Rewrite-URL": "/v1/me",
    "X-HTTP-Method-Override": "DELETE",
    "Forwarded": "host=evil.example",
    "Origin": "https://evil.example",
    "Cookie": "role=teacher",
    "Pragma": "no-cache",
    "Cache-Control": "no-store, max-age=0",
    "Range": "bytes=0-0",
    "If-Modified-Since": "Tue, 01 Sep 2037 00:00:00 GMT",
    "Accept": "text/html",
    "Massar-Epoch": "999",
    "Massar-Mode": "survival",
    "Massar-Principal": "teacher",
}


@pytest.mark.parametrize("name", UNKEYED)
async def test_unkeyed_header_poisoning_what_the_first_reader_sent_along_changes_nothing(
    world: World, name: str
) -> None:
    poisoned = await world.ask(
        "GET", GRADES, headers={"authorization": world.authorization(PARENT), name: UNKEYED[name]}
    )
    clean = await world.get(GRADES, PUPIL)
    assert (poisoned.status_code, clean.status_code) == (200, 200)
    assert poisoned.content == clean.content
    assert clean.headers["cache-status"] == "massar; hit; detail=memory"
    assert "evil.example" not in str(clean.headers)
    (seen,) = [seen for seen in world.rabat.seen if "/grades" in seen.target]
    assert UNKEYED[name] not in seen.headers.values() or name == "Massar-Epoch"
    assert seen.headers["massar-epoch"] == "1"


@pytest.mark.parametrize(("tag", "status"), [("*", 304), ('"AAAAAAAAAAAAAAAAAAAAAAAA"', 200)])
async def test_conditional_poisoning_a_cold_validator_keeps_no_empty_answer(
    world: World, tag: str, status: int
) -> None:
    assert (await world.get(GRADES, PARENT, if_none_match=tag)).status_code == status
    (seen,) = [seen for seen in world.rabat.seen if "/grades" in seen.target]
    assert "if-none-match" not in seen.headers
    whole = await world.get(GRADES, PUPIL)
    assert whole.status_code == 200
    assert whole.json()["year"] == 2026


async def test_head_poisoning_a_cold_head_keeps_no_empty_answer(world: World) -> None:
    plain = {"accept-encoding": "identity"}
    head = await world.ask("HEAD", GRADES, who=PARENT, headers=plain)
    whole = await world.ask("GET", GRADES, who=PUPIL, headers=plain)
    assert head.content == b""
    assert int(head.headers["content-length"]) == len(whole.content) > 0
    assert head.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize("query", ["session=1&session=2", "session=2&session=1", "session=1%26session=2"])
async def test_parameter_pollution_a_name_said_twice_is_refused_and_keeps_nothing(
    world: World, query: str
) -> None:
    refused = await world.get(f"{GRADES}?{query}", PARENT)
    assert refused.status_code == 400
    assert world.rabat.count("/grades") == 0
    for session in (1, 2):
        clean = await world.get(f"{GRADES}?session={session}", PUPIL)
        assert (clean.status_code, world.rabat.count(f"session={session}")) == (200, 1)


async def test_parameter_cloaking_what_no_route_takes_makes_no_key(world: World) -> None:
    for query in (
        "utm_source=a",
        "utm_source=a;session=2",
        "callback=evil",
        "_method=POST",
        "a=1&a=2",
        "%00=1",
    ):
        assert (await world.get(f"{GRADES}?{query}", PUPIL)).status_code == 200, query
    assert world.rabat.count("/grades") == 1


@pytest.mark.parametrize(
    "ending",
    [
        "/style.css",
        ".css",
        "%2Fstyle.css",
        "%00.css",
        ";.css",
        "%3Bx.css",
        "%23.css",
        "%3F.css",
        "/..%2Fme",
        "%0A.js",
    ],
)
async def test_cache_deception_a_path_that_looks_like_a_file_is_no_path(world: World, ending: str) -> None:
    for _ in range(2):
        answer = await world.get(f"{GRADES}{ending}", PUPIL)  # who may read the grades themselves
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
        assert "hit" not in answer.headers.get("cache-status", "")
    assert world.rabat.count("/grades") == 0


async def test_response_poisoning_what_a_datacenter_adds_for_one_reader_reaches_nobody(world: World) -> None:
    canned = msgspec.json.decode((await world.get(GRADES, PUPIL)).content)
    world.clock.advance(2 * HOUR_S)
    both(
        world,
        f"/v1/pupils/{PUPIL}/grades",
        Canned(
            body=msgspec.json.encode(canned),
            headers={"set-cookie": "session=of-one-reader", "location": "https://evil.example", "vary": "*"},
        ),
    )
    for who in (PARENT, PUPIL):
        answer = await world.get(GRADES, who)
        assert answer.status_code == 200
        assert not {"set-cookie", "location"} & answer.headers.keys()
        assert answer.headers["vary"] == "Accept-Encoding, Authorization"


def test_under_pressure_every_shared_answer_is_kept_for_longer_than_any_personal_one() -> None:
    modules = [importlib.import_module(one.name) for one in pkgutil.iter_modules(routes.__path__, "routes.")]
    values = [value for module in (*modules, reading) for value in vars(module).values()]
    declared = {id(read): read for value in values if (read := _cached_read(value)) is not None}.values()
    shared = [read for read in declared if read.shared]
    personal = [read.freshness.life_s for read in declared if not read.shared]
    assert len(shared) >= 4
    assert len(personal) >= 6
    assert all(max(read.freshness.life_s, SHARED_LIFE_MIN_S) > max(personal) for read in shared)


def _cached_read(value: object) -> CachedRead | None:
    return value.read if isinstance(value, Endpoint) else value if isinstance(value, CachedRead) else None


async def test_the_tiers_keep_the_calendar_as_what_many_share_and_grades_as_one_persons(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bool] = {}
    put = MemoryTier.put

    def noting(tier: MemoryTier, key: str, held: Held, *, replace: bool = False) -> bool:
        kept[key] = held.shared
        return put(tier, key, held, replace=replace)

    monkeypatch.setattr(MemoryTier, "put", noting)
    for target in (TIMETABLE, GRADES):
        await world.get(target, PUPIL)
    shared = {key for key, is_shared in kept.items() if is_shared}
    assert sorted(key.split(":")[2].split("/")[0] for key in shared) == ["calendar", "classes"]
    assert any("grades" in key for key in kept.keys() - shared)
