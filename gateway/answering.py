"""What every answer but a warm hit says beside its own words, and the one line that is written of it.

Invariant: a request is told of once, also one whose client left or was broken off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

# What is noted, and sent to nobody, where the client left before any status (as nginx does).
LEFT = 499

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]


class Answering:
    """Wraps `send` for one request: our headers on the start, no body for HEAD, `finished` with the status at the end.

    `standing` is asked at the start for the headers that say how things stand; a handler's own `massar-mode` counts
    more.
    """

    __slots__ = ("_ended", "_finished", "_request_id", "_send", "_standing", "_status", "_without_body")

    def __init__(
        self,
        send: Callable[[Message], Awaitable[None]],
        *,
        request_id: bytes,
        without_body: bool,
        standing: Callable[[], Iterable[tuple[bytes, bytes]]],
        finished: Callable[[int], None],
    ) -> None:
        self._send = send
        self._request_id = request_id
        self._without_body = without_body
        self._standing = standing
        self._finished = finished
        self._status = 0
        self._ended = False

    async def send(self, message: Message) -> None:
        """Send one message of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            own: Headers = list(message.get("headers", ()))
            named = {name for name, _ in own} & {b"massar-mode"}
            standing = [line for line in self._standing() if line[0] not in named]
            message = {**message, "headers": [*own, (b"massar-request-id", self._request_id), *standing]}
        elif self._without_body:
            message = {**message, "body": b""}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end()

    def end(self) -> None:
        """Tell of the request, unless that was done."""
        if not self._ended:
            self._ended = True
            self._finished(self._status or LEFT)
