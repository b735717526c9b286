"""Whom a request goes to, how often, and what may be said of it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters import control, forwarding, record
from datacenters.attempts import Answer, Outcome
from datacenters.directory import ETCD_SILENT_MAX_S, Directory
from datacenters.etcd import Etcd
from datacenters.forwarding import Forwarder
from datacenters.forwarding_events import ForwardingEvents
from datacenters.hedging import SAMPLES_MIN
from datacenters.in_flight import Priority
from datacenters.position import NOWHERE, Position
from datacenters.record import Phase, Record
from datacenters.sites import Site
from datacenters.unanswered import (
    DatacentersUnavailable,
    OutcomeUnknown,
    Overloaded,
    PositionNotReached,
    ReadOnly,
    Switching,
)
from tests.datacenters.origin import CUT, CUT_IN_BODY, HANG, Origin, Reply, origins, problem
from tests.datacenters.worlds import NOW
from tests.waiting import eventually

KEY = Ed25519PrivateKey.generate()
FOLLOWING = Reply(body=b'"standby"', headers={"Massar-Data-Age": "0.8", "Massar-Position": "1-480"})
ENDED = problem(409, "stale-epoch", Massar_Epoch="2")
CLOSED = problem(503, "read-only")
IN_PROGRESS = problem(409, "idempotency-key-in-progress")


class Events(ForwardingEvents):
    """Keeps what it is told of repeats, hedges and refusals."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def repeated(self, datacenter: str, kind: str) -> None:
        self.told.append((datacenter, kind))

    def hedged(self, datacenter: str, *, won: bool) -> None:
        self.told.append((datacenter, "won" if won else "hedged"))

    def shed(self, datacenter: str, priority: Priority) -> None:
        self.told.append((datacenter, f"shed {priority}"))


