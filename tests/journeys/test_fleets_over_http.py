"""Two gateways of one site that are told of tier 2 only its URL: whatever moves there under the load, no reader is shown an
error, what another one asked for, or what was purged."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec

from auth.principal import Facts, PupilFact, Relation
from datacenters.notices import PATH, SIGNATURE_HEADER, sign_notice
from datacenters.sender_keys import read_private_key
from sandbox import ports
from tests.gateway import contract
from tests.gateway.origin import Seen
from tests.gateway.people import AS_OF, CLASS, PARENT, SCHOOL, TEACHER
from tests.journeys import valkey_fleets
from tests.journeys.wayward import (
    Ground,
    Heard,
    Standing,
    Wire,
    gateway_before,
    head,
    wayward_datacenters,
)
from tests.waiting import eventually

# So many that whatever part of tier 2 moves, it has some of their pages and of their purges.
PUPILS = tuple(f"pupil{letter * 10}" for letter in "abcdefghijkl")
VIEWS = {PARENT: "family", TEACHER: "teacher"}
READERS = 2
# A reader asks for all pages of a day so often before he goes on to the next one, which nobody has asked for.
ROUNDS_A_DAY = 8
# For a machine that stalls; nothing here is judged by a clock.
SEEN_WITHIN_S = 60.0


def days_from(first: date) -> Iterator[str]:
    """One day after the other, without an end."""
    return ((first + timedelta(days=gone)).isoformat() for gone in itertools.count())


class Page(NamedTuple):
    """What somebody may ask for: a pupil's absences since a day."""

    pupil: str
    who: str
    day: str

    @property
    def target(self) -> str:
        return f"/v1/pupils/{self.pupil}/absences?from={self.day}"

    def version(self, heard: Heard) -> int | None:
        """Which version an answer shows; None where it is no answer to this."""
        if heard.status != 200:
            return None
        body = msgspec.json.decode(heard.body)
        version = int(body["absences"][0]["id"].rpartition(".")[2])
        return version if body == written(self.pupil, VIEWS[self.who], self.day, version) else None


def written(pupil: str, view: str, day: str, version: int) -> dict[str, Any]:
    """The body of one version, which says in every part whose it is."""
    absence = {
        "id": f"{pupil}.{view}.{day}.{version}",
        "date": day,
        "slot": {"start": "08:30", "end": "10:30"},
        "kind": "absence",
        "justified": False,
        "reason": f"{view} {pupil} {version}",
    }
    return {"absences": [absence], "as_of": AS_OF}


class Records:
    """What the datacenters hold: absences that change, two people who may see all of them, a year that is long enough."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(PUPILS, 1)

    async def absences(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        """The version of this moment."""
        parts = urlsplit(seen.target)
        pupil, query = parts.path.split("/")[3], parse_qs(parts.query)
        body = written(pupil, query["view"][0], query["from"][0], self.versions[pupil])
        await self._say(body, writer)

    async def relations(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        """Every pupil is a child of the one and is taught by the other."""
        subject = urlsplit(seen.target).path.split("/")[3]
        relation = Relation.CHILD if subject == PARENT else Relation.TAUGHT
        facts = dict.fromkeys(PUPILS, PupilFact(relation=relation, class_id=CLASS, school=SCHOOL))
        await self._say(Facts(subject, 1, facts), writer)

    async def calendar(self, _seen: Seen, writer: asyncio.StreamWriter) -> None:
        """A day beyond the year would be read as the year's last one."""
        await self._say({**contract.CALENDAR, "last_day": "2099-06-30"}, writer)

    async def _say(self, body: object, writer: asyncio.StreamWriter) -> None:
        raw = msgspec.json.encode(body)
        position = f"1-{1000 + sum(self.versions.values())}"
        writer.write(head(length=len(raw), position=position) + raw)
        await writer.drain()


