"""Datacenters on their bad days: whatever they send, phones get a whole right answer or a problem, and nothing of it stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from cache.store import FETCH_MAX_S
from datacenters import hedging
from datacenters.attempts import ANSWER_BYTES_MAX
from datacenters.retrying import READ_REPEATS_MAX
from tests.gateway.people import OTHER_PARENT, PARENT, PUPIL
from tests.gateway.world import World
from tests.journeys.wayward import (
    Ground,
    Script,
    Standing,
    Wayward,
    cuts,
    head,
    pours,
    right,
    says,
    silent,
    trickles,
    wayward_datacenters,
    wayward_world,
)

FAMILY = (PUPIL, PARENT, OTHER_PARENT)
READERS = 9
# A read is sent at most so often, whoever waits for it (docs/decisions/0010-how-requests-are-repeated.md).
SENT_MAX = 1 + READ_REPEATS_MAX
# The same, where each may have a second one beside it because it is slow.
SENT_SLOWLY_MAX = 2 * SENT_MAX
# No answer takes longer than a fetch may; the rest is for a machine that stalls.
ANSWERED_WITHIN_S = FETCH_MAX_S + 5.0

# Of the right shape, about somebody else: what a reader could be shown by mistake.
ELSES = right("/v1/pupils/pupilccccccccccc/absences?view=family&from=2026-09-09").replace(
    b"rendez-vous", b"of-somebody-else"
)
PAGE = b"<html>upstream text</html>"
LENGTH = len(ELSES)
STALE = msgspec.json.encode({"slug": "stale-epoch", "status": 409})
CHUNKS = b"%x\r\n%b\r\n" % (LENGTH, ELSES)

BROKEN: dict[str, Script] = {
    "nothing at all": cuts(b""),
    "a head that breaks off": cuts(head(length=LENGTH)[:-10]),
    "a body that breaks off": cuts(head(length=LENGTH) + ELSES[:-1]),
    "a body that breaks off, its length unsaid": cuts(head() + ELSES[:-1]),
    "chunks without an end": cuts(head(200, "transfer-encoding: chunked") + CHUNKS),
    "chunks of no number": cuts(head(200, "transfer-encoding: chunked") + b"zz\r\n" + ELSES + b"\r\n0\r\n\r\n"),
    "a chunk beyond all numbers": cuts(head(200, "transfer-encoding: chunked") + b"f" * 20 + b"\r\n" + ELSES),
    "a length too long": cuts(head(length=LENGTH + 1) + ELSES),
    "a length too short": says(head(length=LENGTH - 1) + ELSES),
    "two lengths": says(head(200, "content-length: 2", length=LENGTH) + ELSES),
    "a length below nothing": says(head(length=-1) + ELSES),
    "a length of no number": says(head(length="many") + ELSES),
    "a length beyond all numbers": says(head(length="9" * 40) + ELSES),
    "a body beyond the bound": says(head(length=ANSWER_BYTES_MAX + 1) + ELSES.ljust(ANSWER_BYTES_MAX + 1)),
    "a length beyond the bound, and not a byte": silent(head(length=ANSWER_BYTES_MAX + 1)),
    "a body without an end": pours(head(), b" " * 65_536),
    "chunks without an end, and more of them": pours(head(200, "transfer-encoding: chunked"), CHUNKS),
    "an epoch of another count": says(head(200, "massar-epoch: 1790000000", length=LENGTH) + ELSES),
    "an epoch beyond all numbers": says(head(200, f"massar-epoch: {'9' * 40}", length=LENGTH) + ELSES),
    "a word of an impossible epoch": says(head(409, f"massar-epoch: {'9' * 18}", length=len(STALE)) + STALE),
    "a header with a NUL": says(head(200, "x-a: b\0c", length=LENGTH) + ELSES),
    "a header without a colon": says(head(200, "nonsense", length=LENGTH) + ELSES),
    "a header on two lines": says(head(200, "x-a: b\r\n c", length=LENGTH) + ELSES),
    "a header name of two words": says(head(200, "x a: b", length=LENGTH) + ELSES),
    "a header of a megabyte": says(head(200, "x-a: " + "b" * (1 << 20), length=LENGTH) + ELSES),
    "thousands of headers": says(head(200, *(f"x-{turn}: b" for turn in range(3000)), length=LENGTH) + ELSES),
    "another protocol": cuts(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "a status of two digits": says(head(99, length=LENGTH) + ELSES),
    "a status of four digits": says(head(2000, length=LENGTH) + ELSES),
    "a status of no class": says(head(999, length=LENGTH) + ELSES),
    "another protocol from here on": says(head(101, "connection: upgrade", "upgrade: websocket") + ELSES),
    "a part of it": says(head(206, "content-range: bytes 0-9/10", length=LENGTH) + ELSES),
    "no content": says(head(204)),
    "not modified, when nothing was held": says(head(304)),
    "a page": says(head(200, "content-type: text/html", length=len(PAGE)) + PAGE),
    "a coding that nobody asked for": says(head(200, "content-encoding: gzip", length=4) + b"\x1f\x8b\x08\x00"),
    **{f"a page with status {status}": says(head(status, length=len(PAGE)) + PAGE) for status in (400, 418, 429, 500, 502, 503, 504)},
}  # fmt: skip
# Some of each kind, for where every one of them would say the same.
SOME = [
    "a body that breaks off",
    "a length too short",
    "a body beyond the bound",
    "a header with a NUL",
    "a page",
    "a page with status 500",
    "a page with status 503",
]


@pytest.fixture(autouse=True)
def no_second_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a datacenter is asked is counted here: a slow machine must not make a read worth asking twice."""
    monkeypatch.setattr(hedging, "HEDGE_AFTER_MAX_S", 60.0)


