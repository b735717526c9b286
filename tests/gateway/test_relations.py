"""Facts by subject: at most a minute old while anybody answers, and closed when nobody can say."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import NoReturn

import msgspec
import pytest

from auth.principal import Facts, PupilFact, Relation
from cache import asking, policy
from cache.cache_key import CacheKey
from cache.memory import MemoryTier
from cache.softened import Softened
from tests.auth.people import START
from tests.cache.building import entry
from tests.gateway.origin import Canned, refusal
from tests.gateway.people import FACTS, OTHER_PARENT, PARENT, PUPIL
from tests.gateway.world import World
from tests.waiting import eventually

RELATIONS = f"/v1/people/{PARENT}/relations"
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"
HOUR_S = 3600.0


async def test_facts_are_asked_for_once_for_many_requests_at_once(world: World) -> None:
    world.rabat.gate = asyncio.Event()
    asking = [asyncio.create_task(world.get(TIMETABLE, PARENT)) for _ in range(20)]
    await world.rabat.arrived.wait()
    await asyncio.sleep(0)
    world.rabat.gate.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert world.rabat.count("/relations") == 1


async def test_facts_of_a_minute_ago_are_asked_for_again(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    world.clock.advance(44)
    await world.get(TIMETABLE, PARENT)
    assert world.rabat.count(RELATIONS) == 1
    world.clock.advance(17)
    world.rabat.say(RELATIONS, subject=PARENT, generation=2, pupils={}, classes={})
    assert (await world.get(TIMETABLE, PARENT)).status_code == 404
    assert world.rabat.count(RELATIONS) == 2
    assert (await world.get(TIMETABLE, OTHER_PARENT)).status_code == 200


async def test_who_is_there_all_the_time_never_waits_for_facts(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    for turn in range(2, 5):
        world.clock.advance(53)
        world.rabat.gate = asyncio.Event()
        world.rabat.arrived.clear()
        assert (await world.get(TIMETABLE, PARENT)).status_code == 200  # while the datacenter says nothing
        await world.rabat.arrived.wait()
        world.rabat.gate.set()
        await eventually(lambda: not world.app._warm_reads._reads._cache._ahead, within_s=10)
        assert world.rabat.count(RELATIONS) == turn


async def test_facts_fetched_ahead_count_at_once(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    world.clock.advance(53)
    world.rabat.say(RELATIONS, subject=PARENT, generation=2, pupils={}, classes={})
    assert (await world.get(TIMETABLE, PARENT)).status_code == 200
    await eventually(lambda: not world.app._warm_reads._reads._cache._ahead, within_s=10)
    assert (await world.get(TIMETABLE, PARENT)).status_code == 404


async def test_none_fetched_ahead_take_the_place_of_those_that_were(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    world.clock.advance(53)
    world.rabat.canned[RELATIONS] = refusal(404, "not-found")
    assert (await world.get(TIMETABLE, PARENT)).status_code == 200
    await eventually(lambda: not world.app._warm_reads._reads._cache._ahead, within_s=10)
    assert (await world.get(TIMETABLE, PARENT)).status_code == 404


async def test_facts_that_cannot_be_fetched_ahead_hold_no_longer_than_their_minute(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    world.clock.advance(53)
    for origin in (world.rabat, world.marrakech):
        origin.canned[RELATIONS] = refusal(500, "internal")
    asked = []
    for _ in range(3):
        assert (await world.get(TIMETABLE, PARENT)).status_code == 200
        await eventually(lambda: not world.app._warm_reads._reads._cache._ahead, within_s=10)
        asked.append(world.rabat.count(RELATIONS))
    assert len(set(asked)) == 1, "once, then when its minute is over"
    world.clock.advance(8)
    assert (await world.get(TIMETABLE, PARENT)).status_code == 503


UNUSABLE = [
    refusal(400, "bad-request"),
    refusal(409, "idempotency-key-in-progress"),
    refusal(500, "internal"),
    Canned(body=b"[]"),
    Canned(body=b'{"subject":"%s"}' % PARENT.encode()),
    Canned(body=b"\xff\xfe"),
    Canned(body=b"[" * 5000),
    Canned(body=msgspec.json.encode(FACTS[OTHER_PARENT])),
]


async def test_without_usable_facts_nobody_is_let_in_not_even_by_older_ones(world: World) -> None:
    assert (await world.get(TIMETABLE, PARENT)).status_code == 200
    world.clock.advance(61)
    for canned in UNUSABLE:
        for origin in (world.rabat, world.marrakech):
            origin.canned[RELATIONS] = canned
        answer = await world.get(TIMETABLE, PARENT)
        assert (answer.status_code, answer.json()["slug"]) == (503, "relations-unavailable"), canned
        assert int(answer.headers["retry-after"]) >= 1


async def test_facts_survive_for_hours_only_while_no_datacenter_answers_at_all(world: World) -> None:
    assert (await world.get(TIMETABLE, PARENT)).status_code == 200
    await world.rabat.stop()
    await world.marrakech.stop()
    slugs = []
    for hours in (0.5, 3.9, 4.1):
        world.clock.now = START + hours * HOUR_S
        slugs.append((await world.get(TIMETABLE, PARENT)).json().get("slug"))
    assert slugs == [None, None, "relations-unavailable"]


async def test_nobody_unknown_is_let_in_while_no_datacenter_answers(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    await world.rabat.stop()
    await world.marrakech.stop()
    answer = await world.get(TIMETABLE, OTHER_PARENT)
    assert (answer.status_code, answer.json()["slug"]) == (503, "relations-unavailable")


async def test_what_the_standby_says_of_relations_counts_for_one_request(world: World) -> None:
    await world.rabat.stop()
    for _ in range(2):
        assert (await world.get(TIMETABLE, PARENT)).status_code == 200
    assert world.marrakech.count(RELATIONS) == 2


@pytest.mark.parametrize(("data_age", "status"), [("7.4", 200), ("14399", 200), ("14401", 503)])
async def test_what_the_standby_says_of_relations_has_the_bound_of_survival(
    world: World, data_age: str, status: int
) -> None:
    await world.rabat.stop()
    world.marrakech.data_age = data_age
    assert (await world.get(TIMETABLE, PARENT)).status_code == status


async def test_a_standby_of_unknown_age_says_nothing_of_relations(world: World) -> None:
    assert (await world.get(TIMETABLE, PARENT)).status_code == 200  # Rabat's, on timeline 1
    await world.rabat.stop()
    answer = await world.get(TIMETABLE, OTHER_PARENT)
    assert (answer.status_code, answer.json()["slug"]) == (503, "relations-unavailable")
    world.marrakech.position = "2-1500"  # just promoted: of its own history it is the truth
    assert (await world.get(TIMETABLE, OTHER_PARENT)).status_code == 200


async def test_facts_are_asked_for_in_nobodys_name(world: World) -> None:
    await world.get(TIMETABLE, PARENT)
    asked = next(seen for seen in world.rabat.seen if "/relations" in seen.target)
    assert asked.target == f"{RELATIONS}?view=gateway"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("pupils", [1, 40, 400])
def test_what_decoded_facts_take_is_counted(pupils: int) -> None:
    facts = Facts("teacheraaaaaaaaa", 1, {
        f"pupil{number:011d}": PupilFact(relation=Relation.TAUGHT, class_id=f"class{number:011d}", school="schoolaaaaaaaaaa")
        for number in range(pupils)
    })  # fmt: skip
    decode, tier, body = (
        msgspec.json.Decoder(Facts).decode,
        MemoryTier(max_bytes=1 << 30),
        msgspec.json.encode(facts),
    )
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(50):
            key = f"gateway:1:people/{number}/relations"
            own = entry(bytes(bytearray(body)), tags=("*", f"relations:{number}"))
            ask = asking.ask(
                CacheKey(f"people/{number}/relations", "gateway"), policy.RELATIONS, own.tags[1:], no_fetch
            )
            kept = asking.held(ask, own, looked_at=0.0, now=0.0, lot=0.5, softened=Softened(max_tags=2))
            kept.prepared = decode(own.body)
            tier.put(key, kept)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"\n{pupils} pupils: {(after - before) / 50:.0f} of {tier.held_bytes / 50:.0f} counted")
    assert after - before <= tier.held_bytes


async def no_fetch(_previous: object) -> NoReturn:
    raise AssertionError("nothing is fetched")