class World:
    """One gateway at Marrakech over two scripted datacenters and a real etcd."""

    def __init__(self, etcd: Etcd, rabat: Origin, marrakech: Origin, **options: Any) -> None:
        self.etcd = etcd
        self.rabat = rabat
        self.marrakech = marrakech
        self.now = 0.0
        self.outcomes: list[tuple[str, Outcome]] = []
        self.users: list[tuple[str, bool]] = []
        self.events = Events()
        sites = {
            "rabat": Site(datacenter_url=rabat.url),
            "marrakech": Site(datacenter_url=marrakech.url),
            "witness": Site(),
        }
        self.directory = Directory(etcd, site="marrakech", sites=sites, poll_s=60.0, monotonic=self.monotonic)
        self.forwarder = Forwarder(
            self.directory,
            sites=sites,
            site="marrakech",
            assertion_key=KEY,
            on_outcome=lambda datacenter, outcome: self.outcomes.append((datacenter, outcome)),
            on_user=lambda datacenter, well: self.users.append((datacenter, well)),
            events=self.events,
            monotonic=self.monotonic,
            jitter=lambda: 0.5,
            **options,
        )

    def monotonic(self) -> float:
        return self.now

    async def read(self, *, not_before: Position = NOWHERE) -> Answer:
        return await self.forwarder.read("/v1/calendar?view=public", not_before=not_before)

    async def write(self) -> Answer:
        return await self.forwarder.write(
            "PUT", "/v1/x", b"{}", idempotency_key="k", subject="t" * 16, role="teacher"
        )

    async def change(self, **changes: Any) -> Record:
        held = await control.read(self.etcd)
        assert held is not None
        changed = msgspec.structs.replace(
            held.record, **{"decided_at": held.record.decided_at + 1, **changes}
        )
        assert await control.change(self.etcd, held, changed)
        return changed

    async def moved(self) -> Record:
        """Marrakech has taken over; this gateway may or may not have heard of it yet."""
        return await self.change(epoch=2, active="marrakech", switch_position="1-490")

    @property
    def sent(self) -> tuple[int, int]:
        return len(self.rabat.seen), len(self.marrakech.seen)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the record again may take its time on a machine that does other things."""
    monkeypatch.setattr(forwarding, "REFRESH_S", 5.0)


@pytest.fixture
async def at(etcd: Etcd) -> AsyncIterator[World]:
    async with in_the_world(etcd) as world:
        yield world


@asynccontextmanager
async def in_the_world(etcd: Etcd, **options: Any) -> AsyncIterator[World]:
    await control.bootstrap(etcd, active="rabat", now=NOW)
    async with origins("rabat", "marrakech") as (rabat, marrakech):
        world = World(etcd, rabat, marrakech, **options)
        marrakech.reply(FOLLOWING)
        try:
            assert await world.directory.start()
            yield world
        finally:
            rabat.released.set()
            marrakech.released.set()
            await world.directory.stop()
            await world.forwarder.aclose()


async def test_a_read_goes_to_the_active_datacenter(at: World) -> None:
    answer = await at.read()
    assert (answer.datacenter, answer.from_standby, answer.position) == ("rabat", False, (1, 500))
    assert at.sent == (1, 0)
    assert at.outcomes == [("rabat", Outcome.OK)]


async def test_a_revalidation_carries_the_etag(at: World) -> None:
    at.rabat.reply(Reply(status=304, body=b""))
    answer = await at.forwarder.read("/v1/x", if_none_match='"abc"', subject="p" * 16, role="parent")
    assert answer.status == 304
    assert at.rabat.seen[0].headers["if-none-match"] == '"abc"'


@pytest.mark.parametrize(
    ("reply", "times"),
    [
        (None, 0),
        (problem(503, "read-only"), 1),
        (problem(503, "overloaded"), 1),
        (problem(401, "assertion-invalid"), 1),
        (CUT, 2),
        (CUT_IN_BODY, 2),
        (problem(500, "internal"), 2),
        (Reply(status=502), 2),
    ],
)
async def test_a_read_the_active_one_fails_is_given_once_to_the_standby(
    at: World, reply: Reply | None, times: int
) -> None:
    if reply is None:
        await at.rabat.stop()
    else:
        at.rabat.reply(reply)
    answer = await at.read()
    assert (answer.datacenter, answer.from_standby, answer.data_age_s) == ("marrakech", True, 0.8)
    assert at.sent == (times, 1)
    assert at.events.told[-1] == ("marrakech", "failover")


@pytest.mark.parametrize("reply", [CUT, problem(500, "internal"), Reply(status=502)])
async def test_a_read_that_failed_in_passing_is_answered_by_the_same_datacenter(
    at: World, reply: Reply
) -> None:
    at.rabat.reply(reply, Reply())
    answer = await at.read()
    assert (answer.datacenter, answer.from_standby) == ("rabat", False)
    assert at.sent == (2, 0)
    assert at.events.told == [("rabat", "retry")]


async def test_a_read_is_sent_three_times_at_most(at: World) -> None:
    at.rabat.reply(CUT)
    at.marrakech.reply(CUT)
    with pytest.raises(DatacentersUnavailable):
        await at.read()
    assert at.sent == (2, 1)


async def test_repeats_are_a_tenth_of_the_requests_and_the_standby_is_asked_all_the_same(at: World) -> None:
    at.rabat.reply(problem(500, "internal"))
    for _ in range(60):
        assert (await at.read()).from_standby
    assert at.sent[1] == 60
    assert 60 < at.sent[0] <= 60 + 6
    assert at.events.told.count(("rabat", "retry")) == at.sent[0] - 60


# Hedges


async def known(at: World) -> None:
    """Enough reads for the datacenter's latency to be known (the clock stands still: the shortest there is)."""
    for _ in range(SAMPLES_MIN):
        await at.read()


async def test_a_slow_read_is_asked_for_once_more_and_the_loser_leaves(at: World) -> None:
    await known(at)
    at.rabat.reply(HANG, Reply(body=b'"second"'))
    answer = await at.read()
    assert (answer.body, answer.from_standby) == (b'"second"', False)
    assert at.sent == (SAMPLES_MIN + 2, 0)
    assert at.events.told == [("rabat", "hedged"), ("rabat", "won")]
    assert at.forwarder._attempts.lane("rabat")._limit.in_flight == 0
    assert at.outcomes.count(("rabat", Outcome.OK)) == SAMPLES_MIN + 1


