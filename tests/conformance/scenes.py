"""What a cache is put through beside another one: a request and its response, at times a validation, a later request.

Invariant: a scene says all that decides about its last request; the engine's verdict on it is a pure function of it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from hypothesis import strategies as st

from cache.http import engine, hop
from cache.http.engine import Answer, Forward
from cache.http.fields import Fields
from cache.http.messages import Request, Response, Stored
from tests.cache.building import NOW
from tests.cache.http.building import (
    SHARED,
    STALE,
    TARGET,
    WILLING,
    date,
    directive_lists,
    few,
    lasting,
    request,
    response,
)

LONG_AGO = date(-10_000_000)
# Bytes of the whole that are held of a 200, and of a 206.
WHOLE, PART = 10, 5
NOT_MODIFIED, OUT_OF_RANGE = 304, 416


class Verdict(StrEnum):
    """What becomes of the later request."""

    NOT_STORED = "not stored"
    SERVED = "served"
    SERVED_IN_PART = "served in part"
    OUT_OF_RANGE = "out of range"
    VALIDATED = "validated"
    FORWARDED = "forwarded"
    REFUSED = "refused"


class Validation(msgspec.Struct, frozen=True):
    """A request between the two, so many seconds after the first, and the fields of its 304."""

    after_s: int
    asked: Request
    said: Fields


class Scene(msgspec.Struct, frozen=True):
    """A request, its response, and so many seconds after the last answer another request."""

    first: Request
    told: Response
    after_s: int
    later: Request
    validation: Validation | None = None

    @property
    def before(self) -> Scene | None:
        """The scene up to its validation."""
        if self.validation is None:
            return None
        return Scene(self.first, self.told, self.validation.after_s, self.validation.asked)

    @property
    def not_modified(self) -> Response:
        """The 304, which names what it was asked about as a 200 would (RFC 9110 §15.4.5)."""
        assert self.validation is not None
        tag = self.told.fields.get("etag")
        said = self.validation.said if tag is None else self.validation.said.replaced(etag=tag)
        return Response(NOT_MODIFIED, said)

    @property
    def told_at(self) -> float:
        """When the last answer came."""
        return NOW + (self.validation.after_s if self.validation else 0)


def scene(
    first: Request | None = None,
    told: Response | None = None,
    after_s: int = 0,
    later: Request | None = None,
    validation: Validation | None = None,
) -> Scene:
    """A scene where only what matters is said."""
    plain = response(cache_control="max-age=60")
    return Scene(first or request(), told or plain, after_s, later or request(), validation)


def validated(asked: Request | None = None, after_s: int = 0, **said: str) -> Validation:
    """A validation where only what matters is said."""
    values = {"date": date(after_s), **said}
    return Validation(after_s, asked or request(cache_control="no-cache"), Fields().replaced(**values))


# The engine


def ours(one: Scene) -> Verdict:
    held = _stored(one)
    if held is None:
        return Verdict.NOT_STORED
    return _verdict(engine.look(one.later, (held,), one.told_at + one.after_s, SHARED))


def _stored(one: Scene) -> Stored | None:
    first = engine.look(one.first, (), NOW, SHARED)
    if isinstance(first, Answer):
        return None
    outcome = engine.receive(first, one.told, requested_at=NOW, received_at=NOW, id_="one", manner=SHARED)
    if outcome.store is None:
        return None
    held = msgspec.structs.replace(outcome.store, length=PART if outcome.store.span else WHOLE)
    return held if one.validation is None else _freshened(held, one, one.validation)


def _freshened(held: Stored, one: Scene, by: Validation) -> Stored:
    at = one.told_at
    decision = engine.look(by.asked, (held,), at, SHARED)
    if not isinstance(decision, Forward) or not decision.validating:
        return held
    outcome = engine.receive(
        decision, one.not_modified, requested_at=at, received_at=at, id_="two", manner=SHARED
    )
    return outcome.freshen[0] if outcome.freshen else held


def _verdict(decision: Answer | Forward) -> Verdict:
    if isinstance(decision, Forward):
        return Verdict.VALIDATED if decision.validating else Verdict.FORWARDED
    if decision.stored is None:
        return Verdict.REFUSED
    if decision.response.status == OUT_OF_RANGE:
        return Verdict.OUT_OF_RANGE
    return Verdict.SERVED if decision.span is None else Verdict.SERVED_IN_PART


# What Hypothesis draws


METHODS = st.sampled_from(["GET"] * 12 + ["HEAD", "POST"])
FIRST = few(
    cache_control=st.sampled_from(["no-store", "no-cache", "max-age=0", "only-if-cached"]),
    authorization=st.just("Bearer x"),
    foo=st.sampled_from(["1", "2"]),
)
EXPIRES = st.sampled_from([date(-5), date(30), date(3600), "0"])
MADE = st.sampled_from([date(-3600), date(-30), date(), date(3600), "yesterday"])
AGE = st.sampled_from(["0", "30", "3600"])
TOLD = few(
    expires=EXPIRES,
    date=MADE,
    age=AGE,
    etag=st.sampled_from(['"a"', 'W/"a"']),
    last_modified=st.sampled_from([date(-100), date(-100_000), LONG_AGO, date(60)]),
    vary=st.sampled_from(["Foo", "Foo", "*"]),
    content_location=st.sampled_from([TARGET, "/other"]),
)
# With no directive but a lifetime, at times without that.
PLAIN = st.builds(
    lambda lasts, more: more.replaced(**lasts),
    st.sampled_from([{}, *({"cache_control": f"max-age={seconds}"} for seconds in (30, 60, 3600))]),
    few(
        date=MADE,
        age=AGE,
        etag=st.just('"a"'),
        last_modified=st.sampled_from([date(-100), date(-100_000), LONG_AGO]),
        vary=st.just("Foo"),
    ),
)
LATER = few(
    cache_control=directive_lists(
        ("no-cache", "no-store", "max-stale", "only-if-cached"), ("max-age", "max-stale", "min-fresh")
    ),
    pragma=st.just("no-cache"),
    authorization=st.just("Bearer x"),
    foo=st.sampled_from(["1", "2"]),
    range=st.sampled_from(["bytes=0-1", "bytes=3-5", "bytes=99-"]),
    if_match=st.just('"a"'),
)
# Several wishes hide each other, and any a lack of them.
ALONE = st.sampled_from([
    *(request(range=one) for one in ("bytes=0-1", "bytes=3-5", "bytes=99-")),
    request(),
    *(request(cache_control=one) for one in ("max-age=1", "max-age=60", "min-fresh=1", "max-stale=30")),
])  # fmt: skip
STATUSES = st.sampled_from([200] * 20 + [203, 206, 206, 302, 304, 404, 412, 416, 451, 500, 599])
CONTENT_RANGES = st.sampled_from(["bytes 0-4/10", "bytes 0-4/10", "bytes 0-4/*"])


def _told(status: int, fields: Fields, content_range: str) -> Response:
    given = fields.replaced(content_range=content_range) if status == 206 else fields
    return hop.arrived(Response(status, given), NOW)


def _validated(after_s: int, asked: Request, said: Fields) -> Validation:
    return Validation(after_s, asked, hop.arrived(Response(NOT_MODIFIED, said), NOW + after_s).fields)


AFTER_S = st.sampled_from([0, 1, 29, 31, 59, 60, 61, 3600, 100_000])
FIRSTS = st.builds(Request, METHODS, st.just(TARGET), st.just(Fields()) | FIRST)
TOLDS = st.builds(_told, STATUSES, lasting(TOLD), CONTENT_RANGES)
LATERS = st.builds(Request, METHODS, st.just(TARGET), st.just(Fields()) | LATER) | ALONE
VALIDATIONS = st.builds(
    _validated,
    st.sampled_from([0, 31, 3600]),
    few(
        authorization=st.just("Bearer x"), foo=st.sampled_from(["1", "2"]), pragma=st.just("no-cache")
    ).flatmap(
        lambda more: st.sampled_from(["no-cache"] * 5 + ["no-cache, no-store"]).map(
            lambda wish: Request("GET", TARGET, more.replaced(cache_control=wish))
        )
    ),
    lasting(few(expires=EXPIRES, date=MADE, age=AGE)),
)
ANY_SCENES = st.builds(Scene, FIRSTS, TOLDS, AFTER_S, LATERS)
# Most of these are not stored, or far from the end of their lifetimes, or cannot be validated; of the others each is.
KEPT_FIRSTS = st.builds(Request, st.just("GET"), st.just(TARGET), few(foo=st.sampled_from(["1", "2"])))
KEPT_SCENES = st.builds(
    Scene,
    KEPT_FIRSTS,
    st.builds(_told, st.sampled_from([200] * 5 + [206]), PLAIN, st.just("bytes 0-4/10")),
    AFTER_S,
    LATERS,
)
STALE_SCENES = st.builds(
    Scene,
    st.just(request()),
    STALE.map(lambda told: hop.arrived(told, NOW)),
    st.sampled_from([29, 31, 59, 60, 61, 3600]),
    WILLING | ALONE,
)
VALIDATED_SCENES = st.builds(
    Scene,
    KEPT_FIRSTS,
    PLAIN.map(lambda said: _told(200, said.replaced(etag='"a"'), "")),
    st.sampled_from([0, 1, 29, 31, 60]),
    LATERS,
    VALIDATIONS,
)
SCENES = ANY_SCENES | KEPT_SCENES | STALE_SCENES | VALIDATED_SCENES
