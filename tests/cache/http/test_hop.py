"""What ends at this hop goes no further, and what a gateway adds is there."""

from __future__ import annotations

import pytest
from hypothesis import given

from cache.http.fields import Fields
from cache.http.hop import arrived, onward, received
from cache.http.messages import HOP_BY_HOP, Request, Response
from tests.cache.building import NOW
from tests.cache.http.building import HOSTILE_REQUESTS, HOSTILE_RESPONSES, date, request


def sent(asked: Request) -> Request:
    """The request as the origin gets it."""
    onwards = onward(asked, via="massar")
    assert isinstance(onwards, Request)
    return onwards


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {"host", "expect"}))
def test_fields_for_this_hop_end_here(name: str) -> None:
    # RFC 9110 §7.6.1, §10.1.1
    assert name not in sent(Request("GET", "http://origin/", Fields(((name, "chunked"),)))).fields


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "x", "chunked, chunked"])
def test_request_smuggling_a_coding_that_would_go_on_untold_is_refused(coding: str) -> None:
    # RFC 9112 §6.1
    answer = onward(request("POST", transfer_encoding=coding), via="massar", with_content=True)
    assert isinstance(answer, Response)
    assert answer.status == 501


def test_an_empty_post_goes_on_as_one_and_a_get_announces_nothing() -> None:
    # RFC 9110 §8.6
    said = {"content_length": "0", "content_type": "text/plain"}
    assert "content-length" in sent(request("POST", **said)).fields
    assert "content-length" not in sent(request("GET", **said)).fields


def test_fields_that_connection_names_end_here_in_either_direction() -> None:
    given_ = Fields(
        (("connection", "close, X-Hop"), ("x-hop", "1"), ("x-far", "2"), ("connection", "X-2"), ("x-2", ""))
    )
    asked = received(Request("GET", "http://origin/", given_))
    assert dict(sent(asked).fields.lines).keys() == {"x-far", "via"}
    assert dict(arrived(Response(200, given_), NOW).fields.lines).keys() == {"x-far", "date"}


@pytest.mark.parametrize(
    "name", ["cache-control", "CDN-Cache-Control", "Vary", "set-cookie", "age", "expires", "content-encoding"]
)
def test_what_is_for_every_recipient_ends_at_no_hop_whatever_connection_says(name: str) -> None:
    # §7.6.1: a sender must not name it
    fields = Fields((("connection", f"close, {name}"), (name.lower(), "x")))
    assert name.lower() in arrived(Response(200, fields), NOW).fields
    assert name.lower() in received(Request("GET", "http://origin/", fields)).fields


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding"])
def test_request_smuggling_connection_hides_no_content(name: str) -> None:
    asked = Request("POST", "http://origin/", Fields((("connection", name), (name, "5"))))
    assert received(asked).has_content


def test_the_gateway_names_itself_after_those_before_it() -> None:
    # §7.6.3
    assert sent(request(via="1.0 fred")).fields.all("via") == ["1.0 fred", "1.1 massar"]


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("TRACE", 405)])
def test_a_request_that_may_go_no_further_is_answered_here(method: str, status: int) -> None:
    # §7.6.2
    answer = onward(request(method, max_forwards="0"), via="massar")
    assert isinstance(answer, Response)
    assert answer.status == status


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_every_hop_counts_one_off(method: str) -> None:
    assert sent(request(method, max_forwards="3")).fields.all("max-forwards") == ["2"]


def test_what_is_no_count_goes_on_as_it_came() -> None:
    assert sent(request("TRACE", max_forwards="many")).fields.all("max-forwards") == ["many"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_methods_are_not_counted(method: str) -> None:
    assert sent(request(method, max_forwards="0")).fields.all("max-forwards") == ["0"]


def test_a_response_without_a_date_gets_the_time_it_came() -> None:
    # §6.6.1
    assert arrived(Response(200), NOW).fields.lines == (("date", date()),)


def test_a_response_keeps_its_own_date() -> None:
    assert arrived(Response(200, Fields().replaced(date=date(-5))), NOW).fields.all("date") == [date(-5)]


@given(HOSTILE_REQUESTS, HOSTILE_RESPONSES)
def test_whatever_a_peer_sends_nothing_of_this_hop_goes_on(asked: Request, told: Response) -> None:
    passed = onward(asked, via="massar")
    for message in (passed, arrived(told, NOW)):
        assert not HOP_BY_HOP & {name for name, _ in message.fields.lines}
    assert "date" in arrived(told, NOW).fields
