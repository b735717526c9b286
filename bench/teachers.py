"""The load of the failover figures: teachers who enter marks at a fixed rate at both sites, and parents who read.

Open loop: a write is due every so many milliseconds, whatever became of the ones before it; only a mark that still
waits for its verdict is not entered again. Phones keep docs/apps.md: the other site after a failure, `Retry-After`
kept, a write repeated under its key alone.

Invariant: every write that was ever sent ends as acknowledged, refused or given up, and all three are counted.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
from pyqwest import Client, FullResponse

from auth.keys import SigningKeys
from auth.opaque_id import new_id
from auth.principal import Role
from auth.tokens import Tokens
from datacenters.transport import FAILURES, direct_transport
from gateway.settings import Settings
from sandbox import folder, keys
from sandbox.postgres import RECORDS

SHEETS_MAX = 400
# A teacher saves a few rows at once.
MARKS_A_REQUEST = 5
READERS = 20
READ_EVERY_S = 0.4
ANSWER_S = 6.0
GIVE_UP_S = 30.0
# Before another attempt when no answer said how long to wait.
AGAIN_S = 0.1


class Cell(msgspec.Struct):
    """One mark of one pupil and its last acknowledged version."""

    pupil: str
    number: int
    version: int


class Sheet(msgspec.Struct):
    """Marks that are entered together: of one gradebook (`path`), by its teacher, at the site the phone asks first."""

    path: str
    token: str
    door: int
    cells: list[Cell]
    times: int = 0


class Acknowledged(msgspec.Struct, frozen=True):
    """One acknowledged request of `marks` marks, in monotonic seconds; `tries` is 1 when the first answer was it."""

    began: float
    ended: float
    epoch: int
    site: str
    tries: int
    marks: int


class Tally(msgspec.Struct):
    """What became of everything that was sent; `refused` counts answers by their slug or status."""

    acknowledged: list[Acknowledged] = []
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    broken: int = 0
    given_up: int = 0
    rejected: int = 0
    not_offered: int = 0
    reads: int = 0
    rotated_reads: int = 0
    failed_reads: list[str] = []

    @property
    def marks(self) -> int:
        """How many marks were acknowledged."""
        return sum(done.marks for done in self.acknowledged)

    @property
    def errors(self) -> int:
        """How many answers or connections of writes were not an acknowledgement."""
        return self.refused.total() + self.broken + self.given_up + self.rejected


class _Verdict(msgspec.Struct):
    status: str
    version: int = 0


class _Verdicts(msgspec.Struct):
    results: tuple[_Verdict, ...]


class _Problem(msgspec.Struct):
    slug: str = ""


_verdicts = msgspec.json.Decoder(_Verdicts)
_problem = msgspec.json.Decoder(_Problem)


class Mint:
    """Access tokens as the country's gateways sign them: a sign-in is not what is measured here."""

    def __init__(self, place: Path) -> None:
        issuer = next(field.default for field in msgspec.structs.fields(Settings) if field.name == "issuer")
        self._tokens = Tokens(SigningKeys.load(place / "keys" / keys.ACCESS), issuer=issuer)

    def token(self, role: Role, subject: str) -> str:
        """A fresh token of this person."""
        token, _ = self._tokens.issue_access(subject=subject, role=role, sid=new_id(), now=time.time())
        return token


