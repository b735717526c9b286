"""Conditional requests in both directions, and what a 304 or a HEAD may change of what is stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.age import Manner
from cache.http.fields import Fields, rendered_date, strongly_equal, weakly_equal
from cache.http.messages import Request, Response, Span, Stored
from cache.http.validating import (
    answers,
    conditional,
    freshened,
    freshened_by,
    kept,
    not_modified,
    same_as_head,
    validatable,
)
from tests.cache.building import NOW
from tests.cache.http.building import (
    GARBAGE,
    HOSTILE_REQUESTS,
    HOSTILE_RESPONSES,
    MINUTE,
    REQUESTS,
    SHARED,
    date,
    few,
    request,
    response,
    stored,
)

LATER = NOW + 100


def updated(one: Stored, told: Response, asked: Request | None = None) -> Stored:
    """The stored response after a 304 that came `LATER`."""
    return freshened(one, told, asked or request(), requested_at=LATER - 1, received_at=LATER, manner=SHARED)


def names_of(told: Response, *held: Stored, asked: Request | None = None) -> list[str]:
    return [one.id for one in freshened_by(told, held, asked or request())]


# A client's own conditions (RFC 9111 §4.3.2)


@pytest.mark.parametrize(
    ("asked", "tag", "matched"),
    [
        ('"a"', '"a"', True),
        ('"x", "a"', '"a"', True),
        ('W/"a"', '"a"', True),
        ('"a"', 'W/"a"', True),
        ('"b"', '"a"', False),
        ("a", '"a"', False),
        ("", '"a"', False),
    ],
)
def test_a_tag_that_the_client_has_is_answered_by_a_304(asked: str, tag: str, matched: bool) -> None:
    assert not_modified(request(if_none_match=asked).fields, stored(etag=tag)) == matched


def test_any_tag_matches_a_star_and_no_tag_needs_to_be_there() -> None:
    assert not_modified(request(if_none_match="*").fields, stored())


def test_a_tag_says_nothing_of_what_has_none() -> None:
    assert not not_modified(request(if_none_match='"a"').fields, stored())


def test_beside_a_tag_no_date_counts() -> None:
    # RFC 9110 §13.1.3
    asked = request(if_none_match='"b"', if_modified_since=date()).fields
    assert not not_modified(asked, stored(etag='"a"', last_modified=date(-60)))


@pytest.mark.parametrize(
    ("since", "matched"), [(-61, False), (-60, True), (-59, True)], ids=["before", "then", "after"]
)
def test_what_was_not_changed_since_is_answered_by_a_304(since: int, matched: bool) -> None:
    one = stored(last_modified=date(-60))
    assert not_modified(request(if_modified_since=date(since)).fields, one) == matched


def test_without_a_last_modified_its_date_counts_and_without_that_its_coming() -> None:
    asked = request(if_modified_since=date()).fields
    assert not_modified(asked, stored(date=date()))
    assert not not_modified(asked, stored(date=date(1)))
    undated = Fields()
    assert not_modified(asked, msgspec.structs.replace(stored(), fields=undated))
    assert not not_modified(asked, msgspec.structs.replace(stored(at=NOW + 1), fields=undated))


@pytest.mark.parametrize("since", ["", "yesterday", "Sun, 31 Feb 2026 08:49:37 GMT"])
def test_a_condition_that_is_no_date_is_none(since: str) -> None:
    assert not not_modified(request(if_modified_since=since).fields, stored(last_modified=date(-60)))


# Our own (§4.3.1)


def test_the_origin_is_asked_about_tag_and_change_of_what_is_stored() -> None:
    sent = conditional(request(accept="x"), [stored(etag='"a"', last_modified=date(-60))])
    assert dict(sent.fields.lines) == {
        "accept": "x",
        "if-none-match": '"a"',
        "if-modified-since": date(-60),
    }


def test_the_origin_is_asked_about_every_tag_once_and_the_clients_own_after_them() -> None:
    held = [stored(etag='"a"'), stored(etag='W/"b"'), stored(etag='"a"'), stored()]
    sent = conditional(request(if_none_match='"c", "a"'), held)
    assert sent.fields.all("if-none-match") == ['"a", W/"b", "c"']


def test_a_clients_star_asks_about_nothing_more_than_is_stored() -> None:
    sent = conditional(request(if_none_match="*"), [stored(etag='"a"')])
    assert sent.fields.all("if-none-match") == ['"a"']


def test_no_other_condition_and_no_range_of_the_client_goes_with_ours() -> None:
    asked = request(if_modified_since=date(-5), if_range='"c"', range="bytes=0-1")
    assert dict(conditional(asked, [stored(etag='"a"')]).fields.lines) == {"if-none-match": '"a"'}


def test_our_date_does_not_go_with_the_clients_own_tag() -> None:
    # A 304 to it would be for somebody else's copy.
    sent = conditional(request(if_none_match='"c"'), [stored(last_modified=date(-60))])
    assert dict(sent.fields.lines) == {"if-none-match": '"c"'}


@pytest.mark.parametrize(
    ("values", "known"), [({"etag": '"a"'}, True), ({"last_modified": date()}, True), ({}, False)]
)
def test_what_has_a_validator_can_be_asked_about(values: dict[str, str], known: bool) -> None:
    assert validatable(stored("one", values)) == known


# Which stored responses a 304 speaks of (§4.3.4)


def test_a_strong_tag_names_every_response_that_has_it() -> None:
    held = (stored("one", etag='"a"', date=date(-9)), stored("two", etag='"b"'), stored("three", etag='"a"'))
    assert names_of(response(304, etag='"a"'), *held) == ["three", "one"]


def test_a_strong_tag_that_nobody_knows_names_nothing() -> None:
    assert names_of(response(304, etag='"c"', last_modified=date(-60)), stored(last_modified=date(-60))) == []


def test_a_weak_tag_names_the_newest_that_has_it() -> None:
    held = (stored("one", etag='"a"', date=date(-9)), stored("two", etag='W/"a"'))
    assert names_of(response(304, etag='W/"a"'), *held) == ["two"]


def test_a_strong_tag_names_the_weak_one_of_its_text_as_if_none_match_compared_it() -> None:
    # An origin that weakens the tag of what it compresses does not weaken that of a 304.
    assert names_of(response(304, etag='"a"'), stored(etag='W/"a"')) == ["one"]


def test_without_a_tag_a_date_names_the_newest_of_that_change() -> None:
    held = (
        stored("one", last_modified=date(-60), date=date(-9)),
        stored("two", last_modified=date(-60)),
        stored("three", last_modified=date(-61)),
    )
    assert names_of(response(304, last_modified=date(-60)), *held) == ["two"]


def test_a_date_of_another_change_names_nothing() -> None:
    assert names_of(response(304, last_modified=date(-50)), stored(last_modified=date(-60))) == []


@pytest.mark.parametrize("tag", [{}, {"etag": ""}], ids=["none", "empty"])
def test_without_a_validator_it_speaks_of_the_only_one_asked_about(tag: dict[str, str]) -> None:
    told = response(304, **tag)
    assert names_of(told, stored(etag='"a"')) == ["one"]
    assert names_of(told, stored("one", etag='"a"'), stored("two", etag='"b"')) == []
    assert names_of(told, stored("one"), stored("two")) == []


@pytest.mark.parametrize(
    ("own", "names"), [('"a"', ["one"]), ('W/"a"', ["one"]), ("*", ["one"]), ('"b"', [])]
)
def test_without_a_validator_it_may_speak_of_what_the_client_has(own: str, names: list[str]) -> None:
    asked = request(if_none_match=own)
    assert names_of(response(304), stored(etag='"a"'), asked=asked) == names


VALIDATORS = few(
    etag=st.sampled_from(['"a"', 'W/"a"', '"b"', ""]), last_modified=st.sampled_from([date(-60), date(-59)])
)
TELLING = st.builds(Response, st.just(304), VALIDATORS) | HOSTILE_RESPONSES


@given(TELLING, st.lists(TELLING, max_size=4), REQUESTS | HOSTILE_REQUESTS)
def test_a_304_names_only_what_has_its_own_validator(
    told: Response, others: list[Response], asked: Request
) -> None:
    held = [
        msgspec.structs.replace(stored(str(number)), fields=one.fields) for number, one in enumerate(others)
    ]
    tag, changed = told.fields.get("etag"), told.fields.get("last-modified")
    for one in freshened_by(told, held, asked):
        if tag:
            assert weakly_equal(tag, one.fields.get("etag") or "")
        elif changed is not None:
            assert one.fields.get("last-modified") == changed
        else:
            assert len(held) == 1


@pytest.mark.parametrize(
    ("tag", "own", "answer"),
    [('"b"', '"b"', True), ('W/"b"', '"c", "b"', True), ('"a"', '"b"', False), ('"a"', "*", False)],
)
def test_a_304_answers_the_client_only_by_a_tag_it_has(tag: str, own: str, answer: bool) -> None:
    assert answers(response(304, etag=tag), request(if_none_match=own)) == answer


def test_a_304_without_a_tag_answers_no_condition_of_the_client() -> None:
    assert not answers(response(304), request(if_none_match='"b"', if_modified_since=date()))


# What it changes (§3.2)


def test_its_fields_replace_those_of_the_stored_one_and_the_rest_stays() -> None:
    one = stored(cache_control="max-age=1", server="old", x_a="1", age="50")
    fresh = updated(one, response(304, cache_control=MINUTE, server="new", x_b="2"))
    assert dict(fresh.fields.lines) == {
        "date": date(),
        "cache-control": MINUTE,
        "server": "new",
        "x-a": "1",
        "x-b": "2",
    }


def test_lines_of_one_name_are_replaced_together() -> None:
    told = Response(304, Fields((("date", date()), ("set-cookie", "a=1"), ("set-cookie", "b=2"))))
    fresh = updated(stored(set_cookie="c=3"), told)
    assert fresh.fields.all("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "name",
    ["content-length", "content-encoding", "content-range", "content-md5", "content-digest", "etag"],
)
def test_what_describes_the_stored_bytes_is_not_replaced(name: str) -> None:
    keyword = name.replace("-", "_")
    fresh = updated(stored("one", {keyword: "old"}), response(304, **{keyword: "new"}))
    assert fresh.fields.get(name) == "old"
    assert name not in updated(stored(), response(304, **{keyword: "new"})).fields


def test_its_age_starts_again() -> None:
    fresh = updated(stored(age="50", doubted=True), response(304, date=rendered_date(LATER)))
    assert (fresh.requested_at, fresh.received_at) == (LATER - 1, LATER)
    assert "age" not in fresh.fields
    assert not fresh.doubted


def test_without_a_date_of_its_own_the_old_one_stays() -> None:
    assert updated(stored(), Response(304)).fields.all("date") == [date()]


def test_fields_of_this_hop_do_not_get_into_the_stored_one() -> None:
    told = response(304, connection="close", keep_alive="5")
    assert dict(updated(stored(), told).fields.lines) == {"date": date()}


@pytest.mark.parametrize(
    ("before", "after"),
    [(MINUTE, 'private="x-who"'), ('no-cache="x-who"', None)],
    ids=["said by the 304", "said before"],
)
def test_a_field_that_may_not_be_stored_goes_whoever_said_so(before: str, after: str | None) -> None:
    # §5.2.2.4, §5.2.2.7
    told = response(304, x_who="me", **({"cache_control": after} if after else {}))
    assert "x-who" not in updated(stored(cache_control=before, x_who="you"), told).fields


def test_by_varying_on_more_it_is_selected_by_this_requests_values_from_now_on() -> None:
    # §4.1
    fresh = updated(stored(), response(304, vary="Foo"), request(foo="1"))
    assert fresh.selecting == (("foo", "1"),)
    assert not fresh.doubted


@pytest.mark.parametrize("vary", ["*", "Foo, Bar"])
def test_by_varying_on_what_nobody_can_know_it_becomes_doubtful(vary: str) -> None:
    one = stored(vary="Foo", asked=request(foo="2"))
    assert updated(one, response(304, vary=vary), request(foo="1")).doubted


def test_another_variant_that_varies_as_before_keeps_its_own_values() -> None:
    one = stored(vary="Foo", asked=request(foo="2"))
    fresh = updated(one, response(304, vary="foo"), request(foo="1"))
    assert fresh.selecting == (("foo", "2"),)
    assert not fresh.doubted


# What may not be stored updates nothing (§3)


def kept_of(one: Stored, told: Response, asked: Request, manner: Manner = SHARED) -> tuple[Stored, ...]:
    return kept(asked, [one], [updated(one, told, asked)], manner)


def test_what_may_be_stored_is_updated() -> None:
    one, told = stored(cache_control=MINUTE), response(304, server="new")
    assert kept_of(one, told, request()) == (updated(one, told),)


@pytest.mark.parametrize("said", ["no-store", "private"])
def test_a_304_that_may_not_be_stored_casts_doubt_and_leaves_nothing_of_itself(said: str) -> None:
    one = stored(cache_control=MINUTE)
    doubtful = msgspec.structs.replace(one, doubted=True)
    assert kept_of(one, response(304, cache_control=said, x_who="me"), request()) == (doubtful,)


def test_a_cookie_of_a_304_is_not_stored_where_none_may_be() -> None:
    one = stored(cache_control=MINUTE)
    (left,) = kept_of(one, response(304, set_cookie="a=b"), request(), Manner(keep_set_cookie=False))
    assert "set-cookie" not in left.fields
    assert left.doubted


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"cache_control": "no-store"}, "public"), ({"authorization": "Bearer x"}, MINUTE)],
    ids=["no-store", "authorization"],
)
def test_a_request_whose_answer_may_not_be_stored_changes_nothing(asked: dict[str, str], said: str) -> None:
    assert kept_of(stored(cache_control=said), response(304, x_who="me"), request(**asked)) == ()


# HEAD (§4.3.5)


@pytest.mark.parametrize(
    ("told", "same"),
    [
        ({}, True),
        ({"etag": '"a"'}, True),
        ({"etag": '"b"'}, False),
        ({"etag": 'W/"a"'}, False),
        ({"last_modified": date(-60)}, True),
        ({"last_modified": date(-59)}, False),
        ({"etag": '"a"', "last_modified": date(-59)}, False),
        ({"content_length": "10"}, True),
        ({"content_length": "11"}, False),
        ({"etag": '"a"', "content_length": "11"}, False),
    ],
)
def test_a_head_tells_of_the_stored_response_where_nothing_of_it_differs(
    told: dict[str, str], same: bool
) -> None:
    assert same_as_head(response(**told), stored(etag='"a"', last_modified=date(-60))) == same


def test_the_length_of_a_part_is_not_that_of_the_whole() -> None:
    assert same_as_head(response(content_length="10"), stored(status=206, span=Span(0, 4, 10)))


def test_a_head_without_a_validator_lifts_no_doubt() -> None:
    # §4.4
    one = stored(etag='"a"', doubted=True)
    assert not same_as_head(response(content_length="10"), one)
    assert same_as_head(response(etag='"a"'), one)


@given(HOSTILE_REQUESTS, HOSTILE_RESPONSES, HOSTILE_RESPONSES, GARBAGE)
def test_nothing_that_a_peer_sends_breaks_validation(
    asked: Request, told: Response, held: Response, tag: str
) -> None:
    one = msgspec.structs.replace(stored(), fields=held.fields)
    not_modified(asked.fields, one)
    conditional(asked, [one, stored(etag=tag)])
    same_as_head(told, one)
    fresh = updated(one, told, asked)
    assert kept(asked, [one], [fresh], SHARED) in {
        (),
        (fresh,),
        (msgspec.structs.replace(one, doubted=True),),
    }


@given(GARBAGE, GARBAGE)
def test_strongly_equal_tags_are_weakly_equal(one: str, other: str) -> None:
    assert weakly_equal(one, other) or not strongly_equal(one, other)
