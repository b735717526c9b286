"""What the HTTP cache's engine promises whatever both sides send (RFC 9111), and through whole histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.http import engine, ranges
from cache.http.age import Manner, current_age, freshness_left
from cache.http.engine import ERRORS, Answer, Forward, Outcome
from cache.http.fields import Fields, entity_tags, http_date, rendered_date, weakly_equal
from cache.http.invalidating import SAFE
from cache.http.messages import Request, Response, Span, Stored
from cache.http.varying import selects
from tests.cache.building import NOW
from tests.cache.http.building import (
    AGES_S,
    HOSTILE_REQUESTS,
    HOSTILE_RESPONSES,
    LENGTH,
    MANNERS,
    REQUESTS,
    RESPONSES,
    SHARED,
    STALE,
    TARGET,
    WILLING,
    few,
    request,
    stored,
)

thorough = settings(max_examples=300)
SPANS = st.sampled_from([None, None, Span(0, 4, LENGTH), Span(5, 9, LENGTH), Span(0, 9, LENGTH)])


@st.composite
def shelves(draw: st.DrawFn, responses: st.SearchStrategy[Response]) -> tuple[Stored, ...]:
    """Some stored responses, among them such as no rule would have stored."""
    held = []
    for number in range(draw(st.integers(0, 3))):
        told, span = draw(responses), draw(SPANS)
        doubted = draw(st.sampled_from([False, False, True]))
        status = 206 if span else 200 if told.status == 206 else told.status
        one = stored(str(number), status=status, span=span, doubted=doubted)
        selecting = draw(st.sampled_from([(), (), (("foo", "1"),), (("foo", None),)]))
        held.append(msgspec.structs.replace(one, fields=told.fields, selecting=selecting))
    return tuple(held)


def said_by(of: Fields) -> Mapping[str, int | None]:
    """Directives as they are drawn, read without the code under test; of one said twice the smaller number."""
    found: dict[str, int | None] = {}
    for one in filter(None, (of.get("cache-control") or "").split(", ")):
        # A qualified one is another thing than the one that stands for the whole response.
        name, _, number = (one, "", "") if '"' in one else one.partition("=")
        seconds = int(number) if number.isdigit() else None
        before = found.get(name)
        found[name] = seconds if before is None or seconds is None else min(before, seconds)
    return found


# One request


@thorough
@given(
    REQUESTS | HOSTILE_REQUESTS,
    shelves(RESPONSES | HOSTILE_RESPONSES),
    RESPONSES | HOSTILE_RESPONSES,
    AGES_S,
    MANNERS,
)
def test_nothing_that_either_side_sends_breaks_the_engine(
    asked: Request, held: tuple[Stored, ...], told: Response, after_s: int, manner: Manner
) -> None:
    now = NOW + after_s
    decision = engine.look(asked, held, now, manner)
    forward = decision if isinstance(decision, Forward) else decision.refresh
    if forward is not None:
        engine.receive(forward, told, requested_at=now, received_at=now, id_="new", manner=manner)
        engine.fail(forward, now, manner)


@thorough
@given(REQUESTS | WILLING, shelves(RESPONSES | STALE), AGES_S)
def test_what_is_answered_from_the_store_is_fresh_or_some_directive_allows_it_stale(
    asked: Request, held: tuple[Stored, ...], after_s: int
) -> None:
    answer = engine.look(asked, held, NOW + after_s, SHARED)
    if not isinstance(answer, Answer) or answer.stored is None:
        return
    left = freshness_left(answer.stored, NOW + after_s, SHARED)
    said, wished = said_by(answer.stored.fields), said_by(asked.fields)
    assert "no-cache" not in said
    assert "no-cache" not in wished
    most = wished.get("max-age")
    assert most is None or current_age(answer.stored, NOW + after_s) <= most
    if left <= 0:
        assert not {"must-revalidate", "proxy-revalidate", "s-maxage", 'no-cache="x"'} & said.keys()
        window = said.get("stale-while-revalidate") or 0
        takes = wished.get("max-stale", 0)
        assert -left <= window or takes is None or -left <= takes


@thorough
@given(REQUESTS | HOSTILE_REQUESTS, shelves(RESPONSES), AGES_S, MANNERS, st.sampled_from(sorted(ERRORS)))
def test_nothing_doubted_and_nothing_selected_otherwise_is_ever_served_unasked(
    asked: Request, held: tuple[Stored, ...], after_s: int, manner: Manner, status: int
) -> None:
    now = NOW + after_s
    decision = engine.look(asked, held, now, manner)
    if isinstance(decision, Forward):
        outcome = engine.receive(
            decision, Response(status), requested_at=now, received_at=now, id_="new", manner=manner
        )
        served = [engine.fail(decision, now, manner), outcome.answer]
    else:
        served = [decision]
    for answer in served:
        if answer is not None and answer.stored is not None:
            assert not answer.stored.doubted
            assert selects(answer.stored, asked.fields)


@thorough
@given(REQUESTS | HOSTILE_REQUESTS, shelves(RESPONSES), AGES_S)
def test_the_bytes_of_an_answer_are_within_the_stored_ones_and_as_many_as_it_says(
    asked: Request, held: tuple[Stored, ...], after_s: int
) -> None:
    answer = engine.look(asked, held, NOW + after_s, SHARED)
    if not isinstance(answer, Answer) or answer.stored is None:
        return
    one, told = answer.stored, answer.response
    there = one.span or Span(0, one.length - 1, one.length)
    if answer.span is None:
        assert told.status != 206
        assert there.everything or not answer.body
        if answer.body and told.status == 200:
            assert told.fields.all("content-length") == [str(one.length)]
        return
    assert told.status == 206
    assert there.first <= answer.span.first <= answer.span.last <= there.last
    assert told.fields.all("content-range") == [f"bytes {answer.span.first}-{answer.span.last}/{there.whole}"]
    assert told.fields.all("content-length") == [str(answer.span.length)]


@thorough
@given(REQUESTS, st.just(()) | shelves(RESPONSES), RESPONSES, AGES_S, MANNERS)
def test_nothing_that_may_not_be_stored_gets_into_the_store(
    asked: Request, held: tuple[Stored, ...], told: Response, after_s: int, manner: Manner
) -> None:
    forward = engine.look(asked, held, NOW + after_s, manner)
    if not isinstance(forward, Forward):
        return
    outcome = engine.receive(forward, told, requested_at=NOW, received_at=NOW, id_="new", manner=manner)
    heads = [one for one in (outcome.store, outcome.combine) if one is not None]
    said, leave = said_by(told.fields), {"public", "must-revalidate", "s-maxage"}
    if heads:
        assert "no-store" not in said or "must-understand" in said
        assert "no-store" not in said_by(asked.fields)
        assert not manner.shared or "private" not in said
        assert manner.keep_set_cookie or "set-cookie" not in told.fields
        assert not manner.shared or "authorization" not in asked.fields or leave & said.keys()
    if "no-store" in said_by(asked.fields):
        assert all(one.doubted for one in outcome.freshen)


# Whole histories, with an origin that keeps the rules


class School:
    """An origin whose answers vary on Foo and change; what was written last is `floor`.

    Its validators: strong or weak tags, dates or none; strong ones that it keeps silent about in a 304, or is
    careless of where a range depends on one.
    """

    def __init__(self, said: str, validator: str) -> None:
        self._said = said
        self._validator = validator
        self._changed_at = NOW - 1000
        self._written_at = self._changed_at
        self.version = 0
        self.floor = 0

    def change(self, now: float) -> None:
        """A new version, at a second of its own."""
        self.version += 1
        self._written_at = now
        self._changed_at = max(now, self._changed_at + 1)

    def body(self, asked: Request) -> str:
        """What its whole body is now."""
        return f"{asked.fields.get('foo') or 'none'}-{self.version}"

    def answer(self, asked: Request, now: float) -> Response:
        """As RFC 9110 §13.2.2 wants it."""
        if asked.method not in SAFE:
            self.change(now)
            self.floor = self.version
            return Response(204, Fields().replaced(date=rendered_date(now)))
        told = self._head(asked, now)
        if self._unchanged(asked, told):
            return Response(304, told.without({"etag"} if self._validator == "silent" else ()))
        if asked.method == "HEAD":
            return Response(200, told.replaced(content_length=str(LENGTH)))
        told = told.replaced(x_body=self.body(asked))
        want = ranges.wanted(asked.fields)
        condition = asked.fields.get("if-range")
        if want is None or (condition not in {None, told.get("etag")} and self._validator != "careless"):
            return Response(200, told.replaced(content_length=str(LENGTH)))
        if (span := want.within(LENGTH)) is None:
            return Response(416, told.replaced(content_range=f"bytes */{LENGTH}"))
        return Response(206, told.replaced(content_range=f"bytes {span.first}-{span.last}/{LENGTH}"))

    def _head(self, asked: Request, now: float) -> Fields:
        told = Fields().replaced(date=rendered_date(now), vary="Foo")
        if self._said:
            told = told.replaced(cache_control=self._said)
        if self._validator == "date":
            return told.replaced(last_modified=rendered_date(self._changed_at))
        if self._validator == "none":
            return told
        weak = "W/" if self._validator == "weak" else ""
        return told.replaced(etag=f'{weak}"{self.body(asked)}"')

    def still_has(self, asked: Request) -> bool:
        """Whether a client whose conditions these are has what would be sent."""
        if "if-none-match" in asked.fields:
            return self._unchanged(asked, self._head(asked, NOW))
        since = http_date(asked.fields.get("if-modified-since"), NOW)
        return since is not None and since >= self._written_at

    @staticmethod
    def _unchanged(asked: Request, told: Fields) -> bool:
        if "if-none-match" in asked.fields:
            tags = entity_tags(asked.fields.get("if-none-match"))
            return tags == ("*",) or any(weakly_equal(told.get("etag") or "", one) for one in tags)
        since = http_date(asked.fields.get("if-modified-since"), NOW)
        changed = http_date(told.get("last-modified"), NOW)
        return since is not None and changed is not None and changed <= since


class Driver:
    """The least driver there can be: heads alone, each with the body's name among its fields."""

    def __init__(self, school: School) -> None:
        self._school = school
        self._held: dict[str, Stored] = {}
        self._asked = 0

    def ask(self, asking: Request, now: float) -> tuple[Response, bool]:
        """The answer, and whether the origin was asked for it."""
        decision = engine.look(asking, tuple(self._held.values()), now, SHARED)
        for _ in range(2):
            if isinstance(decision, Answer):
                return decision.response, False
            self._asked += 1
            told = self._school.answer(decision.request, now)
            outcome = engine.receive(
                decision, told, requested_at=now, received_at=now, id_=str(self._asked), manner=SHARED
            )
            parts = dict(self._held)
            self._note(outcome)
            if outcome.combine is not None:
                assert parts[outcome.combine.id].fields.get("x-body") == told.fields.get("x-body")
                return Response(200, outcome.combine.fields), True
            if outcome.again is None:
                return (outcome.answer.response if outcome.answer else told), True
            decision = outcome.again
        raise AssertionError("asked more than once again")

    def _note(self, outcome: Outcome) -> None:
        for one in outcome.freshen:
            self._held[one.id] = one
        for id_ in outcome.drop:
            self._held.pop(id_, None)
        if outcome.invalidate:
            for one in tuple(self._held.values()):
                self._held[one.id] = msgspec.structs.replace(one, doubted=True)
        kept = outcome.store or outcome.combine
        if kept is not None:
            span = kept.span if outcome.store else None
            self._held[str(self._asked)] = msgspec.structs.replace(
                kept, id=str(self._asked), span=span, length=span.length if span else LENGTH
            )


