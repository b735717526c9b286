"""What a message loses and gains on its way through a gateway (RFC 9110 §6.6.1, §7.6).

Invariant: pure; no field that ends at this hop goes on, in either direction.
"""

from __future__ import annotations

import msgspec

from cache.http.fields import Fields, delta_seconds, members, rendered_date
from cache.http.messages import HOP_BY_HOP, Request, Response

# The server has seen to these already: the origin gets its own name, and nobody waits for a 100.
_ANSWERED_HERE = frozenset({"host", "expect"})
_OF_CONTENT = frozenset({"content-encoding", "content-language", "content-length", "content-type"})
# What is for every recipient, the store among them, ends at no hop, whoever says so: RFC 9110 §7.6.1 forbids to name it. Fields
# for one kind of cache (RFC 9213) end as Cache-Control does.
_FOR_EVERYBODY = _OF_CONTENT | {
    "age", "cache-control", "content-location", "content-range", "date", "etag", "expires", "last-modified", "location",
    "pragma", "set-cookie", "vary",
}  # fmt: skip
_FOR_CACHES = "-cache-control"
_CHUNKED = "chunked"
_WITHOUT_CONTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_COUNTED = frozenset({"OPTIONS", "TRACE"})


def received(request: Request) -> Request:
    """The request without what Connection names: what the origin does not see selects no stored response either."""
    return msgspec.structs.replace(request, fields=request.fields.without(_listed(request.fields)))


def onward(request: Request, *, via: str, with_content: bool = False) -> Request | Response:
    """The request as it goes to the origin; where it may go no further, the answer (§7.6.2).

    Without content nothing may speak of any, but that there is none where there could be: an origin that waits for it
    would take the next request for it.
    """
    if (request.fields.get("transfer-encoding") or _CHUNKED).lower() != _CHUNKED:
        return Response(501)  # who takes the chunks off would pass the other coding on untold (RFC 9112 §6.1)
    gone = HOP_BY_HOP | _ANSWERED_HERE
    told_empty = request.method not in _WITHOUT_CONTENT and request.fields.get("content-length") == "0"
    kept = request.fields.without(gone if with_content or told_empty else gone | _OF_CONTENT)
    left = delta_seconds(request.fields.get("max-forwards")) if request.method in _COUNTED else None
    if left == 0:
        return (
            Response(204) if request.method == "OPTIONS" else Response(405, Fields((("allow", "GET, HEAD"),)))
        )
    if left is not None:
        kept = kept.replaced(max_forwards=str(left - 1))
    return msgspec.structs.replace(request, fields=Fields((*kept.lines, ("via", f"1.1 {via}"))))


def arrived(response: Response, received_at: float) -> Response:
    """The response as it goes to the client and to the store; one without a date gets the time of its arrival."""
    kept = response.fields.without(HOP_BY_HOP | _listed(response.fields))
    if "transfer-encoding" in response.fields:  # which overrides the length (RFC 9112 §6.3)
        kept = kept.without({"content-length"})
    if "date" not in kept:
        kept = kept.replaced(date=rendered_date(received_at))
    return msgspec.structs.replace(response, fields=kept)


def _listed(of: Fields) -> frozenset[str]:
    """What Connection names and may name; what always ends at a hop is taken off where it ends."""
    named = {name.lower() for name in members(of.get("connection"))} - _FOR_EVERYBODY - HOP_BY_HOP
    return frozenset(name for name in named if not name.endswith(_FOR_CACHES))