class Worker:
    """One gateway, and below which version it may show nothing any more."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self._bearers = {who: standing.bearer(who) for who in VIEWS}
        self._purged: Counter[str] = Counter()
        self._shown: Counter[Page] = Counter()

    async def read(self, page: Page, wire: Wire) -> tuple[int, str]:
        """One read, judged: the version and where it came from. Raises what is wrong with it."""
        oldest = max(self._purged[page.pupil], self._shown[page])
        raw = self.standing.request(page.target, None, f"authorization: {self._bearers[page.who]}")
        await wire.send(raw)
        heard = await wire.heard()
        version = page.version(heard)
        assert version is not None, (page, heard)
        assert version >= oldest, (page, heard)
        self._shown[page] = max(version, self._shown[page])
        return version, heard.header("cache-status") or ""

    async def read_once(self, page: Page) -> tuple[int, str]:
        """The same on a connection of its own."""
        async with self.standing.wire() as wire:
            return await self.read(page, wire)

    async def holds(self, page: Page) -> None:
        """Wait until a page is in its memory."""

        async def held() -> bool:
            return "detail=memory" in (await self.read_once(page))[1]

        await eventually(held, within_s=SEEN_WITHIN_S, what="held in memory")

    async def hears(self, page: Page, version: int) -> None:
        """Wait until it shows the new version of what it held, so has heard of the purge: from now on it shows no older one."""

        async def heard() -> bool:
            return (await self.read_once(page))[0] >= version

        await eventually(heard, within_s=SEEN_WITHIN_S, what="the purge is heard")
        self._purged[page.pupil] = version

    async def reads(self, place: int) -> None:
        """Read without an end, on one connection: what is in memory, what only tier 2 has, what nobody has."""
        everybody = [(pupil, who) for pupil in PUPILS for who in VIEWS]
        async with self.standing.wire() as wire:
            for day in itertools.islice(days_from(date(2026, 9, 2)), place, None):
                for pupil, who in everybody * ROUNDS_A_DAY:
                    await self.read(Page(pupil, who, day), wire)


class Fleet:
    """The workers of a site and the records behind them; `days` are those that no reader of the load asks for."""

    def __init__(self, workers: tuple[Worker, ...], records: Records, notices: Notices) -> None:
        self.workers = workers
        self._records = records
        self._notices = notices
        self._turns = itertools.cycle(itertools.product(VIEWS, PUPILS))
        self._days = days_from(date(2040, 1, 1))
        self.wrong: list[object] = []

    async def change(self) -> None:
        """Have a pupil's absences change and be purged; every worker has heard of it then."""
        who, pupil = next(self._turns)
        page = Page(pupil, who, next(self._days))
        for worker in self.workers:
            await worker.holds(page)
        self._records.versions[pupil] += 1
        await self._notices.tell(f"absences:{pupil}")
        for worker in self.workers:
            await worker.hears(page, self._records.versions[pupil])

    async def changes(self) -> None:
        """Change everybody's absences."""
        for _ in PUPILS:
            await self.change()

    async def changes_during(self, fault: Coroutine[Any, Any, None]) -> None:
        """Change what can be changed until this is over: once at least."""
        async with asyncio.TaskGroup() as group:
            lasting = group.create_task(fault)
            while not lasting.done():
                await self.change()

    async def shares(self) -> None:
        """Wait until each worker finds in tier 2 what another one has fetched, whoever's it is."""
        for one, other in itertools.permutations(self.workers, 2):

            async def shared(one: Worker = one, other: Worker = other) -> bool:
                day = next(self._days)
                pages = [Page(pupil, who, day) for pupil in PUPILS for who in VIEWS]
                for page in pages:
                    await one.read_once(page)
                return all(["detail=valkey" in (await other.read_once(page))[1] for page in pages])

            await eventually(shared, within_s=SEEN_WITHIN_S, what="found in tier 2")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Have readers at every worker, who have read for a while already; `wrong` is then what any of them ended by."""
        readers = [
            asyncio.create_task(worker.reads(place)) for worker in self.workers for place in range(READERS)
        ]
        try:
            await self.shares()
            await self.changes()
            yield
        finally:
            for task in readers:
                task.cancel()
            ended = await asyncio.gather(*readers, return_exceptions=True)
            self.wrong = [one for one in ended if not isinstance(one, asyncio.CancelledError)]


class Notices:
    """How a datacenter has something purged: a signed notice to the gateways of its site, each in its turn."""

    def __init__(self, ground: Ground, gateways: tuple[Standing, ...], client: httpx.AsyncClient) -> None:
        self._key = read_private_key(ground.keys / "datacenter-rabat.pem")
        self._client = client
        self._listeners = itertools.cycle(
            [f"http://{ports.LOOPBACK}:{one.private_port}{PATH}" for one in gateways]
        )

    async def tell(self, tag: str) -> None:
        """Have every worker of every site hear of it; returns when that is sure."""
        listener = next(self._listeners)

        async def believed() -> bool:
            signed = sign_notice(key=self._key, site="rabat", tags=(tag,), now=time.time())
            try:
                answer = await self._client.post(
                    listener, content=signed.body, headers={SIGNATURE_HEADER: signed.signature}
                )
            except httpx.ConnectError:
                return False  # a process of its own, which may be ready after the gateway is
            return answer.status_code == 204

        await eventually(believed, within_s=SEEN_WITHIN_S, what="the notice is believed")


@asynccontextmanager
async def fleet_on(url: str, ground: Ground, logs: Path) -> AsyncIterator[Fleet]:
    """Two gateways before the same datacenters, with this tier 2."""
    async with AsyncExitStack() as stack:
        datacenters = await stack.enter_async_context(wayward_datacenters())
        records = Records()
        for one in datacenters.values():
            one.scripts |= {
                "/absences": records.absences,
                "/relations": records.relations,
                "/calendar": records.calendar,
            }
        gateways = tuple([
            await stack.enter_async_context(gateway_before(datacenters, ground, logs, valkey_url=url))
            for _ in range(2)
        ])  # fmt: skip
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        yield Fleet(tuple(map(Worker, gateways)), records, Notices(ground, gateways, client))


async def test_a_promotion_by_sentinels_shows_no_reader_an_error_or_what_was_purged(
    ground: Ground, logs: Path, tmp_path: Path
) -> None:
    async with (
        valkey_fleets.watched(tmp_path, logs) as valkeys,
        fleet_on(valkeys.url, ground, logs) as fleet,
    ):
        async with fleet.read():
            await valkeys.hold()
            valkeys.primary.kill()
            await fleet.changes()
            await fleet.changes_during(valkeys.failed_over())
            await fleet.shares()
            await fleet.changes()
        assert fleet.wrong == []


async def test_a_resharding_shows_no_reader_an_error_or_what_was_purged(
    ground: Ground, logs: Path, tmp_path: Path
) -> None:
    async with (
        valkey_fleets.parted(tmp_path, logs) as cluster,
        fleet_on(cluster.url, ground, logs) as fleet,
    ):
        async with fleet.read():
            before, slots = await cluster.owners(seen_by=cluster.nodes[0]), await cluster.slots_in_use()

            async def moved() -> None:
                for slot in slots:
                    await cluster.move(slot)

            await fleet.changes_during(moved())
            after = await cluster.owners(seen_by=cluster.nodes[0])
            assert [slot for slot in slots if before[slot] == after[slot]] == []
            await fleet.shares()
            await fleet.changes()
        assert fleet.wrong == []


async def test_a_promotion_within_a_cluster_shows_no_reader_an_error_or_what_was_purged(
    ground: Ground, logs: Path, tmp_path: Path
) -> None:
    async with (
        valkey_fleets.parted(tmp_path, logs, replicas=True) as cluster,
        fleet_on(cluster.url, ground, logs) as fleet,
    ):
        async with fleet.read():
            lost = cluster.nodes[0]  # whom the URL names
            await cluster.hold()
            lost.kill()
            await fleet.changes()
            await fleet.changes_during(cluster.promoted(lost))
            await fleet.shares()
            await fleet.changes()
        assert fleet.wrong == []