async def test_the_first_one_may_still_win(at: World) -> None:
    await known(at)
    at.rabat.reply(msgspec.structs.replace(HANG, body=b'"first"'), HANG)
    reading = asyncio.create_task(at.read())
    await eventually(lambda: at.sent[0] == SAMPLES_MIN + 2, within_s=5.0)
    at.rabat.released.set()
    await reading
    assert ("rabat", "hedged") in at.events.told


async def test_hedges_have_the_same_budget(at: World) -> None:
    await known(at)
    at.rabat.reply(*[HANG, Reply()] * 3, HANG)
    for _ in range(3):
        await at.read()
    last = asyncio.create_task(at.read())
    await eventually(lambda: at.sent[0] == SAMPLES_MIN + 7, within_s=5.0)
    await asyncio.wait([last], timeout=0.2)
    assert at.sent[0] == SAMPLES_MIN + 7
    at.rabat.released.set()
    await last


async def test_no_hedge_is_sent_under_an_epoch_that_ended(at: World) -> None:
    await known(at)
    at.rabat.arrived.clear()
    at.rabat.reply(HANG)
    reading = asyncio.create_task(at.read())
    await at.rabat.arrived.wait()
    at.directory.observe_epoch(2)
    await asyncio.wait([reading], timeout=0.2)
    assert at.sent == (SAMPLES_MIN + 1, 0)
    at.rabat.released.set()
    await reading


