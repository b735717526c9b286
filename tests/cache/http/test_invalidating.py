"""What an unsafe request makes doubtful: its own target and what is named at the same origin, nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.invalidating import invalidated
from cache.http.messages import Request, Response
from tests.cache.http.building import GARBAGE, HOSTILE_REQUESTS, HOSTILE_RESPONSES, TARGET, request, response

SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"]
UNSAFE = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "UNHEARD-OF", "get"]


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("status", [200, 201, 204, 302, 303, 399])
def test_an_unsafe_request_that_succeeds_casts_doubt_on_its_target(method: str, status: int) -> None:
    # RFC 9111 §4.4
    assert invalidated(request(method), response(status)) == (TARGET,)


@pytest.mark.parametrize("method", SAFE)
def test_a_safe_request_casts_doubt_on_nothing(method: str) -> None:
    assert invalidated(request(method), response(200, location="/other")) == ()


@pytest.mark.parametrize("status", [400, 404, 409, 412, 500, 503, 599])
def test_an_unsafe_request_that_fails_casts_doubt_on_nothing(status: int) -> None:
    assert invalidated(request("PUT"), response(status, location="/other")) == ()


def test_an_unsafe_request_casts_doubt_on_its_own_target_and_on_what_it_names_at_the_same_origin() -> None:
    told = response(201, location="/new?x=1", content_location="http://origin/list")
    assert invalidated(request("POST"), told) == (TARGET, "http://origin/new?x=1", "http://origin/list")


@pytest.mark.parametrize(
    "location", ["http://other/new", "https://origin/new", "http://origin:8080/new", "//other/new"]
)
def test_nothing_at_another_origin_is_doubted(location: str) -> None:
    told = response(201, location=location, content_location=location)
    assert invalidated(request("POST"), told) == (TARGET,)


@pytest.mark.parametrize(
    "location",
    [
        "/new#row",
        "http://ORIGIN/new",
        "HTTP://origin:80/new",
        "http://origin:80/new#row",
        "http://a@origin/new",
    ],
)
def test_what_is_named_is_written_as_requests_for_it_are(location: str) -> None:
    assert invalidated(request("POST"), response(201, location=location)) == (TARGET, "http://origin/new")


def test_the_root_is_named_without_its_slash_too() -> None:
    assert invalidated(request("POST"), response(201, location="http://origin"))[1] == "http://origin/"


def test_what_is_named_twice_is_doubted_once() -> None:
    told = response(200, location=TARGET, content_location="timetable")
    assert invalidated(request("PUT"), told) == (TARGET,)


@pytest.mark.parametrize(
    "location", ["", "http://[", "http://origin:port/", "http://origin:99999/", "mailto:a@b"]
)
def test_what_names_nothing_is_passed_over(location: str) -> None:
    assert invalidated(request("PUT"), response(200, location=location)) == (TARGET,)


@given(HOSTILE_REQUESTS, HOSTILE_RESPONSES | GARBAGE.map(lambda text: response(201, location=text)))
def test_whatever_a_peer_sends_only_the_same_origin_is_doubted(asked: Request, told: Response) -> None:
    for target in invalidated(asked, told):
        there = urlsplit(target)
        assert (there.scheme, there.netloc) == ("http", "origin")
        assert not there.fragment


@given(st.sampled_from(UNSAFE), st.integers(200, 399), GARBAGE)
def test_the_target_itself_is_doubted_whatever_the_answer_names(method: str, status: int, text: str) -> None:
    assert invalidated(request(method), response(status, location=text, content_location=text))[0] == TARGET
