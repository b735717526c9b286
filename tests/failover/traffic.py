"""The load of a schedule: phones that append unique marks and homework and read them back, everything kept.

Every process is one phone: it knows both addresses, rotates on a failure, and repeats a write under its key alone.
A mark's cell counts versions, a class's homework on one day is a board.

Invariant: an attempt counts as refused only when it cannot have left this machine or the answer says that nothing
was done; a broken connection, a 504 and a 500 are unknown.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import msgspec

from auth.tokens import ACCESS_TTL_S
from sandbox import folder
from sandbox.load import cold_paths
from sandbox.phone import Account
from sandbox.postgres import RECORDS
from tests.failover.history import History, Kind, Operation, Outcome
from tests.journeys.people import Mint

DUE_ON = "2027-07-10"
MARK_WRITERS, HOMEWORK_WRITERS, BOOK_READERS, BOARD_READERS, OTHER_READERS = 5, 3, 2, 2, 2
CELLS_PER_WRITER = 2
CONNECT_S, ANSWER_S = 1.0, 6.0
GIVE_UP_S = 20.0
AGAIN_S = (0.05, 0.3)
# Readers are as many as writers, and nobody hammers on a door that is shut.
BETWEEN_S = (0.01, 0.04)
MARKS = 2_000
PUPILS_READING = 24
FAR_AHEAD = "1000000-1"
# With these a gateway or a datacenter says that nothing was done.
_NOTHING_DONE = frozenset(
    {"read-only", "switching", "overloaded", "relations-unavailable", "denials-unavailable"}
)


class Answer(msgspec.Struct, frozen=True):
    """One attempt as the phone saw it; `status` 0 when none came, `sent` when the request may have left."""

    status: int
    headers: Mapping[str, str]
    body: Any
    began: float
    ended: float
    site: str
    sent: bool = True

    @property
    def slug(self) -> str:
        return str(self.body.get("slug", "")) if isinstance(self.body, dict) else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What the answer says of itself."""
        age = self.headers.get("massar-data-age")
        return {
            "began": self.began,
            "ended": self.ended,
            "site": self.site,
            "worker": self.headers.get("massar-request-id", "").partition("-")[0],
            "epoch": int(self.headers.get("massar-epoch", "0")),
            "mode": self.headers.get("massar-mode", ""),
            "age_s": float(age) if age else None,
            "position": self.headers.get("massar-position", ""),
            "slug": self.slug or ("" if self.status < 400 else str(self.status)),
        }


class Cell(msgspec.Struct):
    """One mark that one writer owns (or two share), as last heard of."""

    pupil: str
    number: int
    version: int
    first: str
    turn: int = 0

    @property
    def entity(self) -> str:
        return f"mark/{self.pupil}/{self.number}"

    def next_value(self) -> str:
        """A mark never entered here before, nor found here.

        Raises: OverflowError: there are no more.
        """
        self.turn += 1
        if self.turn >= MARKS:
            raise OverflowError(f"{self.entity} has had every mark there is")
        value = f"{self.turn // 100:02}.{self.turn % 100:02}"
        return value if value != self.first else self.next_value()


