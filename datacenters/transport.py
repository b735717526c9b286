"""How this project's own HTTP requests leave, straight to the address; how much of an answer is read; what failures prove.

Invariant: of an answer no more is kept than its bound, and one beyond it ends its connection.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import httpx
from pyqwest import (
    ConnectTimeout,
    FullResponse,
    Headers,
    HTTPTransport,
    Proxy,
    ReadError,
    RemoteProtocolError,
    Request,
    Response,
    Transport,
    WriteError,
)

CONNECT_S = 0.5
IDLE_CONNECTIONS_MAX = 64
IDLE_CONNECTION_S = 30.0
# A declared length of more digits is beyond every bound.
LENGTH_DIGITS_MAX = 18
# No coding is asked for where httpx would ask for all it knows: few bytes could say many.
PLAIN = {"accept-encoding": "identity"}
# What a request may fail with; TimeoutError is an OSError.
FAILURES = (OSError, ReadError, WriteError, RemoteProtocolError)


class AnswerTooLarge(Exception):
    """The answer, of this status, goes beyond its bound; what was read of it is gone and its connection closed."""

    def __init__(self, status: int) -> None:
        super().__init__(f"an answer of status {status} beyond its bound")
        self.status = status


def direct_transport(*, connect_s: float = CONNECT_S) -> HTTPTransport:
    """A transport that touches neither bodies nor redirects and uses no proxy, whatever the environment says."""
    return HTTPTransport(
        follow_redirects=False,
        enable_gzip=False,
        enable_brotli=False,
        enable_zstd=False,
        enable_otel=False,
        connect_timeout=connect_s,
        pool_idle_timeout=IDLE_CONNECTION_S,
        pool_max_idle_per_host=IDLE_CONNECTIONS_MAX,
        tls_include_system_certs=True,
        # An empty list would let the environment's HTTP_PROXY through; a proxy that is for no host keeps it out.
        proxy=Proxy("http://127.0.0.1:9", no_proxy="*,0.0.0.0/0,::/0"),
    )


def never_connected(failure: BaseException) -> bool:
    """Whether the failure shows that no connection was made, so that nothing can have been sent."""
    # ConnectTimeout is a TimeoutError as well; any other ConnectionError of Python's own tells of a connection that
    # existed.
    return type(failure) in {ConnectionError, ConnectTimeout}


async def ask(
    transport: Transport,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes | None,
    *,
    bytes_max: int,
) -> FullResponse:
    """The whole answer, its body no longer than `bytes_max`.

    A length that is declared beyond that is refused before anything is read, any other at the chunk that goes beyond.
    Raises: AnswerTooLarge and FAILURES.
    """
    response = await transport.execute(Request(method, url, Headers(headers.items()), content))
    try:
        body = await _read(response, bytes_max)
    except BaseException:
        await response.aclose()
        raise
    return FullResponse(response.status, response.headers, body, Headers())


async def content_of(response: httpx.Response, *, bytes_max: int) -> bytes:
    """The body of an answer that httpx streams, as it came over the wire and no longer than `bytes_max`.

    Raises: AnswerTooLarge, httpx.HTTPError.
    """
    if _length(response.headers.get("content-length")) > bytes_max:
        raise AnswerTooLarge(response.status_code)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            raise AnswerTooLarge(response.status_code)
    return bytes(body)


async def _read(response: Response, bytes_max: int) -> bytes:
    coded = "transfer-encoding" in response.headers
    declared = 0 if coded else _length(response.headers.get("content-length"))
    if declared > bytes_max:
        raise AnswerTooLarge(response.status)
    body = bytearray()
    async for chunk in response.content:
        body += chunk
        if len(body) > bytes_max:
            raise AnswerTooLarge(response.status)
        if len(body) == declared:  # to ask for more would be one more turn of the loop
            break
    return bytes(body)


def _length(declared: str | None) -> int:
    """The length that is declared, 0 where none is that can be read."""
    if declared is None or not (declared.isascii() and declared.isdigit()):
        return 0
    return int(declared) if len(declared) <= LENGTH_DIGITS_MAX else sys.maxsize
