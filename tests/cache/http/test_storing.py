"""What may be stored, and as what: nothing that is not known to be allowed."""

from __future__ import annotations

import pytest
from hypothesis import given

from cache.http.age import HEURISTIC_STATUSES, Manner
from cache.http.fields import Fields
from cache.http.messages import HOP_BY_HOP, Request, Response, Span
from cache.http.storing import forbidden, span_of, storable, stored_fields, withheld
from tests.cache.building import NOW
from tests.cache.http.building import (
    HOSTILE_REQUESTS,
    HOSTILE_RESPONSES,
    MANNERS,
    MINUTE,
    PRIVATE,
    REQUESTS,
    RESPONSES,
    SHARED,
    TARGET,
    request,
    response,
)

TARGETED = Manner(targeted=("cdn-cache-control",))


def may(told: Response, asked: Request | None = None, manner: Manner = SHARED) -> bool:
    return storable(asked or request(), told, NOW, manner)


# The conditions of RFC 9111 §3, one by one


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get", ""])
def test_only_the_answer_to_a_get_is_stored(method: str) -> None:
    assert may(response(cache_control=MINUTE))
    assert not may(response(cache_control=MINUTE), request(method))


@pytest.mark.parametrize("status", [100, 103, 199])
def test_no_interim_answer_is_stored(status: int) -> None:
    assert not may(response(status, cache_control=MINUTE))


@pytest.mark.parametrize("status", [304, 412, 416])
def test_no_answer_to_the_conditions_of_one_request_is_stored(status: int) -> None:
    # RFC 9110 §13.2, §14.2: others did not make them
    assert not may(response(status, cache_control=MINUTE))


@pytest.mark.parametrize("status", sorted(HEURISTIC_STATUSES - {206}))
def test_these_statuses_are_stored_without_a_word(status: int) -> None:
    assert may(response(status))


@pytest.mark.parametrize("status", [201, 302, 303, 307, 400, 401, 403, 451, 500, 502, 503, 504, 599])
@pytest.mark.parametrize(
    ("word", "manner"),
    [
        ({"cache_control": "max-age=0"}, SHARED),
        ({"cache_control": "s-maxage=60"}, SHARED),
        ({"cache_control": "public"}, SHARED),
        ({"cache_control": "private"}, PRIVATE),
        ({"expires": "0"}, SHARED),
    ],
    ids=["max-age", "s-maxage", "public", "private", "expires"],
)
def test_other_statuses_need_a_word(status: int, word: dict[str, str], manner: Manner) -> None:
    assert may(response(status, **word), manner=manner)
    assert not may(response(status), manner=manner)


def test_s_maxage_is_no_word_to_a_cache_of_one() -> None:
    assert not may(response(302, cache_control="s-maxage=60"), manner=PRIVATE)


@pytest.mark.parametrize("manner", [SHARED, PRIVATE], ids=["shared", "private"])
def test_no_store_is_obeyed_from_either_side(manner: Manner) -> None:
    # §5.2.1.5, §5.2.2.5
    assert not may(response(cache_control="public, max-age=60, NO-STORE"), manner=manner)
    assert not may(response(cache_control=MINUTE), request(cache_control="no-store"), manner)


@pytest.mark.parametrize("said", ["private", "public, private", 'private=""', 'private="x", private'])
def test_private_is_kept_out_of_a_shared_cache(said: str) -> None:
    # §5.2.2.7
    assert not may(response(cache_control=f"{MINUTE}, {said}"))
    assert may(response(cache_control=f"{MINUTE}, {said}"), manner=PRIVATE)


def test_private_of_some_fields_keeps_out_those_alone() -> None:
    told = response(cache_control=f'{MINUTE}, private="X-Who, Etag"', x_who="me", etag='"a"', server="s")
    assert may(told)
    assert {name for name, _ in stored_fields(told, SHARED).lines} == {"date", "cache-control", "server"}
    assert stored_fields(told, PRIVATE) == told.fields


def test_no_cache_of_some_fields_keeps_out_those_from_any_cache() -> None:
    # §5.2.2.4
    told = response(cache_control='no-cache="x-who"', x_who="me")
    assert "x-who" not in stored_fields(told, PRIVATE)


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        (MINUTE, False),
        ("private", False),
        ("proxy-revalidate, max-age=60", False),
        # §3.5
        ("must-revalidate", True),
        ("public", True),
        ("s-maxage=60", True),
    ],
)
def test_what_was_asked_for_with_authorization_needs_leave_to_be_shared(said: str, stays: bool) -> None:
    asked = request(authorization="Bearer x")
    assert may(response(cache_control=said), asked) == stays
    assert may(response(cache_control=said), asked, PRIVATE)


