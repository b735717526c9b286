"""Requests to origins, byte for byte: fields, target and body go and come as they are.

Invariant: every wait has an end; no redirect is followed, no coding undone, and no proxy of the environment's used.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpcore
import msgspec

from cache.http.fields import Fields, fields
from cache.http.invalidating import SAFE
from cache.http.messages import NO_BODY, Request

CONNECT_S = 2.0
# How long an origin may say nothing, before its answer or in the midst of it, or take nothing of what is sent to it.
SILENT_S_MAX = 30.0
CONNECTIONS_MAX = 512
IDLE_CONNECTIONS_MAX = 64
# Below the five seconds after which many origins close what is idle.
IDLE_S = 4.0
_FINAL = 200
# No server of ours could send it on (RFC 9110 §5.5).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Unanswered(Exception):
    """No answer, or not all of it: not reached, broken off, silent for too long, or no HTTP.

    `unreached`: no origin has seen the request, so that it was nothing in it.
    """

    def __init__(self, reason: str, *, timed_out: bool = False, unreached: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.unreached = unreached


class _Stale(Unanswered):
    """Nothing came on a connection that had been used before: its origin may have closed it just then (RFC 9112 §9.3.1)."""


class Reply(msgspec.Struct):
    """A final response: its head, and its body as it comes, which may raise `Unanswered`."""

    status: int
    fields: Fields
    chunks: AsyncIterator[bytes]


class Fetcher:
    """Keeps connections to origins."""

    def __init__(self, *, connect_s: float = CONNECT_S, silent_s: float = SILENT_S_MAX) -> None:
        self._timeouts = {"connect": connect_s, "pool": connect_s, "read": silent_s, "write": silent_s}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=IDLE_CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S,
        )

    @asynccontextmanager
    async def fetch(self, request: Request, content: AsyncIterator[bytes] | None) -> AsyncIterator[Reply]:
        """The response to a request whose target is a whole URI. Raises `Unanswered`."""
        async with AsyncExitStack() as held:
            try:
                response = await self._sent(request, content, held)
            except _Stale:
                response = await self._sent(request, content, held)
            if response.status < _FINAL:  # nobody asked for another protocol
                raise Unanswered(f"status {response.status}")
            if any(_CONTROL.search(value) for _, value in response.headers):
                raise Unanswered("a control character in a field")
            told = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers)
            reply = Reply(response.status, fields(told), _chunks(response))
            yield reply
            if (
                request.method == "HEAD" or response.status in NO_BODY
            ):  # at its end, so the connection goes on
                with suppress(Unanswered):
                    async for _ in reply.chunks:
                        pass

    async def _sent(
        self, request: Request, content: AsyncIterator[bytes] | None, held: AsyncExitStack
    ) -> httpcore.Response:
        """The head of the response, its connection held by `held`. Raises `Unanswered`; `_Stale` to try once more."""
        parts = urlsplit(request.target)
        target = request.target[len(parts.scheme) + len("://") + len(parts.netloc) :]
        lines = [("host", parts.netloc), *request.fields.lines]
        if content is not None and "content-length" not in request.fields:
            lines.append(("transfer-encoding", "chunked"))
        connected: list[str] = []

        async def trace(event: str, _details: object) -> None:
            if event == "connection.connect_tcp.started":
                connected.append(event)

        stream = self._pool.stream(
            request.method.encode("ascii"),
            httpcore.URL(
                scheme=parts.scheme.encode("ascii"),
                host=(parts.hostname or "").encode("ascii"),
                port=parts.port,
                target=target.encode("ascii"),
            ),
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines],
            content=content,
            extensions={"timeout": self._timeouts, "trace": trace},
        )
        try:
            return await held.enter_async_context(stream)
        except httpcore.TimeoutException as error:
            raise Unanswered(
                type(error).__name__,
                timed_out=not isinstance(error, httpcore.PoolTimeout),
                unreached=isinstance(error, (httpcore.ConnectTimeout, httpcore.PoolTimeout)),
            ) from error
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            OSError,
        ) as error:
            if not connected and content is None and request.method in SAFE:
                raise _Stale(str(error)) from error
            unreached = isinstance(error, httpcore.ConnectError)
            raise Unanswered(f"{type(error).__name__}: {error}", unreached=unreached) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


async def _chunks(response: httpcore.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_stream():
            yield chunk
        _end_where_more_came(response)
    except httpcore.TimeoutException as error:
        raise Unanswered(type(error).__name__, timed_out=True) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise Unanswered(f"{type(error).__name__}: {error}") from error


def _end_where_more_came(response: httpcore.Response) -> None:
    """Let nobody take what came behind a response for the response to his own request (RFC 9112 §6.3)."""
    # No other way leads to what the parser has left; test_fetching.py shows that this one does.
    stream: Any = response.stream
    parser = stream._stream._connection._h11_state  # noqa: SLF001
    if parser.trailing_data[0]:
        parser.send_failed()