TAGS = st.sampled_from(['"1-0"', '"1-1"', 'W/"1-0"', '"none-0"', '"none-1"', '"2-0", "2-1"', "*"])
# What matters in a history is what follows what, so most of it is plain.
PLAIN = st.sampled_from([
    *[request()] * 4,
    *[request("HEAD"), request("PUT"), request(range="bytes=0-4"), request(if_none_match='"none-1"')],
])  # fmt: skip
MORE = st.builds(
    Request,
    st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT"]),
    st.just(TARGET),
    few(
        foo=st.sampled_from(["1", "2"]),
        if_none_match=TAGS,
        if_modified_since=st.sampled_from([rendered_date(NOW - 2000), rendered_date(NOW + 5)]),
        range=st.sampled_from(["bytes=0-4", "bytes=5-", "bytes=0-", "bytes=20-"]),
        cache_control=st.sampled_from(["no-cache", "no-store", "max-age=10"]),
    ),
)
VISITS = st.tuples(st.sampled_from([0, 1, 30, 61]), st.booleans(), PLAIN | MORE)


def visits(*asked: Request, changes_before_last: bool = False) -> list[tuple[int, bool, Request]]:
    """One after the other within a second."""
    return [(0, changes_before_last and one is asked[-1], one) for one in asked]


