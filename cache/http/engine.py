"""The cache as a state machine: a request and what is stored become a decision; an origin's answer becomes another.

`look` says what to do with a request; what is forwarded ends in `receive` with the origin's answer, or in `fail`
without one. Storing, bodies and time are the driver's.

Invariant: pure; no stored response is used but by a rule of RFC 9111 named here or in the modules below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from cache.http import age, ranges, storing, validating, varying
from cache.http.age import Manner
from cache.http.fields import DELTA_SECONDS_MAX, Directives, Fields, directives
from cache.http.invalidating import invalidated
from cache.http.messages import Request, Response, Span, Stored

OK, PARTIAL, NOT_MODIFIED, NO_RANGE, GATEWAY_ERROR, GATEWAY_TIMEOUT = 200, 206, 304, 416, 502, 504
# What a stale response may stand in for (RFC 5861 §4).
ERRORS = frozenset({500, 502, 503, 504})
# Reasons to ask that have nothing to do with this very request, and fields that make an answer fit no other.
_MISSES = frozenset({"uri-miss", "vary-miss", "stale"})
_OF_ONE_REQUEST = validating.PRECONDITIONS | {"range", "authorization", "cache-control", "pragma"}
_NO_STALE = ("must-revalidate", "no-cache")
_NO_STALE_SHARED = ("proxy-revalidate", "s-maxage")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer with this head, and of the stored body `span` (None: all of it) when `stored` is given and `body` is true.

    `cache_status`: what the Cache-Status field says (RFC 9211). `refresh`: validate it in the background (RFC 5861 §3).
    """

    response: Response
    stored: Stored | None = None
    span: Span | None = None
    body: bool = True
    cache_status: str
    refresh: Forward | None = None


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the origin.

    `asked` is the client's request, `request` what goes out. `validating`: stored responses that a 304 may freshen.
    `fallback`: a stale one that may stand in for an error. `completing`: a partial one of which the rest is asked for.
    """

    asked: Request
    request: Request
    reason: str
    validating: tuple[Stored, ...] = ()
    known: tuple[Stored, ...] = ()
    fallback: Stored | None = None
    completing: Stored | None = None

    @property
    def shareable(self) -> bool:
        """Whether others who ask for the target may wait for this answer (§4: collapsed requests)."""
        own = _OF_ONE_REQUEST & {name for name, _ in self.asked.fields.lines}
        return self.asked.method == "GET" and self.reason in _MISSES and not own


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an origin's answer comes to.

    `answer`: from what is stored; None passes the origin's own `response` on. `store`: keep its body under this head.
    `combine`: its body completes that stored one, then the answer is the whole. `freshen` replace heads, `drop` are
    ids, `invalidate` are targets. `again`: ask once more, without conditions, and answer nothing yet.
    """

    response: Response
    answer: Answer | None = None
    cache_status: str = ""
    store: Stored | None = None
    combine: Stored | None = None
    freshen: tuple[Stored, ...] = ()
    drop: tuple[str, ...] = ()
    invalidate: tuple[str, ...] = ()
    again: Forward | None = None


def look(request: Request, stored: Sequence[Stored], now: float, manner: Manner) -> Answer | Forward:
    """What to do with a request (§4); `stored` are all responses of its target."""
    if request.method not in {"GET", "HEAD"}:
        return _forward(request, "method", known=stored)
    if request.has_content or validating.FOR_THE_ORIGIN & {name for name, _ in request.fields.lines}:
        return _forward(
            request, "request", known=stored
        )  # content of a GET could decide its answer, and no key holds it
    asked = _asked(request.fields)
    selected = varying.matching(stored, request)
    usable = [one for one in selected if _reusable(one, asked, now, manner)]
    for one in usable:
        if (answer := _answer(request, one, now, manner, why="hit")) is not None:
            if age.freshness_left(one, now, manner) > 0 or "max-stale" in asked:
                return answer
            behind = _validate(validating.of_nobody(request), (one,), stored, now, manner, "stale")
            return msgspec.structs.replace(answer, refresh=behind)
    if "only-if-cached" in asked:
        told = f"{manner.name}; detail=only-if-cached"
        return Answer(response=empty(GATEWAY_TIMEOUT), body=False, cache_status=told)
    return _ask(request, selected, usable, stored, now, manner)


