"""What field values mean; what means nothing is never read as leave to reuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.fields import (
    DELTA_SECONDS_MAX,
    Fields,
    delta_seconds,
    directives,
    entity_tags,
    fields,
    http_date,
    members,
    rendered_date,
    strongly_equal,
    targeted_directives,
    tokens,
    weakly_equal,
)
from tests.cache.building import NOW
from tests.cache.http.building import GARBAGE

IN_1994 = 784_111_777


def test_names_are_lower_case_and_the_space_around_values_is_gone() -> None:
    assert fields([("Cache-Control", "\t no-store ")]).lines == (("cache-control", "no-store"),)


def test_lines_of_one_name_are_one_list_in_their_order() -> None:
    # RFC 9110 §5.3
    of = fields([("Vary", "a"), ("Other", "x"), ("vary", "b")])
    assert of.get("vary") == "a, b"
    assert of.all("vary") == ["a", "b"]


def test_what_is_not_there_has_no_value() -> None:
    assert Fields().get("vary") is None
    assert "vary" not in Fields()


def test_a_replaced_name_has_one_line() -> None:
    of = fields([("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Age", "1")]).replaced(set_cookie="c")
    assert of.lines == (("age", "1"), ("set-cookie", "c"))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        # RFC 9110 §5.6.1.2
        ("foo ,bar,", ["foo", "bar"]),
        ("foo , ,bar,charlie", ["foo", "bar", "charlie"]),
        (", ,", []),
        ("", []),
        (None, []),
        # §5.6.4: a comma in a quoted string parts nothing, an escaped quote does not end it
        ('a="1,2",b', ['a="1,2"', "b"]),
        (r'a="1\",2",b', [r'a="1\",2"', "b"]),
    ],
)
def test_a_list_has_members(value: str | None, found: list[str]) -> None:
    assert list(members(value)) == found


def test_names_in_a_list_are_compared_without_their_case() -> None:
    assert tokens("Accept-Language, FOO") == {"accept-language", "foo"}


# Directives (RFC 9111 §5.2)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ("MAX-AGE=60", 60),
        ('max-age="60"', 60),
        ("max-age=060", 60),
        ("public, max-age=60", 60),
        ("max-age=60, max-age=60", 60),
        (f"max-age={10**30}", DELTA_SECONDS_MAX),  # §1.2.2
        # §4.2.1: invalid freshness information is best taken for stale
        ("max-age", 0),
        ("max-age=", 0),
        ("max-age=-1", 0),
        ("max-age=1.5", 0),
        ("max-age=60s", 0),
        ("max-age='60'", 0),
        ("max-age = 60", 0),
        ("max-age=1, max-age=60", 0),
        ("max-age=60, max-age=1", 0),
        ('max-age="60', 0),
        # inside another's quotes it is none
        ('extension="max-age=60"', None),
        ("x-max-age=60", None),
    ],
)
def test_the_seconds_of_a_directive(value: str, seconds: int | None) -> None:
    assert directives(value).seconds("max-age") == seconds


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ('private="Set-Cookie, X-A"', {"set-cookie", "x-a"}),
        ("private=x-a", {"x-a"}),
        ('private="a", private="b"', {"a", "b"}),
        ("private", None),
        ('private="a", private', None),
        ("public", None),
    ],
)
def test_a_qualified_directive_lists_fields(value: str, names: set[str] | None) -> None:
    # RFC 9111 §5.2.2.4, §5.2.2.7
    assert directives(value).names("private") == names


@pytest.mark.parametrize("value", ["private", 'private=""', "private=", 'private="a", private', 'private="a'])
def test_a_directive_that_names_no_field_stands_for_the_whole_response(value: str) -> None:
    assert directives(value).unqualified("private")


def test_a_qualified_directive_does_not_stand_for_the_whole_response() -> None:
    assert not directives('private="a"').unqualified("private")
    assert not directives("public").unqualified("private")


@pytest.mark.parametrize("value", ['x="a, no-store', 'x="a, y=b, no-store', 'no-store, x="', '", no-store'])
def test_a_quote_that_nobody_closed_hides_no_directive(value: str) -> None:
    assert "no-store" in directives(value)


@pytest.mark.parametrize("name", ["no-store", "private", "no-cache", "must-revalidate"])
@pytest.mark.parametrize("rest", [" foo", "\tfoo", "; foo", " =x", "=a b"])
def test_words_that_belong_to_no_directive_hide_none(name: str, rest: str) -> None:
    assert name in directives(f"{name}{rest}, max-age=60")


@pytest.mark.parametrize("name", ["public", "must-understand", "immutable"])
def test_what_would_make_a_response_more_reusable_has_to_be_readable(name: str) -> None:
    assert name in directives(f"{name}, max-age=60")
    assert name not in directives(f"{name} foo, max-age=60")


@pytest.mark.parametrize(
    ("value", "wished"),
    [("60", 60), ("060", 60), ("abc", math.inf), ('"', math.inf), ("60, min-fresh=70", math.inf)],
)
def test_a_wish_that_cannot_be_read_is_never_met(value: str, wished: float) -> None:
    assert directives(f"min-fresh={value}").wished_seconds("min-fresh") == wished


@pytest.mark.parametrize("name", ["max-age", "s-maxage", "stale-while-revalidate", "max-stale"])
def test_seconds_that_cannot_be_read_are_none_at_all(name: str) -> None:
    assert directives(f"{name} 60").seconds(name) == 0
    assert directives(f"{name} 60").found[name] != (None,), "alone, max-stale would be without end"


@given(GARBAGE, GARBAGE.map(lambda text: text.replace('"', "")))
def test_no_store_between_other_lines_is_found_whatever_they_say(before: str, after: str) -> None:
    lines = Fields((("cache-control", before), ("cache-control", "no-store"), ("cache-control", after)))
    assert "no-store" in directives(lines.get("cache-control"))


# Targeted fields (RFC 9213 §2.1, RFC 8941 §3.2)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        (" max-age=60 ", 60),
        ("max-age=60;x=1;y", 60),  # parameters are ignored
        ("max-age=1, max-age=60", 60),  # the last one counts
        ("no-store\t,\tmax-age=60", 60),
        ('a="\\"", b=:YQ==:, c=?1, d=1.5, e=t/o:k*, f=(1 "2";x d), max-age=60', 60),
        # not of the directive's type, so not consumed
        ('max-age="60"', 0),
        ("max-age=60.0", 0),
        ("max-age=-60", 0),
        ("max-age", 0),
        ("no-store", None),
        ("max-age=?0", None),
    ],
)
def test_a_targeted_field_is_a_dictionary(value: str, seconds: int | None) -> None:
    said = targeted_directives(value)
    assert said is not None
    assert said.seconds("max-age") == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "  ",
        "max-age=60,",
        ", max-age=60",
        "max-age=60,, no-store",
        "Max-Age=60",
        "max-age =60",
        "max-age= 60",
        "max-age=60s",
        "max-age=60 no-store",
        "max-age=1234567890123456",
        'x="a',
        'x="\x7f"',
        "x=(1 2",
        "max-age=٣",
    ],
)
def test_a_targeted_field_that_is_none_is_as_if_it_were_not_there(value: str | None) -> None:
    assert targeted_directives(value) is None


def test_a_targeted_directive_is_qualified_by_a_string_alone() -> None:
    said = targeted_directives('private="a, b", no-cache=a')
    assert said is not None
    assert said.names("private") == frozenset({"a", "b"})
    assert said.unqualified("no-cache")


def test_a_targeted_directive_may_say_that_it_is_not_meant() -> None:
    said = targeted_directives("no-store=?0, private=?1")
    assert said is not None
    assert "no-store" not in said
    assert said.unqualified("private")


# Numbers, dates, tags


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "1.0", " 1", "1 ", "0x1", "1_0", "²", "٣"])
def test_what_is_no_whole_number_of_seconds_is_none(text: str | None) -> None:
    assert delta_seconds(text) is None


@pytest.mark.parametrize("text", ["0", "0" * 5000, "7", "00007", "9" * 5000])
def test_any_number_of_digits_is_a_number_within_bounds(text: str) -> None:
    seconds = delta_seconds(text)
    assert seconds is not None
    assert 0 <= seconds <= DELTA_SECONDS_MAX


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)
def test_a_date_has_three_forms(text: str) -> None:
    assert http_date(text, NOW) == IN_1994


@pytest.mark.parametrize(
    ("short", "year"), [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000)]
)
def test_two_digits_of_a_year_are_never_more_than_fifty_years_ahead(short: str, year: int) -> None:
    # RFC 9110 §5.6.7; NOW is in 2026
    long = http_date(f"Sun, 06 Nov {year} 08:49:37 GMT", NOW)
    assert http_date(f"Sunday, 06-Nov-{short} 08:49:37 GMT", NOW) == long


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        "-1",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 2026 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun Nov  6 08:49:37 0000",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_date_is_none(text: str | None) -> None:
    assert http_date(text, NOW) is None


@given(st.integers(0, 4_000_000_000))
def test_a_rendered_date_reads_as_itself(unix_s: int) -> None:
    assert http_date(rendered_date(unix_s), NOW) == unix_s


@given(GARBAGE, st.integers(0, 4_000_000_000))
def test_nothing_that_a_peer_sends_breaks_the_reading(value: str, now: int) -> None:
    http_date(value, now)
    delta_seconds(value)
    entity_tags(value)
    targeted_directives(value)
    found = directives(value)
    for name in found.found:
        found.seconds(name)
        found.names(name)


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"a", W/"b",""', ('"a"', 'W/"b"', '""')),
        ('"a,b"', ('"a,b"',)),
        (" * ", ("*",)),
        ('w/"a"', ('"a"',)),
        ("a", ()),
        (None, ()),
    ],
)
def test_a_list_of_entity_tags(value: str | None, tags: tuple[str, ...]) -> None:
    assert entity_tags(value) == tags


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        # RFC 9110 §8.8.3.2, its own table
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
    ],
)
def test_tags_compare_strongly_and_weakly(one: str, other: str, strong: bool, weak: bool) -> None:
    assert strongly_equal(one, other) == strongly_equal(other, one) == strong
    assert weakly_equal(one, other) == weakly_equal(other, one) == weak
