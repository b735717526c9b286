"""Warm reads: what was decided before is used again while everything it was decided by holds, and no longer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from auth.principal import Role
from cache.generations import EVERYTHING
from gateway import warm_reads
from gateway.decisions import TARGET_CHARS_MAX
from gateway.warm_reads import Wanted
from sandbox.valkey import ValkeyServer
from tests.gateway.conftest import MakeWorld
from tests.gateway.origin import refusal
from tests.gateway.people import CLASS, CLASSMATE, OTHER_CLASS, PARENT, PUPIL, SCHOOL, STRANGER, TEACHER
from tests.gateway.world import SID, Plain, World, answered, scope_of
from tests.waiting import eventually

GRADES = f"/v1/pupils/{PUPIL}/grades"
ABSENCES = f"/v1/pupils/{PUPIL}/absences"
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"
CALENDAR = {
    "year": 2026, "session": 1, "week": "2026-W47", "today": "2026-11-18", "first_day": "2026-09-02",
    "last_day": "2027-06-30", "as_of": "2026-11-17T16:05:00Z",
}  # fmt: skip


class Asking:
    """One caller's request, sent again and again, and how often it was decided anew."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.warm = world.app._warm_reads
        self.decided = 0
        self._authorizations: dict[str, bytes] = {}
        decide = self.warm._let_in

        def counting(*args: Any) -> Any:
            self.decided += 1
            return decide(*args)

        monkeypatch.setattr(self.warm, "_let_in", counting)

    async def ask(
        self, path: str = GRADES, who: str = PUPIL, *, query: bytes = b"", after: bytes = b"", **given: Any
    ) -> Plain:
        named = f"{who} {given}"
        if named not in self._authorizations:  # every token that is issued is another one
            self._authorizations[named] = self.world.authorization(who, **given).encode()
        headers = [(b"authorization", self._authorizations[named])]
        if after:
            headers.append((b"massar-position", after))
        return await answered(self.world.app, scope_of("GET", path, query=query, headers=headers))

    def purge(self, *tags: str) -> None:
        self.warm._cache.purge_memory(tags, None)

    def sign_in_again(self) -> None:
        self._authorizations.clear()

    def forget_decisions(self) -> None:
        self.warm._decisions._made.clear()


