"""A director against a real etcd and a real PostgreSQL: what it keeps alive, what it lets lapse, when it moves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from datacenters import control, etcd_keys, record
from datacenters.director import Director
from datacenters.etcd import Etcd
from datacenters.observations import PROBE_TIMEOUT_S
from datacenters.promotion import PromotionFailed
from datacenters.record import Phase, Protection, Record
from datacenters.sites import Site
from datacenters.taking_over import Takeover
from datacenters.verdict import Observation
from sandbox.etcd import EtcdServer
from sandbox.postgres import PostgresServer
from tests.datacenters.listening import Proxy
from tests.datacenters.origin import Echo, Origin, Reply
from tests.datacenters.test_fence import TABLE
from tests.datacenters.worlds import NOW
from tests.waiting import eventually

TICK_S = 0.05


class World:
    """One database that a director may guard, behind proxies that can be cut, and two datacenters that answer."""

    def __init__(self, etcd: Etcd, dsn: str, rabat: Echo, marrakech: Echo, gateway: Origin) -> None:
        self.etcd = etcd
        self.dsn = dsn
        self.rabat = rabat
        self.marrakech = marrakech
        self.gateway = gateway
        self.others: list[Origin] = []
        self.proxies: list[Proxy] = []
        self.clients: list[Etcd] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.directors: list[Director] = []

    @property
    def sites(self) -> dict[str, Site]:
        return {
            "rabat": Site(datacenter_url=self.rabat.url, private_url=self.gateway.url),
            "marrakech": Site(datacenter_url=self.marrakech.url, private_url=self.gateway.url),
            "witness": Site(),
        }

    async def proxy(self, port: int) -> tuple[Proxy, str]:
        made = Proxy(port)
        self.proxies.append(made)
        return made, await made.start()

    async def direct(
        self,
        site: str,
        *,
        urls: list[str] | None = None,
        dsn: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        client = Etcd(urls or list(self.etcd._urls), timeout_s=0.5)
        self.clients.append(client)
        own = None if site == "witness" else dsn or self.dsn
        director = Director(client, site=site, sites=self.sites, dsn=own, tick_s=TICK_S, clock=clock)
        self.directors.append(director)
        self.tasks.append(asyncio.create_task(director.run()))

    async def record(self) -> Record:
        held = await control.read(self.etcd)
        assert held is not None
        return held.record

    async def change(self, **changes: Any) -> Record:
        held = await control.read(self.etcd)
        assert held is not None
        after = msgspec.structs.replace(held.record, **{"decided_at": held.record.decided_at + 1, **changes})
        assert await control.change(self.etcd, held, after)
        return after

    async def fence(self) -> tuple[int, str, datetime, float]:
        row = await self.ask(
            "SELECT epoch, site, heard_at, extract(epoch FROM clock_timestamp() - heard_at)::float8 FROM fence"
        )
        return (row[0], row[1], row[2], row[3]) if row else (0, "", datetime.min, 1e9)  # noqa: DTZ901

    async def ask(self, query: str) -> asyncpg.Record | None:
        connection = await asyncpg.connect(self.dsn, ssl=False)
        try:
            return await connection.fetchrow(query)
        finally:
            await connection.close()

    async def open_at(self, epoch: int, site: str) -> bool:
        found = await self.fence()
        return found[:2] == (epoch, site) and found[3] < 1.5

    def lose_rabat(self, *, receipt_age_s: float = 9.0) -> None:
        """Rabat's datacenter answers nothing any more, and Marrakech's standby hears nothing from it."""
        self.rabat.silent = True
        self.marrakech.changes |= {"receipt_age_s": receipt_age_s}


@pytest.fixture
async def world(
    etcd: Etcd, postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    dsn = await postgres_server.create_database(f"director_{abs(hash(request.node.name)) % 10**9}")
    connection = await asyncpg.connect(dsn, ssl=False)
    await connection.execute(TABLE)
    await connection.close()
    await control.bootstrap(etcd, active="rabat", now=NOW)
    rabat, marrakech, gateway = Echo("rabat"), Echo("marrakech"), Origin("gateway")
    rabat.changes = {"role": "primary", "epoch": 1, "receipt_age_s": None, "writable": True}
    marrakech.changes = {"epoch": 1, "lag_s": 0.0}
    for origin in (rabat, marrakech, gateway):
        await origin.start()
    made = World(etcd, dsn, rabat, marrakech, gateway)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    for client in made.clients:
        await client.aclose()
    for origin in (rabat, marrakech, gateway, *made.others):
        await origin.stop()
    for proxy in made.proxies:
        await proxy.stop()


async def test_the_active_sites_fence_is_raised_and_kept_alive(world: World) -> None:
    await world.direct("rabat")
    await eventually(lambda: world.open_at(1, "rabat"), within_s=5)
    before = (await world.fence())[2]
    await eventually(lambda: _later(world, before), within_s=5)


async def _later(world: World, moment: datetime) -> bool:
    return (await world.fence())[2] > moment


async def test_what_a_site_sees_is_published_under_a_lease(world: World) -> None:
    await world.direct("witness")
    await eventually(lambda: _sees(world, "witness", "rabat"), within_s=5)
    found = await world.etcd.read(etcd_keys.observation("witness"))
    assert found is not None
    assert found.lease
    first = msgspec.json.decode(found.value, type=Observation)
    await eventually(lambda: _sequence_beyond(world, "witness", first.sequence), within_s=5)
    world.tasks[0].cancel()
    await eventually(lambda: _forgotten(world, "witness"), within_s=6)


async def test_a_datacenter_that_hangs_makes_no_look_at_another_old(world: World) -> None:
    world.rabat.hanging = True
    await world.direct("witness")
    await eventually(lambda: len(world.rabat.seen) == 2, within_s=5)  # before it begins, and its first turn
    before = len(world.marrakech.seen)
    await eventually(lambda: len(world.rabat.seen) == 3, within_s=5)
    turns = PROBE_TIMEOUT_S / TICK_S  # that the other one has while this one is waited for
    assert len(world.marrakech.seen) - before > turns / 2


async def _sees(world: World, site: str, datacenter: str) -> bool:
    found = await world.etcd.read(etcd_keys.observation(site))
    return found is not None and msgspec.json.decode(found.value, type=Observation).looks[datacenter].answered


async def _sequence_beyond(world: World, site: str, sequence: int) -> bool:
    found = await world.etcd.read(etcd_keys.observation(site))
    return found is not None and msgspec.json.decode(found.value, type=Observation).sequence > sequence


async def _forgotten(world: World, site: str) -> bool:
    return await world.etcd.read(etcd_keys.observation(site)) is None


async def test_cut_off_from_etcd_the_fence_lapses_by_itself(world: World, own_etcd: EtcdServer) -> None:
    proxy, url = await world.proxy(own_etcd.member.client_port)
    await world.direct("rabat", urls=[url])
    await eventually(lambda: world.open_at(1, "rabat"), within_s=5)
    proxy.cut()
    row = await world.ask("SELECT clock_timestamp()")
    assert row is not None
    cut_at: datetime = row[0]
    await eventually(lambda: _lapsed(world), within_s=5)
    # The row never claims to have heard anything after the cut, however often it was renewed since.
    assert (await world.fence())[2] <= cut_at
    proxy.mend()
    await eventually(lambda: world.open_at(1, "rabat"), within_s=5)


async def _lapsed(world: World) -> bool:
    return (await world.fence())[3] > 1.5


async def test_a_superseded_site_closes_its_fence_and_never_opens_it_again(world: World) -> None:
    await world.direct("rabat")
    await eventually(lambda: world.open_at(1, "rabat"), within_s=5)
    await world.change(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    await eventually(lambda: _closed(world, 2), within_s=5)
    await world.change(phase=Phase.ACTIVE, active="marrakech", target=None)
    await eventually(lambda: _sequence_beyond(world, "rabat", 30), within_s=10)
    assert await _closed(world, 2)


async def _closed(world: World, epoch: int) -> bool:
    found = await world.fence()
    return found[:2] == (epoch, "marrakech") and found[2].year == 1970


async def test_a_record_below_the_fence_opens_nothing(world: World) -> None:
    await world.ask("INSERT INTO fence VALUES (1, 7, 'rabat', 'epoch') RETURNING 1")
    await world.direct("rabat")
    await eventually(lambda: _sequence_beyond(world, "rabat", 20), within_s=10)
    found = await world.fence()
    assert (found[0], found[2].year) == (7, 1970)


async def test_a_director_outlives_its_database(world: World) -> None:
    proxy, url = await world.proxy(urlsplit(world.dsn).port or 0)
    through = urlsplit(world.dsn)
    dsn = through._replace(
        netloc=f"{through.username}:{through.password}@127.0.0.1:{urlsplit(url).port}"
    ).geturl()
    await world.direct("rabat", dsn=dsn)
    await eventually(lambda: world.open_at(1, "rabat"), within_s=5)
    proxy.cut()
    await eventually(lambda: _lapsed(world), within_s=5)
    assert not world.tasks[0].done()
    proxy.mend()
    await eventually(lambda: world.open_at(1, "rabat"), within_s=10)


async def test_two_sites_without_an_answer_move_the_active_role(world: World) -> None:
    await world.direct("marrakech")
    await world.direct("witness")
    await eventually(lambda: _sees(world, "witness", "rabat"), within_s=5)
    world.lose_rabat()
    await eventually(lambda: _serves(world, "marrakech"), within_s=20)
    now = await world.record()
    assert (now.epoch, now.phase, now.decided_by) == (2, Phase.ACTIVE, "director:marrakech")
    assert now.evidence["sites"] == ["marrakech", "witness"]
    assert [row.after.phase for row in await control.audit(world.etcd)] == [
        Phase.ACTIVE,
        Phase.PROMOTING,
        Phase.REPLAYING,
        Phase.ACTIVE,
    ]
    await eventually(lambda: world.open_at(2, "marrakech"), within_s=5)
    # Rabat comes back as the primary it was: nothing moves back by itself.
    world.rabat.silent = False
    await world.direct("rabat", dsn="postgresql://x@127.0.0.1:1/none")
    await eventually(lambda: _sequence_beyond(world, "rabat", 20), within_s=10)
    assert await world.record() == now


async def test_a_director_that_begins_after_a_restore_believes_the_datacenters(world: World) -> None:
    """Rabat comes back with the fence it had; etcd has forgotten that the role has moved since."""
    await world.ask("INSERT INTO fence VALUES (1, 1, 'rabat', '1970-01-01')")
    world.marrakech.changes |= {"role": "primary", "epoch": 2, "receipt_age_s": None, "writable": True}
    await world.direct("rabat")
    await eventually(lambda: _sequence_beyond(world, "rabat", 5), within_s=10)
    assert (await world.fence())[2].year == 1970, "it never opened"
    assert (await _published(world, "rabat")).highest_epoch == 2
    # An order above what is known is believed again.
    await world.change(epoch=3, active="rabat")
    await eventually(lambda: world.open_at(3, "rabat"), within_s=5)


async def test_a_record_of_a_move_that_is_over_promotes_nobody(world: World) -> None:
    await world.ask("INSERT INTO fence VALUES (1, 3, 'rabat', '1970-01-01')")
    await world.change(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    await world.direct("marrakech")
    await eventually(lambda: _sequence_beyond(world, "marrakech", 5), within_s=10)
    assert (await world.record()).phase is Phase.PROMOTING
    assert (await world.fence())[:2] == (3, "rabat")
    takeover = Takeover(world.dsn, site="marrakech", by="d", replay=None, clock=lambda: NOW)
    asked = await world.record()
    with pytest.raises(PromotionFailed, match="epoch 2 is over"):
        await takeover.step(asked, word_age_s=lambda: 0.0)


async def test_the_journal_is_in_doubt_after_a_restore_within_one_epoch(world: World) -> None:
    await world.direct("rabat")
    await eventually(lambda: world.open_at(1, "rabat"), within_s=5)
    director = world.directors[-1]
    director._revision = 1 << 40  # as it was before etcd was put back
    await eventually(lambda: _returning(world), within_s=10)


async def test_nobody_claims_from_the_record_found_right_after_a_restore(world: World) -> None:
    await world.direct("marrakech")
    await world.direct("witness")
    await eventually(lambda: _sees(world, "witness", "rabat"), within_s=5)
    director = world.directors[0]
    director._revision = 1 << 40
    await eventually(lambda: director._put_back is not None, within_s=5)
    world.lose_rabat()
    await eventually(lambda: "put back" in director._said.get("claim", ""), within_s=20)
    assert (await world.record()).epoch == 1


async def _returning(world: World) -> bool:
    return (await world.record()).protection is Protection.RETURNING


async def _published(world: World, site: str) -> Observation:
    found = await world.etcd.read(etcd_keys.observation(site))
    assert found is not None
    return msgspec.json.decode(found.value, type=Observation)


async def _serves(world: World, site: str) -> bool:
    return (await world.record()).serving == site


@pytest.mark.parametrize(
    "case", ["alone", "held", "both bad", "active answers the witness", "dwell by the witness's clock"]
)
async def test_nothing_moves_without_two_sites_or_against_a_rule(world: World, case: str) -> None:
    if case == "held":
        held = await control.read(world.etcd)
        assert held is not None
        kept = record.hold(held.record, reason="exam", now=NOW + 1, by="operator:a")
        assert isinstance(kept, Record)
        assert await control.change(world.etcd, held, kept)
    if case == "both bad":
        world.marrakech.changes |= {"role": "primary"}
    if case == "dwell by the witness's clock":
        await world.change(moves=(time.time() - 60,))
    before = await world.record()
    ahead_s = 3600 if case == "dwell by the witness's clock" else 0
    await world.direct("marrakech", clock=lambda: time.time() + ahead_s)
    if case == "active answers the witness":
        world.lose_rabat()
        await _witness_sees_rabat(world)
    else:
        if case != "alone":
            await world.direct("witness")
        world.lose_rabat()
    await eventually(lambda: _failures(world, "marrakech", 12), within_s=15)
    assert await world.record() == before


async def _witness_sees_rabat(world: World) -> None:
    """A witness on the other side of a broken link: for it Rabat answers."""
    healthy = Echo("rabat")
    await healthy.start()
    world.others.append(healthy)
    client = Etcd(list(world.etcd._urls), timeout_s=0.5)
    world.clients.append(client)
    sites = {**world.sites, "rabat": Site(datacenter_url=healthy.url)}
    director = Director(client, site="witness", sites=sites, dsn=None, tick_s=TICK_S)
    world.tasks.append(asyncio.create_task(director.run()))


async def _failures(world: World, site: str, count: int) -> bool:
    found = await world.etcd.read(etcd_keys.observation(site))
    return (
        found is not None
        and msgspec.json.decode(found.value, type=Observation).looks["rabat"].failures >= count
    )


async def test_the_users_of_the_own_gateway_are_asked(world: World) -> None:
    world.gateway.reply(
        *(Reply(body=json.dumps({"rabat": {"ok": 0, "failed": 10 * n}}).encode()) for n in range(1, 400))
    )
    await world.direct("marrakech")
    await eventually(lambda: _users_fail(world), within_s=10)


async def _users_fail(world: World) -> bool:
    found = await world.etcd.read(etcd_keys.observation("marrakech"))
    if found is None:
        return False
    seen = msgspec.json.decode(found.value, type=Observation)
    return bool(seen.users_failing_s) and seen.users_failed["rabat"] > 0


async def test_unreadable_observations_and_an_empty_etcd_are_survived(world: World) -> None:
    await world.etcd.put(etcd_keys.OBSERVATIONS + "nonsense", b"{")
    await world.etcd.delete(etcd_keys.CONTROL)
    await world.direct("marrakech")
    await eventually(lambda: _sequence_beyond(world, "marrakech", 5), within_s=5)
    assert not world.tasks[0].done()
