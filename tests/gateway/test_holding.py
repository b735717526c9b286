"""Writes that wait out a planned switchover: bounded, in each user's order, and never anything else with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from datacenters import record
from datacenters.directory import Directory
from datacenters.etcd import Etcd, KeyValue
from datacenters.record import Phase, Record
from datacenters.unanswered import Switching
from gateway import holding as holding_module
from gateway.holding import Holding
from tests.auth.people import START
from tests.gateway.conftest import MakeWorld
from tests.gateway.origin import Origin, refusal
from tests.gateway.people import CLASS, MATH, PUPIL, TEACHER
from tests.gateway.world import (
    ABORTED,
    FREEZING,
    NOWHERE,
    PROMOTING,
    REPLAYING,
    SEALING,
    SWITCHED,
    World,
    follow,
)
from tests.waiting import eventually


class Waiting:
    """A Holding whose directory is told the record by hand, and what its writes did, in order."""

    def __init__(self, directory: Directory, *, held_max: int = 4) -> None:
        self.directory = directory
        self.holding = Holding(directory, held_max=held_max)
        self.did: list[str] = []
        self.under_way = 0
        self.most_under_way = 0

    def say(self, **changes: Any) -> Record:
        declared = msgspec.structs.replace(record.first(active="rabat", by="tests", now=START), **changes)
        self.directory._adopt(KeyValue(key="", value=record.encode(declared), revision=1))
        return declared

    async def write(self, subject: str, name: str, *, until: asyncio.Event | None = None) -> None:
        async with self.holding.turn(subject):
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.did.append(name)
            if until is not None:
                await until.wait()
            await asyncio.sleep(0)
            self.under_way -= 1

    def begin(self, subject: str, name: str, *, until: asyncio.Event | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self.write(subject, name, until=until))

    def empty(self) -> bool:
        return not self.holding._turns and not self.holding._held


@pytest.fixture
async def waiting() -> AsyncIterator[Waiting]:
    """Rabat serves at epoch 1."""
    etcd = Etcd([NOWHERE])
    made = Waiting(Directory(etcd, site="rabat", sites={}))
    made.say()
    yield made
    await etcd.aclose()


async def settled() -> None:
    """Everything that can go on without an event has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_while_a_site_serves_nothing_waits(waiting: Waiting) -> None:
    go_on = asyncio.Event()
    writing = [waiting.begin("teacher", name, until=go_on) for name in "abc"]
    await settled()
    assert (waiting.did, waiting.most_under_way) == (["a", "b", "c"], 3)
    go_on.set()
    await asyncio.gather(*writing)
    assert waiting.empty()


@pytest.mark.parametrize("after", [SWITCHED, ABORTED])
async def test_a_write_waits_from_the_freeze_until_a_site_serves(
    waiting: Waiting, after: dict[str, Any]
) -> None:
    waiting.say(**FREEZING)
    writing = waiting.begin("teacher", "a")
    steps = (FREEZING, SEALING, PROMOTING, REPLAYING) if after is SWITCHED else (FREEZING, SEALING)
    for step in steps:
        waiting.say(**step)
        await settled()
        assert waiting.did == [], step
    waiting.say(**after)
    await writing
    assert waiting.did == ["a"]
    assert waiting.empty()


@pytest.mark.parametrize(
    "unplanned",
    [{"phase": Phase.PROMOTING, "target": "marrakech", "epoch": 2}, {"phase": Phase.READ_ONLY}],
)
async def test_what_nobody_planned_is_not_waited_for(waiting: Waiting, unplanned: dict[str, Any]) -> None:
    waiting.say(**unplanned)
    await waiting.write("teacher", "a")  # and the forwarder refuses it
    await waiting.holding.passed()
    assert not await waiting.holding.over()


async def test_before_any_record_was_read_nothing_waits() -> None:
    etcd = Etcd([NOWHERE])
    waiting = Waiting(Directory(etcd, site="rabat", sites={}))
    await waiting.write("teacher", "a")
    await etcd.aclose()


async def test_one_users_writes_go_on_one_by_one_in_the_order_in_which_they_came(waiting: Waiting) -> None:
    waiting.say(**FREEZING)
    writing = [waiting.begin("teacher", name) for name in "abc"]
    await settled()
    waiting.say(**SWITCHED)
    writing.append(
        waiting.begin("teacher", "d")
    )  # came when nothing had to wait any more, but others still do
    await asyncio.gather(*writing)
    assert (waiting.did, waiting.most_under_way) == (["a", "b", "c", "d"], 1)
    assert waiting.empty()