def _ask(
    request: Request,
    selected: Sequence[Stored],
    usable: Sequence[Stored],
    stored: Sequence[Stored],
    now: float,
    manner: Manner,
) -> Forward:
    """How to ask the origin for what the `selected` responses, some of them `usable` in part, do not answer."""
    if usable:  # fresh, and yet not enough of it
        return _complete(request, usable, stored) or _forward(request, "partial", known=stored)
    if selected:
        first = selected[0]
        fresh = age.freshness_left(first, now, manner) > 0 and not first.doubted
        return _validate(request, tuple(selected), stored, now, manner, "request" if fresh else "stale")
    reason = "vary-miss" if stored else "uri-miss"
    variants = tuple(one for one in stored if "etag" in one.fields and one.span is None)
    asked = _asked(request.fields)
    if variants and request.method == "GET" and "range" not in request.fields and "no-store" not in asked:
        return _validate(request, variants, stored, now, manner, reason)
    return _forward(request, reason, known=stored)


def receive(
    forward: Forward, response: Response, *, requested_at: float, received_at: float, id_: str, manner: Manner
) -> Outcome:
    """What the origin's final response comes to; `id_` names what may be stored."""
    asked, status = forward.asked, response.status
    told = f"{manner.name}; fwd={forward.reason}; fwd-status={status}"
    if status in ERRORS and forward.fallback is not None:
        return Outcome(response=response, answer=_stale(forward, received_at, manner, told))
    if status == NOT_MODIFIED and forward.validating:
        return _validated(forward, response, requested_at, received_at, manner, told)
    if asked.method == "HEAD":
        return _head(forward, response, requested_at, received_at, manner, told)
    if forward.completing is not None and status in {PARTIAL, NO_RANGE}:
        return _completed(forward, forward.completing, response, requested_at, received_at, manner, told)
    invalid = invalidated(asked, response)
    selecting = varying.selecting_values(response.fields, asked.fields)
    keep = selecting is not None and storing.storable(asked, response, received_at, manner)
    replacing = keep or storing.speaks_for_all(asked, response, manner)
    outdated = tuple(one.id for one in forward.known if replacing and _replaced(one, asked, response))
    if not keep or selecting is None:
        return Outcome(response=response, cache_status=told, invalidate=invalid, drop=outdated)
    new = Stored(
        id=id_,
        status=status,
        fields=storing.stored_fields(response, manner),
        selecting=selecting,
        requested_at=requested_at,
        received_at=received_at,
        span=storing.span_of(response),
    )
    return Outcome(response=response, cache_status=told, store=new, invalidate=invalid, drop=outdated)


def fail(forward: Forward, now: float, manner: Manner, *, timed_out: bool = False) -> Answer:
    """What a request comes to whose origin gave no response (§4.2.4)."""
    status = GATEWAY_TIMEOUT if timed_out else GATEWAY_ERROR
    if forward.fallback is not None:
        return _stale(forward, now, manner, f"{manner.name}; fwd={forward.reason}")
    return Answer(response=empty(status), body=False, cache_status=f"{manner.name}; fwd={forward.reason}")


def empty(status: int) -> Response:
    """A response of ours that has nothing to say beyond its status."""
    return Response(status, Fields((("content-length", "0"),)))


def _asked(of: Fields) -> Directives:
    """What a request says of caching; Pragma only where Cache-Control is silent (§5.4)."""
    if "cache-control" not in of and "no-cache" in (of.get("pragma") or "").lower():
        return Directives({"no-cache": (None,)})
    return directives(of.get("cache-control"))


def _reusable(one: Stored, asked: Directives, now: float, manner: Manner) -> bool:
    """Whether it may be used without asking the origin (§4, §4.2.4, §5.2.1)."""
    said, _ = age.response_directives(one.fields, manner)
    if one.doubted or "no-cache" in asked or said.unqualified("no-cache"):
        return False
    lived = age.current_age(one, now)
    left = age.freshness_left(one, now, manner)
    if (most := asked.seconds("max-age")) is not None and lived > most:
        return False
    if "min-fresh" in asked and left < asked.wished_seconds("min-fresh"):
        return False
    if left > 0:
        return True
    if _never_stale(said, manner):
        return False
    tolerated = said.seconds("stale-while-revalidate") or 0
    if "max-stale" in asked:
        limit = asked.seconds("max-stale") if asked.found["max-stale"] != (None,) else None
        tolerated = max(tolerated, limit) if limit is not None else DELTA_SECONDS_MAX
    return tolerated > 0 and -left <= tolerated


