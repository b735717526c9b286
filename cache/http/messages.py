"""Requests, responses and stored responses as the rules see them: heads alone, bodies are the driver's.

Invariant: pure values; a stored response's `span` says which of its bytes are held, None that all are.
"""

from __future__ import annotations

from urllib.parse import urldefrag, urljoin

import msgspec

from cache.http.fields import Fields

# Fields that end at each hop (RFC 9110 §7.6.1), with those that speak to a proxy alone.
HOP_BY_HOP = frozenset({
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
})  # fmt: skip


# Statuses of responses that never have a body (RFC 9110 §6.4.1), and the one whose body says nothing.
NO_BODY = frozenset({204, 205, 304})


class Request(msgspec.Struct, frozen=True):
    """One request: `target` is its whole URI, which is the first part of the cache key (RFC 9111 §2)."""

    method: str
    target: str
    fields: Fields = Fields()

    def resolved(self, reference: str) -> str | None:
        """The URI that a reference in the response means, less its fragment; None when it is none (RFC 3986 §5)."""
        try:
            return urldefrag(urljoin(self.target, reference)).url
        except ValueError:  # no address between the brackets
            return None

    @property
    def has_content(self) -> bool:
        """Whether content comes with it (RFC 9112 §6.3)."""
        return "transfer-encoding" in self.fields or (self.fields.get("content-length") or "0") != "0"


class Response(msgspec.Struct, frozen=True):
    """The head of one final response."""

    status: int
    fields: Fields = Fields()


class Span(msgspec.Struct, frozen=True):
    """Bytes `first` to `last`, both counted from 0 and within `whole` bytes."""

    first: int
    last: int
    whole: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1

    @property
    def everything(self) -> bool:
        """Whether these are all bytes there are."""
        return self.length == self.whole


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One stored response.

    `selecting`: the request's values of the fields that Vary names, normalised. `requested_at`, `received_at`: Unix
    seconds. `length`: bytes of the body that are held. `doubted`: invalidated, so that it is validated before its use.
    """

    id: str
    status: int
    fields: Fields
    selecting: tuple[tuple[str, str | None], ...] = ()
    requested_at: float
    received_at: float
    length: int = 0
    span: Span | None = None
    doubted: bool = False
