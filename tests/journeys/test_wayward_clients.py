"""Phones on their bad days, over real sockets: who leaves, reads slowly or sends nonsense takes nothing from the others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from tests.gateway.people import CLASSMATE, OTHER_PARENT, PARENT, PUPIL
from tests.journeys.wayward import (
    AT_ONCE_MAX,
    Ground,
    Standing,
    Wire,
    head,
    right,
    says,
    standing_gateway,
    wayward_datacenters,
    wayward_world,
)

FAMILY = (PUPIL, PARENT, OTHER_PARENT)
TIMETABLE = f"/v1/pupils/{PUPIL}/timetable"
# One read, and the second one beside it where it is slow.
SENT_MAX = 2
SLOW = 2 * AT_ONCE_MAX
LARGE_BYTES_MIN = 1_000_000
FILES_SOFT = 256


def path(day: str) -> str:
    return f"/v1/pupils/{PUPIL}/absences?from={day}"


def body_of(day: str) -> bytes:
    return right(f"/v1/pupils/{PUPIL}/absences?view=family&from={day}")


async def warmed(standing: Standing) -> None:
    """Have the gateway know these people and the calendar, so that a read asks for nothing but itself."""
    for who in (*FAMILY, CLASSMATE):
        await standing.get(TIMETABLE, who)


@asynccontextmanager
async def wires(standing: Standing, count: int) -> AsyncIterator[list[Wire]]:
    """So many connections."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(standing.wire()) for _ in range(count)]


# Gone while it is fetched


async def test_who_leaves_while_it_is_fetched_takes_nothing_from_those_who_wait(
    standing: Standing, fresh_day: str
) -> None:
    await warmed(standing)
    gate = standing.rabat.gate = asyncio.Event()
    standing.rabat.arrived.clear()
    async with wires(standing, 9) as (first, *others):
        await first.send(standing.request(path(fresh_day), PUPIL))
        await standing.rabat.arrived.wait()
        for wire, who in zip(others, itertools.cycle(FAMILY), strict=False):
            await wire.send(standing.request(path(fresh_day), who))
        for gone in (first, *others[::2]):
            gone.leave()
        assert (await standing.get("/livez", None)).status == 200
        gate.set()
        answers = [await wire.heard() for wire in others[1::2]]
    assert [answer.status for answer in answers] == [200] * 4
    assert {answer.body for answer in answers} == {answers[0].body}
    assert msgspec.json.decode(answers[0].body) == msgspec.json.decode(body_of(fresh_day))
    assert 1 <= standing.rabat.count(f"from={fresh_day}") <= SENT_MAX


async def test_what_nobody_waits_for_any_more_is_fetched_to_its_end_and_kept(
    standing: Standing, fresh_day: str
) -> None:
    await warmed(standing)
    gate = standing.rabat.gate = asyncio.Event()
    standing.rabat.arrived.clear()
    async with wires(standing, 3) as leaving:
        for wire, who in zip(leaving, FAMILY, strict=True):
            await wire.send(standing.request(path(fresh_day), who))
        await standing.rabat.arrived.wait()
    assert (await standing.get("/livez", None)).status == 200
    sent = standing.rabat.count(f"from={fresh_day}")
    gate.set()
    standing.rabat.gate = None
    answer = await standing.get(path(fresh_day), PARENT)
    assert (answer.status, answer.header("cache-status")) in (
        (200, "massar; hit; detail=memory"),
        (200, "massar; fwd=miss; collapsed"),  # asked before the fetch had ended
    )
    assert msgspec.json.decode(answer.body) == msgspec.json.decode(body_of(fresh_day))
    assert standing.rabat.count(f"from={fresh_day}") <= max(sent, SENT_MAX)


