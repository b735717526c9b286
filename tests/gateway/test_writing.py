"""Forwarded writes: purged before they are answered, and refused in words of our own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from auth.principal import App, Principal, Role
from datacenters import etcd_keys, journal
from datacenters.attempts import Answer
from datacenters.directory import Directory
from datacenters.etcd import Etcd, EtcdUnavailable, KeyValue
from datacenters.feeds import Publisher, decode_purge
from datacenters.journal import BODY_BYTES_MAX, Journal, JournalRecord, Kind, opened
from datacenters.journal_seal import JournalSeal
from datacenters.record import Phase, Protection
from datacenters.unanswered import OutcomeUnknown
from gateway import writing as writing_module
from gateway.holding import Holding
from gateway.writing import TRIES_MAX, ForwardedWrites
from routes.endpoint import Caller
from tests.auth.people import START
from tests.cache import building
from tests.datacenters.listening import Proxy
from tests.gateway import contract
from tests.gateway.conftest import MakeWorld
from tests.gateway.origin import Canned, Origin, Seen, refusal
from tests.gateway.people import CLASS, MATH, PUPIL, TEACHER
from tests.gateway.world import World, declare, move
from tests.waiting import eventually

ENTRIES = f"/v1/gradebooks/{CLASS}/{MATH}/1/entries"
GRADES = f"/v1/pupils/{PUPIL}/grades"
BATCH = {"entries": [{"pupil_id": PUPIL, "number": 1, "mark": "14.50", "state": "marked", "version": 3}]}


async def enter(world: World, *, key: str = "key-1", **more: Any) -> httpx.Response:
    return await world.ask(
        "PUT", ENTRIES, who=TEACHER, headers={"idempotency-key": key}, **{"json": BATCH, **more}
    )


async def test_a_write_goes_out_once_in_the_teachers_name_under_the_declared_epoch(world: World) -> None:
    answer = await enter(world)
    assert answer.status_code == 200
    assert answer.json() == {
        "results": [{"pupil_id": PUPIL, "number": 1, "status": "accepted", "version": 4}]
    }
    (written,) = [seen for seen in world.rabat.seen if seen.method == "PUT"]
    assert written.target == ENTRIES
    assert written.headers["idempotency-key"] == "key-1"
    assert written.headers["massar-epoch"] == "1"
    assert "authorization" not in written.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["massar-position"] == "1-1000"


async def test_who_reads_after_a_write_reads_the_write(world: World) -> None:
    gradebook = f"/v1/gradebooks/{CLASS}/{MATH}/1"
    for target, who in ((GRADES, PUPIL), (gradebook, TEACHER)):
        await world.get(target, who)
    assert (await enter(world)).status_code == 200
    for target, who in ((GRADES, PUPIL), (gradebook, TEACHER)):
        assert (await world.get(target, who)).headers["cache-status"] == "massar; fwd=miss; stored", target


async def test_the_purge_is_told_to_every_site_before_the_answer(world: World, etcd_client: Etcd) -> None:
    await enter(world)
    (item,) = (await etcd_client.range(etcd_keys.PURGES, prefix=True)).items
    purge = decode_purge(item.value)
    assert set(purge.tags) == {f"grades:{CLASS}", f"gradebook:{CLASS}:{MATH}:1"}
    assert (purge.epoch, purge.position) == (1, "1-1000")


@pytest.mark.parametrize(
    ("status", "slug", "retry"),
    [
        (404, "not-found", False),
        (400, "bad-request", False),
        (409, "gradebook-locked", False),
        (409, "idempotency-key-in-progress", True),
        (409, "idempotency-key-expired", False),
        (422, "idempotency-key-reused", False),
    ],
)
async def test_refusals_a_caller_can_use_are_passed_on_by_their_slug(
    shared: World, status: int, slug: str, *, retry: bool
) -> None:
    shared.rabat.canned[ENTRIES] = refusal(status, slug)
    answer = await enter(shared)
    assert (answer.status_code, answer.json()["slug"]) == (status, slug)
    assert "upstream" not in answer.text
    assert ("retry-after" in answer.headers) == retry


@pytest.mark.parametrize(
    "canned",
    [
        refusal(403, "forbidden"),
        refusal(400, "assertion-invalid"),
        refusal(401, "token-invalid"),
        refusal(409, "version-conflict"),
        Canned(status=400, body=b"<html>"),
        Canned(status=422, body=b"\xff"),
        Canned(status=302, body=b""),
        Canned(body=b"{}"),
        Canned(body=b"\xff"),
    ],
)
async def test_any_other_refusal_is_our_own_fault(shared: World, canned: Canned) -> None:
    shared.rabat.canned[ENTRIES] = canned
    answer = await enter(shared)
    assert (answer.status_code, answer.json()["slug"]) == (500, "internal")
    assert "upstream" not in answer.text


async def test_a_refused_write_purges_nothing(world: World) -> None:
    await world.get(GRADES, PUPIL)
    world.rabat.canned[ENTRIES] = refusal(409, "gradebook-locked")
    await enter(world)
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; hit; detail=memory"


async def test_a_write_that_failed_on_its_way_has_an_unknown_outcome(world: World) -> None:
    world.rabat.canned[ENTRIES] = refusal(500, "internal")
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    keys = [seen.headers["idempotency-key"] for seen in world.rabat.seen if seen.method == "PUT"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_what_an_unknown_write_may_have_changed_is_asked_for_again(world: World) -> None:
    await world.get(GRADES, PUPIL)
    world.rabat.canned[ENTRIES] = refusal(500, "internal")
    assert (await enter(world)).json()["slug"] == "outcome-unknown"
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; fwd=miss; stored"


class Lost:
    """A forwarder whose every write is lost on its way."""

    async def write(self, *_arguments: object, **_named: object) -> Answer:
        raise OutcomeUnknown("sent, no answer", retry_after_s=1.0)


async def test_an_unknown_write_is_purged_again_once_it_must_have_ended(
    etcd_client: Etcd, keys_folder: Path
) -> None:
    await declare(etcd_client)
    forwarder: Any = Lost()
    publisher = Publisher(etcd_client)
    directory = Directory(etcd_client, site="rabat", sites={})
    writes = ForwardedWrites(
        forwarder,
        publisher,
        Journal(etcd_client, publisher, JournalSeal.load(keys_folder / "journal.key")),
        directory,
        Holding(directory),
        building.World().cache,
        clock=lambda: START,
        unknown_settles_s=0.01,
    )
    caller = Caller(
        principal=Principal(TEACHER, Role.TEACHER, App.MOUDARIS, "sid", 0.0),
        facts=None,
        relation=None,
        language="fr",
        request_id="a-1",
    )
    with pytest.raises(OutcomeUnknown):
        await writes.write(caller, "PUT", ENTRIES, b"{}", key="key-1", tags=("grades:x",))

    async def twice() -> bool:
        return len((await etcd_client.range(etcd_keys.PURGES, prefix=True)).items) == 2

    await eventually(twice, within_s=10.0)
    await writes.aclose()


async def test_a_datacenter_that_takes_no_writes_makes_us_read_only(world: World) -> None:
    world.rabat.canned[ENTRIES] = refusal(503, "read-only")
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("record", "slug"),
    [
        ({"phase": Phase.PROMOTING, "target": "marrakech", "epoch": 2}, "switching"),
        ({"phase": Phase.READ_ONLY}, "read-only"),
    ],
)
async def test_while_nobody_serves_nothing_is_sent(
    make_world: MakeWorld, record: dict[str, Any], slug: str
) -> None:
    world = await make_world(record=record)
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (503, slug)
    assert not [
        seen for origin in (world.rabat, world.marrakech) for seen in origin.seen if seen.method == "PUT"
    ]


async def test_without_etcd_nothing_is_sent(cut_off: Callable[..., World]) -> None:
    world = cut_off()
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
    assert not [seen for seen in world.rabat.seen if seen.method == "PUT"]


async def test_a_purge_that_cannot_be_published_still_holds_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_arguments: object, **_named: object) -> int:
        raise EtcdUnavailable("gone since the write was sent")

    await enter(world)  # a purge that was heard, at some revision
    monkeypatch.setattr(Publisher, "publish_purge", away)
    await world.get(GRADES, PUPIL)
    world.rabat.canned[ENTRIES] = refusal(500, "internal")
    assert (await enter(world, key="key-2")).status_code == 504
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; fwd=miss; stored"


# The journal: nothing is acknowledged that is not kept at the epoch it was done under


async def kept(etcd: Etcd, prefix: str = etcd_keys.JOURNAL) -> tuple[KeyValue, ...]:
    return (await etcd.range(prefix, prefix=True)).items


def written(origin: Origin) -> list[Seen]:
    """The writes that a datacenter was asked."""
    return [seen for seen in origin.seen if seen.method == "PUT"]


def began(world: World, *, key: str = "key-1") -> asyncio.Future[httpx.Response]:
    """A write that Rabat works on until its gate is opened."""
    world.rabat.write_gate = asyncio.Event()
    return asyncio.ensure_future(enter(world, key=key))


async def reached(origin: Origin) -> asyncio.Event:
    """The gate of a datacenter that works on a write by now."""
    await eventually(lambda: written(origin), within_s=10.0)
    assert origin.write_gate is not None
    return origin.write_gate


async def test_what_is_acknowledged_lies_sealed_in_the_journal(
    world: World, etcd_client: Etcd, keys_folder: Path
) -> None:
    world.rabat.position, world.rabat.order = "3-4711", 42
    answer = await enter(world)
    (item,) = await kept(etcd_client)
    timeline, lsn, name = item.key.removeprefix(etcd_keys.JOURNAL).split("/")
    assert (timeline, lsn) == ("0000000003", "00000000000000004711")
    for readable in (PUPIL, TEACHER, "14.50", "key-1", "gradebooks"):
        assert readable.encode() not in item.value
        assert readable not in item.key
    record = opened(item.value, name, JournalSeal.load(keys_folder / "journal.key"))
    (seen,) = written(world.rabat)
    assert record == JournalRecord(
        kind=Kind.DATACENTER,
        subject=TEACHER,
        role="teacher",
        method="PUT",
        target=ENTRIES,
        body=seen.body,
        key="key-1",
        ordering_key=ENTRIES,
        status=200,
        digest=hashlib.sha256(msgspec.json.encode(contract.answer("PUT", ENTRIES, seen.body)[1])).digest(),
        decided_at=START,
        order=42,
        tags=(f"grades:{CLASS}", f"gradebook:{CLASS}:{MATH}:1"),
    )
    assert answer.headers["massar-position"] == "3-4711"
    assert item.lease == 0


async def test_the_answer_waits_for_the_journal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()
    transact = Etcd.transact

    async def slow(self: Etcd, **named: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await transact(self, **named)

    monkeypatch.setattr(Etcd, "transact", slow)
    writing = asyncio.ensure_future(enter(world))
    await asyncio.wait_for(asked.wait(), 10)
    assert not (await asyncio.wait({writing}, timeout=0.2))[0]
    go_on.set()
    assert (await writing).status_code == 200


async def test_record_and_purge_are_one_transaction(world: World, etcd_client: Etcd) -> None:
    await enter(world)
    (record,), (purge,) = await kept(etcd_client), await kept(etcd_client, etcd_keys.PURGES)
    assert record.revision == purge.revision
    assert purge.lease


async def test_the_same_write_again_has_one_record(world: World, etcd_client: Etcd) -> None:
    for _ in range(2):
        assert (await enter(world)).status_code == 200
    assert len(await kept(etcd_client)) == 1
    assert (await enter(world, key="key-2")).status_code == 200
    assert len(await kept(etcd_client)) == 2


@pytest.mark.parametrize("told", [1, 2])
async def test_when_the_epoch_moves_meanwhile_the_new_active_gives_the_answer(
    world: World, etcd_client: Etcd, told: int
) -> None:
    """`told`: the epoch that Rabat names in the end; asked under 1 it counts as 1."""
    writing = began(world)
    gate = await reached(world.rabat)
    world.rabat.epoch, world.marrakech.epoch = told, 2
    world.marrakech.position, world.marrakech.order = "2-1500", 7
    world.marrakech.say(
        ENTRIES, results=[{"pupil_id": PUPIL, "number": 1, "status": "accepted", "version": 9}]
    )
    await move(etcd_client, epoch=2, active="marrakech", switch_position="1-999")
    gate.set()
    answer = await writing
    assert (answer.status_code, answer.json()["results"][0]["version"]) == (200, 9)
    assert answer.headers["massar-position"] == "2-1500"
    (at_rabat,), (at_marrakech,) = written(world.rabat), written(world.marrakech)
    assert at_marrakech.body == at_rabat.body
    assert at_marrakech.headers["idempotency-key"] == at_rabat.headers["idempotency-key"] == "key-1"
    assert (at_rabat.headers["massar-epoch"], at_marrakech.headers["massar-epoch"]) == ("1", "2")
    (item,) = await kept(etcd_client)
    assert item.key.startswith(etcd_keys.journal_end((2, 1500)))


async def test_an_epoch_that_moved_at_the_same_site_is_asked_there_again(
    world: World, etcd_client: Etcd
) -> None:
    writing = began(world)
    gate = await reached(world.rabat)
    world.rabat.epoch = 2
    await move(etcd_client, epoch=2)
    gate.set()
    assert (await writing).status_code == 200
    assert [seen.headers["massar-epoch"] for seen in written(world.rabat)] == ["1", "2"]
    assert not written(world.marrakech)
    assert len(await kept(etcd_client)) == 1


async def test_when_nobody_serves_in_time_the_outcome_is_unknown(
    world: World, etcd_client: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_module, "MOVED_WITHIN_S", 0.05)
    await world.get(GRADES, PUPIL)
    writing = began(world)
    gate = await reached(world.rabat)
    await move(etcd_client, epoch=2, phase=Phase.PROMOTING, target="marrakech")
    gate.set()
    answer = await writing
    assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert await kept(etcd_client) == ()
    assert not written(world.marrakech)
    assert await kept(etcd_client, etcd_keys.PURGES)  # what it may have changed


async def test_a_new_active_that_takes_no_writes_does_not_make_the_old_ones_undone(
    world: World, etcd_client: Etcd
) -> None:
    """The old one did it, and its record may have been kept before the epoch moved: nobody may say `read-only`."""
    writing = began(world)
    gate = await reached(world.rabat)
    world.marrakech.epoch = 2
    world.marrakech.canned[ENTRIES] = refusal(503, "read-only")
    await move(etcd_client, epoch=2, active="marrakech")
    gate.set()
    answer = await writing
    assert written(world.marrakech)
    assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")


async def test_an_epoch_that_keeps_moving_is_not_followed_for_ever(
    world: World, etcd_client: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Journal.keep

    async def overtaken(self: Journal, record: JournalRecord, *, epoch: int, **named: Any) -> Any:
        world.rabat.epoch = epoch + 1
        await move(etcd_client, epoch=epoch + 1)
        return await keep(self, record, epoch=epoch, **named)

    monkeypatch.setattr(Journal, "keep", overtaken)
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
    assert len(written(world.rabat)) == TRIES_MAX
    assert await kept(etcd_client) == ()


async def test_when_etcd_falls_silent_meanwhile_the_outcome_is_unknown(
    make_world: MakeWorld, proxy: tuple[Proxy, str], etcd_client: Etcd
) -> None:
    line, url = proxy
    world = await make_world(etcd_urls=(url,))
    writing = began(world)
    gate = await reached(world.rabat)
    line.cut()
    gate.set()
    answer = await writing
    assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
    assert await kept(etcd_client) == ()
    line.mend()


@pytest.mark.parametrize("missing", ["position", "order"])
async def test_an_answer_that_does_not_say_where_it_stands_is_no_acknowledgement(
    world: World, etcd_client: Etcd, missing: str
) -> None:
    setattr(world.rabat, missing, None)
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
    assert await kept(etcd_client) == ()


async def test_what_no_record_can_hold_is_refused_before_anything_is_sent(make_world: MakeWorld) -> None:
    world = await make_world(body_bytes_max=1_048_576)
    fitting = msgspec.json.encode(BATCH)

    async def send(size: int) -> tuple[int, int]:
        before = len(written(world.rabat))
        headers = {"idempotency-key": "key-1", "content-type": "application/json"}
        content = fitting.ljust(size)
        answer = await world.ask("PUT", ENTRIES, who=TEACHER, headers=headers, content=content)
        return answer.status_code, len(written(world.rabat)) - before

    assert await send(BODY_BYTES_MAX) == (200, 1)
    assert await send(BODY_BYTES_MAX + 1) == (413, 0)


async def test_while_the_journal_is_full_nothing_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WAITING_MAX", 0)
    answer = await enter(world)
    assert (answer.status_code, answer.json()["slug"]) == (503, "overloaded")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert not written(world.rabat)


async def test_a_journal_that_fills_meanwhile_leaves_the_outcome_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = began(world)
    gate = await reached(world.rabat)
    monkeypatch.setattr(journal, "WAITING_MAX", 0)
    gate.set()
    assert (await writing).json()["slug"] == "outcome-unknown"


@pytest.mark.parametrize(("protection", "records"), [(Protection.NONE, 0), (Protection.RETURNING, 1)])
async def test_unprotected_writes_go_on_and_say_so(
    make_world: MakeWorld, etcd_client: Etcd, protection: Protection, records: int
) -> None:
    world = await make_world(record={"protection": protection})
    for key in ("key-1", "key-2"):  # the first one has still to learn it
        answer = await enter(world, key=key)
        assert answer.status_code == 200
        assert answer.headers["massar-mode"] == "unprotected"
    assert len(await kept(etcd_client)) == 2 * records
    assert len(await kept(etcd_client, etcd_keys.PURGES)) == 2


async def test_unprotected_writes_are_sealed_by_a_claim_too(make_world: MakeWorld, etcd_client: Etcd) -> None:
    world = await make_world(record={"protection": Protection.NONE})
    await enter(world, key="key-0")  # from which it learns that no record is asked for
    writing = began(world)
    gate = await reached(world.rabat)
    world.marrakech.epoch = 2
    await move(etcd_client, epoch=2, active="marrakech", protection=Protection.NONE)
    gate.set()
    assert (await writing).status_code == 200
    assert len(written(world.marrakech)) == 1
