"""What may be asked of a running sandbox, by whom, and what becomes of anything else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sandbox import asking
from sandbox.asking import Door, Failed, Rejoin, Request, Revive


class Asked:
    """Does what it is asked for by saying so, and refuses `rabat`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def handle(self, request: Request, say: Callable[[str], None]) -> None:
        self.requests.append(request)
        say("first")
        await asyncio.sleep(0)
        if request == Revive("rabat"):
            raise Failed("all of rabat runs")
        say("second")


@pytest.fixture
async def deep(tmp_path: Path) -> Path:
    """A folder whose socket's path is longer than the kernel takes."""
    folder = tmp_path / ("d" * 100) / ("e" * 40)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
async def asked(deep: Path) -> AsyncIterator[Asked]:
    made = Asked()
    door = Door(deep, made.handle)
    await door.open()
    yield made
    await door.close()


def _ask(folder: Path, request: Request) -> list[str]:
    return list(asking.ask(folder, request, within_s=5))


async def _raw(folder: Path, sent: bytes) -> bytes:
    with asking._short_path(folder) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    with suppress(ConnectionError):
        writer.write(sent)
        writer.write_eof()
    answer = b""
    with suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_request_is_answered_by_sentences(asked: Asked, deep: Path) -> None:
    assert await asyncio.to_thread(_ask, deep, Rejoin(site="rabat", active="marrakech")) == [
        "first",
        "second",
    ]
    assert asked.requests == [Rejoin(site="rabat", active="marrakech")]


async def test_what_was_not_done_is_told(asked: Asked, deep: Path) -> None:
    with pytest.raises(Failed, match="all of rabat runs"):
        await asyncio.to_thread(_ask, deep, Revive("rabat"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"rm -rf /\n",
        b'{"type": "shell", "target": "ls"}\n',
        b'{"type": "revive"}\n',
        b'{"type": "revive", "target": "' + b"a" * asking.REQUEST_BYTES_MAX + b'"}\n',
    ],
)
async def test_anything_else_is_refused_and_never_handled(asked: Asked, deep: Path, line: bytes) -> None:
    answer = await _raw(deep, line)
    assert b"that is no request" in answer
    assert asked.requests == []


async def test_the_socket_is_its_owners_alone_and_goes_with_the_door(asked: Asked, deep: Path) -> None:
    assert (deep / asking.SOCKET).stat().st_mode & 0o777 == 0o600
    door = Door(deep, asked.handle)
    await door.open()  # takes the place of one that was left behind
    await door.close()
    assert not (deep / asking.SOCKET).exists()
    with pytest.raises(Failed, match="does not answer"):
        await asyncio.to_thread(_ask, deep, Revive("rabat"))


async def test_a_stranger_is_not_served(asked: Asked, deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_user_of", lambda _: 12345)
    assert await _raw(deep, b'{"type": "revive", "target": "rabat"}\n') == b""
    assert asked.requests == []


async def test_a_caller_that_says_nothing_is_not_waited_for(
    asked: Asked, deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "REQUEST_WITHIN_S", 0.01)
    with asking._short_path(deep) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    assert b"that is no request" in await reader.read()
    writer.close()


def test_a_sandbox_that_ends_before_it_answers_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with asking._short_path(tmp_path) as path:
            listener.bind(path)
        listener.listen()
        listener.close()
        with pytest.raises(Failed, match="does not answer"):
            _ask(tmp_path, Revive("rabat"))