@pytest.fixture
async def datacenters() -> AsyncIterator[dict[str, Wayward]]:
    async with wayward_datacenters() as made:
        yield made


@pytest.fixture
async def world(ground: Ground, datacenters: dict[str, Wayward], tmp_path: Path) -> AsyncIterator[World]:
    """A gateway that knows these people and the calendar, and nothing that they read."""
    async with wayward_world(ground, datacenters, tmp_path) as made:
        for who in FAMILY:
            assert (await made.get(f"/v1/pupils/{PUPIL}/timetable", who)).status_code == 200
        yield made


def path(day: str) -> str:
    return f"/v1/pupils/{PUPIL}/absences?from={day}"


def sent(datacenters: dict[str, Wayward], day: str) -> int:
    """How often both were asked for the absences of that day."""
    return sum(one.count(f"from={day}") for one in datacenters.values())


async def read_at_once(world: World, datacenters: dict[str, Wayward], day: str) -> list[httpx.Response]:
    """The answers to readers who all came before the datacenter said anything."""
    gate, rabat = asyncio.Event(), datacenters["rabat"]
    rabat.gate = gate
    rabat.arrived.clear()
    asking = [asyncio.create_task(world.get(path(day), FAMILY[turn % 3])) for turn in range(READERS)]
    await rabat.arrived.wait()
    gate.set()
    answers = await asyncio.gather(*asking)
    rabat.gate = None
    return answers


