"""Spans count bytes, and a reference means a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.messages import Span
from tests.cache.http.building import GARBAGE, request


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 1000))
def test_a_span_holds_everything_when_nothing_is_before_or_after_it(
    first: int, length: int, rest: int
) -> None:
    span = Span(first, first + length - 1, first + length + rest)
    assert span.length == length
    assert span.everything == (first == rest == 0)


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        # RFC 3986 §5.4, as from a Location field (RFC 9110 §10.2.2)
        ("/b", "http://origin/b"),
        ("b?x=1", "http://origin/a/b?x=1"),
        ("", "http://origin/a/one?y=2"),
        ("?x=1", "http://origin/a/one?x=1"),
        ("//other/b", "http://other/b"),
        ("http://other/b#there", "http://other/b"),
        ("/b#there", "http://origin/b"),
    ],
)
def test_a_reference_is_resolved_against_the_target_and_loses_its_fragment(
    reference: str, target: str
) -> None:
    assert request("GET", "http://origin/a/one?y=2").resolved(reference) == target


def test_a_reference_to_no_address_means_nothing() -> None:
    assert request().resolved("http://[") is None


@given(GARBAGE)
def test_no_reference_breaks_anything(reference: str) -> None:
    request().resolved(reference)
