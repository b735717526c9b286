"""What to do with a request, and what becomes of an origin's answer: every use of a stored response by its rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cache.http import engine
from cache.http.age import Manner
from cache.http.engine import ERRORS
from cache.http.fields import Fields
from cache.http.messages import Request, Response, Span, Stored
from tests.cache.building import NOW
from tests.cache.http.building import (
    LENGTH,
    MINUTE,
    PRIVATE,
    TARGET,
    answered,
    date,
    forwarded,
    received,
    request,
    response,
    stored,
)

FRESH = stored(cache_control=MINUTE, etag='"a"', last_modified=date(-60))
STALE_S = 100
FORBID_STALE = ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache", 'no-cache="x"']


def saying(
    *more: str,
    status: int = 200,
    asked: Request | None = None,
    span: Span | None = None,
    **values: str,
) -> Stored:
    """A response that is fresh for a minute, and says more."""
    said = {"cache_control": ", ".join((MINUTE, *more)), "etag": '"a"', **values}
    return stored("one", said, status=status, asked=asked, span=span)


# What one client's request may change for all


def spoilt(asked: Request, told: Response) -> tuple[str, ...]:
    """What is dropped when a client has the origin say that."""
    return received(forwarded(asked, [FRESH]), told).drop


@pytest.mark.parametrize("status", [400, 401, 403, 408, 413, 417, 431])
def test_eviction_by_refusal_what_a_client_brought_on_itself_drops_nothing(status: int) -> None:
    assert spoilt(request(cache_control="no-cache"), response(status)) == ()


def test_eviction_by_content_by_right_or_by_wish_nobody_drops_what_all_read() -> None:
    told = response(cache_control="no-store")
    assert spoilt(request(content_length="1"), told) == ()
    assert spoilt(request(cache_control="no-cache", authorization="mine"), told) == ()
    assert spoilt(request(cache_control="no-cache, no-store"), told) == ()


@pytest.mark.parametrize("status", [200, 301, 404, 410])
def test_what_the_page_has_become_drops_what_it_was(status: int) -> None:
    assert spoilt(request(cache_control="no-cache"), response(status, cache_control="no-store")) == (
        FRESH.id,
    )


@pytest.mark.parametrize(
    "own", [{"authorization": "mine", "cache_control": "no-cache"}, {"cache_control": "no-cache, no-store"}]
)
def test_a_head_by_right_or_by_wish_casts_no_doubt(own: dict[str, str]) -> None:
    told = response(cache_control=MINUTE, etag='"other"')
    doubted = [one.doubted for one in received(forwarded(request("HEAD", **own), [FRESH]), told).freshen]
    assert True not in doubted


def test_a_refresh_behind_the_clients_back_is_made_by_nobody() -> None:
    one = saying("stale-while-revalidate=900")
    asked = request("HEAD", authorization="mine", cache_control="no-store", pragma="x", foo="1")
    public = msgspec.structs.replace(one, fields=one.fields)
    answer = answered(asked, [public], after_s=STALE_S)
    assert answer.refresh is not None
    assert answer.refresh.asked == Request("GET", TARGET, Fields((("foo", "1"),)))


@pytest.mark.parametrize("name", ["content_digest", "content_md5"])
def test_no_part_has_the_digest_of_the_whole_nor_the_whole_that_of_a_part(name: str) -> None:
    # RFC 9530 §2
    said: dict[str, Any] = {name: "sha-256=:AA==:"}
    part = answered(request(range="bytes=0-1"), [saying(**said)]).response
    assert part.status == 206
    assert name.replace("_", "-") not in part.fields
    held = saying(status=206, span=Span(0, 4, LENGTH), content_range="bytes 0-4/10", **said)
    rest = response(206, etag='"a"', content_range="bytes 5-9/10", cache_control=MINUTE)
    combined = received(forwarded(request(), [held]), rest).combine
    assert combined is not None
    assert name.replace("_", "-") not in combined.fields


# Asking without the client's own conditions


def test_unconditionally_the_origin_hears_of_no_validator_but_the_stored_ones() -> None:
    asked = request(if_none_match='"x"', if_modified_since=date(-9), foo="1")
    assert engine.unconditional(forwarded(asked, [])).fields.lines == (("foo", "1"),)
    validating = engine.unconditional(forwarded(asked, [FRESH], after_s=STALE_S))
    assert validating.fields.all("if-none-match") == ['"a"']
    assert validating.fields.all("if-modified-since") == [date(-60)]


def test_unconditionally_a_range_stays_unless_it_hangs_on_a_condition() -> None:
    alone, hanging = request(range="bytes=0-1"), request(range="bytes=0-1", if_range='"x"')
    assert "range" in engine.unconditional(forwarded(alone, [])).fields
    assert engine.unconditional(forwarded(hanging, [])).fields == Fields()


def test_unconditionally_the_rest_of_what_is_held_is_asked_for_as_ever() -> None:
    forward = forwarded(request(if_none_match='"x"'), [PART])
    assert engine.unconditional(forward) == forward.request


# Looking (RFC 9111 §4)


def test_a_fresh_response_is_the_answer_with_its_age_and_its_length() -> None:
    answer = answered(request(), [FRESH], after_s=25)
    assert (answer.response.status, answer.stored, answer.span, answer.body) == (200, FRESH, None, True)
    assert answer.response.fields.all("age") == ["25"]
    assert answer.response.fields.all("content-length") == [str(LENGTH)]
    assert answer.cache_status == "massar; hit; ttl=35"
    assert answer.refresh is None


def test_an_age_that_nobody_can_represent_is_the_largest() -> None:
    # §1.2.2
    one = stored(cache_control=f"max-age={2**31}", age=str(2**31 - 1))
    assert answered(request(), [one]).response.fields.all("age") == [str(2**31 - 1)]
    ancient = saying("stale-while-revalidate=2147483648", age=str(2**40))
    assert answered(request(), [ancient]).response.fields.all("age") == [str(2**31)]


def test_a_head_is_answered_from_a_stored_get_without_its_body() -> None:
    answer = answered(request("HEAD"), [FRESH])
    assert not answer.body
    assert answer.response.fields.all("content-length") == [str(LENGTH)]


@pytest.mark.parametrize("status", [204, 205])
def test_a_status_that_has_no_content_gets_no_length(status: int) -> None:
    assert "content-length" not in answered(request(), [saying(status=status)]).response.fields


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_another_method_goes_to_the_origin(method: str) -> None:
    forward = forwarded(request(method), [FRESH])
    assert (forward.reason, forward.request, forward.validating) == ("method", request(method), ())


@pytest.mark.parametrize("condition", ["if_match", "if_unmodified_since"])
def test_a_condition_that_only_the_origin_can_judge_goes_to_it_untouched(condition: str) -> None:
    # RFC 9110 §13.1.1, §13.1.4
    asked = request(**{condition: '"a"'})
    forward = forwarded(asked, [FRESH])
    assert (forward.reason, forward.request) == ("request", asked)


def test_what_is_not_there_is_asked_for_as_the_client_asked() -> None:
    asked = request(if_none_match='"x"', range="bytes=0-1")
    forward = forwarded(asked)
    assert (forward.reason, forward.request, forward.fallback) == ("uri-miss", asked, None)


def test_a_stale_response_is_validated() -> None:
    forward = forwarded(request(), [FRESH], after_s=STALE_S)
    assert (forward.reason, forward.validating, forward.known) == ("stale", (FRESH,), (FRESH,))
    assert forward.request.fields.all("if-none-match") == ['"a"']


def test_a_stale_response_without_a_validator_is_asked_for_anew() -> None:
    forward = forwarded(request(), [stored(cache_control=MINUTE)], after_s=STALE_S)
    assert (forward.validating, forward.request) == ((), request())


def test_a_doubted_response_is_validated_however_fresh_it_is() -> None:
    # §4.4
    doubted = msgspec.structs.replace(FRESH, doubted=True)
    forward = forwarded(request(cache_control="max-stale"), [doubted])
    assert (forward.reason, forward.validating, forward.fallback) == ("stale", (doubted,), None)


def test_no_cache_in_the_response_has_it_validated_each_time() -> None:
    # §5.2.2.4
    assert forwarded(request(), [saying("no-cache")]).validating


def test_no_cache_of_some_fields_lets_the_rest_be_used() -> None:
    assert answered(request(), [saying('no-cache="x"')])


# What the request says (§5.2.1, §5.4)


@pytest.mark.parametrize(
    "said",
    [
        {"cache_control": "no-cache"},
        {"pragma": "No-Cache"},
        {"cache_control": "max-age=24"},
        {"cache_control": "max-age=0"},
        {"cache_control": "max-age=soon"},
        {"cache_control": "min-fresh=36"},
    ],
    ids=str,
)
def test_a_client_may_have_a_fresh_response_validated(said: dict[str, str]) -> None:
    forward = forwarded(request(**said), [FRESH], after_s=25)
    assert (forward.reason, forward.validating) == ("request", (FRESH,))


@pytest.mark.parametrize(
    "said",
    [
        {"cache_control": "max-age=25"},
        {"cache_control": "min-fresh=35"},
        {"pragma": "no-cache", "cache_control": "max-stale"},
    ],
    ids=str,
)
def test_a_client_whose_wishes_are_met_gets_it_from_the_store(said: dict[str, str]) -> None:
    assert answered(request(**said), [FRESH], after_s=25)


@pytest.mark.parametrize("said", ["max-stale", "max-stale=40"])
def test_a_client_may_take_it_stale(said: str) -> None:
    answer = answered(request(cache_control=said), [FRESH], after_s=STALE_S)
    assert answer.cache_status == "massar; hit; ttl=-40"


@pytest.mark.parametrize("said", ["max-stale=39", "max-stale=0", "max-stale=x", "max-stale, max-stale=50"])
def test_a_client_gets_nothing_staler_than_it_takes(said: str) -> None:
    assert forwarded(request(cache_control=said), [FRESH], after_s=STALE_S)


@pytest.mark.parametrize("said", FORBID_STALE)
def test_a_response_that_must_not_be_used_stale_is_not_whoever_would_take_it(said: str) -> None:
    # §5.2.2.2, §5.2.2.4, §5.2.2.8, §5.2.2.10
    one = saying(said, "stale-while-revalidate=600", "stale-if-error=600")
    forward = forwarded(request(cache_control="max-stale, stale-if-error=600"), [one], after_s=STALE_S)
    assert forward.fallback is None


@pytest.mark.parametrize("said", ["proxy-revalidate", "s-maxage=60"])
def test_what_binds_shared_caches_does_not_bind_one_of_ones_own(said: str) -> None:
    assert answered(request(cache_control="max-stale"), [saying(said)], after_s=STALE_S, manner=PRIVATE)


def test_an_age_that_cannot_be_believed_is_staler_than_any_client_takes() -> None:
    assert forwarded(request(cache_control="max-stale"), [saying(age="1, 2")])


def test_who_wants_only_what_is_stored_gets_that_or_a_504() -> None:
    # §5.2.1.7
    asked = request(cache_control="only-if-cached")
    assert answered(asked, [FRESH]).response.status == 200
    missing = answered(asked, [FRESH], after_s=STALE_S)
    assert (missing.response.status, missing.stored, missing.body) == (504, None, False)


def test_what_was_not_forwarded_is_not_said_to_be() -> None:
    # RFC 9211 §2.2
    assert "fwd" not in answered(request(cache_control="only-if-cached"), []).cache_status


# Stale while it is validated (RFC 5861 §3)


def test_within_its_window_it_is_used_stale_and_validated_behind() -> None:
    one = saying("stale-while-revalidate=40")
    asked = request(if_none_match='"z"', range="bytes=99-", foo="1")
    answer = answered(asked, [one], after_s=STALE_S)
    assert answer.refresh is not None
    assert answer.refresh.validating == (one,)
    assert dict(answer.refresh.request.fields.lines) == {"foo": "1", "if-none-match": '"a"'}


@pytest.mark.parametrize("said", ["stale-while-revalidate=39", "stale-while-revalidate=x"])
def test_beyond_its_window_it_is_not(said: str) -> None:
    assert forwarded(request(), [saying(said)], after_s=STALE_S)


# Vary (§4.1)


def test_another_selecting_value_is_a_miss_that_asks_about_the_variants_there_are() -> None:
    one = saying(vary="Foo", asked=request(foo="1"))
    forward = forwarded(request(foo="2"), [one])
    assert (forward.reason, forward.validating, forward.fallback) == ("vary-miss", (one,), None)


@pytest.mark.parametrize("own", [{"range": "bytes=0-1"}, {"cache_control": "no-store"}], ids=str)
def test_a_miss_that_could_not_use_another_variant_does_not_ask_about_it(own: dict[str, str]) -> None:
    one = saying(vary="Foo", asked=request(foo="1"))
    assert forwarded(request(foo="2", **own), [one]).validating == ()


# Conditions and ranges of the client


def test_a_condition_that_holds_gets_a_304_with_what_a_304_tells() -> None:
    one = saying(server="s", content_type="text/plain")
    answer = answered(request(if_none_match='"a"'), [one])
    assert (answer.response.status, answer.body) == (304, False)
    assert {name for name, _ in answer.response.fields.lines} == {"date", "cache-control", "etag", "age"}


@pytest.mark.parametrize("status", [203, 301, 404])
def test_only_a_200_can_be_not_modified_or_parted(status: int) -> None:
    asked = request(if_none_match='"a"', range="bytes=0-1")
    assert answered(asked, [saying(status=status)]).response.status == status


def test_a_range_is_answered_in_part() -> None:
    answer = answered(request(range="bytes=2-4"), [FRESH])
    assert (answer.response.status, answer.span) == (206, Span(2, 4, LENGTH))
    assert answer.response.fields.all("content-range") == ["bytes 2-4/10"]
    assert answer.response.fields.all("content-length") == ["3"]


@pytest.mark.parametrize("said", ["bytes=10-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_what_there_is(said: str) -> None:
    # RFC 9110 §15.5.17
    answer = answered(request(range=said), [FRESH])
    assert (answer.response.status, answer.body) == (416, False)
    assert answer.response.fields.all("content-range") == ["bytes */10"]


@pytest.mark.parametrize(
    ("method", "more"), [("HEAD", {}), ("GET", {"if_range": '"b"'})], ids=["HEAD", "If-Range"]
)
def test_a_range_that_does_not_count_gets_all(method: str, more: dict[str, str]) -> None:
    answer = answered(request(method, range="bytes=0-1", **more), [FRESH])
    assert (answer.response.status, answer.span) == (200, None)


PART = saying(status=206, span=Span(0, 4, LENGTH), content_range="bytes 0-4/10")


def test_a_part_gives_what_is_in_it() -> None:
    answer = answered(request(range="bytes=1-2"), [PART])
    assert (answer.response.status, answer.span) == (206, Span(1, 2, LENGTH))
    assert answer.response.fields.all("content-range") == ["bytes 1-2/10"]


@pytest.mark.parametrize("asked", [request(range="bytes=3-6"), request("HEAD"), request(range="bytes=20-")])
def test_a_part_is_no_answer_to_more_than_is_in_it(asked: Request) -> None:
    assert forwarded(asked, [PART]).reason == "partial"


def test_a_part_that_holds_all_is_the_whole() -> None:
    # §3.4
    one = saying(status=206, span=Span(0, 9, LENGTH), content_range="bytes 0-9/10")
    answer = answered(request(), [one])
    assert (answer.response.status, answer.span, answer.body) == (200, None, True)
    assert "content-range" not in answer.response.fields
    assert answered(request(range="bytes=10-"), [one]).response.status == 416


def test_of_a_part_from_the_beginning_only_the_rest_is_asked_for() -> None:
    forward = forwarded(request(if_none_match='"x"'), [PART])
    assert forward.completing == PART
    assert dict(forward.request.fields.lines) == {"range": "bytes=5-", "if-range": '"a"'}


@pytest.mark.parametrize(
    "part",
    [
        saying(status=206, span=Span(1, 4, LENGTH)),
        saying(status=206, span=Span(0, 4, LENGTH), etag='W/"a"'),
        stored(status=206, span=Span(0, 4, LENGTH), cache_control=MINUTE),
    ],
    ids=["not the beginning", "weak", "no tag"],
)
def test_a_part_that_cannot_be_completed_surely_is_asked_for_as_a_whole(part: Stored) -> None:
    forward = forwarded(request(), [part])
    assert (forward.completing, forward.request) == (None, request())


# Waiting for another's answer (§4)


@pytest.mark.parametrize(
    ("own", "shares"),
    [
        ({}, True),
        ({"accept": "x"}, True),
        ({"authorization": "Bearer x"}, False),
        ({"cache_control": "max-age=5"}, False),
        ({"pragma": "x"}, False),
        ({"range": "bytes=0-1"}, False),
        ({"if_none_match": '"a"'}, False),
    ],
    ids=str,
)
def test_others_wait_only_for_an_answer_that_may_be_theirs(own: dict[str, str], shares: bool) -> None:
    assert forwarded(request(**own)).shareable == shares
    assert not forwarded(request("POST", **own)).shareable


# The origin's answer


def test_what_may_be_stored_is_stored_under_its_selecting_values() -> None:
    told = response(cache_control=MINUTE, vary="Foo", connection="close")
    outcome = received(forwarded(request(foo="1")), told, after_s=5)
    assert outcome.store == Stored(
        id="new",
        status=200,
        fields=Fields().replaced(date=date(), cache_control=MINUTE, vary="Foo"),
        selecting=(("foo", "1"),),
        requested_at=NOW + 5,
        received_at=NOW + 5,
    )
    assert (outcome.answer, outcome.response) == (None, told)
    assert outcome.cache_status == "massar; fwd=uri-miss; fwd-status=200"


@pytest.mark.parametrize(
    "told",
    [response(cache_control="no-store"), response(cache_control=MINUTE, vary="*")],
    ids=["no-store", "*"],
)
def test_what_may_not_be_stored_or_never_be_selected_is_passed_on(told: Response) -> None:
    outcome = received(forwarded(request()), told)
    assert (outcome.store, outcome.response) == (None, told)
    assert outcome.cache_status == "massar; fwd=uri-miss; fwd-status=200"


@pytest.mark.parametrize("status", [200, 301, 404, 501])
def test_an_answer_takes_the_place_of_those_the_request_selects(status: int) -> None:
    other = msgspec.structs.replace(saying(vary="Foo", asked=request(foo="2")), id="other")
    forward = forwarded(request(cache_control="no-cache"), [FRESH, other])
    assert received(forward, response(status)).drop == ("one",)


@pytest.mark.parametrize("status", [304, 412, 416, *sorted(ERRORS)])
def test_an_error_or_an_answer_to_ones_own_condition_takes_no_ones_place(status: int) -> None:
    forward = forwarded(request(if_match='"x"', if_none_match='"y"'), [FRESH])
    outcome = received(forward, response(status, cache_control=MINUTE, last_modified=date()))
    assert (outcome.drop, outcome.freshen) == ((), ())


def test_a_part_takes_the_place_of_parts_alone() -> None:
    part = msgspec.structs.replace(PART, id="part")
    forward = forwarded(request(range="bytes=5-9", cache_control="no-cache"), [FRESH, part])
    assert received(forward, response(206, content_range="bytes 5-9/10")).drop == ("part",)


def test_an_unsafe_request_invalidates_and_drops_nothing() -> None:
    outcome = received(forwarded(request("PUT"), [FRESH]), response(201, location="/new"))
    assert (outcome.invalidate, outcome.drop) == ((TARGET, "http://origin/new"), ())


def test_an_answer_to_a_post_may_be_stored_beside_its_invalidation() -> None:
    told = response(cache_control=MINUTE, content_location=TARGET)
    outcome = received(forwarded(request("POST")), told)
    assert outcome.store is not None
    assert outcome.invalidate == (TARGET,)


# A 304 to our question (§4.3.3, §4.3.4)


def test_a_304_freshens_what_it_names_and_the_answer_is_made_from_it() -> None:
    forward = forwarded(request(), [FRESH], after_s=STALE_S)
    outcome = received(forward, response(304, etag='"a"', x_new="1", date=date(STALE_S)), after_s=STALE_S)
    (fresh,) = outcome.freshen
    assert outcome.answer is not None
    assert outcome.answer.stored == fresh
    assert outcome.answer.response.fields.all("age") == ["0"]
    assert outcome.answer.cache_status == "massar; fwd=stale; fwd-status=304; ttl=60"
    assert answered(request(), [fresh], after_s=STALE_S + 59).response.fields.get("x-new") == "1"


def test_after_a_304_the_clients_own_condition_is_judged() -> None:
    forward = forwarded(request(if_none_match='"a"'), [FRESH], after_s=STALE_S)
    outcome = received(forward, response(304, etag='"a"'), after_s=STALE_S)
    assert outcome.answer is not None
    assert outcome.answer.response.status == 304


def test_a_304_of_what_nobody_has_asks_again_for_all() -> None:
    asked = request(if_modified_since=date(-5), range="bytes=0-1", foo="1")
    outcome = received(forwarded(asked, [FRESH], after_s=STALE_S), response(304, etag='"zzz"'))
    assert (outcome.answer, outcome.freshen) == (None, ())
    assert outcome.again is not None
    assert outcome.again.request == request(foo="1")
    assert outcome.again.validating == ()


def test_a_304_of_what_the_client_has_is_passed_on() -> None:
    forward = forwarded(request(if_none_match='"x"'), [FRESH], after_s=STALE_S)
    outcome = received(forward, response(304, etag='"x"'))
    assert (outcome.answer, outcome.again, outcome.freshen, outcome.drop) == (None, None, (), ())
    assert outcome.response.status == 304


def test_a_304_that_says_no_store_still_answers_this_request() -> None:
    forward = forwarded(request(), [FRESH], after_s=STALE_S)
    outcome = received(forward, response(304, etag='"a"', cache_control="no-store"))
    assert outcome.answer is not None
    assert [one.doubted for one in outcome.freshen] == [True]


# A HEAD's answer (§4.3.5)


def test_a_head_freshens_what_it_tells_of() -> None:
    outcome = received(forwarded(request("HEAD"), [FRESH], after_s=STALE_S), response(), after_s=STALE_S)
    assert [(one.id, one.received_at, one.doubted) for one in outcome.freshen] == [
        ("one", NOW + STALE_S, False)
    ]
    assert (outcome.store, outcome.answer) == (None, None)


def test_a_head_casts_doubt_on_what_it_contradicts_and_changes_nothing_else_of_it() -> None:
    forward = forwarded(request("HEAD"), [FRESH], after_s=STALE_S)
    outcome = received(forward, response(etag='"b"', server="new"), after_s=STALE_S)
    assert outcome.freshen == (msgspec.structs.replace(FRESH, doubted=True),)


def test_a_head_tells_nothing_of_variants_it_would_not_have_got_nor_of_errors() -> None:
    variant = saying(vary="Foo", asked=request(foo="1"), etag='"b"')
    missing = stored(status=404, cache_control="max-age=0")
    forward = forwarded(request("HEAD", foo="2"), [variant, missing])
    assert received(forward, response(etag='"a"')).freshen == ()


@pytest.mark.parametrize("status", [204, 404, 500])
def test_a_head_that_fails_tells_nothing(status: int) -> None:
    forward = forwarded(request("HEAD"), [FRESH], after_s=STALE_S)
    assert received(forward, response(status, etag='"b"')).freshen == ()


def test_a_304_to_a_head_freshens_and_answers_without_a_body() -> None:
    forward = forwarded(request("HEAD"), [FRESH], after_s=STALE_S)
    outcome = received(forward, response(304, etag='"a"'), after_s=STALE_S)
    assert outcome.answer is not None
    assert (outcome.answer.response.status, outcome.answer.body) == (200, False)


# Errors (RFC 5861 §4, RFC 9111 §4.2.4)


@pytest.mark.parametrize("status", sorted(ERRORS))
@pytest.mark.parametrize(
    ("said", "asked"),
    [("stale-if-error=40", None), ("max-age=60", "stale-if-error=40")],
    ids=["the response", "the request"],
)
def test_a_stale_response_stands_in_for_an_error_where_either_side_allows(
    status: int, said: str, asked: str | None
) -> None:
    one = saying(said)
    forward = forwarded(request(**({"cache_control": asked} if asked else {})), [one], after_s=STALE_S)
    outcome = received(forward, response(status), after_s=STALE_S)
    assert outcome.answer is not None
    assert outcome.answer.stored == one
    assert outcome.answer.cache_status == f"massar; fwd=stale; fwd-status={status}; ttl=-40"
    assert outcome.drop == ()


@pytest.mark.parametrize("said", ["stale-if-error=39", "stale-if-error=x", "public"])
def test_beyond_its_window_the_error_is_passed_on(said: str) -> None:
    outcome = received(forwarded(request(), [saying(said)], after_s=STALE_S), response(500))
    assert (outcome.answer, outcome.response.status) == (None, 500)


@pytest.mark.parametrize("status", [400, 404, 501, 505])
def test_what_is_not_such_an_error_is_passed_on(status: int) -> None:
    forward = forwarded(request(), [saying("stale-if-error=600")], after_s=STALE_S)
    assert received(forward, response(status)).answer is None


def test_a_client_that_wants_it_validated_gets_the_error() -> None:
    forward = forwarded(request(cache_control="no-cache"), [saying("stale-if-error=600")])
    assert forward.fallback is None


@pytest.mark.parametrize(("timed_out", "status"), [(False, 502), (True, 504)])
def test_without_an_answer_or_anything_to_stand_in_the_gateway_says_so(timed_out: bool, status: int) -> None:
    answer = engine.fail(forwarded(request(), [FRESH], after_s=STALE_S), NOW, Manner(), timed_out=timed_out)
    assert (answer.response.status, answer.stored, answer.body) == (status, None, False)
    assert answer.cache_status == "massar; fwd=stale"


def test_without_an_answer_a_stale_response_stands_in() -> None:
    forward = forwarded(request(), [saying("stale-if-error=600")], after_s=STALE_S)
    answer = engine.fail(forward, NOW + STALE_S, Manner())
    assert answer.stored == forward.fallback
    assert answer.cache_status == "massar; fwd=stale; ttl=-40"


# The rest of a part (§3.4)


def test_the_rest_of_a_part_makes_it_whole() -> None:
    told = response(206, content_range="bytes 5-9/10", etag='"a"', cache_control=MINUTE, x_new="1")
    outcome = received(forwarded(request(), [PART]), told, after_s=5)
    assert outcome.combine is not None
    assert (outcome.combine.status, outcome.combine.received_at) == (200, NOW + 5)
    assert dict(outcome.combine.fields.lines) == {
        "date": date(),
        "etag": '"a"',
        "cache-control": MINUTE,
        "x-new": "1",
    }
    assert outcome.drop == ("one",)


@pytest.mark.parametrize(
    "told",
    [
        response(206, content_range="bytes 5-9/10", etag='"b"'),
        response(206, content_range="bytes 6-9/10", etag='"a"'),
        response(206, content_range="bytes 5-9/10", etag='"a"', cache_control="no-store"),
        response(416, content_range="bytes */3"),
    ],
    ids=["another", "a gap", "no-store", "shorter now"],
)
def test_a_rest_that_does_not_fit_or_may_not_be_kept_reaches_nobody(told: Response) -> None:
    # A client that asked for all gets neither a 206 nor a 416 (RFC 9110 §15.3.7).
    outcome = received(forwarded(request(foo="1"), [PART]), told)
    assert (outcome.combine, outcome.store, outcome.drop) == (None, None, ("one",))
    assert outcome.again is not None
    assert outcome.again.request == request(foo="1")
    assert outcome.again.completing is None


def test_the_whole_in_place_of_the_rest_is_stored_as_it_comes() -> None:
    outcome = received(forwarded(request(), [PART]), response(cache_control=MINUTE))
    assert outcome.store is not None
    assert (outcome.combine, outcome.store.span, outcome.drop) == (None, None, ("one",))
