"""Two real datacenters and a witness: PostgreSQL with a streaming standby, their services, three etcd members.

The directors run in the test's own process, so that a test may end one at any step.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import httpx
import msgspec

from datacenters import control, etcd_keys, record
from datacenters.director import ETCD_TIMEOUT_S, Director
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher
from datacenters.journal import Kind
from datacenters.journal_seal import JournalSeal
from datacenters.quarantine import Quarantine
from datacenters.record import Policy, Record
from datacenters.rejoin import Rejoins
from datacenters.replay import Replay
from datacenters.replay_path import DatacenterPath
from datacenters.sender_keys import read_private_key
from datacenters.sites import Site
from datacenters.verdict import Observation
from sandbox import etcd, keys, ports, postgres, postgres_home, proc, processes
from sandbox.datacenter import tables
from sandbox.keys import JOURNAL_KEY

SITES = ("rabat", "marrakech")
EVERYWHERE = (*SITES, "witness")


class Standing(msgspec.Struct):
    """What a datacenter says of itself."""

    role: str
    epoch: int
    position: str
    writable: bool
    receipt_age_s: float | None = None
    lag_s: float | None = None


class Pair:
    """All the servers, and directors by site."""

    def __init__(
        self,
        *,
        databases: dict[str, postgres.PostgresServer],
        members: dict[str, etcd.EtcdServer],
        services: dict[str, processes.Running],
        urls: dict[str, str],
        keys: Path,
        again: Again,
        home: postgres_home.Home,
        folder: Path,
        logs: Path,
    ) -> None:
        self.keys = keys
        self.seal = JournalSeal.load(keys / JOURNAL_KEY)
        self.paths: list[DatacenterPath] = []
        self._again = again
        self.home = home
        self.folder = folder
        self.logs = logs
        self.hooks: dict[str, Rejoins] = {}
        self.databases = databases
        self.members = members
        self.services = services
        self.urls = urls
        self.sites = {site: Site(datacenter_url=urls[site]) for site in SITES} | {"witness": Site()}
        self.directors: dict[str, asyncio.Task[None]] = {}
        self.clients: list[Etcd] = []
        self.etcd = self.client("witness", timeout_s=5.0)  # the test's own, patient with elections

    def client(self, site: str, *, timeout_s: float = ETCD_TIMEOUT_S) -> Etcd:
        """A client of etcd as `site` would have it: the own member first."""
        order = sorted(self.members, key=lambda name: name != site)
        made = Etcd([self.members[name].url for name in order], timeout_s=timeout_s)
        self.clients.append(made)
        return made

    def direct(self, *sites: str) -> None:
        for site in sites:
            etcd, dsn, replay = self.client(site), None, None
            if site in SITES:
                dsn, replay = self.director_dsn(site), self._replay(etcd, site)
            director = Director(
                etcd,
                site=site,
                sites=self.sites,
                dsn=dsn,
                replay=replay,
                quarantine=self.quarantine(site) if dsn else None,
                hook=self.hooks.get(site),
            )
            self.directors[site] = asyncio.create_task(director.run(), name=f"director {site}")

    def _replay(self, etcd: Etcd, site: str) -> Replay:
        path = DatacenterPath(
            self.urls[site], site=site, key=read_private_key(self.keys / f"director-{site}.pem")
        )
        self.paths.append(path)
        return Replay(etcd, Publisher(etcd), self.seal, {Kind.DATACENTER: path})

    async def dismiss(self, site: str) -> None:
        task = self.directors.pop(site)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        _collect()

    def director_dsn(self, site: str) -> str:
        return self.databases[site].dsn(postgres.RECORDS, "massar_director")

    def quarantine(self, site: str) -> Quarantine:
        return Quarantine(self.folder / "quarantine" / site)

    async def kill(self, site: str) -> None:
        """kill -9 of all that a site owns, at once."""
        director = self.directors.pop(site, None)
        if director is not None:
            director.cancel()
        self.databases[site].process.kill()
        self.services[site].kill()
        self.members[site].process.kill()
        if director is not None:
            await asyncio.gather(director, return_exceptions=True)

    async def kill_rabat(self) -> None:
        await self.kill("rabat")

    async def return_database(self, site: str) -> None:
        """PostgreSQL starts on what the disk kept, as what it was."""
        self.databases[site] = await self._again.database(site, self.databases[site])

    async def return_rabats_database(self) -> None:
        await self.return_database("rabat")

    async def revive(self, site: str) -> None:
        """All that a site owned starts again on what the disk kept; its director is the test's to start."""
        self.members[site] = await self._again.member(site)
        await self.return_database(site)
        self.services[site] = self._again.service(site, self.databases[site])
        await processes.ready(self.services[site], _asking(self, site), within_s=30)

    @contextmanager
    def rabat_paused(self) -> Iterator[None]:
        """All processes of Rabat's database and service stand still, as in a frozen machine."""
        roots = [self.databases["rabat"].process.who, self.services["rabat"].who]
        everything = proc.descendants(roots)
        for who in everything:
            proc.send(who, signal.SIGSTOP)
        try:
            yield
        finally:
            for who in everything:
                proc.send(who, signal.SIGCONT)

    async def sees(self, site: str) -> Observation | None:
        found = await self.etcd.read(etcd_keys.observation(site))
        return None if found is None else msgspec.json.decode(found.value, type=Observation)

    async def record(self) -> Record:
        held = await control.read(self.etcd)
        assert held is not None
        return held.record

    async def held(self) -> control.Held:
        found = await control.read(self.etcd)
        assert found is not None
        return found

    async def change(self, held: control.Held, after: Record) -> bool:
        return await control.change(self.etcd, held, after)

    async def rows(self, site: str, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.databases[site].dsn(postgres.RECORDS), ssl=False)
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()

    async def hold(self, reason: str) -> None:
        """A human forbids automatic moves."""
        held = await self.held()
        after = record.hold(held.record, reason=reason, now=time.time(), by="operator:tests")
        assert isinstance(after, Record)
        assert await self.change(held, after)

    async def standing(self, site: str) -> Standing | None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            try:
                answer = await client.get(f"{self.urls[site]}/health?nonce=tests")
            except httpx.HTTPError:
                return None
        return msgspec.json.decode(answer.content, type=Standing) if answer.status_code == 200 else None

    async def ask(self, site: str, query: str) -> asyncpg.Record:
        connection = await asyncpg.connect(self.databases[site].dsn(postgres.RECORDS), ssl=False)
        try:
            row = await connection.fetchrow(query)
            assert row is not None
            return row
        finally:
            await connection.close()