@pytest.fixture
async def asking(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> Asking:
    """A caller whose grades are warm, and decided."""
    found = Asking(await make_world(rate_burst=100_000), monkeypatch)
    for path in (GRADES, TIMETABLE):
        for _ in range(2):
            assert (await found.ask(path)).status == 200
    found.decided = 0
    return found


async def test_the_same_request_is_let_in_once(asking: Asking) -> None:
    answers = [await asking.ask() for _ in range(3)]
    assert asking.decided == 0
    assert len({answer.body for answer in answers}) == 1
    assert {answer.header("cache-status") for answer in answers} == {"massar; hit; detail=memory"}


async def test_another_target_or_session_is_let_in_for_itself(asking: Asking) -> None:
    for given in ({"query": b"session=1"}, {"query": b"session=01"}, {"sid": "another-session"}):
        before = asking.decided
        await asking.ask(**given)
        assert asking.decided > before, given


async def test_a_target_of_any_length_takes_no_more_room_than_a_usual_one(asking: Asking) -> None:
    kept = len(asking.warm._decisions)
    for number in range(3):
        answer = await asking.ask(query=b"unknown=%d" % number + b"x" * TARGET_CHARS_MAX)
        assert answer.header("cache-status") == "massar; hit; detail=memory"
    assert len(asking.warm._decisions) == kept


async def test_what_was_decided_shows_no_entry_from_before_the_callers_write(asking: Asking) -> None:
    asking.world.rabat.position = "1-1500"
    for position, word in ((b"1-1000", "hit"), (b"1-1400", "fwd=miss"), (b"1-1400", "hit")):
        answer = await asking.ask(after=position)
        assert (answer.header("cache-status") or "").split("; ")[1] == word, position


async def test_facts_are_fetched_ahead_though_the_caller_was_decided_about(asking: Asking) -> None:
    asking.world.clock.advance(53.0)
    asking.world.rabat.seen.clear()
    for _ in range(2):
        assert (await asking.ask()).status == 200
    await eventually(lambda: asking.world.rabat.count("/relations") == 1, within_s=10)


async def test_another_role_of_the_same_session_is_let_in_for_itself(asking: Asking) -> None:
    assert (await asking.ask(sid=SID, role=Role.PARENT)).status == 404
    assert (await asking.ask(sid=SID, role=Role.TEACHER)).slug == "role-not-allowed"
    assert (await asking.ask()).status == 200


async def test_a_relation_that_ended_ends_the_decision(asking: Asking) -> None:
    asking.world.rabat.say(
        f"/v1/people/{PUPIL}/relations", subject=PUPIL, generation=2, pupils={}, classes={}
    )
    assert (await asking.ask()).status == 200
    asking.purge(f"relations:{PUPIL}")
    assert (await asking.ask()).status == 404
    assert (await asking.ask()).status == 404


async def test_who_changes_class_gets_the_new_class_timetable(asking: Asking) -> None:
    before = await asking.ask(TIMETABLE)
    pupils = {PUPIL: {"relation": "self", "class_id": OTHER_CLASS, "school": SCHOOL}}
    asking.world.rabat.say(
        f"/v1/people/{PUPIL}/relations", subject=PUPIL, generation=2, pupils=pupils, classes={}
    )
    asking.purge(f"relations:{PUPIL}")
    after = await asking.ask(TIMETABLE)
    assert CLASS.encode() in before.body
    assert OTHER_CLASS.encode() in after.body
    assert (await asking.ask(TIMETABLE)).body == after.body


async def test_a_session_that_ended_is_refused_though_it_was_let_in(asking: Asking) -> None:
    asking.warm._verified._denials.deny(SID, asking.world.clock() + 600, asking.world.clock())
    assert (await asking.ask()).slug == "session-ended"


async def test_a_token_that_ran_out_is_refused_though_it_was_let_in(asking: Asking) -> None:
    headers = [(b"authorization", asking.world.authorization(PUPIL).encode())]
    assert (await answered(asking.world.app, scope_of("GET", GRADES, headers=headers))).status == 200
    asking.world.clock.advance(600)
    assert (
        await answered(asking.world.app, scope_of("GET", GRADES, headers=headers))
    ).slug == "token-expired"


async def test_a_new_school_week_ends_the_decision(asking: Asking) -> None:
    asking.world.rabat.say("/v1/calendar", **{**CALENDAR, "week": "2026-W48"})
    assert b'"2026-W47"' in (await asking.ask(TIMETABLE)).body
    asking.purge("calendar")
    assert b'"2026-W48"' in (await asking.ask(TIMETABLE)).body


def grow_old(asking: Asking) -> None:
    asking.world.clock.advance(901.0)
    asking.sign_in_again()


CHANGED: list[Callable[[Asking], None]] = [
    lambda asking: asking.purge(f"grades:{CLASS}"),
    lambda asking: asking.purge(EVERYTHING),
    lambda asking: asking.warm._cache.begin_era(),
    lambda asking: asking.warm._cache.clear_memory(),
    lambda asking: asking.warm._cache._memory.delete(f"family:1:pupils/{PUPIL}/grades/2026/1"),
    grow_old,
    lambda asking: asking.warm._cache.set_epoch(3, None),
]


@pytest.mark.parametrize(
    "change", CHANGED, ids=["tag", "everything", "era", "clear", "evicted", "old", "epoch"]
)
async def test_what_left_the_tier_is_not_shown_again(
    asking: Asking, change: Callable[[Asking], None]
) -> None:
    assert (await asking.ask()).status == 200
    change(asking)
    for origin in (asking.world.rabat, asking.world.marrakech):
        for beginning in ("/v1/pupils", "/v1/people", "/v1/calendar"):
            origin.canned[beginning] = refusal(404, "not-found")
    answer = await asking.ask()
    assert (answer.status, answer.slug) == (404, "not-found")


async def test_an_entry_fetched_anew_takes_the_place_of_the_one_that_was_let_in_for(asking: Asking) -> None:
    before = await asking.ask()
    changed = {**msgspec.json.decode(before.body), "as_of": "2026-11-18T08:00:00Z"}
    asking.world.rabat.say(GRADES, **changed)
    assert (await asking.ask()).body == before.body
    asking.purge(f"grades:{CLASS}")
    asking.decided = 0
    for _ in range(3):
        assert msgspec.json.decode((await asking.ask()).body) == changed
    assert asking.decided == 2, "let in and found cold, then decided for the new entry, then shown"


async def test_personal_entries_are_hidden_while_sign_outs_cannot_be_heard_and_shared_ones_are_not(
    asking: Asking,
) -> None:
    asking.world.app._standing._denials_silent_for_s = lambda: 1e9
    asking.world.app._standing._known = None
    assert (await asking.ask()).slug == "denials-unavailable"
    assert (await asking.ask(TIMETABLE)).status == 200


async def test_limits_count_what_was_let_in_before(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    limited: list[str] = []
    monkeypatch.setattr(asking.warm._rate_limit, "admit", limited.append)
    for _ in range(3):
        await asking.ask()
    assert limited == [PUPIL] * 3


async def test_lines_of_one_kind_are_worded_once_and_few_are_kept(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.warm._words.clear()
    monkeypatch.setattr(warm_reads, "WORDS_MAX", 1)
    for path in (GRADES, TIMETABLE, GRADES):
        await asking.ask(path)
        assert len(asking.warm._words) == 1
        assert path.rsplit("/", 1)[1].encode() in asking.world.app._access_log._lines[-1]


async def test_decisions_say_what_they_would_say_if_they_were_made_each_time(asking: Asking) -> None:
    """Whatever happens in whatever order: the answer by what was decided before is the one without it."""
    drawn = random.Random(20_261_123)
    world = asking.world
    targets = [
        (GRADES, PUPIL), (GRADES, PARENT), (GRADES, CLASSMATE), (TIMETABLE, PUPIL), (TIMETABLE, PARENT),
        (TIMETABLE, TEACHER), (ABSENCES, TEACHER), (ABSENCES, PUPIL), (f"/v1/pupils/{STRANGER}/timetable", PARENT),
    ]  # fmt: skip
    generation = 1

    def relate() -> None:
        nonlocal generation
        generation += 1
        kept = {
            PUPIL: {"relation": "child", "class_id": drawn.choice((CLASS, OTHER_CLASS)), "school": SCHOOL}
        }
        pupils = kept if drawn.random() < 0.7 else {}
        world.rabat.say(
            f"/v1/people/{PARENT}/relations", subject=PARENT, generation=generation, pupils=pupils, classes={}
        )
        asking.purge(f"relations:{PARENT}")

    def week() -> None:
        world.rabat.say("/v1/calendar", **{**CALENDAR, "week": f"2026-W{drawn.randrange(40, 50)}"})
        asking.purge("calendar")

    def pass_time() -> None:
        world.clock.advance(drawn.choice((0.5, 4.0, 50.0)))
        asking.sign_in_again()

    events: list[Callable[[], object]] = [
        relate,
        week,
        lambda: asking.purge(drawn.choice((f"grades:{CLASS}", f"timetable:{CLASS}", f"absences:{PUPIL}"))),
        pass_time,
        asking.warm._cache.clear_memory,
    ]
    reused = 0
    for _ in range(400):
        if drawn.random() < 0.25:
            drawn.choice(events)()
        path, who = drawn.choice(targets)
        before = asking.decided
        by_memo = await asking.ask(path, who)
        reused += asking.decided == before
        asking.forget_decisions()
        anew = await asking.ask(path, who)
        assert by_memo.status == anew.status
        assert by_memo.status == 404 or by_memo.body == anew.body  # a problem names its request
        assert by_memo.header("etag") == anew.header("etag")
        await asking.ask(path, who)
    assert reused > 20


# What is not in this process


@pytest.fixture
async def beside(
    make_world: MakeWorld, valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> Asking:
    """A worker that knows its caller and the week; grades and timetable are in tier 2, where another worker put them."""
    async with Redis.from_url(valkey_server.url) as raw:
        await raw.flushall()
    first, second = [await make_world(valkey_url=valkey_server.url, rate_burst=100_000) for _ in range(2)]
    asking = Asking(second, monkeypatch)
    for path in (GRADES, TIMETABLE):
        await first.get(path, PUPIL)

    async def shared() -> bool:
        second.app._warm_reads._cache.clear_memory()
        found = [(await asking.ask(path)).header("cache-status") for path in (GRADES, TIMETABLE)]
        return found == ["massar; hit; detail=valkey"] * 2

    await eventually(shared, within_s=10.0)
    for key in [
        key for key in asking.warm._cache._memory._held if "/relations" not in key and "calendar" not in key
    ]:
        asking.warm._cache._memory.delete(key)
    first.rabat.seen.clear()
    return asking


async def test_what_tier_2_has_is_answered_without_admission_or_router(
    beside: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside.world.app, "_through", None)  # whoever comes there fails
    for path, etag in ((GRADES, None), (TIMETABLE, None)):
        answer = await beside.ask(path)
        assert (answer.status, answer.header("cache-status")) == (200, "massar; hit; detail=valkey"), etag
        again = await beside.ask(path)
        assert (again.body, again.header("cache-status")) == (answer.body, "massar; hit; detail=memory")
        assert again.header("etag") == answer.header("etag")
    assert not beside.world.rabat.seen


async def test_a_hit_in_tier_2_is_counted_timed_and_told_like_every_request(beside: Asking) -> None:
    answer = await beside.ask(GRADES)
    line = msgspec.json.decode(beside.world.app._access_log._lines[-1])
    assert line["request_id"] == answer.header("massar-request-id")
    told = {
        name: line[name] for name in ("route", "status", "cache", "role", "relation", "rule", "datacenter")
    }
    assert told == {
        "route": "/v1/pupils/{pupil_id}/grades",
        "status": 200,
        "cache": "hit",
        "role": "student",
        "relation": "self",
        "rule": "pupil-family",
        "datacenter": "-",
    }
    beside.warm._cache._memory.delete(f"family:1:pupils/{PUPIL}/grades/2026/1")
    metrics, route = beside.world.metrics, "/v1/pupils/{pupil_id}/grades"

    def counted() -> tuple[float, float, float]:
        metrics.flush()
        return (
            metrics._requests.labels(route, "GET", "200")._value.get(),
            metrics._cache.labels("hit_tier2")._value.get(),
            sum(bucket.get() for bucket in metrics._seconds.labels(route)._buckets),
        )

    before = counted()
    await beside.ask(GRADES)
    assert [after - was for after, was in zip(counted(), before, strict=True)] == [1, 1, 1]


async def test_the_look_in_tier_2_counts_in_what_a_miss_took(
    beside: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = beside.warm.find

    async def slow(wanted: Wanted) -> Any:
        beside.world.monotonic.advance(0.3)
        return await find(wanted)

    monkeypatch.setattr(beside.warm, "find", slow)
    assert (await beside.ask(ABSENCES)).status == 200
    assert msgspec.json.decode(beside.world.app._access_log._lines[-1])["ms"] >= 300


async def test_an_error_in_the_look_is_told_as_every_error_and_counts_once_against_the_limit(
    beside: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_ask: Any) -> Any:
        raise RuntimeError("salma 14.50")

    limited: list[str] = []
    monkeypatch.setattr(beside.warm._rate_limit, "admit", limited.append)
    monkeypatch.setattr(beside.warm._cache, "_look", broken)
    answer = await beside.ask(GRADES)
    assert (answer.status, answer.slug, b"14.50" in answer.body) == (500, "internal", False)
    assert limited == [PUPIL]
    assert msgspec.json.decode(beside.world.app._access_log._lines[-1])["slug"] == "internal"
    assert len(beside.world.app._places) == 0


async def test_who_leaves_while_tier_2_is_asked_is_told_of_once(beside: Asking) -> None:
    before = len(beside.world.app._access_log._lines)
    asking = asyncio.create_task(beside.ask(GRADES))
    await asyncio.sleep(0)
    assert beside.warm._cache._looks
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (line,) = beside.world.app._access_log._lines[before:]
    assert msgspec.json.decode(line)["status"] == 499
    assert len(beside.world.app._places) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_phone_that_holds_what_tier_2_has_gets_a_304(beside: Asking, method: str) -> None:
    etag = (await beside.ask(GRADES)).header("etag") or ""
    beside.warm._cache._memory.delete(f"family:1:pupils/{PUPIL}/grades/2026/1")
    headers = [
        (b"authorization", beside.world.authorization(PUPIL).encode()),
        (b"if-none-match", etag.encode()),
    ]
    answer = await answered(beside.world.app, scope_of(method, GRADES, headers=headers))
    assert (answer.status, answer.body, answer.header("etag")) == (304, b"", etag)


async def test_who_was_let_in_is_not_asked_again_where_tier_2_has_nothing(
    beside: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = beside.world.app._cold_reads.__self__  # type: ignore[attr-defined]  # it is a bound method
    monkeypatch.setattr(cold, "_admission", None)  # whoever asks it fails
    limited: list[str] = []
    monkeypatch.setattr(beside.warm._rate_limit, "admit", limited.append)
    answer = await beside.ask(ABSENCES)
    assert (answer.status, answer.header("cache-status")) == (200, "massar; fwd=miss; stored")
    assert limited == [PUPIL]
    line = msgspec.json.decode(beside.world.app._access_log._lines[-1])
    assert (line["role"], line["relation"], line["datacenter"]) == ("student", "self", "rabat")


async def test_no_more_look_in_tier_2_at_once_than_a_worker_works_on(
    beside: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside.world.app._places, "working", beside.world.settings.in_flight_max)
    assert (await beside.ask(GRADES)).slug == "overloaded"
    monkeypatch.setattr(beside.world.app._places, "working", 0)
    assert (await beside.ask(GRADES)).status == 200
    assert len(beside.world.app._places) == 0


async def test_an_entry_of_tier_2_from_before_the_callers_write_is_passed_over(beside: Asking) -> None:
    beside.world.rabat.position = "1-1500"
    headers = [
        (b"authorization", beside.world.authorization(PUPIL).encode()),
        (b"massar-position", b"1-1400"),
    ]
    answer = await answered(beside.world.app, scope_of("GET", GRADES, headers=headers))
    assert (answer.status, answer.header("cache-status")) == (200, "massar; fwd=miss; stored")


async def test_a_purged_entry_of_tier_2_is_fetched_anew(beside: Asking) -> None:
    await beside.warm._cache.purge((f"grades:{CLASS}",), None)
    answer = await beside.ask(GRADES)
    assert (answer.status, answer.header("cache-status")) == (200, "massar; fwd=miss; stored")


async def test_a_stale_entry_of_tier_2_is_shown_with_its_age(beside: Asking) -> None:
    beside.world.clock.advance(1.0)
    beside.warm._cache.soften((f"grades:{CLASS}",), beside.world.clock())
    answer = await beside.ask(GRADES)
    assert (answer.status, answer.header("cache-status")) == (
        200,
        "massar; hit; detail=stale-while-revalidate",
    )
    assert answer.header("massar-data-age") is not None
