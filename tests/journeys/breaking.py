"""What the journeys that break things share: hands on single servers, a load that checks every answer, what the logs say."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from datacenters import control
from datacenters.audit_chain import AuditRow
from datacenters.etcd import Etcd
from datacenters.record import Record
from sandbox import folder, proc
from sandbox.postgres import RECORDS
from tests.countries import RunningCountry, running_country
from tests.journeys.lines import Line
from tests.journeys.people import Mint, People, find_people
from tests.waiting import eventually

PACE_S = 0.05
SEEN_ELSEWHERE_WITHIN_S = 2.0


class Broken(msgspec.Struct, frozen=True):
    """A country of its own that a file of tests may break, with its people and their tokens."""

    country: RunningCountry
    people: People
    mint: Mint

    @property
    def gateways(self) -> dict[str, str]:
        return self.country.addresses.gateways

    def only(self, site: str) -> dict[str, str]:
        """One site's gateway, for a phone that must not rotate."""
        return {site: self.gateways[site]}

    def token(self, who: str) -> str:
        """An access token of a sample person."""
        account = getattr(self.people, who)
        role = {"moutamadris": "student", "waliye": "parent", "moudaris": "teacher"}[account.app]
        return self.mint.token(role, account.id)

    @property
    def book(self) -> str:
        """The path of the gradebook that the sample teacher may enter marks in."""
        teacher = self.people.teacher
        return f"/v1/gradebooks/{teacher.class_id}/{teacher.subject}/{teacher.session}"


@asynccontextmanager
async def breakable(folder_of_its_own: Path, *, workers: int = 2) -> AsyncIterator[Broken]:
    """Start a country that may be broken; it ends in order with the block all the same."""
    async with running_country(folder_of_its_own, workers=workers) as country:
        records = await asyncpg.connect(country.table().databases["rabat"][RECORDS], ssl=False)
        try:
            people = await find_people(country, records)
        finally:
            await records.close()
        yield Broken(country=country, people=people, mint=Mint(country.directory))


def server(table: folder.Table, name: str) -> proc.Identity:
    """The process of this name, such as `rabat-director`."""
    return next(row.who for row in table.processes if row.name == name)


def kill(table: folder.Table, *names: str) -> None:
    """SIGKILL these servers with all that descends from them."""
    assert proc.kill_trees([server(table, name) for name in names])


@contextmanager
def stopped(table: folder.Table, *names: str) -> Iterator[float]:
    """SIGSTOP these servers for the block: there, holding their connections, saying nothing. Gives the moment."""
    whole = proc.descendants([server(table, name) for name in names])
    try:
        for who in whole:
            assert proc.send(who, signal.SIGSTOP)
        yield time.monotonic()
    finally:
        for who in whole:
            proc.send(who, signal.SIGCONT)


def said(directory: Path, name: str, **facts: Any) -> list[dict[str, Any]]:
    """The JSON lines of one server's log that hold all these facts, oldest first; `…` as a value means any."""
    found = []
    for line in (directory / "logs" / f"{name}.log").read_bytes().splitlines():
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # a server's own words, or a line that is being written
        if isinstance(event, dict) and all(
            key in event and value in (..., event[key]) for key, value in facts.items()
        ):
            found.append(event)
    return found


def instant(event: dict[str, Any]) -> float:
    """Unix seconds of a log line."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


async def counted(private_url: str, sample: str) -> float:
    """The value of one sample of a site's metrics, such as `name{label="value"}`; 0 while nothing was counted."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{private_url}/metrics")).text
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == sample
    )


async def declared(etcd_urls: Sequence[str]) -> Record:
    """The record as etcd's majority has it."""
    etcd = Etcd(etcd_urls)
    try:
        held = await control.read(etcd)
    finally:
        await etcd.aclose()
    assert held is not None
    return held.record


async def audited(etcd_urls: Sequence[str]) -> tuple[AuditRow, ...]:
    """Every change of the record, oldest first."""
    etcd = Etcd(etcd_urls)
    try:
        return await control.audit(etcd)
    finally:
        await etcd.aclose()


def days_of_the_year() -> Iterator[str]:
    """Days to ask `from`, each a cache key of its own until they come round again."""
    first, last = date(2026, 9, 3), date(2027, 7, 9)
    return itertools.cycle(
        [(first + timedelta(days=gone)).isoformat() for gone in range((last - first).days)]
    )


class Marks:
    """Enters marks of one pupil as the sample teacher and knows which one counts."""

    def __init__(self, broken: Broken, pupil: str) -> None:
        self._broken = broken
        self._token = broken.token("teacher")
        self._pupil = pupil
        self._values = itertools.cycle(f"{quarter / 4:.2f}" for quarter in range(8, 72))
        self._number = 0
        self.version = 0
        self.value = ""

    async def learn(self, line: Line) -> None:
        """Read the gradebook for a mark that may be entered and its version."""
        answer = await line.get(self._broken.book, self._token)
        assert answer.status_code == 200, answer.text
        row = next(row for row in answer.json()["rows"] if row["pupil_id"] == self._pupil)
        held = next(mark for mark in row["marks"] if mark["state"] != "dispensed")
        self._number, self.version = held["number"], held["version"]

    async def enter(self, line: Line) -> httpx.Response:
        """Enter another mark; it counts when the answer says so."""
        value = next(self._values)
        entry = {"pupil_id": self._pupil, "number": self._number, "mark": value, "state": "marked"}
        answer = await line.put(
            f"{self._broken.book}/entries",
            {"entries": [{**entry, "version": self.version}]},
            token=self._token,
            key=secrets.token_hex(8),
        )
        if answer.status_code == 200:
            (verdict,) = answer.json()["results"]
            assert verdict["status"] == "accepted", verdict
            self.version, self.value = verdict["version"], value
        return answer

    def shown(self, grades: httpx.Response) -> str | None:
        """The mark as an answer about the pupil's grades shows it."""
        subject = self._broken.people.teacher.subject
        (found,) = (one for one in grades.json()["subjects"] if one["code"] == subject)
        (mark,) = (mark["mark"] for mark in found["marks"] if mark["number"] == self._number)
        assert mark is None or isinstance(mark, str)
        return mark


