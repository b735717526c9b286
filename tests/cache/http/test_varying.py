"""Which stored response a request selects: never one that was selected by something else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.fields import Fields
from cache.http.messages import Request
from cache.http.varying import alike, matching, newest_first, normalised, selecting_values, selects
from tests.cache.building import NOW
from tests.cache.http.building import GARBAGE, HOSTILE_REQUESTS, date, request, stored

LANGUAGES = st.lists(
    st.sampled_from(["en", "EN", "de", "fr;q=0.5", "fr;q=0.50", "en;q=x", "*;q=0", "de; q=1.0"]), max_size=4
).map(", ".join)


def test_without_vary_every_request_selects_it() -> None:
    assert selecting_values(Fields(), request(accept_language="de").fields) == ()
    assert selects(stored(), request(accept_language="de").fields)


@pytest.mark.parametrize("vary", ["*", "*, *", "Accept, *", ", *"])
def test_with_a_star_no_later_request_does(vary: str) -> None:
    # RFC 9111 §4.1
    assert selecting_values(Fields().replaced(vary=vary), request().fields) is None


def test_names_in_vary_are_compared_without_their_case_and_each_once() -> None:
    vary = Fields((("vary", "Foo, bar"), ("vary", "FOO")))
    assert selecting_values(vary, request(foo="1").fields) == (("bar", None), ("foo", "1"))


def test_the_same_value_selects_it_and_another_does_not() -> None:
    one = stored(vary="Foo", asked=request(foo="1"))
    assert selects(one, request(foo="1").fields)
    assert not selects(one, request(foo="2").fields)


def test_a_field_that_is_missing_matches_only_one_that_is_missing_too() -> None:
    # §4.1, and so not one that is there and empty
    without = stored(vary="Foo", asked=request())
    assert selects(without, request().fields)
    assert not selects(without, request(foo="").fields)
    assert not selects(stored(vary="Foo", asked=request(foo="")), request().fields)


def test_every_field_that_vary_names_has_to_match() -> None:
    one = stored(vary="Foo, Bar", asked=request(foo="1", bar="2"))
    assert selects(one, request(foo="1", bar="2", other="3").fields)
    assert not selects(one, request(foo="1", bar="3").fields)
    assert not selects(one, request(foo="1").fields)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (request(b="2", a="1"), True),
        (request(a="1", b="2", connection="close", te="trailers"), True),
        (request("HEAD", a="1", b="2"), False),
        (request(a="1", b="3"), False),
        (request(a="1"), False),
        (request(a="1", b="2", c=""), False),
    ],
    ids=str,
)
def test_requests_are_alike_that_no_origin_can_tell_apart(other: Request, same: bool) -> None:
    assert alike(request(a="1", b="2"), other) is same


def test_the_order_of_the_lines_of_a_field_tells_requests_apart() -> None:
    one = Request("GET", "http://origin/", Fields((("a", "1"), ("a", "2"))))
    assert not alike(one, Request("GET", "http://origin/", Fields((("a", "2"), ("a", "1")))))


# Values that mean the same (RFC 9111 §4.1)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("foo", "1, 2", "1,2"),
        ("foo", " 1 , 2 ", "1,2"),
        ("accept-language", "en, de", "de, en"),
        ("accept-language", "EN;q=1", "en"),
        ("accept-language", "en;q=0.50", "en ; Q=0.5"),
        ("accept-encoding", "gzip;q=0.5, br", "BR, gzip; q=0.5"),
        ("accept", "text/html;charset=x;q=0.1", "TEXT/html;Charset=x;q=0.100"),
        ("accept", "text/html;;q=0.1", "text/html;q=0.1"),
    ],
)
def test_values_that_mean_the_same_have_one_form(name: str, one: str, other: str) -> None:
    assert normalised(name, one) == normalised(name, other)


def test_lines_of_a_field_are_one_list() -> None:
    parted = Fields((("foo", "1"), ("foo", "2")))
    assert selects(stored(vary="Foo", asked=request(foo="1, 2")), parted)


def test_lines_of_cookies_are_not_a_list() -> None:
    # RFC 9113 §8.2.3
    parted = Fields((("cookie", "a=1"), ("cookie", "b=2")))
    one = stored(vary="Cookie", asked=request(cookie="a=1; b=2"))
    assert selects(one, parted)
    assert not selects(one, request(cookie="a=1, b=2").fields)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("foo", "1, 2", "2, 1"),
        ("foo", "a", "A"),
        ("foo", "1 2", "12"),
        # who does not know that a field is a list does not know that its empty members mean nothing
        ("foo", "1,,2", "1,2"),
        ("foo", "1,", "1"),
        ("foo", '"1 , 2"', '"1,2"'),
        ("accept-language", "en, de;q=0.5", "en;q=0.5, de"),
        ("accept-language", "en", "en;q=0"),
        # RFC 9110 §12.4.2: what is no weight is compared as it came
        ("accept-language", "en;q=0", "en;q=x"),
        ("accept-language", "en;q=0", "en;q=2"),
        ("accept-language", "en;q=x", "en;q=y"),
        ("accept-language", "en;q=0.1", "en;q=1e-1"),
        ("accept-language", "en", "en;q=nan"),
        ("accept-language", "en;q=0.1;q=0.9", "en;q=0.9"),
        # §5.6.6: only its own definition says whether case matters in a parameter's value
        ("accept", 'text/html;profile="A"', 'text/html;profile="a"'),
        ("accept", 'a/b;x="1;q=0.1"', 'a/b;x="1;q=0.2"'),
        ("accept", 'a/b;x="1, 2"', 'a/b;x="1", 2"'),
    ],
)
def test_values_that_may_mean_something_else_are_kept_apart(name: str, one: str, other: str) -> None:
    assert normalised(name, one) != normalised(name, other)


def test_a_response_in_the_one_language_that_is_wished_most_serves() -> None:
    one = stored(vary="Accept-Language", content_language="DE", asked=request(accept_language="en, de"))
    assert selects(one, request(accept_language="fr;q=0.5, de").fields)


@pytest.mark.parametrize(
    "wish", ["fr, de", "de;q=0.5, fr", "de;q=0", "de-CH", "*", "", "de, de-AT", "fr;q=0.9"]
)
def test_a_response_in_a_language_that_is_not_wished_most_is_selected_by_its_own_value_alone(
    wish: str,
) -> None:
    one = stored(vary="Accept-Language", content_language="de", asked=request(accept_language="en"))
    assert not selects(one, request(accept_language=wish).fields)


def test_a_response_in_two_languages_is_selected_by_its_own_value_alone() -> None:
    one = stored(vary="Accept-Language", content_language="de, fr", asked=request(accept_language="en"))
    assert not selects(one, request(accept_language="de").fields)


@given(GARBAGE, GARBAGE)
def test_of_an_ordinary_field_nothing_but_space_and_commas_may_differ(value: str, other: str) -> None:
    if normalised("foo", value) == normalised("foo", other):
        bare = ["".join(one.split()).replace(",", "") for one in (value, other)]
        assert bare[0] == bare[1]


@given(LANGUAGES, LANGUAGES)
def test_of_weighted_values_the_same_members_with_the_same_weights_are_equal(value: str, other: str) -> None:
    def plain(text: str) -> list[str]:
        unweighted = (one.lower().replace(" ", "").replace("=0.50", "=0.5") for one in text.split(", "))
        return sorted(one.removesuffix(";q=1.0") for one in unweighted)

    same = normalised("accept-language", value) == normalised("accept-language", other)
    assert same == (plain(value) == plain(other))


@given(HOSTILE_REQUESTS, GARBAGE)
def test_who_asks_with_the_very_same_fields_always_selects_it(asked: Request, vary: str) -> None:
    selecting = selecting_values(Fields().replaced(vary=vary), asked.fields)
    if selecting is not None:
        assert selects(msgspec.structs.replace(stored(), selecting=selecting), asked.fields)


# Several that match


def test_of_several_the_newest_by_date_is_preferred_and_of_one_second_the_last_to_come() -> None:
    # §4
    old = stored("old", date=date(-60), at=NOW + 5)
    new = stored("new", date=date(-30), at=NOW)
    last = stored("last", date=date(-30), at=NOW + 1)
    assert [one.id for one in newest_first((old, new, last))] == ["last", "new", "old"]


@pytest.mark.parametrize("told", ["never", ""])
def test_without_a_date_that_is_one_the_time_when_it_came_counts(told: str) -> None:
    undated = stored("undated", at=NOW + 5, date=told)
    assert newest_first((stored("dated"), undated))[0].id == "undated"


def test_one_that_varies_goes_before_a_newer_one_that_forgot_to_say_so() -> None:
    # §4.1, its last paragraph but one
    german = stored("german", vary="Foo", asked=request(foo="de"), at=NOW - 60)
    default = stored("default")
    assert [one.id for one in matching((german, default), request(foo="de"))] == ["german", "default"]
    assert [one.id for one in matching((german, default), request(foo="fr"))] == ["default"]