async def test_a_write_is_never_hedged(at: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await known(at)
    monkeypatch.setattr(forwarding, "WRITE_TOTAL_S", 0.15)
    at.rabat.reply(HANG, Reply())
    with pytest.raises(OutcomeUnknown):
        await at.write()
    assert at.sent == (SAMPLES_MIN + 1, 0)


async def test_a_read_without_an_answer_in_time_leaves_time_for_the_standby(
    at: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "READ_TOTAL_S", 0.7)
    at.rabat.reply(HANG)
    answer = await at.read()
    assert (answer.datacenter, answer.from_standby) == ("marrakech", True)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_what_a_datacenter_refuses_is_its_answer(at: World, status: int) -> None:
    at.rabat.reply(Reply(status=status))
    assert (await at.read()).status == status
    assert at.sent == (1, 0)


async def test_a_read_that_nobody_answers_says_that_the_datacenters_are_away(at: World) -> None:
    await at.rabat.stop()
    at.marrakech.reply(CUT)
    with pytest.raises(DatacentersUnavailable) as failure:
        await at.read()
    assert failure.value.datacenters_away
    assert 1 <= failure.value.retry_after_s <= 5


async def test_a_datacenter_that_fails_on_one_thing_is_not_away(at: World) -> None:
    await at.rabat.stop()
    at.marrakech.reply(problem(500, "internal"))
    with pytest.raises(DatacentersUnavailable) as failure:
        await at.read()
    assert not failure.value.datacenters_away


async def test_a_datacenter_that_could_not_be_reached_is_skipped_for_a_moment(at: World) -> None:
    await at.rabat.stop()
    await at.read()
    await at.rabat.start()
    assert (await at.read()).from_standby
    assert at.sent == (0, 2)
    at.now += 0.25
    assert not (await at.read()).from_standby


async def test_a_read_under_an_epoch_that_ended_is_repeated_under_the_new_one(at: World) -> None:
    await at.moved()
    at.rabat.reply(ENDED)
    at.marrakech.reply(Reply(headers={"Massar-Epoch": "2", "Massar-Position": "2-600"}))
    answer = await at.read()
    assert (answer.datacenter, answer.epoch, answer.from_standby) == ("marrakech", 2, False)
    assert at.marrakech.seen[-1].headers["massar-epoch"] == "2"
    assert at.directory.epoch == 2


async def test_epochs_that_rise_without_end_are_not_chased_for_ever(at: World) -> None:
    at.rabat.reply(*(problem(409, "stale-epoch", Massar_Epoch=str(epoch)) for epoch in range(2, 9)))
    with pytest.raises(DatacentersUnavailable) as failure:
        await at.read()
    assert not failure.value.datacenters_away
    assert at.sent == (2, 0)


async def test_an_old_primary_that_came_back_is_not_believed(at: World) -> None:
    await at.moved()
    await at.directory.refresh(within_s=2)
    await at.marrakech.stop()
    at.rabat.reply(Reply(body=b'"diverged"', headers={"Massar-Position": "1-900"}))
    with pytest.raises(DatacentersUnavailable):
        await at.read()
    at.now += 1
    at.rabat.reply(Reply(headers={"Massar-Position": "2-600", "Massar-Data-Age": "1"}))
    assert (await at.read()).from_standby


async def test_a_write_goes_to_the_active_datacenter_once_with_its_key(at: World) -> None:
    at.rabat.reply(Reply(status=201, body=b'{"id":"x"}'))
    answer = await at.write()
    assert (answer.status, answer.body, answer.datacenter) == (201, b'{"id":"x"}', "rabat")
    (seen,) = at.rabat.seen
    assert (seen.headers["idempotency-key"], seen.headers["massar-epoch"]) == ("k", "1")
    assert at.sent == (1, 0)


MAYBE_DONE = [CUT, CUT_IN_BODY, problem(500, "internal"), Reply(status=503), Reply(status=502)]


@pytest.mark.parametrize("reply", MAYBE_DONE)
async def test_a_write_that_may_have_arrived_is_repeated_once_under_its_key(at: World, reply: Reply) -> None:
    at.rabat.reply(reply, Reply(headers={"Massar-Replayed": "1"}))
    answer = await at.write()
    assert answer.headers["massar-replayed"] == "1"
    assert [seen.headers["idempotency-key"] for seen in at.rabat.seen] == ["k", "k"]
    assert at.events.told == [("rabat", "retry")]


@pytest.mark.parametrize("reply", MAYBE_DONE)
@pytest.mark.parametrize(
    "second", [CUT, CLOSED, ENDED, IN_PROGRESS, problem(500, "internal"), problem(503, "overloaded")]
)
async def test_nothing_the_second_try_meets_says_that_the_first_did_nothing(
    at: World, reply: Reply, second: Reply
) -> None:
    at.rabat.reply(reply, second)
    with pytest.raises(OutcomeUnknown):
        await at.write()
    assert at.sent == (2, 0)


async def test_a_write_that_may_have_arrived_waits_for_the_record_to_be_read_again(at: World) -> None:
    at.rabat.reply(msgspec.structs.replace(CUT, hang=True))
    at.marrakech.reply(Reply(status=200, headers={"Massar-Epoch": "2"}))
    writing = asyncio.create_task(at.write())
    await at.rabat.arrived.wait()
    await at.moved()
    at.rabat.released.set()
    assert (await writing).datacenter == "marrakech"
    assert at.sent == (1, 1)
    assert at.marrakech.seen[0].headers["massar-epoch"] == "2"


async def test_a_write_that_may_have_arrived_is_unknown_while_a_move_is_under_way(at: World) -> None:
    at.rabat.reply(msgspec.structs.replace(CUT, hang=True))
    writing = asyncio.create_task(at.write())
    await at.rabat.arrived.wait()
    await at.change(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    at.rabat.released.set()
    with pytest.raises(OutcomeUnknown):
        await writing
    assert at.sent == (1, 0)


async def test_a_write_that_may_have_arrived_is_not_repeated_while_the_record_cannot_be_read(
    at: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*, within_s: float) -> bool:
        return within_s < 0

    monkeypatch.setattr(at.directory, "refresh", silent)
    at.rabat.reply(CUT, Reply())
    with pytest.raises(OutcomeUnknown):
        await at.write()
    assert at.sent == (1, 0)


async def test_writes_have_the_same_budget(at: World) -> None:
    at.rabat.reply(problem(500, "internal"))
    for _ in range(20):
        with pytest.raises(OutcomeUnknown):
            await at.write()
    assert at.sent == (20 + 3, 0)


async def test_a_write_is_kept_back_only_while_a_failure_is_fresh(at: World) -> None:
    await at.rabat.stop()
    await at.read()
    with pytest.raises(ReadOnly):
        await at.write()
    assert at.outcomes.count(("rabat", Outcome.UNREACHABLE)) == 1
    await at.rabat.start()
    at.now += 0.25
    assert (await at.write()).status == 200
    assert not (await at.read()).from_standby


async def test_a_breaker_that_stays_open_longer_keeps_no_write_back(at: World) -> None:
    await at.rabat.stop()
    for _ in range(3):
        await at.read()
        at.now += 0.5
    await at.read()
    at.now += 0.3
    lane = at.forwarder._attempts.lane("rabat")
    assert not lane.admits_reads()
    await at.rabat.start()
    assert (await at.write()).status == 200


async def test_a_write_without_an_answer_in_time_is_unknown(
    at: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "WRITE_TOTAL_S", 0.1)
    at.rabat.reply(HANG, Reply())
    with pytest.raises(OutcomeUnknown) as failure:
        await at.write()
    assert failure.value.retry_after_s == 3.0
    assert at.sent == (1, 0)


async def test_a_write_that_reached_nobody_is_read_only_and_went_to_no_standby(at: World) -> None:
    await at.rabat.stop()
    with pytest.raises(ReadOnly):
        await at.write()
    assert at.sent == (0, 0)
    assert at.outcomes == [("rabat", Outcome.UNREACHABLE)] * 2
    assert at.users == [("rabat", False)]


@pytest.mark.parametrize("reply", [ENDED, CLOSED])
async def test_a_write_that_surely_did_nothing_follows_the_record_once(at: World, reply: Reply) -> None:
    at.rabat.reply(msgspec.structs.replace(reply, hang=True))
    at.marrakech.reply(Reply(status=200, headers={"Massar-Epoch": "2"}))
    writing = asyncio.create_task(at.write())
    await at.rabat.arrived.wait()
    await at.moved()
    at.rabat.released.set()
    answer = await writing
    assert (answer.status, answer.datacenter) == (200, "marrakech")
    assert at.marrakech.seen[0].headers["massar-epoch"] == "2"
    assert at.marrakech.seen[0].headers["idempotency-key"] == "k"
    assert at.sent == (1, 1)


async def test_a_write_that_reached_nobody_follows_the_record(at: World) -> None:
    await at.rabat.stop()
    await at.moved()
    at.marrakech.reply(Reply(status=200, headers={"Massar-Epoch": "2"}))
    assert (await at.write()).datacenter == "marrakech"
    assert at.sent == (0, 1)


@pytest.mark.parametrize("reply", [CLOSED, problem(401, "assertion-invalid")])
async def test_a_datacenter_that_does_nothing_twice_is_read_only(at: World, reply: Reply) -> None:
    at.rabat.reply(reply)
    with pytest.raises(ReadOnly):
        await at.write()
    assert at.sent == (2, 0)


async def test_while_a_move_is_under_way_a_write_is_refused_unsent(at: World) -> None:
    await at.change(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    await at.directory.refresh(within_s=2)
    with pytest.raises(Switching) as failure:
        await at.write()
    assert failure.value.retry_after_s == 3.0
    assert at.sent == (0, 0)


async def test_a_held_record_takes_writes(at: World) -> None:
    held = await control.read(at.etcd)
    assert held is not None
    kept = record.hold(held.record, reason="exam", now=NOW + 1, by="operator:a")
    assert isinstance(kept, Record)
    assert await control.change(at.etcd, held, kept)
    await at.directory.refresh(within_s=2)
    assert (await at.write()).status == 200


async def test_with_etcd_silent_writes_are_refused_unsent_and_reads_go_on(at: World) -> None:
    at.now += ETCD_SILENT_MAX_S + 0.1
    with pytest.raises(ReadOnly):
        await at.write()
    assert at.sent == (0, 0)
    assert (await at.read()).datacenter == "rabat"


async def test_a_verdict_names_the_epoch_it_was_asked_under_though_a_later_one_was_heard_meanwhile(
    at: World,
) -> None:
    """Whether that epoch still stands is the journal's to say; a later one would make it say yes."""
    at.rabat.reply(Reply(status=200, headers={"Massar-Epoch": "2"}))
    assert (await at.write()).epoch == 1
    assert at.sent == (1, 0)


async def test_a_refusal_stands_whatever_the_epoch(at: World) -> None:
    at.rabat.reply(Reply(status=422, headers={"Massar-Epoch": "2"}))
    assert (await at.write()).status == 422


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_beyond_the_bound_nothing_is_sent(etcd: Etcd, kind: str) -> None:
    async with in_the_world(etcd, in_flight_max=1) as world:
        world.rabat.reply(HANG)
        first = asyncio.create_task(world.read())
        await world.rabat.arrived.wait()
        with pytest.raises(Overloaded) as failure:
            await getattr(world, kind)()
        assert failure.value.retry_after_s == 3.0
        world.rabat.released.set()
        await first
        assert world.sent == (1, 0)


async def test_before_any_record_reads_find_their_way_and_writes_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarding, "REFRESH_S", 0.1)  # nothing will be heard, however long it is waited for
    client = Etcd(["http://127.0.0.1:1"])
    try:
        async with origins("rabat", "marrakech") as (rabat, marrakech):
            world = World(client, rabat, marrakech)
            marrakech.reply(problem(409, "stale-epoch", Massar_Epoch="4"), FOLLOWING)
            answer = await world.read()
            assert (answer.datacenter, answer.from_standby) == ("marrakech", True)
            assert marrakech.seen[-1].headers["massar-epoch"] == "4"
            with pytest.raises(ReadOnly):
                await world.write()
            await world.forwarder.aclose()
    finally:
        await client.aclose()


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 1.0), (0.2, 2.0), (0.999, 5.0)])
async def test_waits_are_spread_over_whole_seconds(at: World, jitter: float, seconds: float) -> None:
    at.forwarder._jitter = lambda: jitter
    assert at.forwarder._retry_after_s() == seconds