@pytest.mark.parametrize(
    ("status", "stays"), [(200, True), (404, True), (599, False), (299, False), (226, False)]
)
def test_must_understand_stands_above_no_store_where_the_status_is_understood(
    status: int, stays: bool
) -> None:
    # §5.2.2.3
    assert may(response(status, cache_control="max-age=60, must-understand, no-store")) == stays
    assert may(response(status, cache_control="max-age=60, must-understand")) == stays


def test_a_cookie_is_stored_unless_the_cache_is_told_to_keep_none() -> None:
    told = response(cache_control=MINUTE, set_cookie="a=b")
    assert may(told)
    assert not may(told, manner=Manner(keep_set_cookie=False))


def test_a_targeted_field_stands_for_cache_control() -> None:
    # RFC 9213 §2.2
    assert may(response(cache_control="no-store", cdn_cache_control=MINUTE), manner=TARGETED)
    assert not may(response(cache_control=MINUTE, cdn_cache_control="no-store"), manner=TARGETED)
    assert not may(response(cache_control="no-store", cdn_cache_control=f"{MINUTE},"), manner=TARGETED)


# POST (RFC 9110 §9.3.3)


@pytest.mark.parametrize("location", [TARGET, "/timetable", "", "timetable", "#there"])
def test_an_answer_to_a_post_that_tells_of_its_target_is_stored_for_a_later_get(location: str) -> None:
    assert may(response(cache_control=MINUTE, content_location=location), request("POST"))


@pytest.mark.parametrize(
    "location", ["/other", "http://other/timetable", "?x", "https://origin/timetable", "//["]
)
def test_an_answer_to_a_post_that_tells_of_another_target_is_not(location: str) -> None:
    assert not may(response(cache_control=MINUTE, content_location=location), request("POST"))


def test_an_answer_to_a_post_needs_a_location_and_an_explicit_lifetime() -> None:
    assert not may(response(cache_control=MINUTE), request("POST"))
    assert not may(response(cache_control="public", content_location=TARGET), request("POST"))


# Parts (§3.3)


def test_a_part_is_stored_as_the_part_it_is() -> None:
    part = response(206, content_range="bytes 0-4/10")
    assert may(part)
    assert span_of(part) == Span(0, 4, 10)


@pytest.mark.parametrize("said", ["bytes 0-4/*", "bytes 4-0/10", "lines 0-4/10", ""])
def test_a_part_of_what_nobody_knows_is_not_stored(said: str) -> None:
    assert not may(response(206, content_range=said, cache_control=MINUTE))
    assert not may(response(206, cache_control=MINUTE))


def test_what_is_no_part_is_whole_whatever_its_fields_say() -> None:
    assert span_of(response(200, content_range="bytes 0-4/10")) is None


# Fields (§3.1)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_fields_that_end_at_this_hop_are_not_stored(name: str) -> None:
    told = Response(200, Fields(((name, "x"), ("server", "s"))))
    assert stored_fields(told, SHARED).lines == (("server", "s"),)


def test_fields_that_nobody_knows_are_stored() -> None:
    told = Response(200, Fields((("x-new", "1"), ("x-new", "2"))))
    assert stored_fields(told, SHARED) == told.fields


# Whatever a peer sends


@given(REQUESTS | HOSTILE_REQUESTS, RESPONSES | HOSTILE_RESPONSES, MANNERS)
def test_what_is_forbidden_or_withheld_is_never_stored(
    asked: Request, told: Response, manner: Manner
) -> None:
    if forbidden(told, manner) or withheld(asked, told.fields, manner):
        assert not storable(asked, told, NOW, manner)


@given(REQUESTS, RESPONSES)
def test_no_store_private_and_authorization_keep_out_of_a_shared_cache_whatever_else_is_said(
    asked: Request, told: Response
) -> None:
    said = (told.fields.get("cache-control") or "").split(", ")
    leave = {"public", "must-revalidate"} & set(said) or any(one.startswith("s-maxage") for one in said)
    if storable(asked, told, NOW, SHARED):
        assert "no-store" not in said or "must-understand" in said
        assert "no-store" not in (asked.fields.get("cache-control") or "")
        assert "private" not in said
        assert leave or "authorization" not in asked.fields