class Teachers:
    """The load on one country; `tally` grows while it runs."""

    def __init__(
        self,
        doors: Mapping[str, str],
        sheets: Sequence[Sheet],
        reads: Sequence[tuple[str, str]],
        *,
        rate: float,
    ) -> None:
        self.tally = Tally()
        self._sites = tuple(doors)
        self._doors = tuple(doors.values())
        self._sheets = tuple(sheets)
        self._reads = tuple(reads)
        self._every_s = 1 / rate
        self._idle = deque(sheets)
        self._client = Client(direct_transport())
        self._turn = itertools.count(1)
        self._run = secrets.token_hex(6)
        self._stopping = asyncio.Event()
        self._now = time.monotonic

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enter and read for the block; what is under way at its end is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._enter_all(group))
            for number, (path, token) in enumerate(self._reads):
                group.create_task(self._read(path, token, door=number % len(self._doors)))
            try:
                yield
            finally:
                self._stopping.set()

    def first_acknowledged(self, *, epoch: int) -> Acknowledged | None:
        """The first write acknowledged under at least this epoch."""
        return next((done for done in self.tally.acknowledged if done.epoch >= epoch), None)

    async def lost(self, records: str) -> int:
        """How many acknowledged versions the database at `records` does not have."""
        connection = await asyncpg.connect(records, ssl=False)
        try:
            rows = await connection.fetch(
                "SELECT pupil, number, subject, max(version) AS version FROM marks GROUP BY pupil, number, subject, session"
            )
        finally:
            await connection.close()
        held = {(row["pupil"], row["number"], row["subject"]): row["version"] for row in rows}
        return sum(
            max(0, cell.version - held.get((cell.pupil, cell.number, sheet.path.split("/")[4]), 0))
            for sheet in self._sheets
            for cell in sheet.cells
        )

    async def _enter_all(self, group: asyncio.TaskGroup) -> None:
        due = self._now()
        while not self._stopping.is_set():
            due += self._every_s
            if (early := due - self._now()) > 0:
                await asyncio.sleep(early)
            if self._idle:
                group.create_task(self._enter_and_rest(self._idle.popleft()))
            else:
                self.tally.not_offered += 1

    async def _enter_and_rest(self, sheet: Sheet) -> None:
        await self.enter(sheet)
        self._idle.append(sheet)

    async def enter(self, sheet: Sheet) -> None:
        """Enter the next mark in every cell of a sheet, in one request, until its verdicts."""
        sheet.times += 1
        mark = f"{sheet.times // 100 % 20:02}.{sheet.times % 100:02}"
        entries = [
            {
                "pupil_id": cell.pupil,
                "number": cell.number,
                "mark": mark,
                "state": "marked",
                "version": cell.version,
            }
            for cell in sheet.cells
        ]
        body = msgspec.json.encode({"entries": entries})
        headers = {
            "authorization": f"Bearer {sheet.token}",
            "content-type": "application/json",
            "idempotency-key": f"{self._run}-{next(self._turn)}",
        }
        began = self._now()
        tries = 0
        while self._now() - began < GIVE_UP_S:
            tries += 1
            site = self._sites[sheet.door]
            got = await self._ask("PUT", sheet.path + "/entries", headers, sheet.door, body)
            if got is not None and got.status == 200:
                verdicts = _verdicts.decode(got.content).results
                epoch = int(got.headers["massar-epoch"])
                accepted = self._judge(sheet, verdicts)
                done = Acknowledged(began, self._now(), epoch, site, tries, accepted)
                self.tally.acknowledged.append(done)
                return
            sheet.door = (sheet.door + 1) % len(self._doors)
            if got is None:
                self.tally.broken += 1
                wait_s = 0.0 if tries == 1 else AGAIN_S
            else:
                self.tally.refused[_slug(got)] += 1
                wait_s = float(got.headers.get("retry-after", "0")) or AGAIN_S
            await asyncio.sleep(wait_s * random.uniform(1.0, 1.5))
        self.tally.given_up += 1

    def _judge(self, sheet: Sheet, verdicts: Sequence[_Verdict]) -> int:
        """Take in a verdict for each cell; how many marks were accepted."""
        for cell, verdict in zip(sheet.cells, verdicts, strict=True):
            if verdict.status == "accepted":
                cell.version = verdict.version
            else:
                self.tally.rejected += 1
        return sum(verdict.status == "accepted" for verdict in verdicts)

    async def _read(self, path: str, token: str, *, door: int) -> None:
        """One parent's phone: a read that fails at one site is made at the other before it counts as failed."""
        headers = {"authorization": f"Bearer {token}"}
        await asyncio.sleep(random.uniform(0, READ_EVERY_S))
        while not self._stopping.is_set():
            got = await self._ask("GET", path, headers, door)
            if got is None or got.status != 200:
                self.tally.rotated_reads += 1
                door = (door + 1) % len(self._doors)
                got = await self._ask("GET", path, headers, door)
            self.tally.reads += 1
            if got is None or got.status != 200:
                what = "no answer" if got is None else f"{got.status} {_slug(got)}"
                self.tally.failed_reads.append(f"{self._sites[door]}: {what}")
            await asyncio.sleep(READ_EVERY_S)

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], door: int, body: bytes | None = None
    ) -> FullResponse | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._client.execute(method, self._doors[door] + path, headers, body)
        except FAILURES:
            return None


