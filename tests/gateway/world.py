"""A whole gateway in this process, its clocks set by hand, its datacenters two small real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from auth.keys import SigningKeys
from auth.principal import Role
from auth.tokens import Tokens
from datacenters import control, etcd_keys, record
from datacenters.etcd import Etcd, Put
from datacenters.record import Phase, Protection, Record
from datacenters.sites import DisplayName
from gateway.app import create_app
from gateway.edge import Edge
from gateway.metrics import Metrics
from gateway.scope import Message
from gateway.settings import Settings, Site
from tests.auth.people import START, Clock
from tests.gateway.origin import Origin
from tests.gateway.people import ROLES
from tests.waiting import eventually

SITES = ("rabat", "marrakech")
NAMES = {"rabat": DisplayName("الرباط", "Rabat"), "marrakech": DisplayName("مراكش", "Marrakech")}
# Nobody listens here: connections are refused at once.
NOWHERE = "http://127.0.0.1:9"
SID = "sidaaaaaaaaaaaaa"
# The record in a planned switchover, step by step.
FREEZING: dict[str, Any] = {"phase": Phase.FREEZING, "planned": True, "target": "marrakech"}
SEALING: dict[str, Any] = {**FREEZING, "phase": Phase.SEALING, "frozen_position": "1-900"}
PROMOTING: dict[str, Any] = {**SEALING, "phase": Phase.PROMOTING, "epoch": 2}
REPLAYING: dict[str, Any] = {**PROMOTING, "phase": Phase.REPLAYING, "switch_position": "1-999"}
SWITCHED: dict[str, Any] = {"epoch": 2, "active": "marrakech", "switch_position": "1-999"}
ABORTED: dict[str, Any] = {"epoch": 2}


def settings_for(
    folder: Path, *, keys: Path, urls: Mapping[str, str], etcd_url: str = NOWHERE, **changes: Any
) -> Settings:
    """Settings of Rabat's gateway; `urls` are its datacenters', `keys` a folder made by `sandbox.keys`."""
    given: dict[str, Any] = {
        "site": "rabat",
        "sites": {site: Site(datacenter_url=urls[site], name=NAMES[site]) for site in SITES},
        "etcd_urls": (etcd_url,),
        "access_keys_dir": keys / "access",
        "assertion_key_file": keys / "gateway-rabat.pem",
        "notice_keys_dir": keys,
        "seal_key_file": keys / "seal.key",
        "journal_key_file": keys / "journal.key",
        "metrics_dir": folder,
        "show_cache_status": True,
        **changes,
    }
    return Settings(**given)


async def declare(etcd: Etcd, **changes: Any) -> Record:
    """Write the record as installation leaves it, but for `changes`; what else lay in etcd is gone."""
    for prefix in (etcd_keys.DENIALS, etcd_keys.PURGES, etcd_keys.JOURNAL, etcd_keys.PARKED):
        for item in (await etcd.range(prefix, prefix=True)).items:
            await etcd.delete(item.key)
    return await move(etcd, **changes)


async def move(etcd: Etcd, **changes: Any) -> Record:
    """Write the record of installation, but for `changes`, in one transaction as every change is; all else stays."""
    declared = msgspec.structs.replace(record.first(active="rabat", by="tests", now=START), **changes)
    unprotected = declared.protection is Protection.NONE
    await etcd.transact(
        unchanged={},
        puts=(
            Put(etcd_keys.CONTROL, record.encode(declared)),
            Put(etcd_keys.EPOCH, str(declared.epoch).encode()),
            Put(etcd_keys.PROTECTION, control.UNPROTECTED if unprotected else control.PROTECTED),
        ),
    )
    return declared


class World:
    """What a test holds: the gateway as one ASGI callable, and everything around it."""

    def __init__(
        self,
        settings: Settings,
        *,
        origins: Mapping[str, Origin],
        clock: Clock | None = None,
        monotonic: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.monotonic = monotonic or Clock(1000.0)
        self.rabat, self.marrakech = origins["rabat"], origins["marrakech"]
        self.metrics = Metrics()
        self.app: Edge = create_app(
            settings, metrics=self.metrics, clock=self.clock, monotonic=self.monotonic
        )
        self.tokens = Tokens(SigningKeys.load(settings.access_keys_dir), issuer=settings.issuer)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://gateway")

    def authorization(self, subject: str, *, role: Role | None = None, sid: str = SID) -> str:
        """The header's value for a fresh access token."""
        token, _ = self.tokens.issue_access(
            subject=subject, role=role or ROLES[subject], sid=sid, now=self.clock()
        )
        return f"Bearer {token}"

    async def ask(
        self,
        method: str,
        target: str,
        *,
        who: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        **more: Any,
    ) -> httpx.Response:
        """One request, in the name of `who`."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if who is not None:
            pairs.append(("authorization", self.authorization(who)))
        return await self.http.request(method, target, headers=pairs, **more)

    async def get(self, target: str, who: str | None = None, **headers: str) -> httpx.Response:
        """GET in the name of `who`; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", target, who=who, headers=named)


async def follow(world: World, etcd: Etcd, **changes: Any) -> None:
    """Write the record as `move` does, and wait until the gateway knows it."""
    declared = await move(etcd, **changes)
    await eventually(lambda: world.app._standing._directory.record == declared, within_s=10.0)


class Plain(msgspec.Struct):
    """An answer as the ASGI server would see it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value.decode() for given, value in self.headers if given == name.encode()), None)

    @property
    def slug(self) -> str:
        """The problem's slug."""
        slug: str = msgspec.json.decode(self.body)["slug"]
        return slug


def scope_of(
    method: str, path: str, *, query: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()
) -> dict[str, Any]:
    """An ASGI scope as Granian makes it; `path` is decoded already."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", "5555"),
        "server": ("127.0.0.1", 80),
        "extensions": {},
        "state": {},
    }


async def answered(app: Edge, scope: dict[str, Any], body: Iterable[Message] = ()) -> Plain:
    """Send a hand-made request, `body` as the messages the server would pass on."""
    waiting = iter(body)
    messages: list[Message] = []

    async def receive() -> Message:
        return next(waiting, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *rest = messages
    content = b"".join(message.get("body", b"") for message in rest)
    return Plain(status=start["status"], headers=list(start["headers"]), body=content)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Start an ASGI application and stop it, as a server would."""
    asked: asyncio.Queue[Message] = asyncio.Queue()
    told: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, asked.get, told.put))
    await asked.put({"type": "lifespan.startup"})
    started = await told.get()
    assert started["type"] == "lifespan.startup.complete", started
    try:
        yield
    finally:
        await asked.put({"type": "lifespan.shutdown"})
        stopped = await told.get()
        await task
        assert stopped["type"] == "lifespan.shutdown.complete", stopped


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """The world with its gateway started."""
    async with lifespan(world.app), world.http:
        yield world
