"""How long an answer from before a write is shown once the write is acknowledged, by every worker of every site.

A teacher enters a mark at one site while each worker is asked for the gradebook over a connection of its own, over and over.
A stale answer is one with the entity tag from before the write. Counted from two instants: when the write was sent, which
is before its purge, and when it was acknowledged, which is after.

Invariant: an answer counts as stale until it has been received, whenever it was asked for.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from bench import country, machine
from bench.client import Unexpected
from bench.figures import spans_table
from bench.teachers import Mint, Sheet, Teachers, sheets_of
from bench.workers import Streams, ask, connected, get
from sandbox import folder
from sandbox.postgres import RECORDS

PUPILS = 400
WORKERS = 2
SETTLES_S = 10.0
# Asked on for so long after the acknowledgement: who shows the old answer again has to be seen.
AFTER_S = 0.3
REST_S = 0.002
_ETAG = re.compile(rb"\r\netag: *(\S+)", re.IGNORECASE)
_HURRIED = {"MASSAR_RATE_PER_S": "5000", "MASSAR_RATE_BURST": "5000"}


class Shown(msgspec.Struct, frozen=True):
    """One worker after one write. Seconds from the write's sending and its acknowledgement to the last stale answer.

    `across`: the worker is at the other site. `again`: stale answers after a new one.
    """

    across: bool
    since_sent_s: float
    since_acknowledged_s: float
    asked: int
    again: int


class Purges(msgspec.Struct, frozen=True):
    """All runs, as they are written to the results folder."""

    where: machine.Machine
    writes: int
    shown: list[Shown]


async def run(*, runs: int) -> Purges:
    """Write so many times, at the sites in turn. Raises: Unexpected, Unwatched, OSError, TimeoutError."""
    where = machine.this_machine()
    shown: list[Shown] = []
    with country.scratch_folder() as scratch:
        async with country.running(scratch, pupils=PUPILS, workers=WORKERS, settings=_HURRIED) as place:
            table = folder.read_table(place)
            (sheet, *_) = await sheets_of(table.databases[folder.SITES[0]][RECORDS], Mint(place), marks=1)
            teachers = Teachers(table.gateways, [sheet], [], rate=1.0)
            async with AsyncExitStack() as opened:
                doors = [
                    (site, request, streams)
                    for site, url in table.gateways.items()
                    for request in [get(url, sheet.path, sheet.token)]
                    for streams in (
                        await opened.enter_async_context(connected(url, request, each=WORKERS))
                    ).values()
                ]
                for number in range(runs):
                    shown += await _write_once(teachers, sheet, list(table.gateways), number % 2, doors)
                    if number % 20 == 19:
                        print(f"bench: {number + 1} of {runs} writes", file=sys.stderr, flush=True)
    return Purges(where, runs, shown)


async def _write_once(
    teachers: Teachers,
    sheet: Sheet,
    sites: Sequence[str],
    door: int,
    doors: Sequence[tuple[str, bytes, Streams]],
) -> list[Shown]:
    before = await _settled(doors)
    over = asyncio.Event()
    seen = [asyncio.create_task(_follow(streams, request, before, over)) for _, request, streams in doors]
    try:
        await asyncio.sleep(REST_S * 10)
        sheet.door, sent = door, time.monotonic()
        await teachers.enter(sheet)
        acknowledged = time.monotonic()
        await asyncio.sleep(AFTER_S)
    finally:
        over.set()
        followed = await asyncio.gather(*seen)
    if teachers.tally.errors:
        raise Unexpected(f"a write was answered otherwise: {dict(teachers.tally.refused)}")
    return [
        Shown(
            across=site != sites[door],
            since_sent_s=last - sent,
            since_acknowledged_s=max(0.0, last - acknowledged),
            asked=asked,
            again=again,
        )
        for (site, _, _), (last, asked, again) in zip(doors, followed, strict=True)
    ]


async def _settled(doors: Sequence[tuple[str, bytes, Streams]]) -> bytes:
    """The entity tag that every worker shows. Raises: TimeoutError."""
    async with asyncio.timeout(SETTLES_S):
        while True:
            tags = {await _etag(streams, request) for _, request, streams in doors}
            if len(tags) == 1:
                return tags.pop()
            await asyncio.sleep(REST_S)


async def _follow(
    streams: Streams, request: bytes, before: bytes, over: asyncio.Event
) -> tuple[float, int, int]:
    """When the last stale answer came, how many answers came, and how many were stale after a new one."""
    last, asked, again, renewed = 0.0, 0, 0, False
    while not over.is_set():
        tag = await _etag(streams, request)
        asked += 1
        if tag == before:
            last = time.monotonic()
            again += renewed
        else:
            renewed = True
        await asyncio.sleep(REST_S)
    if not renewed:
        raise Unexpected("a worker never showed the write")
    return last, asked, again


async def _etag(streams: Streams, request: bytes) -> bytes:
    head = await ask(streams, request)
    if (found := _ETAG.search(head)) is None:
        raise Unexpected(f"an answer without an entity tag: {head[:40]!r}")
    return found[1]


def table(result: Purges) -> str:
    """The runs as text."""
    at_home = [one for one in result.shown if not one.across]
    away = [one for one in result.shown if one.across]
    return spans_table(
        result.where.country(),
        f"the last answer from before a write, {result.writes} writes at two sites of {WORKERS} workers",
        [
            ("ms after it was sent, same site", [one.since_sent_s * 1000 for one in at_home]),
            ("ms after it was sent, other site", [one.since_sent_s * 1000 for one in away]),
            ("ms after it was acknowledged, same site", [one.since_acknowledged_s * 1000 for one in at_home]),
            ("ms after it was acknowledged, other site", [one.since_acknowledged_s * 1000 for one in away]),
        ],
        {
            "answers": sum(one.asked for one in result.shown),
            "from before the write after one from behind it": sum(one.again for one in result.shown),
        },
    )