class LookedAway(Exception):
    """The load sends nothing more."""


class Load:
    """Steps that are repeated until told to stop; every answer's status and wait are kept, wrong ones told."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self.statuses: dict[int, int] = {}
        self.wrong: list[str] = []
        self.rounds = 0
        self._stopping = False

    def look_away(self) -> None:
        """Send nothing more from this moment on; what is under way may end."""
        self._stopping = True

    async def timed(self, ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """Ask and note the answer."""
        if self._stopping:
            raise LookedAway
        began = time.monotonic()
        answer = await ask()
        self.waits_s.append(time.monotonic() - began)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        return answer

    def expect(self, held: bool, what: str) -> None:
        """Note what was wrong."""
        if not held:
            self.wrong.append(what)

    @asynccontextmanager
    async def running(self, *steps: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Repeat the steps side by side for the block; what is under way at its end is finished."""
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(self._repeat(step))
            try:
                yield
            finally:
                self.look_away()

    async def more(self, rounds: int, *, within_s: float = 30.0) -> None:
        """Wait for so many rounds more."""
        until = self.rounds + rounds
        await eventually(lambda: self.rounds >= until, within_s=within_s, what=f"{rounds} rounds of load")

    def phase(self) -> Phase:
        """What was noted since the last phase ended."""
        ended = Phase(waits_s=sorted(self.waits_s), statuses=self.statuses, wrong=self.wrong)
        self.waits_s, self.statuses, self.wrong = [], {}, []
        return ended

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        with suppress(LookedAway):
            while True:
                await step()
                self.rounds += 1
                await asyncio.sleep(PACE_S)


class Classroom:
    """A pupil, a parent and a teacher who know what each answer must be. Each gets lines of its own."""

    def __init__(self, broken: Broken, load: Load) -> None:
        self._load = load
        self._broken = broken
        self._student, self._parent = broken.token("student"), broken.token("parent")
        self._child = broken.people.parent.children[0]
        self._marks = Marks(broken, self._child)
        self._days = days_of_the_year()

    async def read_warm(self, lines_of_mine: tuple[Line, ...]) -> Callable[[], Awaitable[None]]:
        """The same timetable, again and again."""
        path = f"/v1/pupils/{self._broken.people.student.pupil_id}/timetable"
        right = await lines_of_mine[0].get(path, self._student)
        assert right.status_code == 200

        async def step() -> None:
            for line in lines_of_mine:
                answer = await self._load.timed(partial(line.get, path, self._student))
                self._load.expect(answer.content == right.content, f"timetable: {answer.status_code}")

        return step

    async def read_cold(self, lines_of_mine: tuple[Line, ...]) -> Callable[[], Awaitable[None]]:
        """What no cache holds yet."""
        path = f"/v1/pupils/{self._child}/absences?from="
        first = await lines_of_mine[0].get(path + next(self._days), self._parent)
        assert first.status_code == 200
        whole: list[dict[str, Any]] = first.json()["absences"]

        async def step() -> None:
            for line in lines_of_mine:
                day = next(self._days)
                answer = await self._load.timed(partial(line.get, path + day, self._parent))
                right = [absence for absence in whole if absence["date"] >= day]
                self._load.expect(
                    answer.status_code == 200 and answer.json()["absences"] == right,
                    f"absences since {day}: {answer.status_code}",
                )

        return step

    async def write_and_read(self, lines_of_mine: tuple[Line, ...]) -> Callable[[], Awaitable[None]]:
        """A mark: shown by the next read at the same worker, and soon at the others."""
        one, *others = lines_of_mine
        grades = f"/v1/pupils/{self._child}/grades"
        await self._marks.learn(one)

        async def shows(line: Line) -> bool:
            answer = await self._load.timed(partial(line.get, grades, self._parent))
            return answer.status_code == 200 and self._marks.shown(answer) == self._marks.value

        async def step() -> None:
            written = await self._load.timed(partial(self._marks.enter, one))
            self._load.expect(written.status_code == 200, f"mark: {written.status_code}")
            self._load.expect(await shows(one), "the next read does not show the mark")
            for other in others:
                await eventually(
                    partial(shows, other), within_s=SEEN_ELSEWHERE_WITHIN_S, what="shown elsewhere"
                )

        return step


class Phase(msgspec.Struct, frozen=True):
    """The answers of one stretch of load."""

    waits_s: list[float]
    statuses: dict[int, int]
    wrong: list[str]

    def percentile_s(self, share: float) -> float:
        """The wait that `share` of the answers stayed below."""
        return self.waits_s[min(len(self.waits_s) - 1, math.ceil(share * len(self.waits_s)) - 1)]

    def __str__(self) -> str:
        p50, p99 = self.percentile_s(0.5), self.percentile_s(0.99)
        return (
            f"{len(self.waits_s)} answers {self.statuses}, waits p50 {p50 * 1000:.0f} ms, "
            f"p99 {p99 * 1000:.0f} ms, max {self.waits_s[-1] * 1000:.0f} ms"
        )
