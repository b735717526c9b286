"""A client's content is read once, large bodies leave in pieces, and who takes nothing is broken off."""

from __future__ import annotations

import asyncio

import pytest

from cache.http import client as side
from cache.http.client import PIECE_BYTES, Client, ClientGone, Message
from cache.http.filling import Broken
from cache.http.messages import Response


class Wire:
    """What a server would do."""

    def __init__(self, *messages: Message) -> None:
        self.coming = list(messages)
        self.sent: list[Message] = []
        self.stuck = False

    async def receive(self) -> Message:
        return self.coming.pop(0) if self.coming else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self.stuck:
            await asyncio.Event().wait()

    def client(self, *, sends_content: bool = False) -> Client:
        return Client(self.receive, self.send, sends_content=sends_content)


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_content_comes_in_its_parts_and_only_then_is_it_asked_who_has_gone() -> None:
    client = Wire(part(b"one", more=True), part(b"", more=True), part(b"two", more=False)).client(
        sends_content=True
    )
    gone = asyncio.create_task(client.gone())
    await asyncio.sleep(0)
    assert [chunk async for chunk in client.content()] == [b"one", b"two"]
    await asyncio.wait_for(gone, 1)


async def test_who_goes_in_the_middle_of_his_content_is_gone() -> None:
    content = Wire(part(b"one", more=True)).client(sends_content=True).content()
    assert await anext(content) == b"one"
    with pytest.raises(ClientGone):
        await anext(content)


@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 7]
)
async def test_a_body_of_any_size_arrives_whole_in_pieces(size: int) -> None:
    wire, body = Wire(), bytes(index % 251 for index in range(size))
    await wire.client().whole(Response(200), "massar; hit", body)
    start, *pieces = wire.sent
    assert start["headers"] == [(b"cache-status", b"massar; hit")]
    assert b"".join(piece["body"] for piece in pieces) == body
    assert max(len(piece["body"]) for piece in pieces) <= PIECE_BYTES
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_who_takes_nothing_for_too_long_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "SEND_WITHIN_S", 0.01)
    wire = Wire()
    wire.stuck = True
    with pytest.raises(Broken, match="too slowly"):
        await wire.client().piece(b"x", more=True)
