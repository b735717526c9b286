"""Conditional requests: those a client makes of us, those we make of the origin, and what a 304 updates (RFC 9111 §4.3).

Invariant: pure; a 304 freshens only what its own validators name, and never the fields that describe the stored bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cache.http import storing
from cache.http.age import Manner
from cache.http.fields import Fields, entity_tags, http_date, strongly_equal, tokens, weakly_equal
from cache.http.messages import Request, Response, Stored
from cache.http.varying import newest_first, selecting_values, selects

# What the stored bytes are coded as, cut from and summed up by: of another answer's it would be untrue (§3.2).
DESCRIBES_CONTENT = frozenset(
    {"content-digest", "content-encoding", "content-length", "content-md5", "content-range", "etag"}
)
# What a 304 tells again (RFC 9110 §15.4.5), with what a cache adds.
IN_NOT_MODIFIED = frozenset(
    {"cache-control", "content-location", "date", "etag", "expires", "last-modified", "vary", "age"}
)
PRECONDITIONS = frozenset(
    {"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range"}
)
_OF_A_CLIENT = frozenset({"authorization", "cache-control", "pragma"})
_VALIDATORS = ("etag", "last-modified")
# Not for a cache to judge: only the origin knows the current state (RFC 9110 §13.1.1, §13.1.4).
FOR_THE_ORIGIN = frozenset({"if-match", "if-unmodified-since"})


def not_modified(request: Fields, stored: Stored) -> bool:
    """Whether the client's own conditions are answered by a 304 (§4.3.2)."""
    if "if-none-match" in request:
        asked = entity_tags(request.get("if-none-match"))
        tag = stored.fields.get("etag")
        return asked == ("*",) or (tag is not None and any(weakly_equal(tag, one) for one in asked))
    since = http_date(request.get("if-modified-since"), stored.received_at)
    if since is None:
        return False
    changed = http_date(
        stored.fields.get("last-modified") or stored.fields.get("date"), stored.received_at
    )  # without either: when it came
    return (stored.received_at if changed is None else changed) <= since


def for_the_whole(request: Request) -> Request:
    """The request without its conditions and its range."""
    return msgspec.structs.replace(request, fields=request.fields.without(PRECONDITIONS | {"range"}))


def of_nobody(request: Request) -> Request:
    """The request as the cache itself makes it: no wish and no right of one client decides what all get to see."""
    return Request("GET", request.target, for_the_whole(request).fields.without(_OF_A_CLIENT))


def conditional(request: Request, stored: Sequence[Stored]) -> Request:
    """The request, made conditional on what is stored (§4.3.1); the client's own tags are asked about too."""
    kept = request.fields.without(PRECONDITIONS | {"range"})
    known = [tag for one in stored if (tag := one.fields.get("etag")) is not None]
    tags = dict.fromkeys((*known, *entity_tags(request.fields.get("if-none-match"))))
    if "*" in tags:
        tags = dict.fromkeys(known)
    changed = next((value for one in stored if (value := one.fields.get("last-modified")) is not None), None)
    if tags:
        kept = kept.replaced(if_none_match=", ".join(tags))
    if changed is not None and (known or not tags):
        kept = kept.replaced(if_modified_since=changed)
    return msgspec.structs.replace(request, fields=kept)


def validatable(stored: Stored) -> bool:
    """Whether the origin can be asked about it."""
    return any(name in stored.fields for name in _VALIDATORS)


def freshened_by(told: Response, stored: Sequence[Stored], asked: Request) -> tuple[Stored, ...]:
    """Which of the stored responses a 304 speaks of, the preferred one first (§4.3.4)."""
    candidates = newest_first(stored)
    tag = told.fields.get("etag")
    if tag:
        strong = tuple(one for one in candidates if strongly_equal(tag, one.fields.get("etag") or ""))
        if strong:
            return strong
        weak = tuple(one for one in candidates if weakly_equal(tag, one.fields.get("etag") or ""))
        return weak[:1]
    changed = told.fields.get("last-modified")
    if changed is not None:
        return tuple(one for one in candidates if one.fields.get("last-modified") == changed)[:1]
    # Without a word it speaks of the only thing that was asked about, unless the client had tags of its own.
    known = [one.fields.get("etag") or "" for one in candidates]
    others = [
        own
        for own in entity_tags(asked.fields.get("if-none-match"))
        if own != "*" and not any(weakly_equal(own, one) for one in known)
    ]
    return tuple(candidates) if len(candidates) == 1 and not others else ()


def answers(told: Response, asked: Request) -> bool:
    """Whether a 304 that speaks of nothing stored names what the client itself has."""
    tag = told.fields.get("etag")
    own = entity_tags(asked.fields.get("if-none-match"))
    return tag is not None and any(weakly_equal(tag, one) for one in own)


def freshened(
    stored: Stored,
    told: Response,
    asked: Request,
    *,
    requested_at: float,
    received_at: float,
    manner: Manner,
) -> Stored:
    """The stored response with the fields of a 304 or of a HEAD in place of its own (§3.2)."""
    new = storing.stored_fields(told, manner).without(DESCRIBES_CONTENT)
    # What says when and how old the last answer was says nothing of this one.
    old = stored.fields.without({name for name, _ in new.lines} | {"age", "date"})
    dated = (
        new
        if "date" in new or "date" not in stored.fields
        else new.replaced(date=stored.fields.get("date") or "")
    )
    both = Response(stored.status, Fields((*old.lines, *dated.lines)))
    fresh = msgspec.structs.replace(
        stored,
        fields=storing.stored_fields(both, manner),
        requested_at=requested_at,
        received_at=received_at,
        doubted=False,
    )
    return _reselected(fresh, asked)


def _reselected(fresh: Stored, asked: Request) -> Stored:
    """Where it varies on other fields from now on, their values are this request's if it selected it (§4.1)."""
    if tokens(fresh.fields.get("vary")) == {name for name, _ in fresh.selecting}:
        return fresh
    selecting = selecting_values(fresh.fields, asked.fields) if selects(fresh, asked.fields) else None
    if selecting is None:
        return msgspec.structs.replace(fresh, doubted=True)
    return msgspec.structs.replace(fresh, selecting=selecting)


def kept(asked: Request, old: Sequence[Stored], new: Sequence[Stored], manner: Manner) -> tuple[Stored, ...]:
    """What becomes of stored responses by being freshened; what may not be stored updates nothing (§3)."""
    heads = []
    for one, fresh in zip(old, new, strict=True):
        if storing.withheld(asked, fresh.fields, manner):
            continue
        forbidden = storing.forbidden(Response(fresh.status, fresh.fields), manner)
        heads.append(msgspec.structs.replace(one, doubted=True) if forbidden else fresh)
    return tuple(heads)


def same_as_head(told: Response, stored: Stored) -> bool:
    """Whether a HEAD's answer tells of the representation that is stored (§4.3.5)."""
    named = [(name, value) for name in _VALIDATORS if (value := told.fields.get(name)) is not None]
    if any(value != stored.fields.get(name) for name, value in named):
        return False
    if stored.doubted and not named:
        return False  # doubt goes by validation alone (§4.4)
    length = told.fields.get("content-length")
    return length is None or stored.span is not None or length == str(stored.length)