async def test_users_do_not_wait_for_each_other(waiting: Waiting) -> None:
    waiting.say(**FREEZING)
    go_on = asyncio.Event()
    writing = [waiting.begin(subject, subject, until=go_on) for subject in ("one", "two", "three")]
    await settled()
    waiting.say(**SWITCHED)
    await settled()
    assert sorted(waiting.did) == ["one", "three", "two"]
    go_on.set()
    await asyncio.gather(*writing)


async def test_what_went_ahead_of_the_freeze_ends_before_what_came_after_it(waiting: Waiting) -> None:
    """It may wait for the switchover as well, when the datacenter sent it away."""
    go_on = asyncio.Event()
    ahead = [waiting.begin("teacher", name, until=go_on) for name in "ab"]
    await settled()
    waiting.say(**FREEZING)
    behind = waiting.begin("teacher", "c")
    await settled()
    waiting.say(**SWITCHED)
    await settled()
    assert waiting.did == ["a", "b"]
    go_on.set()
    await asyncio.gather(*ahead, behind)
    assert waiting.did == ["a", "b", "c"]
    assert waiting.empty()


async def test_more_than_may_wait_are_sent_away(waiting: Waiting) -> None:
    waiting.say(**FREEZING)
    writing = [waiting.begin(f"teacher{number}", "x") for number in range(4)]
    await settled()
    with pytest.raises(Switching) as refused:
        await waiting.write("teacher5", "too many")
    assert refused.value.retry_after_s in {1.0, 2.0, 3.0, 4.0, 5.0}
    with pytest.raises(Switching):
        await waiting.holding.passed()
    waiting.say(**SWITCHED)
    await asyncio.gather(*writing)
    await waiting.write("teacher5", "y")
    assert waiting.did == ["x"] * 4 + ["y"]
    assert waiting.empty()


def test_those_sent_away_do_not_come_back_as_one() -> None:
    assert {holding_module.come_back_in_s() for _ in range(400)} == {1.0, 2.0, 3.0, 4.0, 5.0}


async def test_a_switchover_that_does_not_end_lets_nobody_wait_for_ever(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding_module, "HELD_WITHIN_S", 0.05)
    waiting.say(**FREEZING)
    async with asyncio.timeout(10.0):
        answers = await asyncio.gather(
            waiting.write("teacher", "a"),
            waiting.write("teacher", "b"),
            waiting.write("other", "c"),
            waiting.holding.passed(),
            return_exceptions=True,
        )
    assert [type(answer) for answer in answers] == [Switching] * 4
    assert waiting.did == []
    assert waiting.empty()


async def test_who_goes_away_frees_its_place_and_holds_up_nobody(waiting: Waiting) -> None:
    waiting.say(**FREEZING)
    writing = [waiting.begin("teacher", name) for name in "abcd"]
    await settled()
    for gone in (writing[0], writing[2]):  # the first in the line, and one behind it
        gone.cancel()
    await settled()
    writing += [waiting.begin("teacher", name) for name in "ef"]
    await settled()
    waiting.say(**SWITCHED)
    await asyncio.gather(*writing, return_exceptions=True)
    assert waiting.did == ["b", "d", "e", "f"]
    assert waiting.empty()


async def test_who_goes_away_in_its_turn_lets_the_next_go_on(waiting: Waiting) -> None:
    waiting.say(**FREEZING)
    first = waiting.begin("teacher", "a", until=asyncio.Event())
    second = waiting.begin("teacher", "b")
    await settled()
    waiting.say(**SWITCHED)
    await settled()
    assert waiting.did == ["a"]
    first.cancel()
    await second
    assert waiting.did == ["a", "b"]
    assert waiting.empty()


async def test_passing_keeps_no_order_and_no_place(waiting: Waiting) -> None:
    waiting.say(**FREEZING)
    passing = [asyncio.create_task(waiting.holding.passed()) for _ in range(4)]
    await settled()
    assert not any(task.done() for task in passing)
    passing[0].cancel()
    await settled()
    late = asyncio.create_task(waiting.holding.passed())
    await settled()
    waiting.say(**ABORTED)
    await asyncio.gather(*passing[1:], late)
    assert waiting.empty()


# Through the whole gateway

BOOK = f"/v1/gradebooks/{CLASS}/{MATH}/1"
ENTRIES = f"{BOOK}/entries"


async def enter(world: World, key: str) -> httpx.Response:
    row = {"pupil_id": PUPIL, "number": 1, "mark": "14.50", "state": "marked", "version": 3}
    headers = {"idempotency-key": key}
    return await world.ask("PUT", ENTRIES, who=TEACHER, headers=headers, json={"entries": [row]})


def keys_of(origin: Origin) -> list[str]:
    """The writes that a datacenter was asked, in order."""
    return [seen.headers["idempotency-key"] for seen in origin.seen if seen.method == "PUT"]