class Again(msgspec.Struct, frozen=True):
    """How single servers are started, for the first time or again."""

    database: Callable[[str, postgres.PostgresServer], Awaitable[postgres.PostgresServer]]
    member: Callable[[str], Awaitable[etcd.EtcdServer]]
    service: Callable[[str, postgres.PostgresServer], processes.Running]


def _collect() -> None:
    """A director that ends while it connects, as a killed one does, leaves the half-made connection to the collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@asynccontextmanager
async def running_pair(*, folder: Path, logs: Path, policy: Policy | None = None) -> AsyncIterator[Pair]:
    """A country at epoch 1, active at Rabat, with the standby streaming; no director works yet."""
    home = postgres_home.open_home(folder=folder / "postgres", override=os.environ.get("MASSAR_POSTGRES_BIN"))
    started: list[processes.Running] = []
    pair: Pair | None = None
    try:
        databases = await _databases(home, logs, started)
        executable = etcd.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
        cluster = etcd.cluster(EVERYWHERE)
        servers = await etcd.start(cluster, folder=folder / "etcd", logs=logs, executable=executable)
        started += [server.process for server in servers]
        keys.make(folder / "keys", sites=SITES)
        free = dict(zip(SITES, ports.free_ports(2), strict=True))

        async def database(site: str, gone: postgres.PostgresServer) -> postgres.PostgresServer:
            back = await postgres.start_again(gone, home=home, logs=logs, site=site)
            started.append(back.process)
            return back

        async def member(site: str) -> etcd.EtcdServer:
            back = await etcd.start_again(
                site, cluster, folder=folder / "etcd", logs=logs, executable=executable
            )
            started.append(back.process)
            return back

        def service(site: str, database: postgres.PostgresServer) -> processes.Running:
            return _service(site, free[site], database, folder / "keys", logs, started)

        services = {site: service(site, databases[site]) for site in SITES}
        pair = Pair(
            keys=folder / "keys",
            again=Again(database=database, member=member, service=service),
            home=home,
            folder=folder,
            logs=logs,
            databases=databases,
            members={server.member.name: server for server in servers},
            services=services,
            urls={site: f"http://127.0.0.1:{free[site]}" for site in SITES},
        )
        await control.bootstrap(pair.etcd, active="rabat", now=time.time(), policy=policy)
        for site in SITES:
            await processes.ready(services[site], _asking(pair, site), within_s=30)
        yield pair
    finally:
        if pair is not None:
            for site in list(pair.directors):
                await pair.dismiss(site)
            for client in pair.clients:
                await client.aclose()
            for path in pair.paths:
                await path.aclose()
        for running in started:
            running.kill()
        home.close()


async def _databases(
    home: postgres_home.Home, logs: Path, started: list[processes.Running]
) -> dict[str, postgres.PostgresServer]:
    free = ports.free_ports(2)
    primary = await postgres.start_primary(
        home=home, logs=logs, site="rabat", port=free[0], passwords=postgres.new_passwords()
    )
    started.append(primary.process)
    await tables.create(primary.dsn(postgres.RECORDS, "massar_records"))
    await postgres.raise_fence(primary, site="rabat")
    standby = await postgres.start_standby(
        home=home, logs=logs, site="marrakech", port=free[1], primary=primary
    )
    started.append(standby.process)
    return {"rabat": primary, "marrakech": standby}


def _service(
    site: str,
    port: int,
    database: postgres.PostgresServer,
    folder: Path,
    logs: Path,
    started: list[processes.Running],
) -> processes.Running:
    command = [sys.executable, "-P", "-m", "granian", "--interface", "asgi", "--workers", "1", "--no-ws"]
    command += ["--workers-kill-timeout", "3", "--host", "127.0.0.1", "--port", str(port)]
    running = processes.spawn(
        [*command, "sandbox.datacenter.asgi:app"],
        name=f"{site}-datacenter",
        log=logs / f"{site}-datacenter.log",
        environment={
            **processes.BARE_ENVIRONMENT,
            "MASSAR_DIE_WITH_PARENT": "1",
            "MASSAR_DATACENTER_SITE": site,
            "MASSAR_DATACENTER_RECORDS_DSN": database.dsn(postgres.RECORDS, "massar_records"),
            "MASSAR_DATACENTER_ASSERTION_KEYS": str(folder),
            "MASSAR_DATACENTER_NOTICE_KEY": str(folder / f"datacenter-{site}.pem"),
        },
    )
    started.append(running)
    return running


def _asking(pair: Pair, site: str) -> Callable[[], Awaitable[bool]]:
    async def answers() -> bool:
        return await pair.standing(site) is not None

    return answers
