"""Gateways whose datacenters are servers of the test, which answer right until they are told, byte for byte, to do otherwise."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from auth.keys import SigningKeys
from auth.opaque_id import new_id
from auth.tokens import Tokens
from datacenters.etcd import Etcd
from sandbox import etcd as members
from sandbox import keys as sandbox_keys
from sandbox import ports, processes
from tests.gateway import contract
from tests.gateway.origin import Origin, Seen
from tests.gateway.people import ROLES
from tests.gateway.world import NAMES, SITES, World, declare, running, settings_for
from tests.waiting import eventually

READY_WITHIN_S = 60.0
# Far more than any answer may take by the design, for a machine that stalls; far less than for ever.
ANSWER_WAIT_S = 20.0
# How many requests the standing gateway works on at once: few, so that who takes a place and keeps it is noticed.
AT_ONCE_MAX = 16

Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


class Ground(msgspec.Struct, frozen=True):
    """What gateways stand on: an etcd where Rabat is active at epoch 1, and every key."""

    etcd_url: str
    keys: Path
    folder: Path


@asynccontextmanager
async def ground_in(folder: Path, logs: Path) -> AsyncIterator[Ground]:
    """An etcd and keys of their own; nobody changes the record, so any number of gateways may follow it."""
    executable = members.binary(os.environ.get("MASSAR_ETCD_BIN"), search_path=os.environ.get("PATH", ""))
    (server,) = await members.start(
        members.cluster(["wayward"]), folder=folder, logs=logs, executable=executable, fsync=False
    )
    try:
        client = Etcd([server.url], timeout_s=5.0, connect_timeout_s=5.0)
        await declare(client)
        await client.aclose()
        sandbox_keys.make(folder / "keys", sites=SITES)
        yield Ground(etcd_url=server.url, keys=folder / "keys", folder=folder)
    finally:
        await server.process.stop()


# Datacenters that do as they are told


class Wayward(Origin):
    """The datacenter of one site; `scripts` maps a part of a target to what is written instead of the right answer."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.scripts: dict[str, Script] = {}

    async def _say(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        for fragment, script in self.scripts.items():
            if fragment in seen.target:
                await script(seen, writer)
                return
        await super()._say(seen, writer)


def right(target: str) -> bytes:
    """The body that the contract has for a target of the datacenter."""
    _, body = contract.answer("GET", target, b"")
    return msgspec.json.encode(body)


def head(
    status: int | str = 200, *lines: str, length: int | str | None = None, position: str = "1-1000"
) -> bytes:
    """A response head as a well-meaning datacenter writes it, with `lines` of the test's own behind."""
    said = ["massar-epoch: 1", f"massar-position: {position}", "content-type: application/json", *lines]
    if length is not None:
        said.append(f"content-length: {length}")
    return "\r\n".join([f"HTTP/1.1 {status} X", *said, "", ""]).encode("latin-1")


def says(raw: bytes) -> Script:
    """Write exactly this and go on as if nothing were wrong."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return script


def cuts(raw: bytes) -> Script:
    """Write exactly this, then end the connection in order."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        writer.close()
        await writer.wait_closed()
        raise ConnectionAbortedError

    return script


def silent(raw: bytes = b"") -> Script:
    """Write this, then nothing more, and never hang up."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        await asyncio.get_running_loop().create_future()

    return script


def pours(raw: bytes, again: bytes) -> Script:
    """Write this, then the same again and again for as long as anybody takes it."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        while True:
            writer.write(again)
            await writer.drain()

    return script


def trickles(raw: bytes, *, every_s: float) -> Script:
    """Write this, then a space now and then for as long as anybody listens."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        while not writer.is_closing():
            await writer.drain()
            await asyncio.sleep(every_s)
            writer.write(b" ")
        raise ConnectionAbortedError

    return script


@asynccontextmanager
async def wayward_datacenters() -> AsyncIterator[dict[str, Wayward]]:
    """One per site, ended together."""
    made = {site: Wayward(site) for site in SITES}
    try:
        for one in made.values():
            await one.start()
        yield made
    finally:
        for one in made.values():
            await one.stop()


@asynccontextmanager
async def wayward_world(
    ground: Ground, datacenters: Mapping[str, Wayward], metrics_dir: Path, **changes: Any
) -> AsyncIterator[World]:
    """A whole gateway in this process, its clocks set by hand."""
    urls = {site: one.url for site, one in datacenters.items()}
    given = settings_for(metrics_dir, keys=ground.keys, urls=urls, etcd_url=ground.etcd_url, **changes)
    async with running(World(given, origins=datacenters)) as world:
        yield world


# A gateway in processes of its own, and connections to it that are written by hand


class Heard(msgspec.Struct, frozen=True):
    """One answer as it came over the wire; header names are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for given, value in self.headers if given == name), None)

    @property
    def slug(self) -> str:
        """The problem's slug; empty when the server itself refused, before the gateway."""
        if self.header("content-type") != "application/problem+json":
            return ""
        slug: str = msgspec.json.decode(self.body)["slug"]
        return slug


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        """Write exactly this."""
        self.writer.write(raw)
        await self.writer.drain()

    async def heard(self) -> Heard:
        """The next answer, whole. Raises: IncompleteReadError where the connection ended before it did."""
        async with asyncio.timeout(ANSWER_WAIT_S):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            headers = tuple((name.lower(), value) for name, value in (line.split(": ", 1) for line in lines))
            length = next((int(value) for name, value in headers if name == "content-length"), 0)
            body = await self._reader.readexactly(length)
        return Heard(status=int(first.split(" ")[1]), headers=headers, body=body)

    async def asked(self, raw: bytes) -> Heard | None:
        """Write a request; the answer, or None when the server hung up without any."""
        try:
            await self.send(raw)
            return await self.heard()
        except (ConnectionError, asyncio.IncompleteReadError):
            return None

    def leave(self) -> None:
        """Go away at once, as a phone does that lost its network."""
        self.writer.transport.abort()


