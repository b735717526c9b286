"""Asking Valkey for no longer than it is worth: a deadline around every question, a breaker for each address.

Everybody in the process shares one connection to each address.

Invariant: whatever Valkey does (gone, hung, full, restarted, moved, full of garbage), a caller gets `CacheUnavailable` at
the latest after a few `OPERATION_MAX_S`: one for each of finding, connecting and being answered, and where Valkey sends
him elsewhere once more for each of `REDIRECTS_MAX`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cache.connection import (
    Address,
    Busy,
    Command,
    Connection,
    ConnectionLost,
    Login,
    LoginRefused,
    Refused,
    dial,
)
from cache.deployment import deployment_at

OPERATION_MAX_S = 0.1
REDIRECTS_MAX = 2
FAILURES_MAX = 3
BREAKER_OPEN_S = 1.0
# How often what has moved, or what no node has, makes us look where everything is.
FOUND_AGAIN_S = 1.0
# Nodes of a cluster, and those that were there before.
ADDRESSES_MAX = 256


class CacheUnavailable(Exception):
    """Valkey did not answer in time, or not at all; never leaves the package."""


class Question(NamedTuple):
    """A command, and the name that says which node to ask."""

    name: bytes
    command: Command


class Script:
    """A Lua script and the name that Valkey gives it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, names: Sequence[bytes], values: Sequence[Any]) -> Question:
        """Run it where it is known. All names belong to one slot where the deployment is `parted`."""
        return Question(names[0], ("EVALSHA", self.digest, len(names), *names, *values))

    def by_text(self, names: Sequence[bytes], values: Sequence[Any]) -> Question:
        """Run it, and have it known from now on."""
        return Question(names[0], ("EVAL", self.text, len(names), *names, *values))


class Breaker:
    """Stops asking a silent peer: opens after `failures_max` in a row, then lets one probe through a period."""

    def __init__(self, *, failures_max: int, open_s: float, monotonic: Callable[[], float]) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._monotonic = monotonic
        self._failures = 0
        self._closed_from_s = 0.0

    def admits(self) -> bool:
        """Whether to try now. While open, only the first caller of each period is the probe."""
        if self._failures < self._failures_max:
            return True
        now = self._monotonic()
        if now < self._closed_from_s:
            return False
        self._closed_from_s = now + self._open_s
        return True

    def succeeded(self) -> None:
        """The peer answered."""
        self._failures = 0

    def failed(self) -> None:
        """The peer was silent."""
        self._failures += 1
        self._closed_from_s = self._monotonic() + self._open_s


class _Line:
    """The one connection to an address, made when it is wanted."""

    def __init__(
        self,
        address: Address,
        login: Login,
        *,
        breaker: Breaker,
        silent_max_s: float,
        on_made: Callable[[], None],
        on_lost: Callable[[Address], None],
    ) -> None:
        self._address = address
        self._login = login
        self._silent_max_s = silent_max_s
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[Connection] | None = None
        self._on_made = on_made
        self._on_lost = on_lost
        self.breaker = breaker

    @property
    def connection(self) -> Connection | None:
        """The connection where there is one that works."""
        made = self._connection
        return None if made is None or made.lost else made

    @property
    def in_use(self) -> bool:
        """Whether there is a connection, or will be."""
        return self.connection is not None or self._dialling is not None

    async def connected(self) -> Connection:
        """The connection; whoever wants it while it is being made waits for the same. Raises as `dial` does."""
        if (made := self.connection) is not None:
            return made
        if self._dialling is None:
            self._dialling = asyncio.create_task(
                dial(self._address, self._login, silent_max_s=self._silent_max_s)
            )
            self._dialling.add_done_callback(self._dialled)
        return await asyncio.shield(self._dialling)

    def _dialled(self, task: asyncio.Task[Connection]) -> None:
        self._dialling = None
        if task.cancelled():
            return
        if task.exception() is not None:
            self._failed(waited=True)
            return
        self._connection = task.result()
        self._connection.on_lost = lambda waited: self._failed(waited=waited)
        self._on_made()

    def _failed(self, *, waited: bool) -> None:
        """Count one failure, however many waited for what did not come."""
        if waited:
            self.breaker.failed()
        self._on_lost(self._address)

    def drop(self) -> None:
        """Have the next question asked on a new connection."""
        if self._connection is not None:
            self._connection.close()

    async def aclose(self) -> None:
        """Let go of it."""
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        self.drop()