# A HEAD that tells nothing lifts no doubt; a 304 that names nothing may be of what the client has.
@example("max-age=60", "none", visits(request(), request("PUT"), request("HEAD"), request()))
@example(
    "max-age=0", "silent", visits(request(), request(if_none_match='"none-1"'), changes_before_last=True)
)
# The rest of another representation completes no part, and a part that is all needs no rest.
@example("max-age=60", "careless", visits(request(range="bytes=0-4"), request(), changes_before_last=True))
@example("max-age=60", "strong", visits(request(range="bytes=0-"), request()))
@thorough
@given(
    st.sampled_from(["max-age=60", "max-age=60", "", "max-age=0", "no-cache", "max-age=60, must-revalidate"]),
    st.sampled_from(["strong", "weak", "date", "none", "silent", "careless"]),
    st.lists(VISITS, min_size=2, max_size=8),
)
def test_who_is_answered_gets_what_the_origin_says_or_said_since_it_was_last_written(
    said: str, validator: str, history: Sequence[tuple[int, bool, Request]]
) -> None:
    school = School(said, validator)
    driver = Driver(school)
    now = NOW
    for gap_s, changes, asking in history:
        now += gap_s
        if changes:
            school.change(now)
        told, asked = driver.ask(asking, now)
        body = told.fields.get("x-body")
        if body is not None:
            variant, _, version = body.partition("-")
            assert variant == (asking.fields.get("foo") or "none")
            assert not asked or int(version) == school.version
            assert int(version) >= school.floor
        if told.status in {206, 416}:
            assert "range" in asking.fields
        if told.status == 304 and asked:
            assert school.still_has(asking)
