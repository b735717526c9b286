"""Forwarded writes: purged before they are answered, and refused in words of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from auth.principal import App, Principal, Role
from datacenters import etcd_keys
from datacenters.attempts import Answer
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher, decode_purge
from datacenters.record import Phase
from datacenters.unanswered import OutcomeUnknown
from gateway.writing import ForwardedWrites
from routes.endpoint import Caller
from tests.cache import building
from tests.gateway.conftest import MakeWorld
from tests.gateway.origin import Canned, refusal
from tests.gateway.people import CLASS, MATH, PUPIL, TEACHER
from tests.gateway.world import World, declare
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
    assert purge.tags == (f"grades:{CLASS}", f"gradebook:{CLASS}:{MATH}:1")
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
    assert sum(seen.method == "PUT" for seen in world.rabat.seen) == 1


async def test_what_an_unknown_write_may_have_changed_is_asked_for_again(world: World) -> None:
    await world.get(GRADES, PUPIL)
    world.rabat.canned[ENTRIES] = refusal(500, "internal")
    assert (await enter(world)).json()["slug"] == "outcome-unknown"
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; fwd=miss; stored"


class Lost:
    """A forwarder whose every write is lost on its way."""

    async def write(self, *_arguments: object, **_named: object) -> Answer:
        raise OutcomeUnknown("sent, no answer", retry_after_s=1.0)


async def test_an_unknown_write_is_purged_again_once_it_must_have_ended(etcd_client: Etcd) -> None:
    await declare(etcd_client)
    forwarder: Any = Lost()
    writes = ForwardedWrites(
        forwarder, Publisher(etcd_client), building.World().cache, unknown_settles_s=0.01
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
    from datacenters.etcd import EtcdUnavailable

    async def away(*_arguments: object, **_named: object) -> int:
        raise EtcdUnavailable("gone since the write was sent")

    await enter(world)  # a purge that was heard, at some revision
    monkeypatch.setattr(Publisher, "publish_purge", away)
    await world.get(GRADES, PUPIL)
    assert (await enter(world, key="key-2")).status_code == 200
    assert (await world.get(GRADES, PUPIL)).headers["cache-status"] == "massar; fwd=miss; stored"