@pytest.mark.parametrize(("priority", "shed"), [(Priority.READ, True), (Priority.RELATION, False)])
async def test_other_reads_give_way_to_relations(etcd: Etcd, priority: Priority, shed: bool) -> None:
    async with in_the_world(etcd, in_flight_max=10) as world:
        world.rabat.reply(HANG)
        waiting = [asyncio.create_task(world.read()) for _ in range(7)]
        await eventually(lambda: world.sent[0] == 7, within_s=5.0)
        last = asyncio.create_task(world.forwarder.read("/v1/people/x/relations", priority=priority))
        await asyncio.wait([last], timeout=0.1)
        assert isinstance(last.exception() if last.done() else None, Overloaded) is shed
        world.rabat.released.set()
        await asyncio.gather(*waiting, last, return_exceptions=True)
        assert world.events.told.count(("rabat", "shed read")) == shed


# Reading one's own writes

PROMOTED = Reply(headers={"Massar-Epoch": "2", "Massar-Position": "2-700"})


async def test_the_active_datacenter_shows_what_it_wrote(at: World) -> None:
    assert (await at.read(not_before=(1, 500))).position == (1, 500)
    assert at.sent == (1, 0)


async def test_what_the_active_datacenter_does_not_show_nobody_does(at: World) -> None:
    with pytest.raises(PositionNotReached) as failure:
        await at.read(not_before=(1, 501))
    assert 1 <= failure.value.retry_after_s <= 5
    assert at.sent == (1, 0)


