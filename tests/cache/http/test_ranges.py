"""Ranges: what is asked for, what is held, and what of it may be given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.fields import Fields
from cache.http.messages import Span, Stored
from cache.http.ranges import Wanted, content_span, continues, held, may_be_parted, wanted
from tests.cache.building import NOW
from tests.cache.http.building import GARBAGE, LENGTH, date, request, response, stored

POSITIONS = st.integers(0, 30)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    first, last, whole = sorted(draw(st.tuples(POSITIONS, POSITIONS, POSITIONS)))
    return Span(first, last, whole + 1)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        # RFC 9110 §14.1.2
        ("bytes=0-4", Wanted(first=0, last=4)),
        ("bytes=5-", Wanted(first=5)),
        ("bytes=-3", Wanted(suffix=3)),
        ("Bytes=1-2", Wanted(first=1, last=2)),
        # none that this cache answers by itself
        ("bytes=4-0", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-4", None),
        ("bytes=a-b", None),
        ("bytes = 0-1", None),
        ("bytes=0 -1", None),
        ("bytes=0-" + "9" * 19, None),
        ("0-4", None),
        ("", None),
    ],
)
def test_one_range_is_understood(value: str, want: Wanted | None) -> None:
    assert wanted(request(range=value).fields) == want


def test_two_lines_of_range_are_none() -> None:
    assert wanted(Fields((("range", "bytes=0-1"), ("range", "bytes=3-4")))) is None


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes 0-4/10", Span(0, 4, 10)),
        ("bytes 9-9/10", Span(9, 9, 10)),
        # RFC 9110 §14.4: invalid, or not known how much there is
        ("bytes 4-0/10", None),
        ("bytes 0-10/10", None),
        ("bytes 0-4/*", None),
        ("bytes */10", None),
        ("0-4/10", None),
        ("bytes 0-4/" + "9" * 19, None),
        ("", None),
    ],
)
def test_an_enclosed_part_is_relied_on_only_when_it_can_be_one(value: str, span: Span | None) -> None:
    assert content_span(Fields().replaced(content_range=value)) == span


@given(GARBAGE)
def test_no_range_that_a_peer_sends_breaks_anything(value: str) -> None:
    of = Fields().replaced(range=value, content_range=value, if_range=value)
    wanted(of)
    content_span(of)
    may_be_parted(of, stored(etag=value, last_modified=value))


@pytest.mark.parametrize(
    ("want", "span"),
    [
        (Wanted(first=0, last=4), Span(0, 4, 10)),
        (Wanted(first=5), Span(5, 9, 10)),
        (Wanted(first=9, last=99), Span(9, 9, 10)),
        (Wanted(suffix=3), Span(7, 9, 10)),
        (Wanted(suffix=99), Span(0, 9, 10)),
        (Wanted(first=10), None),
        (Wanted(suffix=0), None),
    ],
)
def test_a_range_is_cut_to_what_there_is(want: Wanted, span: Span | None) -> None:
    assert want.within(10) == span
    assert held(stored(), want) == span


@given(POSITIONS, st.none() | POSITIONS, st.none() | POSITIONS, spans() | st.none())
def test_what_is_given_is_within_what_is_held_and_within_what_was_asked(
    first: int, last: int | None, suffix: int | None, span: Span | None
) -> None:
    one: Stored = stored(status=206 if span else 200, span=span)
    want = Wanted(first=first, last=None if last is None else first + last, suffix=suffix)
    given_ = held(one, want)
    if given_ is None:
        return
    there = span or Span(0, LENGTH - 1, LENGTH)
    assert there.first <= given_.first <= given_.last <= there.last
    assert given_.whole == there.whole
    if suffix is None:
        assert given_.first == first
    else:
        assert given_.last == there.whole - 1
        assert given_.length <= suffix


def test_a_part_that_is_not_all_held_is_not_given() -> None:
    part = stored(status=206, span=Span(2, 5, 10))
    assert held(part, Wanted(first=2, last=5)) == Span(2, 5, 10)
    assert held(part, Wanted(first=1, last=5)) is None
    assert held(part, Wanted(first=2, last=6)) is None
    assert held(part, Wanted(suffix=5)) is None


# If-Range (RFC 9110 §13.1.5)


@pytest.mark.parametrize(
    ("condition", "tag", "parted"),
    [
        ('"a"', '"a"', True),
        ('"a"', '"b"', False),
        ('W/"a"', 'W/"a"', False),
        ('"a"', 'W/"a"', False),
        ("a", "a", False),
        ("*", '"a"', False),
    ],
)
def test_a_tag_has_to_be_the_same_and_strong(condition: str, tag: str, parted: bool) -> None:
    assert may_be_parted(request(if_range=condition).fields, stored(etag=tag)) == parted


def test_without_if_range_it_may_be_parted() -> None:
    assert may_be_parted(request().fields, stored())


@pytest.mark.parametrize(
    ("condition", "changed", "dated", "parted"),
    [
        (date(-60), date(-60), date(), True),
        (date(-60), date(-61), date(), False),
        (date(-60), date(-59), date(), False),
        (date(-1), date(-1), date(), True),
        (date(), date(), date(), False),  # §8.8.2.2: it may have changed twice in that second
        (date(-60), date(-60), "never", False),
        ("then", "then", date(), False),
        (date(-60), "then", date(), False),
    ],
)
def test_a_date_has_to_be_the_same_and_older_than_the_response(
    condition: str, changed: str, dated: str, parted: bool
) -> None:
    one = stored(last_modified=changed, date=dated)
    assert may_be_parted(request(if_range=condition).fields, one) == parted


def test_a_date_says_nothing_of_what_has_no_last_modified() -> None:
    assert not may_be_parted(request(if_range=date(-60)).fields, stored(etag='"a"'))


# The rest of a part (RFC 9111 §3.4)


@pytest.mark.parametrize(
    ("said", "tag", "status", "fits"),
    [
        ("bytes 5-9/10", '"a"', 206, True),
        ("bytes 5-9/10", '"b"', 206, False),
        ("bytes 5-9/10", '"a"', 200, False),
        ("bytes 4-9/10", '"a"', 206, False),
        ("bytes 6-9/10", '"a"', 206, False),
        ("bytes 5-8/10", '"a"', 206, False),
        ("bytes 5-10/11", '"a"', 206, False),
        ("bytes 5-9/*", '"a"', 206, False),
    ],
)
def test_only_the_very_rest_of_the_same_representation_continues_a_part(
    said: str, tag: str, status: int, fits: bool
) -> None:
    part = stored(status=206, span=Span(0, 4, 10), etag='"a"', at=NOW - 5)
    assert continues(part, response(status, content_range=said, etag=tag)) == fits


def test_nothing_continues_what_is_whole() -> None:
    assert not continues(stored(etag='"a"'), response(206, content_range="bytes 5-9/10", etag='"a"'))
