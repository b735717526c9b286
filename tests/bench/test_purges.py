"""Stale answers are told by their entity tag, counted until they are received, and missed by nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from bench import machine, purges
from bench.client import Unexpected
from bench.purges import Purges, Shown, table
from bench.teachers import Cell, Sheet, Teachers
from bench.workers import connected, get
from tests.bench.door import Came, Said, door

WORKERS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
VERDICT = {"results": [{"status": "accepted", "version": 2}]}


class Gateway:
    """A site's workers; `tag` says what each shows, by the seconds since the write was acknowledged (None: not yet)."""

    def __init__(self, tag: Callable[[str, float | None], str]) -> None:
        self._tag = tag
        self._written_at: float | None = None

    def answer(self, came: Came) -> Said:
        if came.method == "PUT":
            self._written_at = time.monotonic()
            return Said(body=VERDICT, headers={"massar-epoch": "1"})
        name = WORKERS[came.connection % 2]
        since = None if self._written_at is None else time.monotonic() - self._written_at
        return Said(headers={"massar-request-id": f"{name}-1", "etag": f'"{self._tag(name, since)}"'})


async def shown(tag: Callable[[str, float | None], str]) -> list[Shown]:
    """What one write is seen to do at two sites that behave alike."""
    gateway = Gateway(tag)
    async with door(gateway.answer) as here, AsyncExitStack() as opened:
        sheet = Sheet("/v1/gradebooks/c/math/1", "token", 0, [Cell("p", 1, 1)])
        teachers = Teachers({"rabat": here, "marrakech": here}, [sheet], [], rate=1.0)
        request = get(here, sheet.path, "token")
        doors = []
        for site in ("rabat", "marrakech"):
            found = await opened.enter_async_context(connected(here, request, each=2))
            doors += [(site, request, streams) for streams in found.values()]
        return await purges._write_once(teachers, sheet, ["rabat", "marrakech"], 0, doors)


async def test_the_last_stale_answer_of_each_worker_is_told() -> None:
    late_s = 0.1
    found = await shown(
        lambda name, since: "new" if since is not None and (name == WORKERS[0] or since > late_s) else "old"
    )
    assert [one.across for one in found] == [False, False, True, True]
    prompt, late = sorted(found[:2], key=lambda one: one.since_acknowledged_s)
    assert prompt.since_acknowledged_s < late_s <= late.since_sent_s + 0.05
    assert late.since_sent_s >= late.since_acknowledged_s > 0
    assert all(one.asked > 0 and one.again == 0 for one in found)


async def test_who_shows_the_old_answer_again_is_seen() -> None:
    found = await shown(
        lambda _name, since: "old" if since is None or 0.05 < since < 0.1 else "new",
    )
    assert sum(one.again for one in found) > 0


async def test_a_worker_that_never_shows_the_write_ends_the_measurement() -> None:
    with pytest.raises(Unexpected, match="never showed"):
        await shown(lambda _name, _since: "old")


def test_the_table_tells_sites_apart() -> None:
    one = Shown(across=False, since_sent_s=0.02, since_acknowledged_s=0.001, asked=100, again=0)
    other = Shown(across=True, since_sent_s=0.04, since_acknowledged_s=0.02, asked=100, again=1)
    where = machine.Machine("P", 2, "6.1", "3.11.7", {}, 0.1)
    told = table(Purges(where, 2, [one] * 4 + [other] * 4))
    assert "2 writes at two sites of 2 workers" in told
    lines = {line[:48].strip(): line.split()[-3:] for line in told.splitlines() if " ms after" in line}
    assert lines["ms after it was sent, same site"] == ["20.000"] * 3
    assert lines["ms after it was acknowledged, other site"] == ["20.000"] * 3
    assert told.splitlines()[-1].split()[-1] == "4"
