"""The client's side of one exchange, over ASGI.

Invariant: content is read once; a client that takes nothing for `SEND_WITHIN_S`, or gives nothing of its content for
`RECEIVE_WITHIN_S`, is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from cache.http.filling import Broken
from cache.http.messages import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SEND_WITHIN_S = 60.0
RECEIVE_WITHIN_S = 20.0
PIECE_BYTES = 64 * 1024


class ClientGone(Exception):
    """The client went away while its content was being read."""


class ClientSlow(ClientGone):
    """The client gave nothing of its content for too long."""


class Client:
    """Reads what a client sends and sends what it is answered."""

    def __init__(self, receive: Receive, send: Send, *, sends_content: bool) -> None:
        self._receive = receive
        self._send = send
        self._content_ended = asyncio.Event()
        self.left = False
        """Whether it is known to have gone."""
        if not sends_content:
            self._content_ended.set()

    async def content(self) -> AsyncIterator[bytes]:
        """The request's content as it comes. Raises `ClientGone`, `ClientSlow`."""
        try:
            while True:
                try:
                    async with asyncio.timeout(RECEIVE_WITHIN_S):
                        message = await self._receive()
                except TimeoutError:
                    raise ClientSlow("in the middle of its content") from None
                if message["type"] == "http.disconnect":
                    self.left = True
                    raise ClientGone("in the middle of its content")
                if message.get("body"):
                    yield message["body"]
                if not message.get("more_body"):
                    return
        finally:
            self._content_ended.set()

    async def gone(self) -> None:
        """Wait until the client has gone."""
        await self._content_ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True

    async def start(self, response: Response, cache_status: str) -> None:
        """Send a head."""
        lines = (*response.fields.lines, *((("cache-status", cache_status),) if cache_status else ()))
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})

    async def piece(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the body. Raises `Broken` when the client takes nothing for too long."""
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise Broken("the client reads too slowly") from None

    async def whole(self, response: Response, cache_status: str, body: bytes) -> None:
        """Send head and body; a large one in pieces, so that no client holds a copy of all of it."""
        await self.start(response, cache_status)
        for first in range(0, len(body) - PIECE_BYTES, PIECE_BYTES):
            await self.piece(body[first : first + PIECE_BYTES], more=True)
        last = max(0, (len(body) - 1) // PIECE_BYTES * PIECE_BYTES)
        await self.piece(body[last:] if body else b"", more=False)
