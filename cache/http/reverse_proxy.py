"""An ASGI application in front of one origin.

Invariant: the target is the origin's own, whatever the request calls itself; path and query go on as they are written, but for a
question mark with nothing behind it, of which no server tells.
A path that somebody on the way would read as another one (dot segments, however they are written, and backslashes) is
refused: what is stored under one name and asked for under another is how caches are poisoned and deceived.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from cache.http.client import Client, Receive, Scope, Send
from cache.http.fields import fields
from cache.http.messages import Request
from cache.http.proxy import CachingProxy, send_empty

# Also between slashes that only a decoder sees, and with a parameter behind it, which some servers cut off.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_DOT_SEGMENT = re.compile(r"(?:/|%2f|%5c)(?:\.|%2e){1,2}(?:/|%2f|%5c|;|%3b|$)", re.IGNORECASE)

# By these a client could tell an origin another host, path or method than its answer is stored under.
_TELLING_ANOTHER = frozenset(
    f"x-{name}"
    for name in (
        *("forwarded-host", "forwarded-port", "forwarded-prefix", "forwarded-proto", "forwarded-scheme"),
        *("forwarded-server", "host", "http-method", "http-method-override", "method-override"),
        *("original-host", "original-url", "rewrite-url"),
    )
) | {"forwarded"}


def relative_reference(raw_path: bytes, query: bytes) -> str | None:
    """Path and query in ASCII, bytes beyond it percent-encoded; None for a path that could be read as another one."""
    path = _ascii(raw_path)
    if not path.startswith("/") or "\\" in path or _DOT_SEGMENT.search(path):
        return None
    return f"{path}?{_ascii(query)}" if query else path


def is_origin(text: str) -> bool:
    """Whether a text is a scheme and an authority, and nothing else."""
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return False
    alone = text == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc and text.isascii()
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_right and alone


def _names_its_host(scope: Scope) -> bool:
    """Whether there is one Host field that could name one; before HTTP/1.1 there may be none (RFC 9112 §3.2)."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if hosts in ([], [b""]):  # some servers put an empty one where there is none
        return bool(scope["http_version"] == "1.0")
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


def _ascii(raw: bytes) -> str:
    return raw.decode("ascii") if raw.isascii() else "".join(chr(c) if c < 128 else f"%{c:02X}" for c in raw)


class ReverseProxy:
    """Answers for `origin` (scheme and authority)."""

    def __init__(self, origin: str, proxy: CachingProxy) -> None:
        self._origin = origin.rstrip("/")
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `Broken` when the origin's body ends too soon."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = relative_reference(scope["raw_path"], scope["query_string"])
        if not _names_its_host(scope):
            path = None
        elif scope["method"] == "OPTIONS" and scope["raw_path"] == b"*":  # of the server as such: it is there
            await send_empty(204, "", Client(receive, send, sends_content=False))
            return
        if path is None:
            await send_empty(400, "", Client(receive, send, sends_content=False))
            return
        lines = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        asked = Request(scope["method"], self._origin + path, fields(lines).without(_TELLING_ANOTHER))
        await self._proxy.respond(asked, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def aclose(self) -> None:
        """Give up what is on its way."""
        await self._proxy.aclose()
