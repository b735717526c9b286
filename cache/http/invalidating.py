"""What an unsafe request makes invalid (RFC 9111 §4.4).

Invariant: pure; nothing at another origin is ever invalidated, whatever a response says.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from cache.http.messages import Request, Response

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ERRORS_FROM = 400


def invalidated(request: Request, response: Response) -> tuple[str, ...]:
    """The targets whose stored responses are to be validated before their next use."""
    if request.method in SAFE or response.status >= _ERRORS_FROM:
        return ()
    named = [response.fields.get(name) for name in ("location", "content-location")]
    there = (_at_same_origin(request, one) for one in named if one)
    return tuple(dict.fromkeys((request.target, *(one for one in there if one is not None))))


def _at_same_origin(request: Request, reference: str) -> str | None:
    """The target that a reference means, its origin written as in the request's; None when it is at another."""
    there = request.resolved(reference)
    try:
        if there is None or _origin(there) != _origin(request.target):
            return None
    except ValueError:  # no port
        return None
    own, named = urlsplit(request.target), urlsplit(there)
    return urlunsplit((own.scheme, own.netloc, named.path or "/", named.query, ""))


def _origin(target: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(target)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port