def is_a_problem(answer: httpx.Response) -> None:
    """503 in our own words alone."""
    assert (answer.status_code, answer.json()["slug"]) == (503, "datacenters-unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    for word in (b"somebody-else", b"upstream", b"html"):
        assert word not in answer.content


async def is_a_miss_that_stays(world: World, datacenters: dict[str, Wayward], day: str) -> None:
    """The datacenters well again: the next read is fetched, right, and kept."""
    for one in datacenters.values():
        one.scripts.clear()
        one.seen.clear()
    world.monotonic.advance(2)
    expected = right(f"/v1/pupils/{PUPIL}/absences?view=family&from={day}")
    for word in ("massar; fwd=miss; stored", "massar; hit; detail=memory"):
        answer = await world.get(path(day), PARENT)
        assert (answer.status_code, answer.headers["cache-status"]) == (200, word)
        assert answer.json() == msgspec.json.decode(expected)
    assert sent(datacenters, day) == 1


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_one_problem_for_all_who_wait_and_stays_with_nobody(
    world: World, datacenters: dict[str, Wayward], name: str, fresh_day: str
) -> None:
    for one in datacenters.values():
        one.scripts[f"from={fresh_day}"] = BROKEN[name]
    answers = await read_at_once(world, datacenters, fresh_day)
    for answer in answers:
        is_a_problem(answer)
    assert 1 <= sent(datacenters, fresh_day) <= SENT_MAX
    await is_a_miss_that_stays(world, datacenters, fresh_day)


@pytest.mark.parametrize("name", SOME)
async def test_a_broken_answer_of_the_active_one_alone_is_mended_by_the_standby_or_told(
    world: World, datacenters: dict[str, Wayward], name: str, fresh_day: str
) -> None:
    datacenters["rabat"].scripts[f"from={fresh_day}"] = BROKEN[name]
    datacenters["marrakech"].data_age = "3.0"
    expected = msgspec.json.decode(right(f"/v1/pupils/{PUPIL}/absences?view=family&from={fresh_day}"))
    for answer in await read_at_once(world, datacenters, fresh_day):
        if answer.status_code == 200:
            assert answer.json() == expected
            assert (answer.headers["massar-mode"], answer.headers["massar-data-age"]) == ("read-only", "3")
        else:
            is_a_problem(answer)
    assert 1 <= sent(datacenters, fresh_day) <= SENT_MAX
    await is_a_miss_that_stays(world, datacenters, fresh_day)


@pytest.mark.parametrize("name", SOME)
async def test_what_was_right_before_stands_in_for_a_broken_answer_and_says_its_age(
    world: World, datacenters: dict[str, Wayward], name: str, fresh_day: str
) -> None:
    fresh = await world.get(path(fresh_day), PUPIL)
    world.clock.advance(5 * 60)
    for one in datacenters.values():
        one.scripts[f"from={fresh_day}"] = BROKEN[name]
        one.seen.clear()
    for answer in await read_at_once(world, datacenters, fresh_day):
        assert (answer.status_code, answer.content) == (200, fresh.content)
        assert answer.headers["massar-data-age"] == str(5 * 60)
        assert answer.headers["etag"] == fresh.headers["etag"]
    assert 1 <= sent(datacenters, fresh_day) <= SENT_MAX


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
async def test_a_redirect_is_followed_by_nobody(
    world: World, datacenters: dict[str, Wayward], status: int, fresh_day: str
) -> None:
    elsewhere = Wayward("elsewhere")
    await elsewhere.start()
    try:
        location = f"location: {elsewhere.url}/v1/pupils/{PUPIL}/absences?view=family&from={fresh_day}"
        for one in datacenters.values():
            one.scripts[f"from={fresh_day}"] = says(head(status, location, length=LENGTH) + ELSES)
        for answer in await read_at_once(world, datacenters, fresh_day):
            is_a_problem(answer)
            assert "location" not in answer.headers
        assert elsewhere.seen == []
    finally:
        await elsewhere.stop()
    assert 1 <= sent(datacenters, fresh_day) <= SENT_MAX
    await is_a_miss_that_stays(world, datacenters, fresh_day)


async def test_a_cookie_of_the_datacenter_reaches_nobody_and_is_not_kept(
    world: World, datacenters: dict[str, Wayward], fresh_day: str
) -> None:
    body = right(f"/v1/pupils/{PUPIL}/absences?view=family&from={fresh_day}")
    cookie = "set-cookie: session=of-one-reader"
    datacenters["rabat"].scripts[f"from={fresh_day}"] = says(head(200, cookie, length=len(body)) + body)
    answers = [*await read_at_once(world, datacenters, fresh_day), await world.get(path(fresh_day), PARENT)]
    assert [answer.status_code for answer in answers] == [200] * (READERS + 1)
    assert not any("set-cookie" in answer.headers for answer in answers)
    assert answers[-1].headers["cache-status"] == "massar; hit; detail=memory"
    held = [
        msgspec.msgpack.encode(held.entry)
        for held in world.app._warm_reads._reads._cache._memory._held.values()
    ]
    assert held != []
    assert not any(b"of-one-reader" in entry for entry in held)
    assert not world.http.cookies


@pytest.mark.parametrize(
    "line",
    [
        *(f"last-modified: {text}" for text in ("soon", "0", "Sun, 31 Feb 1994 08:49:37 GMT")),
        *(f"etag: {text}" for text in ("v1", '"a" b"', '"a", *', "*", f'"{"a" * 5000}"')),
    ],
)
async def test_what_is_no_date_or_no_tag_of_the_datacenter_goes_to_nobody_nor_back_to_it(
    world: World, datacenters: dict[str, Wayward], line: str, fresh_day: str
) -> None:
    body = right(f"/v1/pupils/{PUPIL}/absences?view=family&from={fresh_day}")
    datacenters["rabat"].scripts[f"from={fresh_day}"] = says(head(200, line, length=len(body)) + body)
    first = await world.get(path(fresh_day), PUPIL)
    assert (first.status_code, first.json()) == (200, msgspec.json.decode(body))
    assert "last-modified" not in first.headers
    world.clock.advance(5 * 60)  # stale now: it would be asked whether it is unchanged
    assert (await world.get(path(fresh_day), PUPIL)).status_code == 200
    seen = [one for one in datacenters["rabat"].seen if f"from={fresh_day}" in one.target]
    assert len(seen) == 2
    assert not any("if-none-match" in one.headers for one in seen)


async def test_response_smuggling_what_comes_behind_an_answer_is_nobodys_answer(
    world: World, datacenters: dict[str, Wayward], fresh_day: str
) -> None:
    body = right(f"/v1/pupils/{PUPIL}/absences?view=family&from={fresh_day}")
    two = head(length=len(body)) + body + head(length=LENGTH) + ELSES
    datacenters["rabat"].scripts[f"from={fresh_day}"] = says(two)
    first = await world.get(path(fresh_day), PUPIL)
    assert (first.status_code, first.json()) == (200, msgspec.json.decode(body))
    datacenters["rabat"].scripts.clear()
    second = await world.get(f"/v1/pupils/{PUPIL}/grades", PUPIL)
    assert second.status_code == 200
    assert "somebody-else" not in second.text
    assert second.json()["subjects"]


# Slow ones, at a gateway of its own whose clocks are real

NEVER: dict[str, Script] = {
    "says nothing": silent(),
    "says nothing after the head": silent(head(length=LENGTH)),
    "says nothing before the last byte": silent(head(length=LENGTH) + ELSES[:-1]),
    "trickles its body": trickles(head(length=1 << 20), every_s=0.05),
    "trickles its head": trickles(head(length=LENGTH)[:-4] + b"\r\nx-a:", every_s=0.05),
}


@pytest.mark.parametrize("name", NEVER)
async def test_a_datacenter_that_never_ends_holds_nobody_up_and_is_not_asked_by_each(
    standing: Standing, name: str, fresh_day: str
) -> None:
    for who in FAMILY:
        assert (await standing.get(f"/v1/pupils/{PUPIL}/timetable", who)).status == 200
    both = {"rabat": standing.rabat, "marrakech": standing.marrakech}
    for one in both.values():
        one.scripts[f"from={fresh_day}"] = NEVER[name]
    began = time.monotonic()
    answers = await asyncio.gather(
        *(standing.get(path(fresh_day), FAMILY[turn % 3]) for turn in range(READERS))
    )
    assert time.monotonic() - began < ANSWERED_WITHIN_S
    for answer in answers:
        assert (answer.status, answer.slug) == (503, "datacenters-unavailable")
        assert b"somebody-else" not in answer.body
    assert 1 <= sent(both, fresh_day) <= SENT_SLOWLY_MAX
    standing.heal()
    again = await standing.well_again(path(fresh_day), PARENT)
    assert again.header("cache-status") == "massar; fwd=miss; stored"
    assert msgspec.json.decode(again.body)["absences"][0]["date"] == fresh_day
