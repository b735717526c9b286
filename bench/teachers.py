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

CELLS_MAX = 1_000
READERS = 20
READ_EVERY_S = 0.4
ANSWER_S = 6.0
GIVE_UP_S = 30.0
# Before another attempt when no answer said how long to wait.
AGAIN_S = 0.1


class Cell(msgspec.Struct):
    """One mark of one pupil, the path of its gradebook, its teacher's token, and the site its phone asks first."""

    pupil: str
    number: int
    version: int
    path: str
    token: str
    door: int
    marks: int = 0


class Acknowledged(msgspec.Struct, frozen=True):
    """One acknowledged write, in monotonic seconds; `tries` is 1 when the first answer was it."""

    began: float
    ended: float
    epoch: int
    site: str
    tries: int


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
        cells: Sequence[Cell],
        reads: Sequence[tuple[str, str]],
        *,
        rate: float,
    ) -> None:
        self.tally = Tally()
        self._sites = tuple(doors)
        self._doors = tuple(doors.values())
        self._cells = tuple(cells)
        self._reads = tuple(reads)
        self._every_s = 1 / rate
        self._idle = deque(cells)
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
            max(0, cell.version - held.get((cell.pupil, cell.number, cell.path.split("/")[4]), 0))
            for cell in self._cells
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

    async def _enter_and_rest(self, cell: Cell) -> None:
        await self.enter(cell)
        self._idle.append(cell)

    async def enter(self, cell: Cell) -> None:
        """Enter one mark, until its verdict."""
        cell.marks += 1
        mark = f"{cell.marks // 100 % 20:02}.{cell.marks % 100:02}"
        entry = {"pupil_id": cell.pupil, "number": cell.number, "mark": mark, "state": "marked"}
        body = msgspec.json.encode({"entries": [{**entry, "version": cell.version}]})
        headers = {
            "authorization": f"Bearer {cell.token}",
            "content-type": "application/json",
            "idempotency-key": f"{self._run}-{next(self._turn)}",
        }
        began = self._now()
        tries = 0
        while self._now() - began < GIVE_UP_S:
            tries += 1
            site = self._sites[cell.door]
            got = await self._ask("PUT", cell.path + "/entries", headers, cell.door, body)
            if got is None or got.status != 200:
                cell.door = (cell.door + 1) % len(self._doors)
                if got is None:
                    self.tally.broken += 1
                    wait_s = 0.0 if tries == 1 else AGAIN_S
                else:
                    self.tally.refused[_slug(got)] += 1
                    wait_s = float(got.headers.get("retry-after", "0")) or AGAIN_S
                await asyncio.sleep(wait_s * random.uniform(1.0, 1.5))
                continue
            (verdict,) = _verdicts.decode(got.content).results
            if verdict.status != "accepted":
                self.tally.rejected += 1
            else:
                cell.version = verdict.version
                epoch = int(got.headers["massar-epoch"])
                self.tally.acknowledged.append(Acknowledged(began, self._now(), epoch, site, tries))
            break
        else:
            self.tally.given_up += 1

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
    """The load on the sandbox in this folder, running for the block: `rate` writes a second."""
    table = folder.read_table(place)
    mint = Mint(place)
    cells = await cells_of(table.databases[folder.SITES[0]][RECORDS], mint)
    parent = table.accounts["parent"]
    token = mint.token(Role.PARENT, parent["id"])
    paths = [
        f"/v1/pupils/{child}/{what}" for child in parent["children"] for what in ("timetable", "homework")
    ]
    reads = [(path, token) for path in itertools.islice(itertools.cycle(paths), READERS)]
    teachers = Teachers(table.gateways, cells, reads, rate=rate)
    async with teachers.running():
        yield teachers


async def cells_of(records: str, mint: Mint) -> list[Cell]:
    """One mark of each of at most `CELLS_MAX` pupils, in the gradebooks of their own teachers."""
    connection = await asyncpg.connect(records, ssl=False)
    try:
        rows = await connection.fetch(
            """
            SELECT DISTINCT ON (marks.pupil) marks.pupil, marks.number, marks.version, marks.class_id, marks.subject,
                   marks.session, assignments.teacher
            FROM marks JOIN calendar USING (session)
                 JOIN assignments USING (class_id, subject)
            WHERE marks.state <> 'dispensed' ORDER BY marks.pupil, marks.subject, marks.number LIMIT $1
            """,
            CELLS_MAX,
        )
    finally:
        await connection.close()
    tokens = {teacher: mint.token(Role.TEACHER, teacher) for teacher in {row["teacher"] for row in rows}}
    return [
        Cell(
            pupil=row["pupil"],
            number=row["number"],
            version=row["version"],
            path=f"/v1/gradebooks/{row['class_id']}/{row['subject']}/{row['session']}",
            token=tokens[row["teacher"]],
            door=number % 2,
        )
        for number, row in enumerate(rows)
    ]


def _slug(got: FullResponse) -> str:
    try:
        return _problem.decode(got.content).slug or str(got.status)
    except msgspec.DecodeError:
        return str(got.status)
