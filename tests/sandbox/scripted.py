"""Small real gateways that do as a script says, before one store that does every write once under its key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from sandbox.phone import Account, Phone


class Seen(msgspec.Struct, frozen=True):
    """One request as it arrived."""

    site: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")


class Reply(msgspec.Struct, frozen=True):
    """What to send back; `done` does the write first, `cut` hangs up instead, `hang` waits until released."""

    status: int = 200
    slug: str = ""
    headers: dict[str, str] = {}
    done: bool = False
    cut: bool = False
    hang: bool = False


OK = Reply(done=True)
CUT, CUT_DONE = Reply(cut=True), Reply(cut=True, done=True)
HANG_DONE = Reply(hang=True, done=True)


def problem(status: int, slug: str, *, done: bool = False, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, slug=slug, headers=named, done=done)


class Country:
    """What all sites write to: `marks` by path in the order done, `script` of what the next writes meet."""

    def __init__(self) -> None:
        self.marks: dict[str, list[Any]] = {}
        self.answers: dict[str, bytes] = {}
        self.bodies: dict[str, bytes] = {}
        self.seen: list[Seen] = []
        self.script: deque[Reply] = deque()
        self.by_site: dict[str, Reply] = {}
        self.token = "one"
        self.refreshes = 0
        self.sign_ins = 0
        self.refresh_refused = False
        self.released = asyncio.Event()
        self.on_write: Callable[[Seen], None] = lambda _seen: None

    def writes(self, path: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.key and path in seen.path]

    def meet(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        if seen.path == "/v1/auth/tokens":
            self.sign_ins += 1
            return self._tokens()
        if seen.path == "/v1/auth/tokens/refresh":
            self.refreshes += 1
            return problem(401, "refresh-invalid") if self.refresh_refused else self._tokens()
        if seen.headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, "token-expired")
        if seen.method == "GET":
            return Reply()
        self.on_write(seen)
        return self.by_site.get(seen.site) or (self.script.popleft() if self.script else OK)

    def _tokens(self) -> Reply:
        return Reply(headers={"token": self.token})

    def do(self, seen: Seen) -> None:
        """The write, once under its key."""
        if seen.key not in self.answers:
            done = self.marks.setdefault(seen.path, [])
            done.append(msgspec.json.decode(seen.body))
            self.bodies[seen.key] = seen.body
            self.answers[seen.key] = b'{"done":%d}' % len(done)
        assert self.bodies[seen.key] == seen.body, "another payload under the same key"

    def body_of(self, seen: Seen, reply: Reply) -> bytes:
        if "token" in reply.headers:
            return msgspec.json.encode({"access_token": self.token, "refresh_token": "r"})
        if reply.slug:
            return msgspec.json.encode({"slug": reply.slug, "status": reply.status})
        return self.answers.get(seen.key, b"{}")


class Site:
    """One gateway of the country."""

    def __init__(self, name: str, country: Country) -> None:
        self.name = name
        self.country = country
        self.port = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # Also of one that was ended before it began.
        task.add_done_callback(lambda _task: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._once(reader, writer):
                pass

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, path, _version = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(site=self.name, method=method, path=path, headers=headers, body=body)
        reply = self.country.meet(seen)
        if reply.done:
            self.country.do(seen)
        if reply.hang:
            await self.country.released.wait()
        if reply.cut:
            return False
        content = self.country.body_of(seen, reply)
        said = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
        if seen.key and reply.status == 200:
            said["massar-position"] = f"1-{len(self.country.answers)}"
        lines = [f"{name}: {value}" for name, value in said.items()]
        writer.write(("\r\n".join([f"HTTP/1.1 {reply.status} X", *lines]) + "\r\n\r\n").encode() + content)
        await writer.drain()
        return True


class World:
    """One phone before two sites, signed in; waits are noted and not waited for."""

    def __init__(self) -> None:
        self.country = Country()
        self.rabat, self.marrakech = Site("rabat", self.country), Site("marrakech", self.country)
        self.waits: list[float] = []
        self.phones: list[Phone] = []

    def phone(self) -> Phone:
        """Another phone of the same teacher, Rabat first."""
        gateways = {site.name: f"http://127.0.0.1:{site.port}" for site in (self.rabat, self.marrakech)}
        self.phones.append(Phone(Account("moudaris", "login", "password"), gateways))
        return self.phones[-1]

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def in_the_world() -> AsyncIterator[World]:
    world = World()
    try:
        await world.rabat.start()
        await world.marrakech.start()
        yield world
    finally:
        world.country.released.set()
        for phone in world.phones:
            await phone.aclose()
        await world.rabat.stop()
        await world.marrakech.stop()
