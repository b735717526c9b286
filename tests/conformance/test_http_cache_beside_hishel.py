"""The engine beside hishel, another pure RFC 9111 machine: where they part, a listed reason says whom the RFC supports.

Both see one response to one request, then a later request for the same target: is the response stored, and is the
later request served, validated or forwarded?
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from enum import StrEnum
from types import SimpleNamespace

import hishel
import msgspec
import pytest
from hishel._core import _spec
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.http import engine, hop
from cache.http.engine import Answer
from cache.http.fields import Fields, http_date
from cache.http.messages import Request, Response
from cache.http.storing import OF_ITS_CONDITIONS, UNDERSTOOD
from tests.cache.building import NOW
from tests.cache.http.building import (
    SHARED,
    TARGET,
    date,
    directive_lists,
    few,
    lasting,
    request,
    response,
)

OPTIONS = hishel.CacheOptions(shared=True)
LONG_AGO = date(-10_000_000)


class Verdict(StrEnum):
    """What becomes of the later request."""

    NOT_STORED = "not stored"
    SERVED = "served"
    VALIDATED = "validated"
    FORWARDED = "forwarded"
    REFUSED = "refused"


class Scene(msgspec.Struct, frozen=True):
    """A request, its response, and so many seconds later another request."""

    first: Request
    told: Response
    after_s: int
    later: Request

    @property
    def said(self) -> Mapping[str, list[str]]:
        """The response's directives with all their arguments."""
        return _directives(self.told.fields)

    @property
    def asked(self) -> Mapping[str, list[str]]:
        """The later request's directives with all their arguments."""
        return _directives(self.later.fields)

    @property
    def guessed(self) -> bool:
        """Whether the response says nothing on its freshness."""
        return not {"max-age", "s-maxage"} & self.said.keys() and "expires" not in self.told.fields


def _directives(of: Fields) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in filter(None, (of.get("cache-control") or "").split(", ")):
        name, _, argument = one.partition("=")
        found.setdefault(name, []).append(argument)
    return found


# The two machines


def ours(scene: Scene) -> Verdict:
    first = engine.look(scene.first, (), NOW, SHARED)
    if isinstance(first, Answer):
        return Verdict.NOT_STORED
    outcome = engine.receive(first, scene.told, requested_at=NOW, received_at=NOW, id_="one", manner=SHARED)
    if outcome.store is None:
        return Verdict.NOT_STORED
    one = msgspec.structs.replace(outcome.store, length=5 if outcome.store.span else 10)
    decision = engine.look(scene.later, (one,), NOW + scene.after_s, SHARED)
    if isinstance(decision, Answer):
        return Verdict.SERVED if decision.stored is not None else Verdict.REFUSED
    return Verdict.VALIDATED if decision.validating else Verdict.FORWARDED


def theirs(scene: Scene) -> Verdict:
    first = _request_of(scene.first)
    with _their_clock(NOW):
        miss = hishel.IdleClient(OPTIONS).next(first, [])
        assert isinstance(miss, hishel.CacheMiss)
        state = miss.next(hishel.Response(scene.told.status, _headers_of(scene.told.fields)))
    if not isinstance(state, hishel.StoreAndUse):
        return Verdict.NOT_STORED
    entry = hishel.Entry(uuid.UUID(int=1), first, state.response)
    with _their_clock(NOW + scene.after_s):
        decision = hishel.IdleClient(OPTIONS).next(_request_of(scene.later), [entry])
    if isinstance(decision, hishel.FromCache):
        return Verdict.SERVED
    conditional = isinstance(decision, hishel.NeedRevalidation) and {
        "if-none-match",
        "if-modified-since",
    } & set(decision.request.headers)
    return Verdict.VALIDATED if conditional else Verdict.FORWARDED


@contextmanager
def _their_clock(now: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spec, "time", SimpleNamespace(time=lambda: now))
        yield


def _request_of(asked: Request) -> hishel.Request:
    return hishel.Request(asked.method, asked.target, _headers_of(asked.fields))


def _headers_of(of: Fields) -> hishel.Headers:
    return hishel.Headers(dict(of.lines))


# Where they part


class Parting(msgspec.Struct, frozen=True):
    """A reason: the section, whom it supports, what it makes of the engine's verdict, and an example."""

    section: str
    supports: str
    verdicts: AbstractSet[Verdict]
    applies: Callable[[Scene], bool]
    example: Scene


def scene(
    first: Request | None = None,
    told: Response | None = None,
    after_s: int = 0,
    later: Request | None = None,
) -> Scene:
    """A scene where only what matters is said."""
    return Scene(
        first or request(), told or response(cache_control="max-age=60"), after_s, later or request()
    )


STORED = set(Verdict) - {Verdict.NOT_STORED}
NOT_STORED = {Verdict.NOT_STORED}
ASKED = {Verdict.VALIDATED, Verdict.FORWARDED}
SERVED = {Verdict.SERVED}