class Line:
    """Writes that a gateway was asked one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.came: list[str] = []
        self.answers: list[asyncio.Task[httpx.Response]] = []

    async def enter(self, *keys: str) -> None:
        """Ask for a write under each key; the next only when the one before has come to wait."""
        for key in keys:
            self.answers.append(asyncio.create_task(enter(self.world, key)))
            await eventually(lambda: len(self.came) == len(self.answers), within_s=10.0)

    async def statuses(self) -> list[int]:
        return [answer.status_code for answer in await asyncio.gather(*self.answers)]


@pytest.fixture
async def line(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    """A gateway that has followed the record into a planned switchover."""
    made = Line(world)
    turn = Holding.turn

    def noted(self: Holding, subject: str) -> Any:
        made.came.append(subject)
        return turn(self, subject)

    monkeypatch.setattr(Holding, "turn", noted)
    yield made
    for answer in made.answers:
        answer.cancel()
    await asyncio.gather(*made.answers, return_exceptions=True)


async def test_a_planned_switchover_is_waited_out_and_each_write_sent_once_in_order(
    line: Line, world: World, etcd_client: Etcd
) -> None:
    await follow(world, etcd_client, **FREEZING)
    await line.enter("key-1", "key-2", "key-3")
    for step in (SEALING, PROMOTING, REPLAYING):
        await follow(world, etcd_client, **step)
    assert not any(answer.done() for answer in line.answers)
    assert keys_of(world.rabat) == keys_of(world.marrakech) == []
    world.marrakech.epoch, world.marrakech.position = 2, "2-1500"
    await follow(world, etcd_client, **SWITCHED)
    assert await line.statuses() == [200] * 3
    assert keys_of(world.marrakech) == ["key-1", "key-2", "key-3"]
    assert keys_of(world.rabat) == []
    assert {seen.headers["massar-epoch"] for seen in world.marrakech.seen if seen.method == "PUT"} == {"2"}


async def test_an_aborted_switchover_releases_them_to_the_same_site(
    line: Line, world: World, etcd_client: Etcd
) -> None:
    await follow(world, etcd_client, **FREEZING)
    await line.enter("key-1")
    world.rabat.epoch = 2
    await follow(world, etcd_client, **ABORTED)
    assert await line.statuses() == [200]
    assert (keys_of(world.rabat), keys_of(world.marrakech)) == (["key-1"], [])


async def test_reads_never_wait(line: Line, world: World, etcd_client: Etcd) -> None:
    await follow(world, etcd_client, **FREEZING)
    await line.enter("key-1")
    async with asyncio.timeout(2.0):
        for target, who in ((BOOK, TEACHER), (f"/v1/pupils/{PUPIL}/timetable", PUPIL)):
            answer = await world.get(target, who)
            assert (answer.status_code, answer.headers["massar-mode"]) == (200, "switching")
    assert not line.answers[0].done()


async def test_a_switchover_that_takes_too_long_sends_them_away_in_words(
    line: Line, world: World, etcd_client: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding_module, "HELD_WITHIN_S", 0.05)
    await follow(world, etcd_client, **FREEZING)
    answer = await enter(world, "key-1")
    assert (answer.status_code, answer.json()["slug"]) == (503, "switching")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert keys_of(world.rabat) == []


async def test_what_waits_leaves_room_for_reads(make_world: MakeWorld, etcd_client: Etcd) -> None:
    world = await make_world(in_flight_max=2)
    await follow(world, etcd_client, **FREEZING)
    first = asyncio.create_task(enter(world, "key-1"))
    await eventually(lambda: len(world.app._places) == 1, within_s=10.0)
    over = await enter(world, "key-2")
    assert (over.status_code, over.json()["slug"]) == (503, "switching")
    assert (await world.get(BOOK, TEACHER)).status_code == 200
    world.rabat.epoch = 2
    await follow(world, etcd_client, **ABORTED)
    assert (await first).status_code == 200


async def test_a_datacenter_that_froze_before_this_worker_heard_of_it_is_waited_for(
    line: Line, world: World, etcd_client: Etcd
) -> None:
    world.rabat.write_gate = asyncio.Event()
    await line.enter("key-1")
    await eventually(lambda: keys_of(world.rabat), within_s=10.0)
    world.rabat.canned[ENTRIES] = refusal(503, "switching")
    await follow(world, etcd_client, **FREEZING)
    world.rabat.write_gate.set()
    await line.enter("key-2")
    assert not line.answers[0].done()
    world.marrakech.epoch, world.marrakech.position = 2, "2-1500"
    await follow(world, etcd_client, **SWITCHED)
    assert await line.statuses() == [200, 200]
    assert keys_of(world.marrakech) == ["key-1", "key-2"]
