"""Requests, responses and stored responses where only what matters is said, and what Hypothesis draws of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hypothesis import strategies as st

from cache.http import engine
from cache.http.age import Manner
from cache.http.engine import Answer, Forward, Outcome
from cache.http.fields import Fields, rendered_date
from cache.http.messages import Request, Response, Span, Stored
from cache.http.varying import selecting_values
from tests.cache.building import NOW

TARGET = "http://origin/timetable"
SHARED = Manner()
PRIVATE = Manner(shared=False)
MINUTE = "max-age=60"
LENGTH = 10


def date(offset_s: float = 0) -> str:
    """The date so many seconds from now."""
    return rendered_date(NOW + offset_s)


def request(method: str = "GET", target: str = TARGET, /, **values: str) -> Request:
    """A request; keywords are fields, `_` stands for `-`."""
    return Request(method, target, Fields().replaced(**values))


def response(status: int = 200, /, **values: str) -> Response:
    """A response made now; keywords are fields."""
    return Response(status, Fields().replaced(**{"date": date(), **values}))


def stored(
    id_: str = "one",
    /,
    said: Mapping[str, str] = MappingProxyType({}),
    *,
    status: int = 200,
    at: float = NOW,
    asked: Request | None = None,
    span: Span | None = None,
    doubted: bool = False,
    **values: str,
) -> Stored:
    """A response that came at `at` in answer to `asked`; of a `span` there are that many bytes, else `LENGTH`."""
    given = Fields().replaced(**{"date": rendered_date(at), **said, **values})
    return Stored(
        id=id_,
        status=status,
        fields=given,
        selecting=selecting_values(given, (asked or request()).fields) or (),
        requested_at=at,
        received_at=at,
        length=span.length if span else LENGTH,
        span=span,
        doubted=doubted,
    )


def answered(
    asked: Request, held: Sequence[Stored], *, after_s: float = 0, manner: Manner = SHARED
) -> Answer:
    """What is answered from what is held, which must suffice."""
    decision = engine.look(asked, held, NOW + after_s, manner)
    assert isinstance(decision, Answer), decision.reason
    return decision


def forwarded(
    asked: Request, held: Sequence[Stored] = (), *, after_s: float = 0, manner: Manner = SHARED
) -> Forward:
    """How the origin is asked, which must be necessary."""
    decision = engine.look(asked, held, NOW + after_s, manner)
    assert isinstance(decision, Forward), decision.cache_status
    return decision


def received(
    forward: Forward, told: Response, *, after_s: float = 0, id_: str = "new", manner: Manner = SHARED
) -> Outcome:
    """What an origin's answer comes to."""
    now = NOW + after_s
    return engine.receive(forward, told, requested_at=now, received_at=now, id_=id_, manner=manner)


# What a peer may send

FRAGMENTS = (
    *'",;=\\ *-/:[]()?\t',
    *("W/", '"a"', "q=0.5", "q=", "bytes", "0", "00", "60", "9" * 20, "0" * 5000, "1.5", "²", "٣"),
    *("max-age=60", "max-age", "s-maxage=60", "no-store", "no-cache", "private", "public", "vary"),
    *("http://", "http://[", "http://origin:port/", "//", "?", "#", "%", "close", "en", "gzip"),
    *("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"),
    *("Sun, 06 Nov 0000 08:49:37 GMT", "Sun, 31 Feb 2026 08:49:37 GMT", "Sun, 06 Nov 9999 23:59:60 GMT"),
)
GARBAGE = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join) | st.text(
    st.characters(max_codepoint=255), max_size=30
)
REQUEST_NAMES = (
    *("accept-encoding", "accept-language", "authorization", "cache-control", "connection", "if-match"),
    *("if-modified-since", "if-none-match", "if-range", "max-forwards", "pragma", "range"),
)
RESPONSE_NAMES = (
    *("age", "cache-control", "cdn-cache-control", "connection", "content-language", "content-length"),
    *("content-location", "content-range", "date", "etag", "expires", "last-modified", "location"),
    *("set-cookie", "vary"),
)


def lines_of(names: Sequence[str], values: st.SearchStrategy[str] = GARBAGE) -> st.SearchStrategy[Fields]:
    """Any lines of these names."""
    lines = st.lists(st.tuples(st.sampled_from(names), values), max_size=8)
    return lines.map(lambda drawn: Fields(tuple(drawn)))