def _served_stale(one: Scene) -> bool:
    return "stale-while-revalidate" in one.said or "max-stale" in one.asked


def _two_things(one: Scene) -> bool:
    return any(len(set(one.said.get(name, ()))) > 1 for name in ("max-age", "s-maxage"))


PARTINGS: dict[str, Parting] = {
    "a request's no-store is obeyed": Parting(
        "RFC 9111 §5.2.1.5",
        "ours",
        NOT_STORED,
        lambda one: "no-store" in _directives(one.first.fields),
        scene(request(cache_control="no-store")),
    ),
    "who wants only what is stored is refused what is not": Parting(
        "RFC 9111 §5.2.1.7",
        "ours",
        {Verdict.NOT_STORED, Verdict.REFUSED},
        lambda one: "only-if-cached" in one.asked or "only-if-cached" in _directives(one.first.fields),
        scene(after_s=60, later=request(cache_control="only-if-cached")),
    ),
    "what is said of all stands though it is said again of some fields": Parting(
        "RFC 9111 §5.2.2.4, §5.2.2.7",
        "ours",
        NOT_STORED | ASKED,
        lambda one: any(
            "" in said and len(said) > 1 for said in map(one.said.get, ("private", "no-cache")) if said
        ),
        scene(told=response(cache_control='private, private="x", max-age=60')),
    ),
    "no answer to a HEAD is stored": Parting(
        "RFC 9110 §9.3.2",
        "either",
        NOT_STORED,
        lambda one: one.first.method == "HEAD",
        scene(request("HEAD")),
    ),
    "an answer to a POST is stored for a GET": Parting(
        "RFC 9110 §9.3.3",
        "either",
        STORED,
        lambda one: one.first.method == "POST" and one.told.fields.get("content-location") == TARGET,
        scene(request("POST"), response(cache_control="max-age=60", content_location=TARGET)),
    ),
    "must-understand stands above no-store": Parting(
        "RFC 9111 §5.2.2.3",
        "ours",
        STORED,
        lambda one: {"must-understand", "no-store"} <= one.said.keys() and one.told.status in UNDERSTOOD,
        scene(told=response(cache_control="must-understand, no-store, max-age=60")),
    ),
    "must-understand keeps out what is not understood": Parting(
        "RFC 9111 §5.2.2.3",
        "ours",
        NOT_STORED,
        lambda one: "must-understand" in one.said and one.told.status not in UNDERSTOOD,
        scene(told=response(599, cache_control="must-understand, max-age=60")),
    ),
    "a part is stored": Parting(
        "RFC 9111 §3.3",
        "either",
        STORED,
        lambda one: one.told.status == 206,
        scene(told=response(206, cache_control="max-age=60", content_range="bytes 0-4/10")),
    ),
    "an answer to one request's conditions is not stored": Parting(
        "RFC 9110 §13.2, §14.2",
        "ours",
        NOT_STORED,
        lambda one: one.told.status in OF_ITS_CONDITIONS,
        scene(told=response(412, cache_control="max-age=60")),
    ),
    "what no request can select is not stored": Parting(
        "RFC 9111 §4.1",
        "either",
        NOT_STORED,
        lambda one: one.told.fields.get("vary") == "*",
        scene(told=response(cache_control="max-age=60", vary="*")),
    ),
    "the age it tells counts": Parting(
        "RFC 9111 §4.2.3",
        "ours",
        ASKED,
        lambda one: "age" in one.told.fields,
        scene(told=response(cache_control="max-age=60", age="60")),
    ),
    "without a date that is one its time in the store counts": Parting(
        "RFC 9111 §4.2.3, RFC 9110 §6.6.1",
        "ours",
        ASKED,
        lambda one: http_date(one.told.fields.get("date"), NOW) is None,
        scene(told=response(cache_control="max-age=60", date="yesterday"), after_s=60),
    ),
    "a date in the future does not make it younger than its time in the store": Parting(
        "RFC 9111 §4.2.3",
        "ours",
        ASKED,
        lambda one: (http_date(one.told.fields.get("date"), NOW) or 0) > NOW,
        scene(told=response(cache_control="max-age=60", date=date(3600)), after_s=60),
    ),
    "of two lifetimes neither is believed": Parting(
        "RFC 9111 §4.2.1",
        "ours",
        ASKED,
        _two_things,
        scene(told=response(cache_control="max-age=0, max-age=60")),
    ),
    "a lifetime is guessed from its date and not from each later time": Parting(
        "RFC 9111 §4.2.2",
        "either",
        ASKED | SERVED,
        lambda one: one.guessed and one.told.fields.get("last-modified") not in {None, LONG_AGO},
        scene(told=response(last_modified=date(-1000)), after_s=105),
    ),
    "no guess is longer than a day": Parting(
        "RFC 9111 §4.2.2",
        "either",
        ASKED,
        lambda one: one.guessed and one.told.fields.get("last-modified") == LONG_AGO,
        scene(told=response(last_modified=LONG_AGO), after_s=100_000),
    ),
    "the client's wishes count": Parting(
        "RFC 9111 §5.2.1.1, §5.2.1.3",
        "ours",
        ASKED,
        lambda one: bool({"max-age", "min-fresh"} & one.asked.keys()),
        scene(later=request(cache_control="min-fresh=61")),
    ),
    "pragma counts where cache-control is silent": Parting(
        "RFC 9111 §5.4",
        "either",
        ASKED,
        lambda one: "pragma" in one.later.fields and "cache-control" not in one.later.fields,
        scene(later=request(pragma="no-cache")),
    ),
    "stale is served where either side allows it": Parting(
        "RFC 5861 §3, RFC 9111 §4.2.4, §5.2.1.2",
        "either",
        SERVED,
        _served_stale,
        scene(told=response(cache_control="max-age=1, stale-while-revalidate=60"), after_s=30),
    ),
    "a HEAD is answered from a stored GET": Parting(
        "RFC 9111 §4",
        "either",
        {Verdict.SERVED, Verdict.VALIDATED},
        lambda one: one.later.method == "HEAD",
        scene(later=request("HEAD")),
    ),
    "a range is answered from what is stored": Parting(
        "RFC 9111 §3.3",
        "either",
        {Verdict.SERVED, Verdict.VALIDATED},
        lambda one: "range" in one.later.fields,
        scene(later=request(range="bytes=0-1")),
    ),
    "a condition that the origin alone can judge goes to it": Parting(
        "RFC 9110 §13.1.1",
        "either",
        {Verdict.FORWARDED},
        lambda one: "if-match" in one.later.fields,
        scene(later=request(if_match='"a"')),
    ),
    "no variant is validated by another's date, nor where its body could not be kept": Parting(
        "RFC 9111 §4.1, §4.3.4",
        "ours",
        {Verdict.FORWARDED},
        lambda one: "vary" in one.told.fields and one.first.fields.get("foo") != one.later.fields.get("foo"),
        scene(
            request(foo="1"),
            response(cache_control="max-age=60", vary="Foo", last_modified=date(-100)),
            0,
            request(foo="2"),
        ),
    ),
}

