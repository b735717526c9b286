"""Building a country of three sites: servers, schema, people, the record, then the processes that serve them.

Invariant: nothing serves before what it stands on answers, and the directors come last: while a datacenter is
still being built nobody is there who could take its absence for a disaster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from auth import migrations
from datacenters import control
from datacenters.etcd import Etcd
from datacenters.record import Policy
from sandbox import folder, keys, population, postgres, servers, wiring
from sandbox.datacenter import tables
from sandbox.fleet import Fleet
from sandbox.folder import SITES, WITNESS
from sandbox.servers import Servers

ACTIVE, STANDBY = SITES


class Wishes(servers.Binaries, frozen=True, kw_only=True):
    """What the country is to be like."""

    pupils: int
    seed: int
    policy: Policy = Policy()


class World:
    """One country under construction, then running; `servers` starts its processes."""

    def __init__(
        self,
        *,
        place: folder.Folder,
        plan: wiring.Wiring,
        wishes: Wishes,
        fleet: Fleet,
        say: Callable[[str], None],
    ) -> None:
        self.servers = Servers(place=place, plan=plan, binaries=wishes, fleet=fleet)
        self._place = place
        self._plan = plan
        self._wishes = wishes
        self._say = say
        self._accounts: dict[str, Any] = {}

    async def build(self) -> None:
        """Bring everything up, from the keys to gateways that answer and a datacenter that takes writes."""
        keys.make(self._place.path / "keys", sites=SITES)
        for name in ("etcd", "valkey", "metrics", "quarantine"):
            self._place.make(name)
        await self._ground()
        await self._together(
            self._standby(),
            self._datacenter(ACTIVE, servers.is_primary),
            *(self._gateway(site) for site in SITES),
        )
        await self._directors()

    def close(self) -> None:
        """Give up what lies outside the folder; call it when every process has ended."""
        self.servers.close()

    def addresses(self) -> folder.Addresses:
        """Return what the ready file holds."""
        return folder.Addresses(
            gateways={site: self._plan.url(f"{site}.gateway") for site in SITES},
            metrics={site: self._plan.url(f"{site}.metrics") for site in SITES},
            datacenters={site: self._plan.url(f"{site}.datacenter") for site in SITES},
            valkey={site: server.url for site, server in self.servers.valkeys.items()},
            etcd=[member.url for member in self._plan.members()],
            dir=str(self._place.path),
            accounts=self._accounts,
        )

    def databases(self) -> dict[str, dict[str, str]]:
        """Return each site's addresses of both databases as their owners, and the superuser's."""
        return {
            site: {
                postgres.RECORDS: self._plan.dsn(site, postgres.RECORDS, "massar_records"),
                postgres.ACCOUNTS: self._plan.dsn(site, postgres.ACCOUNTS, "massar_accounts"),
                postgres.SUPERUSER: self._plan.dsn(site, postgres.SUPERUSER, postgres.SUPERUSER),
            }
            for site in SITES
        }

    async def _ground(self) -> None:
        """Bring up what needs nothing else, fill the primary, declare it active."""
        people = asyncio.create_task(
            asyncio.to_thread(population.Country.generate, self._wishes.seed, self._wishes.pupils)
        )
        await self._together(
            self._etcd(), *(self.servers.valkey(site) for site in SITES), self._primary(people)
        )

    async def _etcd(self) -> None:
        if warning := await self.servers.members():
            self._say(warning)
        client = Etcd(self._plan.etcd_urls(WITNESS), timeout_s=5.0)
        try:
            await control.bootstrap(client, active=ACTIVE, now=time.time(), policy=self._wishes.policy)
        finally:
            await client.aclose()
        self._say(f"etcd: three members agree, {ACTIVE} is declared active")

    async def _primary(self, people: asyncio.Task[population.Country]) -> None:
        server = await self.servers.primary(ACTIVE)
        self._say(f"postgres: {ACTIVE}'s is up")
        records = server.dsn(postgres.RECORDS, "massar_records")
        accounts = server.dsn(postgres.ACCOUNTS, "massar_accounts")
        await self._together(tables.create(records), migrations.upgrade(accounts))
        country = await people
        await population.load(country, records_dsn=records, accounts_dsn=accounts)
        self._accounts = country.samples()
        await postgres.raise_fence(server, site=ACTIVE)
        self._say(f"population: {self._wishes.pupils} pupils and their schools are loaded")

    async def _standby(self) -> None:
        await self.servers.standby(STANDBY, of=ACTIVE)
        self._say(f"postgres: {STANDBY}'s follows")
        await self._datacenter(STANDBY, servers.is_streaming)

    async def _datacenter(self, site: str, good: Callable[[servers.Health], bool]) -> None:
        await self.servers.datacenter(site, good)
        self._say(f"datacenter: {site}'s answers")

    async def _gateway(self, site: str) -> None:
        await self.servers.gateway(site)
        self._say(f"gateway: {site}'s answers")

    async def _directors(self) -> None:
        for site in (*SITES, WITNESS):
            await self.servers.director(site)
        await self.servers.until(ACTIVE, "director", self.servers.health_url(ACTIVE), servers.is_writable)
        self._say(f"directors: watching; {ACTIVE} takes writes")

    async def _together(self, *steps: Coroutine[Any, Any, None]) -> None:
        """Run the steps at once; the first that fails stops the others and is what is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(step)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