async def test_a_standby_stands_in_only_where_it_shows_the_write(at: World) -> None:
    await at.rabat.stop()
    assert (await at.read(not_before=(1, 480))).from_standby
    with pytest.raises(PositionNotReached):
        await at.read(not_before=(1, 481))
    assert at.sent == (0, 2)


async def test_with_nobody_there_it_is_nobody_who_answers(at: World) -> None:
    await at.rabat.stop()
    await at.marrakech.stop()
    with pytest.raises(DatacentersUnavailable):
        await at.read(not_before=(1, 480))


async def test_after_a_move_the_new_active_one_shows_what_was_replayed_and_a_standby_may_not(
    at: World,
) -> None:
    await at.moved()
    await at.directory.refresh(within_s=2)
    at.marrakech.reply(PROMOTED)
    assert (await at.read(not_before=(1, 600))).datacenter == "marrakech"
    await at.marrakech.stop()
    at.rabat.reply(Reply(headers={"Massar-Position": "2-600", "Massar-Data-Age": "1"}))
    with pytest.raises(PositionNotReached):
        await at.read(not_before=(1, 600))
    assert (await at.read(not_before=(1, 490))).from_standby


async def replaying(at: World) -> None:
    await at.change(epoch=2, phase=Phase.REPLAYING, target="marrakech", switch_position="1-490")
    await at.directory.refresh(within_s=2)
    at.marrakech.reply(PROMOTED)
    at.rabat.reply(Reply(headers={"Massar-Position": "1-900"}))