def _never_stale(said: Directives, manner: Manner) -> bool:
    forbidden = (*_NO_STALE, *_NO_STALE_SHARED) if manner.shared else _NO_STALE
    return any(name in said for name in forbidden)


def _answer(
    request: Request, one: Stored, now: float, manner: Manner, *, why: str, details: str = ""
) -> Answer | None:
    """The stored response as an answer to this request; None when it holds too little (§3.4, §4.3.2)."""
    lived = age.current_age(one, now)
    head = one.fields.replaced(
        age=str(min(int(lived), DELTA_SECONDS_MAX)) if lived < DELTA_SECONDS_MAX else str(DELTA_SECONDS_MAX)
    )
    ttl = math.floor(max(-DELTA_SECONDS_MAX, age.freshness_left(one, now, manner)))
    status = f"{manner.name}; {why}; ttl={ttl}{details}"
    if one.status in {OK, PARTIAL} and validating.not_modified(request.fields, one):
        kept = Fields(tuple(line for line in head.lines if line[0] in validating.IN_NOT_MODIFIED))
        return Answer(response=Response(NOT_MODIFIED, kept), stored=one, body=False, cache_status=status)
    whole = one.span is None or one.span.everything
    want = ranges.wanted(request.fields) if request.method == "GET" and one.status in {OK, PARTIAL} else None
    if want is not None and ranges.may_be_parted(request.fields, one):
        if (span := ranges.held(one, want)) is not None:
            head = head.replaced(
                content_range=f"bytes {span.first}-{span.last}/{span.whole}", content_length=str(span.length)
            )
            head = head.without(storing.OF_ITS_OWN_CONTENT)
            return Answer(response=Response(PARTIAL, head), stored=one, span=span, cache_status=status)
        if whole:
            head = Fields((("content-range", f"bytes */{one.length}"), ("content-length", "0")))
            return Answer(response=Response(NO_RANGE, head), stored=one, body=False, cache_status=status)
    if not whole:
        return None
    if one.span is not None:
        head = head.without({"content-range"})
    if one.status not in {204, 205}:
        head = head.replaced(content_length=str(one.length))
    return Answer(
        response=Response(OK if one.span else one.status, head),
        stored=one,
        body=request.method != "HEAD",
        cache_status=status,
    )


def unconditional(forward: Forward) -> Request:
    """What goes out without any condition of the client's own; a range that hung on one goes too."""
    if forward.completing is not None:
        return forward.request
    gone = validating.PRECONDITIONS | ({"range"} if "if-range" in forward.asked.fields else frozenset())
    plain = msgspec.structs.replace(forward.request, fields=forward.request.fields.without(gone))
    return validating.conditional(plain, forward.validating) if forward.validating else plain


def plainly(request: Request) -> Forward:
    """Ask for the whole, as if nothing were stored: what was, is gone."""
    return Forward(asked=request, request=request, reason="uri-miss")


def _forward(request: Request, reason: str, *, known: Sequence[Stored] = ()) -> Forward:
    return Forward(asked=request, request=request, reason=reason, known=tuple(known))


def _validate(
    request: Request,
    these: tuple[Stored, ...],
    stored: Sequence[Stored],
    now: float,
    manner: Manner,
    reason: str,
) -> Forward:
    """Ask the origin whether these still hold (§4.3.1)."""
    whole = tuple(one for one in these if one.span is None and validating.validatable(one))
    fallback = None
    for one in varying.matching(these, request):
        if one.span is None and _stands_in(one, _asked(request.fields), now, manner):
            fallback = one
            break
    if not whole:
        return Forward(asked=request, request=request, reason=reason, known=tuple(stored), fallback=fallback)
    return Forward(
        asked=request,
        request=validating.conditional(request, whole),
        reason=reason,
        validating=whole,
        known=tuple(stored),
        fallback=fallback,
    )


def _stands_in(one: Stored, asked: Directives, now: float, manner: Manner) -> bool:
    """Whether it may stand in for an error though it is stale (RFC 5861 §4, RFC 9111 §4.2.4)."""
    said, _ = age.response_directives(one.fields, manner)
    if one.doubted or _never_stale(said, manner) or "no-cache" in asked:
        return False
    allowed = [said.seconds("stale-if-error"), asked.seconds("stale-if-error")]
    window = max((seconds for seconds in allowed if seconds is not None), default=0)
    return -age.freshness_left(one, now, manner) <= window