class Traffic:
    """All phones of one schedule; `history` grows while `running`."""

    def __init__(
        self,
        gateways: Mapping[str, str],
        accounts: Mapping[str, Any],
        mint: Mint,
        *,
        seed: str,
        pace_s: tuple[float, float] = BETWEEN_S,
    ) -> None:
        self.history = History()
        self.unexpected: list[str] = []
        self._gateways = tuple(gateways.items())
        self._teacher = msgspec.convert(accounts["teacher"], Account)
        self._parent = msgspec.convert(accounts["parent"], Account)
        self._mint = mint
        self._minted_at = time.monotonic()
        self._pupils: Iterator[str] = iter(())
        self._tokens = {
            "teacher": mint.token("teacher", self._teacher.id),
            "parent": mint.token("parent", self._parent.id),
        }
        self._chance = random.Random(f"traffic {seed}")
        self._pace_s = pace_s
        self._stopping = asyncio.Event()
        self._turn = itertools.count(1)
        self._cells: list[Cell] = []
        self._last_board: Operation | None = None
        self._book = (
            f"/v1/gradebooks/{self._teacher.class_id}/{self._teacher.subject}/{self._teacher.session}"
        )
        self._board = f"homework/{self._teacher.class_id}"
        self._board_path = f"/v1/pupils/{self._parent.children[0]}/homework?from={DUE_ON}"
        self._wrote = 0
        self._positions_count = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Drive all phones for the block; what is under way at its end is finished or given up."""
        await self._look_around()
        async with asyncio.TaskGroup() as group:
            for process, step in enumerate(self._steps()):
                group.create_task(self._repeat(process, step))
            try:
                yield
            finally:
                self._stopping.set()

    def last_acknowledged(self) -> Operation | None:
        """The latest write that was acknowledged."""
        done = (
            one
            for one in reversed(self.history.operations)
            if one.kind is Kind.APPEND and one.outcome is Outcome.OK
        )
        return next(done, None)

    async def read_finally(self, table: folder.Table, site: str) -> None:
        """Note what the database of the active datacenter holds now that nobody writes."""
        records = await asyncpg.connect(table.databases[site][RECORDS], ssl=False)
        try:
            at = time.monotonic()
            texts = await records.fetch(
                "SELECT body FROM homework WHERE class_id = $1 ORDER BY updated_at, id",
                self._teacher.class_id,
            )
            marks = await records.fetch(
                "SELECT pupil, number, version, mark FROM marks WHERE subject = $1 AND session = $2",
                self._teacher.subject,
                self._teacher.session,
            )
        finally:
            await records.close()
        shared = {
            "process": 0,
            "kind": Kind.FINAL,
            "began": at,
            "ended": at,
            "outcome": Outcome.OK,
            "site": site,
        }
        self.history.note(entity=self._board, seen=self._ours(row["body"] for row in texts), **shared)
        for cell in self._cells:
            (row,) = (row for row in marks if (row["pupil"], row["number"]) == (cell.pupil, cell.number))
            seen = () if row["mark"] is None else (f"{row['mark']:05.2f}",)
            self.history.note(entity=cell.entity, version=row["version"], seen=seen, **shared)

    def _ours(self, texts: Any) -> tuple[str, ...]:
        return tuple(text for text in texts if text.startswith(self._board))

    def _steps(self) -> list[Callable[[Phone], Awaitable[None]]]:
        own = [
            self._cells[at : at + CELLS_PER_WRITER]
            for at in range(0, MARK_WRITERS * CELLS_PER_WRITER, CELLS_PER_WRITER)
        ]
        own[1] = [*own[1], own[0][0]]  # one cell has two writers
        return [
            *(self._marking(cells) for cells in own),
            *[self._assign] * HOMEWORK_WRITERS,
            *[self._read_book] * BOOK_READERS,
            *[self._read_board] * BOARD_READERS,
            *[self._reading_anything()] * OTHER_READERS,
        ]

    async def _repeat(self, process: int, step: Callable[[Phone], Awaitable[None]]) -> None:
        async with AsyncExitStack() as stack:
            phone = Phone(process, self._gateways, self._tokens, first=process % 2)
            stack.push_async_callback(phone.aclose)
            while not self._stopping.is_set():
                self._renew_tokens()
                await step(phone)
                await asyncio.sleep(self._chance.uniform(*self._pace_s))

    def _renew_tokens(self) -> None:
        """As a signed-in phone would, before they run out."""
        if time.monotonic() - self._minted_at > ACCESS_TTL_S / 2:
            self._minted_at = time.monotonic()
            people = {"teacher": self._teacher.id, "parent": self._parent.id}
            for who in self._tokens:
                role = who if who in people else "student"
                self._tokens[who] = self._mint.token(role, people.get(who, who))

    async def _look_around(self) -> None:
        """Find the cells to write, and whether a read may name a position that it must not be older than."""
        phone = Phone(-1, self._gateways, self._tokens, first=0)
        try:
            told = await phone.send("GET", self._book, who="teacher")
            ahead = await phone.send(
                "GET", self._board_path, who="parent", headers={"massar-position": FAR_AHEAD}
            )
        finally:
            await phone.aclose()
        self._positions_count = ahead.status != 200  # else no gateway reads them yet: nothing is promised
        assert told.status == 200, (told.status, told.body)
        for row in told.body["rows"]:
            for mark in row["marks"][:1]:
                if mark["state"] != "dispensed":
                    first = "" if mark["mark"] is None else f"{float(mark['mark']):05.2f}"
                    self._cells.append(Cell(row["pupil_id"], mark["number"], mark["version"], first))
        child = self._parent.children[0]
        # People enough that what most of them meet counts (a gray datacenter is told by its users).
        self._pupils = itertools.cycle([row["pupil_id"] for row in told.body["rows"]][:PUPILS_READING])
        self._tokens |= {
            row["pupil_id"]: self._mint.token("student", row["pupil_id"])
            for row in told.body["rows"][:PUPILS_READING]
        }
        self._cells.sort(key=lambda cell: cell.pupil != child)  # his is among those that are written
        del self._cells[MARK_WRITERS * CELLS_PER_WRITER :]

    # Writing

    def _marking(self, cells: list[Cell]) -> Callable[[Phone], Awaitable[None]]:
        turns = itertools.cycle(cells)

        async def step(phone: Phone) -> None:
            await self._enter(phone, next(turns))

        return step

    async def _enter(self, phone: Phone, cell: Cell) -> None:
        version, value = cell.version + 1, cell.next_value()
        entry = {"pupil_id": cell.pupil, "number": cell.number, "mark": value, "state": "marked"}
        payload = {"entries": [{**entry, "version": cell.version}]}
        facts = {"entity": cell.entity, "value": value, "version": version}

        def judge(told: Answer) -> tuple[Outcome, str]:
            (verdict,) = told.body["results"]
            if verdict["status"] == "accepted":
                cell.version = max(cell.version, verdict["version"])
                return Outcome.OK, f"accepted {verdict['version']}"
            if (current := verdict.get("current")) is not None:
                cell.version = current
            return Outcome.FAILED, f"rejected {verdict['problem']['slug']} {current}"

        await self._append(phone, "PUT", self._book + "/entries", payload, facts, judge)

    async def _assign(self, phone: Phone) -> None:
        text = f"{self._board}/{next(self._turn)}"
        payload = {"subject": self._teacher.subject, "text": text, "due_on": DUE_ON}

        def judge(told: Answer) -> tuple[Outcome, str]:
            return Outcome.OK, str(told.body["id"])

        path = f"/v1/classes/{self._teacher.class_id}/homework"
        done = await self._append(phone, "POST", path, payload, {"entity": self._board, "value": text}, judge)
        self._last_board = done or self._last_board

    async def _append(
        self,
        phone: Phone,
        method: str,
        path: str,
        payload: Any,
        facts: dict[str, Any],
        judge: Callable[[Answer], tuple[Outcome, str]],
    ) -> Operation | None:
        """Repeat under one key until a verdict; the acknowledgement, or None."""
        key = f"{self._chance.getrandbits(64):016x}-{phone.process}"
        give_up_at = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_at:
            told = await phone.send(
                method, path, who="teacher", payload=payload, headers={"idempotency-key": key}
            )
            final = told.status in {200, 201}
            outcome, answer = judge(told) if final else (self._undecided(told), "")
            noted = self.history.note(
                process=phone.process,
                kind=Kind.APPEND,
                outcome=outcome,
                answer=answer,
                key=key,
                **told.facts,
                **facts,
            )
            if final:
                self._wrote += outcome is Outcome.OK
                return noted if outcome is Outcome.OK else None
            await asyncio.sleep(self._chance.uniform(*AGAIN_S))
        return None

    def _undecided(self, told: Answer) -> Outcome:
        if not told.sent or told.slug in _NOTHING_DONE:
            return Outcome.FAILED
        if told.status == 409 and told.slug == "idempotency-key-in-progress":
            return Outcome.FAILED  # this attempt did nothing; the one in progress is another
        if 0 < told.status < 500 or told.status == 500:
            self.unexpected.append(f"{told.status} {told.slug} at {told.site}")
        return Outcome.FAILED if 0 < told.status < 500 else Outcome.UNKNOWN

    # Reading

    async def _read_book(self, phone: Phone) -> None:
        wrote = self._wrote
        phone.go_anywhere(self._chance)
        told = await phone.send("GET", self._book, who="teacher")
        if told.status != 200:
            self._note_read(phone, told, entity="")
            return
        found = {
            (row["pupil_id"], mark["number"]): mark for row in told.body["rows"] for mark in row["marks"]
        }
        for cell in self._cells:
            mark = found.get((cell.pupil, cell.number))
            seen = () if mark is None or mark["mark"] is None else (f"{float(mark['mark']):05.2f}",)
            version = mark["version"] if mark else None
            self._note_read(
                phone,
                told,
                entity=cell.entity,
                resource="gradebook",
                version=version,
                seen=seen,
                cold=phone.since < wrote,
            )
        phone.since = wrote

    async def _read_board(self, phone: Phone) -> None:
        wrote, last = self._wrote, self._last_board
        phone.go_anywhere(self._chance)
        headers = {}
        after: tuple[str, ...] = ()
        if last is not None and last.position and self._chance.random() < 0.5:
            headers["massar-position"] = last.position
            after = (last.key,) if self._positions_count else ()
        told = await phone.send("GET", self._board_path, who="parent", headers=headers)
        tasks = told.body["homework"] if told.status == 200 else []
        seen = self._ours(task["text"] for task in tasks)
        self._note_read(
            phone,
            told,
            entity=self._board,
            resource="homework",
            seen=seen,
            after=after,
            cold=phone.since < wrote,
        )
        phone.since = wrote

    def _reading_anything(self) -> Callable[[Phone], Awaitable[None]]:
        child = self._parent.children[0]
        cold = cold_paths(child)
        marks = f"/v1/pupils/{child}/grades"
        of_child = next(cell for cell in self._cells if cell.pupil == child)

        async def step(phone: Phone) -> None:
            told = await phone.send("GET", next(cold), who="parent")
            self._note_read(phone, told, entity="", cold=True)
            pupil = next(self._pupils)
            path = next(cold).replace(child, pupil)
            told = await phone.send("GET", path, who=pupil)
            self._note_read(phone, told, entity="", cold=True)
            wrote = self._wrote
            told = await phone.send("GET", marks, who="parent")
            seen = _shown(told, self._teacher.subject, of_child.number)
            self._note_read(
                phone, told, entity=of_child.entity, resource="grades", seen=seen, cold=phone.since < wrote
            )
            phone.since = wrote
            told = await phone.send("GET", f"/v1/pupils/{child}/timetable", who="parent")
            self._note_read(phone, told, entity="", cold=False)

        return step

    def _note_read(self, phone: Phone, told: Answer, **facts: Any) -> None:
        outcome = Outcome.OK if told.status == 200 else Outcome.FAILED
        if 0 < told.status < 503 and told.status != 200:
            self.unexpected.append(f"read: {told.status} {told.slug} at {told.site}")
        self.history.note(process=phone.process, kind=Kind.READ, outcome=outcome, **told.facts, **facts)


class Phone:
    """One process: one connection to a site at a time, the other site after a failure."""

    def __init__(
        self, process: int, gateways: tuple[tuple[str, str], ...], tokens: Mapping[str, str], *, first: int
    ) -> None:
        self.process = process
        self.since = -1
        self._gateways = gateways
        self._tokens = tokens
        self._at = first
        limits = httpx.Limits(max_connections=2, max_keepalive_connections=2)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S), limits=limits, trust_env=False
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    def go_anywhere(self, chance: random.Random) -> None:
        """Ask another site next, perhaps."""
        self._at = chance.randrange(len(self._gateways))

    async def send(
        self,
        method: str,
        path: str,
        *,
        who: str,
        payload: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask once."""
        site, base = self._gateways[self._at]
        sent = {"authorization": f"Bearer {self._tokens[who]}", **(headers or {})}
        content = None
        if payload is not None:
            content = msgspec.json.encode(payload)
            sent["content-type"] = "application/json"
        began = time.monotonic()
        try:
            response = await self._client.request(method, base + path, headers=sent, content=content)
        except httpx.TransportError as error:
            self._at = (self._at + 1) % len(self._gateways)
            left = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            return Answer(0, {}, None, began, time.monotonic(), site, sent=left)
        ended = time.monotonic()
        if response.status_code >= 500:
            self._at = (self._at + 1) % len(self._gateways)
        is_json = "json" in response.headers.get("content-type", "")
        body = msgspec.json.decode(response.content) if response.content and is_json else None
        return Answer(response.status_code, response.headers, body, began, ended, site)


def _shown(told: Answer, subject: str, number: int) -> tuple[str, ...]:
    if told.status != 200:
        return ()
    (found,) = (one for one in told.body["subjects"] if one["code"] == subject)
    mark = next(mark["mark"] for mark in found["marks"] if mark["number"] == number)
    return () if mark is None else (f"{float(mark):05.2f}",)