async def test_during_a_replay_only_what_was_taken_over_is_shown(at: World) -> None:
    await replaying(at)
    assert (await at.read(not_before=(1, 490))).datacenter == "marrakech"
    with pytest.raises(PositionNotReached):
        await at.read(not_before=(1, 600))


@pytest.mark.parametrize("planned", [True, False])
async def test_until_a_planned_switchover_has_ended_the_sealed_datacenter_is_still_read(
    at: World, planned: bool
) -> None:
    await replaying(at)
    await at.change(planned=planned)
    await at.directory.refresh(within_s=2)
    await at.marrakech.stop()
    if planned:
        assert (await at.read(not_before=(1, 490))).datacenter == "rabat"
    else:
        with pytest.raises(DatacentersUnavailable, match="left behind"):
            await at.read(not_before=(1, 490))


async def test_who_tells_the_age_of_his_data_is_no_active_datacenter(at: World) -> None:
    at.rabat.reply(Reply(headers={"Massar-Data-Age": "1"}))
    assert (await at.read()).from_standby


FOLLOWED = Reply(headers={"Massar-Epoch": "2", "Massar-Position": "2-650"})


@pytest.mark.parametrize("named", [{"Massar-Epoch": "2"}, {"Massar-Data-Age": "1"}])
async def test_who_was_active_a_move_ago_is_no_witness(at: World, named: dict[str, str]) -> None:
    at.rabat.reply(Reply(headers={"Massar-Position": "2-650", **named}))
    with pytest.raises(PositionNotReached):
        await at.read(not_before=(1, 600))


async def test_a_record_that_comes_while_the_answer_is_under_way_does_not_vouch_for_it(at: World) -> None:
    at.directory.observe_epoch(2)
    at.rabat.reply(msgspec.structs.replace(FOLLOWED, hang=True))
    at.marrakech.reply(PROMOTED)
    reading = asyncio.create_task(at.read(not_before=(1, 600)))
    await at.rabat.arrived.wait()
    await at.moved()
    await at.directory.refresh(within_s=2)
    at.rabat.released.set()
    assert (await reading).datacenter == "marrakech"


async def test_an_answer_from_during_the_replay_does_not_show_what_comes_at_its_end(at: World) -> None:
    await replaying(at)
    at.marrakech.reply(msgspec.structs.replace(PROMOTED, hang=True), PROMOTED)
    reading = asyncio.create_task(at.read(not_before=(1, 600)))
    await at.marrakech.arrived.wait()
    await at.change(phase=Phase.ACTIVE, active="marrakech", target=None)
    await at.directory.refresh(within_s=2)
    at.marrakech.released.set()
    await reading
    assert at.sent[1] == 2, "the first answer did not count"


async def test_how_far_the_old_timeline_counts_may_become_known_between_two_answers(at: World) -> None:
    """The promoted target answers before the switch is recorded, the old active one after it, beyond the switch."""
    await at.change(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    await at.directory.refresh(within_s=2)
    at.marrakech.reply(PROMOTED)
    at.rabat.reply(Reply(headers={"Massar-Position": "1-900"}, hang=True))
    reading = asyncio.create_task(at.read(not_before=(1, 490)))
    await at.rabat.arrived.wait()
    await at.change(phase=Phase.REPLAYING, switch_position="1-490")
    await at.directory.refresh(within_s=2)
    at.rabat.released.set()
    assert (await reading).datacenter == "marrakech"