class BoundedValkey:
    """The Valkey that a URL names: one, a primary that Sentinels watch, or a cluster."""

    def __init__(
        self, url: str, *, monotonic: Callable[[], float], operation_max_s: float = OPERATION_MAX_S
    ) -> None:
        self._deployment = deployment_at(url)
        self._monotonic = monotonic
        self._operation_max_s = operation_max_s
        self._lines: dict[Address, _Line] = {}
        self._finding_breaker = self._breaker()
        self._finding: asyncio.Task[None] | None = None
        self._found_at = self._nobody_until = -math.inf
        self._closed = False
        self.connections = 0
        """How many were made so far."""

    @property
    def parted(self) -> bool:
        """Whether names are kept in different places, so that a script may only name those of one slot."""
        return self._deployment.parted

    async def ask(self, question: Question) -> Any:
        """The reply to a question. Raises `CacheUnavailable`."""
        (reply,) = await self._asked((question,))
        return _meant(reply)

    async def values(self, names: Sequence[bytes]) -> list[bytes | None]:
        """The strings of these names, None where there is none; in one round trip. Raises `CacheUnavailable`."""
        if not self.parted:
            replies = _meant((await self._asked((Question(names[0], ("MGET", *names)),)))[0])
        else:
            replies = await self._asked([Question(name, ("GET", name)) for name in names])
        if not isinstance(replies, list) or len(replies) != len(names):
            raise CacheUnavailable("an answer to another question")
        found = [None if _of_another_type(reply) else _meant(reply) for reply in replies]
        if not all(reply is None or type(reply) is bytes for reply in found):
            raise CacheUnavailable("an answer to another question")
        return found

    async def run(self, script: Script, names: Sequence[bytes], values: Sequence[Any]) -> Any:
        """What a script says of names as `Script.by_digest` takes them, in one round trip where Valkey knows it.

        Raises `CacheUnavailable`.
        """
        (reply,) = await self.run_all(script, [(names, values)])
        return reply

    async def run_all(
        self, script: Script, given: Sequence[tuple[Sequence[bytes], Sequence[Any]]]
    ) -> list[Any]:
        """What a script says to each of these, all asked at once. Raises `CacheUnavailable`."""
        replies = await self._asked([script.by_digest(*one) for one in given])
        unknown = [place for place, reply in enumerate(replies) if _is(reply, "NOSCRIPT")]
        if unknown:  # it was restarted, or never saw it
            again = await self._asked([script.by_text(*given[place]) for place in unknown])
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return [_meant(reply) for reply in replies]

    async def aclose(self) -> None:
        """Close the connections; a peer that is gone or hung changes nothing."""
        self._closed = True
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.wait([self._finding])
        for line in self._lines.values():
            await line.aclose()

    async def _asked(self, questions: Sequence[Question]) -> list[Any]:
        """A reply to each question, sent on to where it belongs. Raises `CacheUnavailable`."""
        try:
            return await self._asked_everywhere(questions)
        except CacheUnavailable:
            raise
        except Exception as error:  # whatever goes wrong here, the tier is away
            raise CacheUnavailable(f"{type(error).__name__}: {error}") from error

    async def _asked_everywhere(self, questions: Sequence[Question]) -> list[Any]:
        places: dict[Address, list[int]] = {}
        for place, question in enumerate(questions):
            places.setdefault(await self._address(question.name), []).append(place)
        if len(places) == 1:
            (address,) = places
            replies = await self._asked_there(address, [question.command for question in questions])
        else:
            parts = await asyncio.gather(
                *[
                    self._asked_there(address, [questions[place].command for place in asked])
                    for address, asked in places.items()
                ],
                return_exceptions=True,
            )
            replies = [None] * len(questions)
            for part, asked in zip(parts, places.values(), strict=True):
                if isinstance(part, BaseException):
                    raise part
                for place, reply in zip(asked, part, strict=True):
                    replies[place] = reply
        refused = [
            (place, address)
            for address, asked in places.items()
            for place in asked
            if isinstance(replies[place], Refused)
        ]
        if not refused:
            return replies
        sent_on = [self._sent_on(questions[place], address, replies[place]) for place, address in refused]
        for (place, _), reply in zip(refused, await asyncio.gather(*sent_on), strict=True):
            replies[place] = reply
        return replies

    async def _address(self, name: bytes) -> Address:
        if (address := self._deployment.address(name)) is not None:
            return address
        if self._monotonic() < self._nobody_until or not self._finding_breaker.admits():
            raise CacheUnavailable("not looked for: it was not found a moment ago")
        try:
            async with asyncio.timeout(self._operation_max_s):
                await asyncio.shield(self._find())
        except (ConnectionLost, TimeoutError) as error:
            raise CacheUnavailable(type(error).__name__) from error
        if (address := self._deployment.address(name)) is None:
            self._nobody_until = self._monotonic() + FOUND_AGAIN_S
            raise CacheUnavailable("nobody has it")
        return address

    def _find(self) -> asyncio.Task[None]:
        """The one search that all who want to know wait for."""
        if self._finding is None:
            self._finding = asyncio.create_task(self._deployment.find(self._inquire))
            self._finding.add_done_callback(self._found)
        return self._finding

    def _found(self, task: asyncio.Task[None]) -> None:
        self._finding, self._found_at = None, self._monotonic()
        if task.cancelled() or task.exception() is not None:
            self._finding_breaker.failed()
        else:
            self._finding_breaker.succeeded()

    async def _asked_there(self, address: Address, commands: Sequence[Command]) -> list[Any]:
        line = self._line(address)
        if not line.breaker.admits():
            raise CacheUnavailable("not asked: it was silent a moment ago")
        try:
            connection = line.connection or await line.connected()
            replies = await connection.ask(commands)
        except (
            ConnectionLost,
            Busy,
            LoginRefused,
            TimeoutError,
        ) as error:  # counted by the line, once for all
            raise CacheUnavailable(f"{type(error).__name__}: {error}") from error
        line.breaker.succeeded()
        return replies

    async def _sent_on(self, question: Question, there: Address, refused: Refused) -> Any:
        """The reply from where a refusal points, or the refusal where it points nowhere."""
        for _ in range(REDIRECTS_MAX):
            elsewhere = self._deployment.refused(question.name, there, refused)
            if elsewhere is None:
                if refused.code == "READONLY":  # a primary no more, and the next connection will ask for one
                    self._line(there).drop()
                return refused
            if refused.code == "MOVED" and self._monotonic() - self._found_at > FOUND_AGAIN_S:
                _ = self._find()  # what else has moved
            before: list[Command] = [("ASKING",)] if refused.code == "ASK" else []
            reply = (await self._asked_there(elsewhere, [*before, question.command]))[-1]
            if not isinstance(reply, Refused):
                return reply
            refused, there = reply, elsewhere
        return refused

    async def _inquire(self, address: Address, login: Login, commands: Sequence[Command]) -> list[Any]:
        connection = await dial(address, login, silent_max_s=self._operation_max_s)
        try:
            return await connection.ask(commands)
        finally:
            connection.close()

    def _line(self, address: Address) -> _Line:
        if self._closed:
            raise CacheUnavailable("closed")
        line = self._lines.get(address)
        if line is None:
            if len(self._lines) >= ADDRESSES_MAX:
                self._lines = {there: one for there, one in self._lines.items() if one.in_use}
            if len(self._lines) >= ADDRESSES_MAX:
                raise CacheUnavailable("too many nodes")
            line = self._lines[address] = _Line(
                address,
                self._deployment.login,
                breaker=self._breaker(),
                silent_max_s=self._operation_max_s,
                on_made=self._count_connection,
                on_lost=self._lost,
            )
        return line

    def _lost(self, address: Address) -> None:
        self._deployment.lost(address)
        self._nobody_until = -math.inf  # what is not known now is another one's

    def _count_connection(self) -> None:
        self.connections += 1

    def _breaker(self) -> Breaker:
        return Breaker(failures_max=FAILURES_MAX, open_s=BREAKER_OPEN_S, monotonic=self._monotonic)


def _is(reply: Any, code: str) -> bool:
    return isinstance(reply, Refused) and reply.code == code


def _of_another_type(reply: Any) -> bool:
    """As MGET has it: a name that holds no string holds nothing."""
    return _is(reply, "WRONGTYPE")


def _meant(reply: Any) -> Any:
    """The reply. Raises `CacheUnavailable` where it is a refusal (out of memory, loading), though the peer is alive."""
    if isinstance(reply, Refused):
        raise CacheUnavailable(reply.text)
    return reply
