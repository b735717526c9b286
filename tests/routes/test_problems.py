"""The one table of problems, and the language it is told in."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routes import problems
from routes.problems import (
    ADVICE,
    LANGUAGES,
    PROBLEMS,
    language_of,
    problem_details,
    render,
    row_problem,
    slug_of,
)

BASE = "https://massar.example/problems/"
ROWS = {"version-conflict", "mark-invalid", "pupil-not-in-class", "control-unknown", "pupil-dispensed"}


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_has_a_title_and_advice_in_every_language(slug: str) -> None:
    kind = PROBLEMS[slug]
    assert 400 <= kind.status < 600
    for language in LANGUAGES:
        assert kind.title(language).strip()
        assert kind.detail(language).strip()
        assert not kind.title(language).endswith(".")


def test_titles_tell_problems_apart() -> None:
    for language in LANGUAGES:
        titles = [kind.title(language) for kind in PROBLEMS.values()]
        assert len(titles) == len(set(titles)), language
    assert {kind.advice for kind in PROBLEMS.values()} == set(ADVICE)


@pytest.mark.parametrize("slug", PROBLEMS)
def test_a_problem_is_rendered_with_the_headers_its_status_asks_for(slug: str) -> None:
    status, headers, body = render(
        slug, language="ar", base_url=BASE, request_id="abc-1", retry_after_s=2.4, allow="GET"
    )
    named = dict(headers)
    assert len(named) == len(headers)
    assert status == PROBLEMS[slug].status == msgspec.json.decode(body)["status"]
    assert named[b"content-length"] == str(len(body)).encode()
    assert named[b"content-language"] == b"ar"
    assert (named[b"retry-after"], named[b"allow"]) == (b"2", b"GET")
    if status == 401:
        told = named[b"www-authenticate"]
        assert (b"invalid_token" in told) == (slug in {"token-invalid", "token-expired", "session-ended"})


def test_a_row_has_no_instance_so_that_a_replay_is_the_same_bytes() -> None:
    row = msgspec.to_builtins(row_problem("mark-invalid", language="en", base_url=BASE))
    assert row == {
        "type": BASE + "mark-invalid",
        "title": "Invalid mark",
        "status": 422,
        "detail": "Mend the request before repeating it.",
        "slug": "mark-invalid",
    }


def test_an_unknown_slug_is_internal() -> None:
    assert row_problem("upstream said so", language="fr", base_url=BASE).slug == "internal"
    assert problem_details("x", language="fr", base_url=BASE, request_id="a").status == 500


def test_the_pointer_stands_only_where_there_is_one() -> None:
    pointed = problem_details("bad-request", language="fr", base_url=BASE, request_id="a", pointer="/entries")
    assert b'"pointer":"/entries"' in msgspec.json.encode(pointed)
    plain = problem_details("bad-request", language="fr", base_url=BASE, request_id="a")
    assert b"pointer" not in msgspec.json.encode(plain)


@pytest.mark.parametrize(
    ("carried", "expected"),
    [
        ("not-found", "not-found"),
        ("etcd-unavailable", "internal"),
        (None, "internal"),
        (404, "internal"),
        ([], "internal"),
    ],
)
def test_an_exception_is_known_by_the_slug_it_carries(carried: object, expected: str) -> None:
    assert slug_of(type("Raised", (Exception,), {"slug": carried})()) == expected
    assert slug_of(ValueError()) == "internal"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "fr"),
        (b"", "fr"),
        (b"ar", "ar"),
        (b"AR-MA", "ar"),
        (b"en-US,en;q=0.9", "en"),
        (b"fr;q=0.5, en;q=0.9, ar;q=0.7", "en"),
        (b"fr;q=0.5,ar;q=0.50,en;q=0.4", "fr"),
        (b"de, es", "fr"),
        (b"de, ar;q=0.1", "ar"),
        (b"fr;q=0", "fr"),
        (b"fr;q=0, *", "ar"),
        (b"fr;q=0, ar;q=0, *;q=0.1", "en"),
        (b"*", "fr"),
        (b"*;q=0", "fr"),
        (b"en;q=2", "fr"),
        (b"en;q=nan, ar;q=0.1", "ar"),
        (b"en;q=x", "fr"),
        (b"en;level=1", "fr"),
        (b"en ; q=0.3 , ar ;q=0.2", "en"),
        (b"\xff\xfe", "fr"),
        (b"en," * 200, "fr"),
    ],
)
def test_the_language_is_the_best_of_those_asked_for(header: bytes | None, language: str) -> None:
    assert language_of(header) == language


@given(st.binary(max_size=300))
def test_any_header_at_all_has_a_language(header: bytes) -> None:
    assert language_of(header) in LANGUAGES
    assert len(problems._languages) <= problems.LANGUAGE_MEMO_MAX


def test_row_slugs_are_in_the_table() -> None:
    assert set(PROBLEMS) >= ROWS