@asynccontextmanager
async def teaching(place: Path, *, rate: float) -> AsyncIterator[Teachers]:
    """The load on the sandbox in this folder, running for the block: `rate` marks a second, some in each request."""
    table = folder.read_table(place)
    mint = Mint(place)
    sheets = await sheets_of(table.databases[folder.SITES[0]][RECORDS], mint, marks=MARKS_A_REQUEST)
    parent = table.accounts["parent"]
    token = mint.token(Role.PARENT, parent["id"])
    paths = [
        f"/v1/pupils/{child}/{what}" for child in parent["children"] for what in ("timetable", "homework")
    ]
    reads = [(path, token) for path in itertools.islice(itertools.cycle(paths), READERS)]
    teachers = Teachers(table.gateways, sheets, reads, rate=rate / MARKS_A_REQUEST)
    async with teachers.running():
        yield teachers


async def sheets_of(records: str, mint: Mint, *, marks: int) -> list[Sheet]:
    """At most `SHEETS_MAX` sheets of `marks` pupils each, no mark in two of them."""
    connection = await asyncpg.connect(records, ssl=False)
    try:
        rows = await connection.fetch(
            """
            SELECT marks.pupil, min(marks.number) AS number, marks.class_id, marks.subject, marks.session,
                   assignments.teacher
            FROM marks JOIN calendar USING (session) JOIN assignments USING (class_id, subject)
                 JOIN gradebooks USING (class_id, subject, session)
            WHERE marks.state <> 'dispensed' AND NOT gradebooks.locked
            GROUP BY marks.pupil, marks.class_id, marks.subject, marks.session, assignments.teacher
            ORDER BY marks.class_id, marks.subject, marks.pupil
            """
        )
        versions = await connection.fetch("SELECT pupil, number, subject, session, version FROM marks")
    finally:
        await connection.close()
    held = {(row["pupil"], row["number"], row["subject"], row["session"]): row["version"] for row in versions}
    tokens = {teacher: mint.token(Role.TEACHER, teacher) for teacher in {row["teacher"] for row in rows}}
    sheets: list[Sheet] = []
    books = itertools.groupby(
        rows, key=lambda row: (row["class_id"], row["subject"], row["session"], row["teacher"])
    )
    for (class_id, subject, session, teacher), book in books:
        pupils = [
            Cell(row["pupil"], row["number"], held[row["pupil"], row["number"], subject, session])
            for row in book
        ]
        for first in range(0, len(pupils) - marks + 1, marks):
            path = f"/v1/gradebooks/{class_id}/{subject}/{session}"
            sheets.append(Sheet(path, tokens[teacher], len(sheets) % 2, pupils[first : first + marks]))
    random.Random(0).shuffle(sheets)  # not one class after the other
    return sheets[:SHEETS_MAX]


def _slug(got: FullResponse) -> str:
    try:
        return _problem.decode(got.content).slug or str(got.status)
    except msgspec.DecodeError:
        return str(got.status)