METHODS = st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", ""])
STATUSES = st.sampled_from([*[200] * 10, 203, 204, 206, 301, 304, 307, 404, 412, 416, 451, 500, 503, 599])
HOSTILE_REQUESTS = st.builds(Request, METHODS, st.just(TARGET), lines_of(REQUEST_NAMES))
HOSTILE_RESPONSES = st.builds(Response, STATUSES, lines_of(RESPONSE_NAMES))

SECONDS = st.sampled_from([0, 1, 30, 59, 60, 61, 3600, 2**31, 2**40])
AGES_S = st.sampled_from([0, 1, 29, 30, 31, 59, 60, 61, 3599, 3600, 3601, 100_000])


def directive_lists(flags: Sequence[str], timed: Sequence[str]) -> st.SearchStrategy[str]:
    """Values of Cache-Control that mean what they say."""
    with_seconds = st.builds("{}={}".format, st.sampled_from(timed), SECONDS)
    return st.lists(st.sampled_from(flags) | with_seconds, min_size=1, max_size=3, unique=True).map(", ".join)


ASKED = directive_lists(
    ("no-cache", "no-store", "max-stale", "only-if-cached"),
    ("max-age", "max-stale", "min-fresh", "stale-if-error"),
)
SAID = directive_lists(
    (
        *("no-cache", "no-store", "private", "public", "must-revalidate", "proxy-revalidate"),
        *("must-understand", 'private="x"', 'no-cache="x"', "immutable"),
    ),
    ("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"),
)
MANNERS = st.builds(
    Manner,
    shared=st.booleans(),
    targeted=st.sampled_from([(), ("cdn-cache-control",)]),
    keep_set_cookie=st.booleans(),
)
DATES = st.sampled_from([date(offset) for offset in (-100_000, -3600, -60, 0, 60, 3600)])


@st.composite
def few(draw: st.DrawFn, /, **strategies: st.SearchStrategy[str]) -> Fields:
    """Up to three of these fields: more of them would hide each other."""
    names = draw(st.lists(st.sampled_from(sorted(strategies)), max_size=3, unique=True))
    return Fields().replaced(**{name: draw(strategies[name]) for name in names})


def _saying(seconds: int | None, said: str, more: Fields) -> Fields:
    directives = ([] if seconds is None else [f"max-age={seconds}"]) + ([said] if said else [])
    return more.replaced(cache_control=", ".join(directives)) if directives else more


def lasting(more: st.SearchStrategy[Fields]) -> st.SearchStrategy[Fields]:
    """These fields, most of them with a lifetime, many with more directives."""
    return st.builds(_saying, st.sampled_from([None, 30, 60, 3600]), st.just("") | SAID, more)


REQUESTS = st.builds(
    Request,
    st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    st.just(TARGET),
    few(
        cache_control=ASKED,
        authorization=st.just("Bearer x"),
        foo=st.sampled_from(["1", "2"]),
        if_none_match=st.sampled_from(['"a"', 'W/"a"', '"b"', "*"]),
        if_modified_since=DATES,
        range=st.sampled_from(
            ["bytes=0-1", "bytes=-3", "bytes=3-5", "bytes=8-", "bytes=99-", "bytes=0-1,3-4"]
        ),
        if_range=st.sampled_from(['"a"', '"b"', 'W/"a"']),
    ),
)
RESPONSES = st.builds(
    Response,
    STATUSES,
    lasting(
        few(
            expires=DATES,
            date=DATES,
            age=SECONDS.map(str),
            etag=st.sampled_from(['"a"', 'W/"a"', '"b"']),
            last_modified=DATES,
            vary=st.sampled_from(["foo", "Foo, Bar", "*"]),
            set_cookie=st.just("a=b"),
            content_range=st.sampled_from(["bytes 0-4/10", "bytes 5-9/10", "bytes 0-9/10", "bytes */10"]),
        )
    ),
)

# What soon is stale, and who would take it
REFUSING = ("must-revalidate", "proxy-revalidate", "s-maxage=30", "no-cache", 'no-cache="x"')
STALE = st.lists(
    st.sampled_from([*REFUSING, "stale-while-revalidate=30", "stale-while-revalidate=3600"]),
    max_size=2,
    unique=True,
).map(lambda said: Response(200, Fields().replaced(cache_control=", ".join(("max-age=30", *said)))))
WILLING = st.sampled_from(["max-stale", "max-stale=30", "max-stale, max-age=60"]).map(
    lambda asked: request(cache_control=asked)
)