# Scenes


METHODS = st.sampled_from(["GET"] * 12 + ["HEAD", "POST"])
FIRST = few(
    cache_control=st.sampled_from(["no-store", "no-cache", "max-age=0", "only-if-cached"]),
    authorization=st.just("Bearer x"),
    foo=st.sampled_from(["1", "2"]),
)
TOLD = few(
    expires=st.sampled_from([date(-5), date(30), date(3600), "0"]),
    date=st.sampled_from([date(-3600), date(-30), date(), date(3600), "yesterday"]),
    age=st.sampled_from(["0", "30", "3600"]),
    etag=st.sampled_from(['"a"', 'W/"a"']),
    last_modified=st.sampled_from([date(-100), date(-100_000), LONG_AGO, date(60)]),
    vary=st.sampled_from(["Foo", "Foo", "*"]),
    content_location=st.sampled_from([TARGET, "/other"]),
    content_range=st.just("bytes 0-4/10"),
)
LATER = few(
    cache_control=directive_lists(
        ("no-cache", "no-store", "max-stale", "only-if-cached"), ("max-age", "max-stale", "min-fresh")
    ),
    pragma=st.just("no-cache"),
    authorization=st.just("Bearer x"),
    foo=st.sampled_from(["1", "2"]),
    range=st.sampled_from(["bytes=0-1", "bytes=99-"]),
    if_match=st.just('"a"'),
)
STATUSES = st.sampled_from([200] * 20 + [203, 206, 302, 304, 404, 412, 416, 451, 500, 599])


def _told(status: int, fields: Fields) -> Response:
    return hop.arrived(Response(status, fields), NOW)


SCENES = st.builds(
    Scene,
    st.builds(Request, METHODS, st.just(TARGET), st.just(Fields()) | FIRST),
    st.builds(_told, STATUSES, lasting(TOLD)),
    st.sampled_from([0, 1, 29, 31, 59, 60, 61, 3600, 100_000]),
    st.builds(Request, METHODS, st.just(TARGET), st.just(Fields()) | LATER),
)


@pytest.mark.parametrize("name", PARTINGS)
def test_each_reason_has_an_example_for_which_it_is_the_only_one(name: str) -> None:
    one = PARTINGS[name]
    assert ours(one.example) in one.verdicts
    assert ours(one.example) != theirs(one.example)
    assert _reasons(one.example) == [name]


@settings(max_examples=600)
@given(SCENES)
def test_the_machines_part_only_for_a_listed_reason(drawn: Scene) -> None:
    assert ours(drawn) == theirs(drawn) or _reasons(drawn)


def _reasons(drawn: Scene) -> list[str]:
    verdict = ours(drawn)
    return [name for name, one in PARTINGS.items() if verdict in one.verdicts and one.applies(drawn)]
