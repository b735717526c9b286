"""Ids of requests: each one its own, in a form that the logs are searched by."""

from __future__ import annotations

from gateway.request_ids import RequestIds
from gateway.request_story import REQUEST_ID


def test_ids_differ_within_a_worker_and_between_workers() -> None:
    one, other = RequestIds(), RequestIds()
    made = [each.next() for each in (one, other) for _ in range(100)]
    assert len(set(made)) == len(made)


def test_an_id_has_the_form_that_logs_are_searched_by() -> None:
    assert REQUEST_ID.fullmatch(RequestIds().next().decode())
