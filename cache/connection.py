"""One connection to one Valkey, shared by everybody in a process who asks it.

What is asked in one turn of the loop is written together; replies come in the order of the commands (RESP2).

Invariant: a reply reaches the command that it answers, or nobody. A connection that ends, stays silent or says what is
no reply fails everything that waits on it, and is never used again; who stops waiting keeps his place in the line.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import hiredis
import msgspec

# Batches that wait for their replies, and bytes that wait to be sent, in one connection.
WAITING_MAX = 8_192
UNSENT_BYTES_MAX = 16 * 1024 * 1024
# A loop that stood still reads first what came meanwhile; what stood still for longer than this is measured anew.
_READ_FIRST_S = 0.001
STALL_S = 0.02
_NOT_ENOUGH = object()

Command: TypeAlias = Sequence[Any]


class ConnectionLost(Exception):
    """No reply will come: the connection is gone or hung."""


class Busy(Exception):
    """The connection takes no more for now; that says nothing of Valkey."""


class LoginRefused(Exception):
    """A wrong password, or none; the first word of what was said."""


class Refused(msgspec.Struct, frozen=True):
    """An error reply: its first word, and all of it."""

    code: str
    text: str


class Address(msgspec.Struct, frozen=True):
    """Where one Valkey listens: host and port, or the path of a socket."""

    host: str = ""
    port: int = 0
    path: str = ""


class Login(msgspec.Struct, frozen=True):
    """What a new connection says first, and whether under TLS. `of_primary`: whoever answers must not be a replica."""

    username: str | None = None
    password: str | None = None
    database: int = 0
    tls: ssl.SSLContext | None = None
    of_primary: bool = False

    def commands(self) -> list[Command]:
        """In the order in which they are said."""
        words: list[Command] = []
        if self.password is not None:
            words.append(("AUTH", *([self.username] if self.username else []), self.password))
        if self.database:
            words.append(("SELECT", self.database))
        if self.of_primary:
            words.append(("ROLE",))
        return words


class _Asked(msgspec.Struct):
    answer: asyncio.Future[list[Any]]
    count: int
    replies: list[Any]
    at: float = math.inf
    """When it was written."""


class Connection(asyncio.Protocol):
    """Made by `dial`. `silent_max_s`: how long a batch waits, and how long Valkey may say nothing to those who wait."""

    def __init__(self, *, silent_max_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._silent_max_s = silent_max_s
        self._reader = hiredis.Reader(notEnoughData=_NOT_ENOUGH)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[_Asked] = deque()
        self._unwritten: list[tuple[_Asked, bytes]] = []
        self._unwritten_bytes = 0
        self._full = False
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._excused = False
        self.lost = False
        self.on_lost: Callable[[bool], None] = lambda _waited: None
        """Told once when it is lost and was not closed here: whether anybody waited."""

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """One reply for each command, a `Refused` among them where it is an error.

        The future fails with `ConnectionLost`, or with `TimeoutError` where only this batch is late. Raises
        `ConnectionLost` where the connection is lost, `Busy` where it takes no more for now.
        """
        if self.lost:
            raise ConnectionLost("it is lost")
        if self._full or len(self._waiting) >= WAITING_MAX or self._unwritten_bytes > UNSENT_BYTES_MAX:
            raise Busy("too much waits on it")
        packed = b"".join([hiredis.pack_command(tuple(command)) for command in commands])
        if not packed:
            raise ValueError("nothing is asked")
        # Nothing below may fail: a place in the line that nothing is sent for would take another one's reply.
        asked = _Asked(self._loop.create_future(), len(commands), [])
        self._waiting.append(asked)
        if not self._unwritten:
            self._loop.call_soon(self._write)
        self._unwritten.append((asked, packed))
        self._unwritten_bytes += len(packed)
        return asked.answer

    def close(self) -> None:
        """Fail what waits and let go."""
        self.on_lost = lambda _waited: None
        self._lose("it was closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        self._heard_at = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's."""
        self._lose(str(exc) if exc else "it was closed at the other end")

    def pause_writing(self) -> None:
        """Asyncio's."""
        self._full = True

    def resume_writing(self) -> None:
        """Asyncio's."""
        self._full = False

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        self._heard_at, self._excused = self._loop.time(), False
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_ENOUGH:
                self._take(reply)
        except (hiredis.ProtocolError, LookupError) as error:
            self._lose(f"what it said is no reply: {error}")

    def _take(self, reply: Any) -> None:
        """Raises LookupError where nobody waits for a reply."""
        asked = self._waiting[0]
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            reply = Refused(text.partition(" ")[0], text)
        asked.replies.append(reply)
        if len(asked.replies) == asked.count:
            self._waiting.popleft()
            if not asked.answer.done():
                asked.answer.set_result(asked.replies)

    def _write(self) -> None:
        batch, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        if self._transport is None or self.lost:
            return
        now = self._loop.time()
        for asked, _ in batch:
            asked.at = now
        self._transport.write(b"".join([packed for _, packed in batch]))
        if self._watch is None:
            self._look_at(now + self._silent_max_s)

    def _look_at(self, due: float) -> None:
        self._watch = self._loop.call_at(due, self._read_first, due)

    def _read_first(self, due: float) -> None:
        """The loop may run timers before it reads what came."""
        now = self._loop.time()
        if now - due > STALL_S and not self._excused:  # it was we who did nothing
            # Once a silence: where every turn of the loop is long, one that says nothing must be found out all the same.
            self._excused = True
            for asked in self._waiting:
                asked.at = max(now, asked.at)
            self._look_at(now + self._silent_max_s)
            return
        self._watch = self._loop.call_later(_READ_FIRST_S, self._judge_silence)

    def _judge_silence(self) -> None:
        """Give up who waited for too long; and the connection, when it said nothing to anybody for as long."""
        self._watch = None
        if not self._waiting or self._waiting[0].at == math.inf:
            return
        over = self._loop.time() - self._silent_max_s
        silent_since = max(self._heard_at, self._waiting[0].at)
        if silent_since <= over:
            self._lose("it says nothing")
            return
        first_in_time = silent_since
        for asked in self._waiting:
            if asked.at > over:
                first_in_time = min(first_in_time, asked.at)
                break
            if not asked.answer.done():
                asked.answer.set_exception(TimeoutError("its turn did not come in time"))
        self._look_at(first_in_time + self._silent_max_s)

    def _lose(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        self._unwritten = []
        for asked in waiting:
            if not asked.answer.done():
                asked.answer.set_exception(ConnectionLost(reason))
        self.on_lost(bool(waiting))


async def dial(address: Address, login: Login, *, silent_max_s: float) -> Connection:
    """A connection that is logged in, within `silent_max_s`. Raises `ConnectionLost`, `LoginRefused`."""
    loop = asyncio.get_running_loop()

    def made() -> Connection:
        return Connection(silent_max_s=silent_max_s)

    connection: Connection | None = None
    try:
        async with asyncio.timeout(silent_max_s):
            if address.path:
                _, connection = await loop.create_unix_connection(made, address.path)
            else:
                _, connection = await loop.create_connection(made, address.host, address.port, ssl=login.tls)
            if commands := login.commands():
                _check(login, await connection.ask(commands))
    except (OSError, TimeoutError) as error:
        if connection is not None:
            connection.close()
        raise ConnectionLost(f"{type(error).__name__}: {error}") from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _check(login: Login, replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Refused):
            raise LoginRefused(reply.code)
    if login.of_primary and replies[-1][0] != b"master":
        raise ConnectionLost("it is a replica")