async def test_a_server_that_gives_up_who_began_a_fetch_does_not_give_up_the_others(
    ground: Ground, tmp_path: Path, fresh_day: str
) -> None:
    """As an ASGI server may: by cancelling the call."""
    async with (
        wayward_datacenters() as datacenters,
        wayward_world(ground, datacenters, tmp_path) as world,
    ):
        for who in FAMILY:
            await world.get(TIMETABLE, who)
        rabat = datacenters["rabat"]
        gate = rabat.gate = asyncio.Event()
        rabat.arrived.clear()
        asking = [asyncio.create_task(world.get(path(fresh_day), who)) for who in FAMILY]
        await rabat.arrived.wait()
        asking[0].cancel()
        with suppress(asyncio.CancelledError):
            await asking[0]
        gate.set()
        answers = await asyncio.gather(*asking[1:])
        assert [answer.status_code for answer in answers] == [200, 200]
        assert rabat.count(f"from={fresh_day}") <= SENT_MAX
        assert (await world.get(path(fresh_day), PUPIL)).headers[
            "cache-status"
        ] == "massar; hit; detail=memory"


# Slow


def large(day: str) -> bytes:
    """A body that fills every buffer on its way."""
    whole = msgspec.json.decode(body_of(day))
    (absence,) = whole["absences"]
    whole["absences"] = [{**absence, "id": f"absence{turn}", "reason": "r" * 500} for turn in range(2000)]
    encoded = msgspec.json.encode(whole)
    assert len(encoded) > LARGE_BYTES_MIN
    return encoded


