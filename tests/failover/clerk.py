"""A teacher who writes through a gateway's own parts (forwarding, journal, holding) in the test's process."""

from __future__ import annotations

import secrets
import time
from typing import Self

import msgspec

from auth.principal import App, Principal, Role
from cache.generations import Generations
from cache.memory import MemoryTier
from cache.store import Cache
from datacenters.directory import Directory
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher
from datacenters.forwarding import Forwarder
from datacenters.journal import Journal
from datacenters.sender_keys import read_private_key
from gateway.holding import Holding
from gateway.writing import ForwardedWrites
from routes.endpoint import Caller, Written
from sandbox import postgres
from tests.conformance import seed
from tests.failover.pair import Pair

BOOK = f"/v1/gradebooks/{seed.CLASS}/MATH/1"
TARGET = f"{BOOK}/entries"
NUMBER = 2
PRINCIPAL = Principal(subject=seed.TEACHER, role=Role.TEACHER, app=App.MOUDARIS, sid="sid", expires_at=0.0)
CALLER = Caller(principal=PRINCIPAL, facts=None, relation=None, language="fr", request_id="r")


class Mark(msgspec.Struct, frozen=True):
    """A mark whose writing was acknowledged."""

    pupil: str
    mark: str
    version: int
    key: str


class Clerk:
    """Knows the version of every cell he wrote, and every write that was acknowledged."""

    def __init__(self, pair: Pair, *, site: str = "marrakech") -> None:
        self.etcd: Etcd = pair.client(site)
        publisher = Publisher(self.etcd)
        self.directory = Directory(self.etcd, site=site, sites=pair.sites)
        self.forwarder = Forwarder(
            self.directory,
            sites=pair.sites,
            site=site,
            assertion_key=read_private_key(pair.keys / f"gateway-{site}.pem"),
        )
        self.journal = Journal(self.etcd, publisher, pair.seal)
        cache = Cache(
            memory=MemoryTier(max_bytes=1 << 20), generations=Generations(max_tags=1000), clock=time.time
        )
        self.writes = ForwardedWrites(
            self.forwarder,
            publisher,
            self.journal,
            self.directory,
            Holding(self.directory),
            cache,
            clock=time.time,
        )
        self._pair = pair
        self.versions: dict[str, int] = {}
        self.acknowledged: list[Mark] = []

    async def __aenter__(self) -> Self:
        assert await self.directory.start(within_s=10.0)
        standing = await standing_marks(self._pair, "rabat")
        self.versions = {pupil: standing.get(pupil, ("", 0))[1] for pupil in seed.PUPILS[1:11]}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.writes.aclose()
        await self.journal.aclose()
        await self.directory.stop()
        await self.forwarder.aclose()

    async def write(self, pupil: str, mark: str, *, key: str | None = None) -> Mark:
        """Enter one mark and return once it is acknowledged. Raises what the gateway's part raises."""
        key = key or secrets.token_hex(8)
        entry = {
            "pupil_id": pupil,
            "number": NUMBER,
            "mark": mark,
            "state": "marked",
            "version": self.versions[pupil],
        }
        body = msgspec.json.encode({"entries": [entry]})
        written: Written = await self.writes.write(
            CALLER, "PUT", TARGET, body, key=key, tags=(f"grades:{seed.CLASS}",)
        )
        (result,) = msgspec.json.decode(written.body)["results"]
        assert result["status"] == "accepted", result
        self.versions[pupil] = result["version"]
        done = Mark(pupil, mark, result["version"], key)
        self.acknowledged.append(done)
        return done

    async def write_all(self, mark: str) -> None:
        """One mark for every pupil, one after the other."""
        for pupil in self.versions:
            await self.write(pupil, mark)


async def school(pair: Pair) -> None:
    """Fill Rabat's records with the school of seed.py, at the epoch of the pair."""
    rabat = pair.databases["rabat"]
    await rabat.execute(postgres.RECORDS, "DELETE FROM fence")
    await seed.plant(rabat.dsn(postgres.RECORDS, "massar_records"), site="rabat", epoch=1)


async def standing_marks(pair: Pair, site: str) -> dict[str, tuple[str, int]]:
    """Mark and version of the written cells as the records of `site` have them."""
    rows = await pair.rows(
        site, "SELECT pupil, mark::text, version FROM marks WHERE number = $1 AND session = 1", NUMBER
    )
    return {row["pupil"]: (row["mark"], row["version"]) for row in rows}


async def nothing_is_missing(pair: Pair, site: str, clerk: Clerk) -> None:
    """Every acknowledged mark stands, each key had one effect, and the last one of each cell is what is read."""
    standing = await standing_marks(pair, site)
    last = {mark.pupil: (mark.mark, mark.version) for mark in clerk.acknowledged}
    assert {pupil: standing.get(pupil) for pupil in last} == last
    keys = [row["key"] for row in await pair.rows(site, "SELECT key FROM idempotency")]
    assert len(keys) == len(set(keys))
    assert {mark.key for mark in clerk.acknowledged} <= set(keys)