class Standing:
    """A gateway of one worker in processes of its own."""

    def __init__(
        self,
        ground: Ground,
        datacenters: Mapping[str, Wayward],
        port: int,
        private_port: int,
        process: processes.Running,
    ) -> None:
        self.rabat, self.marrakech = datacenters["rabat"], datacenters["marrakech"]
        self.port = port
        self.private_port = private_port
        self.process = process
        self._tokens = Tokens(SigningKeys.load(ground.keys / "access"), issuer="https://massar.example")

    def bearer(self, who: str) -> str:
        """The Authorization header's value for a fresh access token."""
        token, _ = self._tokens.issue_access(subject=who, role=ROLES[who], sid=new_id(), now=time.time())
        return f"Bearer {token}"

    def request(self, target: str, who: str | None, *lines: str, method: str = "GET") -> bytes:
        """A well-formed request, `lines` among its headers."""
        said = [f"{method} {target} HTTP/1.1", "host: gateway", "accept-encoding: identity", *lines]
        if who is not None:
            said.append(f"authorization: {self.bearer(who)}")
        return "\r\n".join([*said, "", ""]).encode("latin-1")

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        """A connection of its own."""
        reader, writer = await asyncio.open_connection(ports.LOOPBACK, self.port, limit=1 << 24)
        try:
            yield Wire(reader, writer)
        finally:
            writer.transport.abort()

    async def get(self, target: str, who: str | None, *lines: str, method: str = "GET") -> Heard:
        """One request on a connection of its own."""
        async with self.wire() as wire:
            await wire.send(self.request(target, who, *lines, method=method))
            return await wire.heard()

    def heal(self) -> None:
        """Have the datacenters be as new."""
        for one in (self.rabat, self.marrakech):
            one.scripts.clear()
            one.forget()

    async def well_again(self, target: str, who: str) -> Heard:
        """The first good answer after `heal`: a datacenter that failed is given a moment before it is asked again."""

        async def good() -> Heard | None:
            answer = await self.get(target, who)
            return answer if answer.status == 200 else None

        answer = await eventually(good, within_s=ANSWER_WAIT_S, what="a good answer")
        assert isinstance(answer, Heard)
        return answer


@asynccontextmanager
async def standing_gateway(
    ground: Ground, logs: Path, *, files_soft: int | None = None, **settings: str
) -> AsyncIterator[Standing]:
    """Start one with datacenters of its own and wait until it is ready; the rest as `gateway_before` takes it."""
    async with (
        wayward_datacenters() as datacenters,
        gateway_before(datacenters, ground, logs, files_soft=files_soft, **settings) as standing,
    ):
        yield standing


@asynccontextmanager
async def gateway_before(
    datacenters: Mapping[str, Wayward],
    ground: Ground,
    logs: Path,
    *,
    files_soft: int | None = None,
    **settings: str,
) -> AsyncIterator[Standing]:
    """Start one and wait until it is ready; `settings` by their names in lower case, `files_soft` its shell's `ulimit -Sn`."""
    limited = ["/bin/sh", "-c", f'ulimit -Sn {files_soft}; exec "$@"', "sh"] if files_soft else []
    port, private_port = ports.free_ports(2)
    sites = {site: {"datacenter_url": one.url, "name": NAMES[site]} for site, one in datacenters.items()}
    named = {
        "site": "rabat",
        "sites": msgspec.json.encode(sites).decode(),
        "etcd_urls": ground.etcd_url,
        "access_keys_dir": str(ground.keys / "access"),
        "assertion_key_file": str(ground.keys / "gateway-rabat.pem"),
        "notice_keys_dir": str(ground.keys),
        "journal_key_file": str(ground.keys / "journal.key"),
        "seal_key_file": str(ground.keys / "seal.key"),
        "metrics_dir": str(ground.folder / f"metrics-{port}"),
        "listen": f"{ports.LOOPBACK}:{port}",
        "private_listen": f"{ports.LOOPBACK}:{private_port}",
        "show_cache_status": "true",
        "rate_per_s": "100000",
        "rate_burst": "100000",
        "drain_s": "0",
        "stop_s": "1",
        "die_with_parent": "1",
        **settings,
    }
    process = processes.spawn(
        [*limited, sys.executable, "-m", "gateway", "gateway"],
        name=f"gateway-{port}",
        log=logs / f"gateway-{port}.log",
        environment={
            **processes.BARE_ENVIRONMENT,
            **{f"MASSAR_{name.upper()}": value for name, value in named.items()},
        },
    )
    try:
        standing = Standing(ground, datacenters, port, private_port, process)

        async def is_ready() -> bool:
            try:
                return (await standing.get("/readyz", None)).status == 200
            except OSError:
                return False

        await processes.ready(process, is_ready, within_s=READY_WITHIN_S)
        yield standing
    finally:
        await process.stop(within_s=10.0)
