"""Whether a response may be stored, and as what (RFC 9111 §3).

Invariant: pure; what is not known to be allowed is not stored.
"""

from __future__ import annotations

from cache.http.age import HEURISTIC_STATUSES, Manner, explicit_lifetime, response_directives
from cache.http.fields import Fields, directives
from cache.http.messages import HOP_BY_HOP, Request, Response, Span
from cache.http.ranges import content_span

# Whose meaning for caching this cache knows: all but the partial one and the one that has no body of its own are
# ordinary to it. A response that wants to be understood needs to be among these (§5.2.2.3).
UNDERSTOOD = frozenset({
    200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308,
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 426,
    500, 501, 502, 503, 504, 505,
})  # fmt: skip
_FINAL = 200
_CLIENT_ERROR, _GONE = 400, frozenset({404, 410})
PARTIAL, NOT_MODIFIED = 206, 304
# Fields that no part has in common with the whole (RFC 9530 §2).
OF_ITS_OWN_CONTENT = frozenset({"content-digest", "content-md5"})
# Answers to conditions and ranges of one request, which another request need not have (RFC 9110 §13.2, §14.2).
OF_ITS_CONDITIONS = frozenset({NOT_MODIFIED, 412, 416})


def storable(request: Request, response: Response, received_at: float, manner: Manner) -> bool:
    """Whether the response to this request may be stored (§3)."""
    if not _complete_in_itself(response) or withheld(request, response.fields, manner):
        return False
    if forbidden(response, manner):
        return False
    explicit = explicit_lifetime(response.fields, received_at, manner) is not None
    if request.method == "POST":
        # §9.3.3 of RFC 9110: for a later GET, with explicit freshness and its own target as Content-Location.
        location = response.fields.get("content-location")
        return explicit and location is not None and request.resolved(location) == request.target
    said, _ = response_directives(response.fields, manner)
    for_one = not manner.shared and "private" in said
    may = explicit or for_one or "public" in said or response.status in HEURISTIC_STATUSES
    # What content of a GET decided, its target and its fields do not name.
    return request.method == "GET" and not request.has_content and may


def _complete_in_itself(response: Response) -> bool:
    """Whether it is a final response from which a later one can be made."""
    if response.status == PARTIAL:
        return content_span(response.fields) is not None
    return response.status >= _FINAL and response.status not in OF_ITS_CONDITIONS


def withheld(request: Request, of: Fields, manner: Manner) -> bool:
    """Whether the request forbids to store anything of its response, whose fields are these (§3.5, §5.2.1.5)."""
    if "no-store" in directives(request.fields.get("cache-control")):
        return True
    said, _ = response_directives(of, manner)
    for_all = any(name in said for name in ("must-revalidate", "public", "s-maxage"))
    return manner.shared and "authorization" in request.fields and not for_all


def speaks_for_all(request: Request, response: Response, manner: Manner) -> bool:
    """Whether what this request was answered tells what others would be: no refusal that it brought on itself does."""
    about_it = response.status < _CLIENT_ERROR or response.status in _GONE
    return about_it and not request.has_content and not withheld(request, response.fields, manner)


def forbidden(response: Response, manner: Manner) -> bool:
    """Whether the response itself forbids to store it."""
    said, _ = response_directives(response.fields, manner)
    # must-understand overrides no-store where the status is understood (§5.2.2.3).
    heeded = "must-understand" not in said or response.status not in UNDERSTOOD
    no_store = heeded and ("no-store" in said or "must-understand" in said)
    cookie = "set-cookie" in response.fields and not manner.keep_set_cookie
    return no_store or cookie or (manner.shared and said.unqualified("private"))


def stored_fields(response: Response, manner: Manner) -> Fields:
    """The fields that are stored: none that ends at every hop, none that may not be stored (§3.1)."""
    said, _ = response_directives(response.fields, manner)
    qualified = set(said.names("no-cache") or ())
    if manner.shared:
        qualified |= said.names("private") or set()
    return response.fields.without(HOP_BY_HOP | qualified)


def span_of(response: Response) -> Span | None:
    """Which bytes a storable response holds; None for all."""
    return content_span(response.fields) if response.status == PARTIAL else None