async def test_readers_who_do_not_read_hold_up_nobody_and_get_the_whole_of_it_in_the_end(
    standing: Standing, days: Iterator[str]
) -> None:
    await warmed(standing)
    warm, cold = next(days), next(days)
    for day in (warm, cold):
        standing.rabat.scripts[f"from={day}"] = says(head(length=len(large(day))) + large(day))
    await standing.get(path(warm), PUPIL)
    async with wires(standing, SLOW) as slow:
        for turn, wire in enumerate(slow):
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket's transport
            day = cold if turn < AT_ONCE_MAX // 2 else warm
            await wire.send(standing.request(path(day), FAMILY[turn % 3]))
        await standing.get(path(cold), PUPIL)
        for target in (TIMETABLE, "/v1/me", "/v1/status", *(path(next(days)) for _ in range(4))):
            together = await asyncio.gather(*(standing.get(target, PUPIL) for _ in range(AT_ONCE_MAX // 2)))
            assert [(answer.status, answer.slug) for answer in together] == [(200, "")] * len(together)
        for wire in slow:
            wire.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        bodies = {(await wire.heard()).body for wire in slow}
    expected = [msgspec.json.decode(large(day)) for day in sorted((warm, cold))]
    assert [msgspec.json.decode(body) for body in sorted(bodies, key=from_day)] == expected


def from_day(body: bytes) -> str:
    """The day that a body of absences begins with."""
    day: str = msgspec.json.decode(body)["absences"][0]["date"]
    return day


async def test_senders_who_stop_in_the_middle_of_a_head_hold_up_nobody(
    standing: Standing, fresh_day: str
) -> None:
    await warmed(standing)
    expected = await standing.get(path(fresh_day), PUPIL)
    async with wires(standing, SLOW) as slow:
        halves = [standing.request(path(fresh_day), FAMILY[turn % 3]) for turn in range(SLOW)]
        for wire, half in zip(slow, halves, strict=True):
            await wire.send(half[:-7])
        for target in (TIMETABLE, "/v1/me", "/v1/status"):
            together = await asyncio.gather(*(standing.get(target, PUPIL) for _ in range(AT_ONCE_MAX // 2)))
            assert {answer.status for answer in together} == {200}
        for wire, half in zip(slow, halves, strict=True):
            await wire.send(half[-7:])
        answers = [await wire.heard() for wire in slow]
    assert {(answer.status, answer.body) for answer in answers} == {(200, expected.body)}


# Nonsense

# What is refused, with the statuses that may say so; None where the connection ends without a word.
REFUSED: dict[str, tuple[tuple[str, ...], set[int | None]]] = {
    "a header beyond our bound": (("x-a: " + "a" * 17_000,), {431}),
    "a header beyond the server's bound": (("x-a: " + "a" * 2_000_000,), {431, None}),
    "a name beyond every bound": (("x" * 70_000 + ": a",), {431, None}),
    "two hundred headers": (tuple(f"x-{turn}: a" for turn in range(200)), {431, None}),
    "a NUL in a value": (("x-a: b\0c",), {400}),
    "a NUL in a name": (("x\0a: b",), {400}),
    "no colon": (("nonsense",), {400}),
    "no name": ((": nonsense",), {400}),
    "a value on two lines": (("x-a: b\r\n c",), {400}),
    "a name of two words": (("x a: b",), {400}),
    "a space before the colon": (("x-a : b",), {400}),
    "a bare carriage return": (("x-a: b\rx-c: d",), {400}),
    "two lengths": (("content-length: 5", "content-length: 6"), {400}),
    "a length below nothing": (("content-length: -1",), {400}),
    "a length of no number": (("content-length: 0x5",), {400}),
    "a length beyond all numbers": (("content-length: " + "9" * 40,), {400}),
    "a transfer coding of no name": (("transfer-encoding: xchunked",), {400}),
    "a position of no number": (("massar-position: \xff",), {400}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_absurd_header_is_refused_and_disturbs_nobody(
    standing: Standing, name: str, fresh_day: str
) -> None:
    await warmed(standing)
    lines, statuses = REFUSED[name]
    before = await standing.get(TIMETABLE, PUPIL)
    for target in (TIMETABLE, path(fresh_day)):  # warm, and cold
        async with standing.wire() as wire:
            answer = await wire.asked(standing.request(target, PUPIL, *lines))
        assert (answer and answer.status) in statuses
        assert answer is None or answer.slug or answer.body == b"", "refused in our words, or in none"
    after = await standing.get(TIMETABLE, PUPIL)
    assert (after.status, after.body) == (200, before.body)
    assert worker(after.header("massar-request-id")) == worker(before.header("massar-request-id"))
    assert standing.rabat.count(f"from={fresh_day}") == 0


ODD: dict[str, tuple[str, ...]] = {
    "bytes of no alphabet": ("x-a: \xff\xfe",),
    "an empty name in a list": ("accept-encoding: ,,;q=,br;q=nan,gzip;q=1e999,*;q=-1,\xff",),
    "every language": ("accept-language: " + ",".join(f"x-{turn};q=0.{turn}" for turn in range(900)),),
    "a thousand tags": ("if-none-match: " + ",".join(f'"{turn}"' for turn in range(1000)),),
    "tags of no form": ('if-none-match: ",W/,"",\xff',),
    "two hosts": ("host: evil.example",),
    "a range": ("range: bytes=0-0,-1,9-",),
    "a wish to upgrade": ("connection: upgrade", "upgrade: h2c", "http2-settings: AAMAAABk"),
    "an expectation": ("expect: 100-continue",),
    "a condition of no time": ("if-modified-since: never", "if-range: never"),
    "a connection that ends": ("connection: close, massar-request-id, authorization",),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_header_changes_nothing_of_the_answer_cold_or_warm(
    standing: Standing, name: str, fresh_day: str
) -> None:
    await warmed(standing)
    expected = msgspec.json.decode(body_of(fresh_day))
    for who in (PARENT, PUPIL):
        answer = await standing.get(path(fresh_day), who, *ODD[name])
        assert (answer.status, msgspec.json.decode(answer.body)) == (200, expected)
        assert answer.header("content-encoding") is None
    stranger = await standing.get(path(fresh_day), CLASSMATE, *ODD[name])
    assert (stranger.status, stranger.slug) == (404, "not-found")
    assert 1 <= standing.rabat.count(f"from={fresh_day}") <= SENT_MAX


def worker(request_id: str | None) -> str:
    """Which worker process answered."""
    return (request_id or "").partition("-")[0]


# Many


async def test_a_gateway_under_a_low_soft_limit_of_open_files_holds_as_many_as_come(
    ground: Ground, logs: Path
) -> None:
    async with (
        standing_gateway(ground, logs, files_soft=FILES_SOFT) as standing,
        wires(standing, 2 * FILES_SOFT) as held,
    ):
        asked = standing.request("/readyz", None)
        answers = await asyncio.gather(*(wire.asked(asked) for wire in held))
        assert {answer.status for answer in answers if answer is not None} == {200}
        assert None not in answers
        again = await asyncio.gather(*(wire.asked(asked) for wire in held))
        assert None not in again, "they were all held"