def _stale(forward: Forward, now: float, manner: Manner, told: str) -> Answer:
    assert forward.fallback is not None  # noqa: S101 - for the type checker: both callers looked
    answer = _answer(forward.asked, forward.fallback, now, manner, why=told.removeprefix(f"{manner.name}; "))
    assert answer is not None  # noqa: S101 - a fallback is whole
    return answer


def _complete(request: Request, usable: Sequence[Stored], stored: Sequence[Stored]) -> Forward | None:
    """Ask for the rest of what is held in part (§3.3)."""
    if request.method != "GET" or "range" in request.fields:
        return None
    for one in usable:
        tag = one.fields.get("etag")
        if one.span is not None and one.span.first == 0 and tag is not None and tag.startswith('"'):
            rest = validating.for_the_whole(request).fields.replaced(
                range=f"bytes={one.span.last + 1}-", if_range=tag
            )
            wanted = msgspec.structs.replace(request, fields=rest)
            return Forward(
                asked=request, request=wanted, reason="partial", known=tuple(stored), completing=one
            )
    return None


def _completed(
    forward: Forward,
    part: Stored,
    response: Response,
    requested_at: float,
    received_at: float,
    manner: Manner,
    told: str,
) -> Outcome:
    """The rest of what is held in part (§3.4); where it does not fit, or may not be kept, the whole is asked for."""
    asked = forward.asked
    if not ranges.continues(part, response) or not storing.storable(asked, response, received_at, manner):
        return Outcome(response=response, drop=(part.id,), again=_again(forward))
    fresh = validating.freshened(
        part, response, asked, requested_at=requested_at, received_at=received_at, manner=manner
    )
    fields = fresh.fields.without({"content-range", "content-length", *storing.OF_ITS_OWN_CONTENT})
    whole = msgspec.structs.replace(fresh, status=OK, fields=fields)
    return Outcome(response=response, combine=whole, cache_status=told, drop=(part.id,))


def _again(forward: Forward) -> Forward:
    """The same request, asked for the whole representation whatever is stored."""
    asked = forward.asked
    return Forward(
        asked=asked, request=validating.for_the_whole(asked), reason=forward.reason, known=forward.known
    )


def _validated(
    forward: Forward, response: Response, requested_at: float, received_at: float, manner: Manner, told: str
) -> Outcome:
    asked = forward.asked
    named = validating.freshened_by(response, forward.validating, asked)
    if not named:
        if validating.answers(response, asked):
            return Outcome(response=response, cache_status=told)
        return Outcome(response=response, again=_again(forward))
    times = {"requested_at": requested_at, "received_at": received_at}
    fresh = tuple(validating.freshened(one, response, asked, manner=manner, **times) for one in named)
    answer = _answer(asked, fresh[0], received_at, manner, why=told.removeprefix(f"{manner.name}; "))
    return Outcome(response=response, answer=answer, freshen=validating.kept(asked, named, fresh, manner))


def _head(
    forward: Forward, response: Response, requested_at: float, received_at: float, manner: Manner, told: str
) -> Outcome:
    """A HEAD freshens what it describes, and casts doubt on what it contradicts (§4.3.5)."""
    if response.status != OK:
        return Outcome(response=response, cache_status=told)
    asked = forward.asked
    selected = [one for one in forward.known if varying.selects(one, asked.fields) and one.status == OK]
    times = {"requested_at": requested_at, "received_at": received_at}
    same = [one for one in selected if validating.same_as_head(response, one)]
    fresh = [validating.freshened(one, response, asked, manner=manner, **times) for one in same]
    contradicted = selected if storing.speaks_for_all(asked, response, manner) else []
    doubted = (msgspec.structs.replace(one, doubted=True) for one in contradicted if one not in same)
    heads = (*validating.kept(asked, same, fresh, manner), *doubted)
    return Outcome(response=response, cache_status=told, freshen=heads)


def _replaced(one: Stored, asked: Request, response: Response) -> bool:
    """Whether this response takes the place of a stored one, kept or not."""
    if asked.method != "GET" or response.status in ERRORS | storing.OF_ITS_CONDITIONS:
        return False
    if response.status == PARTIAL and one.span is None:
        return False
    return varying.selects(one, asked.fields)
