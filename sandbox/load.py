"""A steady load of the three roles that notes every answer: what the gaps of a lost site are measured with.

Invariant: a write counts as acknowledged only when its own verdict said so, and is later looked for by its version.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, timedelta
from functools import partial

import msgspec

from sandbox.phone import NoAnswer, Phone, Told

READS_PER_S = 12.0
WRITES_PER_S = 6.0
ASK_AGAIN_S = 0.2
NUMBERS_MAX = 12
# Warm reads wait for the others: on a slow machine they alone would keep their pace, and the load would be another one.
WARM_PER_FRESH_WORK_MAX = 2


class Noted(msgspec.Struct, frozen=True):
    """One answer: `began` and `ended` in seconds of one monotonic clock; `fresh_work` when it could not be warm."""

    began: float
    ended: float
    write: bool
    fresh_work: bool
    status: int
    site: str
    rotated: bool
    mode: str


class Acknowledged(msgspec.Struct, frozen=True):
    """One accepted mark."""

    at: float
    pupil_id: str
    number: int
    version: int


class Load:
    """Phones that read and write until told to stop."""

    def __init__(self, *, student: Phone, parent: Phone, teacher: Phone) -> None:
        self._student = student
        self._parent = parent
        self._teacher = teacher
        self.noted: list[Noted] = []
        self.acknowledged: list[Acknowledged] = []
        self._stopping = asyncio.Event()
        self._wrote = asyncio.Event()
        self._versions: dict[tuple[str, int], int] = {}
        self._warm = 0
        self._fresh_work = 0

    async def run(self) -> None:
        """Drive all phones until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_warm())
            group.create_task(self._read_cold())
            group.create_task(self._read_after_writes())
            group.create_task(self._write())

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()
        self._wrote.set()

    async def first(self, *, write: bool, after: float, within_s: float) -> Noted | None:
        """The first successful read or write that began at or after `after`, or None in time."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for noted in self.noted:
                if noted.write is write and noted.began >= after and noted.status == 200:
                    return noted
            await asyncio.sleep(0.02)
        return None

    async def _paced(self, per_s: float, step: Callable[[], Awaitable[object]]) -> None:
        beat = time.monotonic()
        while not self._stopping.is_set():
            await step()
            beat = max(beat + 1 / per_s, time.monotonic())
            await asyncio.sleep(beat - time.monotonic())

    async def _read_warm(self) -> None:
        pupil = self._student.account.pupil_id
        paths = itertools.cycle([f"/v1/pupils/{pupil}/timetable", f"/v1/pupils/{pupil}/absences"])

        async def step() -> None:
            if self._warm < WARM_PER_FRESH_WORK_MAX * self._fresh_work:
                await self._get(self._student, next(paths), fresh_work=False)

        await self._paced(READS_PER_S, step)

    async def _read_cold(self) -> None:
        child = self._parent.account.children[0]
        paths = cold_paths(child)

        async def step() -> None:
            await self._get(self._parent, next(paths), fresh_work=True)

        await self._paced(READS_PER_S, step)

    async def _read_after_writes(self) -> None:
        child = self._parent.account.children[0]
        while not self._stopping.is_set():
            await self._wrote.wait()
            self._wrote.clear()
            await self._get(self._parent, f"/v1/pupils/{child}/grades", fresh_work=True)

    async def _write(self) -> None:
        account = self._teacher.account
        book = f"/v1/gradebooks/{account.class_id}/{account.subject}/{account.session}"
        await self._learn_versions(book)
        turns = itertools.cycle(sorted(self._versions))

        async def step() -> None:
            await self._enter(book, *next(turns))

        await self._paced(WRITES_PER_S, step)

    async def _learn_versions(self, book: str) -> None:
        told = await self._get(self._teacher, book, fresh_work=True)
        if told is None or told.status != 200:
            return
        for row in told.body["rows"]:
            for mark in row["marks"][:NUMBERS_MAX]:
                self._versions[row["pupil_id"], mark["number"]] = mark["version"]

    async def _enter(self, book: str, pupil_id: str, number: int) -> None:
        key = secrets.token_hex(16)
        while not self._stopping.is_set():
            entry = {
                "pupil_id": pupil_id,
                "number": number,
                "mark": f"{secrets.randbelow(81) / 4:.2f}",
                "state": "marked",
                "version": self._versions[pupil_id, number],
            }
            told = await self._note(
                partial(self._teacher.put, book + "/entries", {"entries": [entry]}, key=key),
                write=True,
                fresh_work=True,
            )
            if told is None or told.status in {409, 503, 504}:
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            if told.status == 200 and told.body["results"][0]["status"] == "accepted":
                version = told.body["results"][0]["version"]
                self._versions[pupil_id, number] = version
                self.acknowledged.append(Acknowledged(self.noted[-1].ended, pupil_id, number, version))
                self._wrote.set()
            else:
                # A verdict that no repetition changes (a version lost with the site, a dispensed pupil).
                await self._learn_versions(book)
            return

    async def _get(self, phone: Phone, path: str, *, fresh_work: bool) -> Told | None:
        if fresh_work:
            self._fresh_work += 1
        else:
            self._warm += 1
        return await self._note(lambda: phone.get(path), write=False, fresh_work=fresh_work)

    async def _note(
        self, send: Callable[[], Awaitable[Told]], *, write: bool, fresh_work: bool
    ) -> Told | None:
        began = time.monotonic()
        try:
            told = await send()
        except NoAnswer:
            told = None
        self.noted.append(
            Noted(
                began=began,
                ended=time.monotonic(),
                write=write,
                fresh_work=fresh_work,
                status=told.status if told is not None else 0,
                site=told.site if told is not None else "",
                rotated=told.rotated if told is not None else True,
                mode=told.headers.get("massar-mode", "") if told is not None else "",
            )
        )
        return told


def cold_paths(child: str) -> Iterator[str]:
    """Reads nobody has made before, each a key of its own: every day and every week of the school year."""
    first, last = date(2026, 9, 3), date(2027, 7, 10)
    days = [first + timedelta(days=offset) for offset in range((last - first).days)]
    weeks = dict.fromkeys(f"{day.isocalendar().year}-W{day.isocalendar().week:02}" for day in days)
    return itertools.cycle(
        [
            *(f"/v1/pupils/{child}/absences?from={day}" for day in days),
            *(f"/v1/pupils/{child}/timetable?week={week}" for week in weeks),
        ]
    )
