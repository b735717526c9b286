"""How another terminal, or a director's hook, asks a running sandbox to do something.

One request a connection, on a Unix socket in the sandbox's folder: a line of JSON; answered by lines of JSON, each a
sentence, the last one the outcome.

Invariant: folder and socket are open to their owner alone and the caller's user is asked of the kernel; a request is
one of the few types below and at most `REQUEST_BYTES_MAX` long, no shell ever sees any of it; waits are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

SOCKET = "ask.sock"
REQUEST_BYTES_MAX = 4096
REQUEST_WITHIN_S = 5.0
CALLERS_MAX = 16
ANSWER_WITHIN_S = 300.0
_CREDENTIALS = struct.Struct("3i")


class Revive(msgspec.Struct, frozen=True, tag="revive"):
    """Start again what has ended of a site, or a single process, on what is left on disk."""

    target: str


class Rejoin(msgspec.Struct, frozen=True, tag="rejoin"):
    """Make a site's PostgreSQL a standby of `active`'s."""

    site: str
    active: str


Request = Revive | Rejoin


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an answer; the last one has an `outcome`, "done" or "failed"."""

    sentence: str = ""
    outcome: str = ""


class Failed(Exception):
    """It was not done; the message says why."""


Handler = Callable[[Request, Callable[[str], None]], Awaitable[None]]

_request_decoder = msgspec.json.Decoder(Request)
_said_decoder = msgspec.json.Decoder(Said)
_encoder = msgspec.json.Encoder()


class Door:
    """Listens in a folder and hands each request to `handle`, which says sentences and raises Failed."""

    def __init__(self, folder: Path, handle: Handler) -> None:
        self._folder = folder
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen; what an earlier sandbox left under the name is replaced."""
        (self._folder / SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short_path(self._folder) as path:
            listener.bind(path)
        (self._folder / SOCKET).chmod(0o600)  # before it listens, and in a folder closed to others
        self._server = await asyncio.start_unix_server(
            self._called, sock=listener, limit=REQUEST_BYTES_MAX, backlog=CALLERS_MAX
        )

    async def close(self) -> None:
        """Stop listening and give up what is under way."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        (self._folder / SOCKET).unlink(missing_ok=True)

    def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CALLERS_MAX or _user_of(writer) not in {0, os.geteuid()}:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(sentence: str, outcome: str = "") -> None:
            if not writer.is_closing():
                writer.write(_encoder.encode(Said(sentence=sentence, outcome=outcome)) + b"\n")

        try:
            async with asyncio.timeout(REQUEST_WITHIN_S):
                line = await reader.readuntil(b"\n")
            # A caller that goes away changes nothing: what was begun is finished.
            await self._handle(_request_decoder.decode(line), say)
            say("", "done")
        except Failed as failure:
            say(str(failure), "failed")
        except (
            TimeoutError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            msgspec.MsgspecError,
        ):
            say("that is no request", "failed")
        finally:
            with contextlib.suppress(OSError):
                writer.close()


def ask(folder: Path, request: Request, *, within_s: float = ANSWER_WITHIN_S) -> Iterator[str]:
    """Put the request to the sandbox of this folder and give its sentences as they come.

    Raises: Failed: it was not done, or nobody answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(within_s)
        try:
            with _short_path(folder) as path:
                caller.connect(path)
            caller.sendall(_encoder.encode(request) + b"\n")
            with caller.makefile("rb") as lines:
                for line in lines:
                    said = _said_decoder.decode(line)
                    if said.outcome == "failed":
                        raise Failed(said.sentence)
                    if said.outcome:
                        return
                    yield said.sentence
        except OSError as failure:
            raise Failed(f"the sandbox of {folder} does not answer: {failure}") from None
    raise Failed(f"the sandbox of {folder} ended before it was done")


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """The socket's path in few characters: the kernel takes 107, and folders may be deep."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def _user_of(writer: asyncio.StreamWriter) -> int:
    peer = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
