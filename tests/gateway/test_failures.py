"""From errors to problems: every error is one of the table's, in the caller's language, and says nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog
from litestar.exceptions import ClientException, NotAuthorizedException

from gateway.failures import Failures
from gateway.metrics import Metrics
from gateway.scope import LANGUAGE_KEY, REQUEST_ID_KEY
from routes.problems import PROBLEMS
from tests.gateway.people import PUPIL, TEACHER
from tests.gateway.world import World

BASE = "https://massar.example/problems/"
SECRET = "salma@famille.example 14.50"


def handled(error: Exception, *, language: str = "fr", metrics: Metrics | None = None) -> Any:
    failures = Failures(problem_base_url=BASE, metrics=metrics or Metrics())
    request: Any = SimpleNamespace(scope={REQUEST_ID_KEY: "abc-1", LANGUAGE_KEY: language})
    return failures.handle(request, error)


def raised(slug: str, **attributes: Any) -> Exception:
    error: Exception = type("Raised", (Exception,), {"slug": slug, **attributes})(SECRET)
    return error


@pytest.mark.parametrize("slug", PROBLEMS)
@pytest.mark.parametrize("language", ["fr", "ar", "en"])
def test_every_slug_becomes_its_problem(slug: str, language: str) -> None:
    answer = handled(raised(slug), language=language)
    problem = msgspec.json.decode(answer.content)
    kind = PROBLEMS[slug]
    assert problem == {
        "type": BASE + slug,
        "title": kind.title(language),
        "status": kind.status,
        "detail": kind.detail(language),
        "instance": "urn:request:abc-1",
        "slug": slug,
    }
    assert answer.status_code == kind.status
    assert answer.media_type == "application/problem+json"
    assert answer.headers["content-language"] == language
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) == (kind.status == 401)
    assert ("retry-after" in answer.headers) == (kind.status in {429, 503, 504})


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET),
        KeyError(SECRET),
        raised("etcd-unavailable"),
        raised("no-such-slug"),
        raised(7),  # type: ignore[arg-type]  # whatever an exception carries
        TimeoutError(SECRET),
    ],
)
def test_what_nobody_expected_is_internal_and_keeps_its_text_to_itself(error: Exception) -> None:
    metrics = Metrics()
    with structlog.testing.capture_logs() as logged:
        answer = handled(error, metrics=metrics)
    assert answer.status_code == 500
    assert msgspec.json.decode(answer.content)["slug"] == "internal"
    assert SECRET.encode() not in answer.content
    assert type(error).__name__.encode() not in answer.content
    assert metrics._events.labels("internal_error")._value.get() == 1
    (line,) = logged
    assert line["request_id"] == "abc-1"
    assert line["exc_info"] is error


def test_the_wait_an_error_asks_for_is_passed_on() -> None:
    assert handled(raised("overloaded", retry_after_s=4.0)).headers["retry-after"] == "4"
    assert handled(raised("overloaded", retry_after_s=0.2)).headers["retry-after"] == "1"
    assert handled(raised("overloaded", retry_after_s=None)).headers["retry-after"] == "1"
    assert handled(raised("idempotency-key-in-progress", retry_after_s=2.0)).headers["retry-after"] == "2"


def test_the_part_at_fault_is_named() -> None:
    assert (
        msgspec.json.decode(handled(raised("bad-request", pointer="/entries")).content)["pointer"]
        == "/entries"
    )


def test_what_the_framework_refuses_is_a_bad_request_without_its_text() -> None:
    for error in (ClientException(SECRET), NotAuthorizedException(SECRET)):
        answer = handled(error)
        assert (answer.status_code, msgspec.json.decode(answer.content)["slug"]) == (400, "bad-request")
        assert SECRET.encode() not in answer.content


# Through the whole gateway


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_a_path_that_nobody_has_is_404_for_every_method(shared: World, method: str) -> None:
    for path in ("/", "/v1", "/v2/me", "/v1/nothing", "/v1/pupils", "/metrics", "/internal/purge"):
        answer = await shared.ask(method, path)
        assert answer.status_code == 404
        assert method == "HEAD" or answer.json()["slug"] == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/me", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", f"/v1/pupils/{PUPIL}/grades", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/v1/auth/sessions", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("GET", "/v1/auth/tokens", {"POST", "OPTIONS"}),
        ("HEAD", "/v1/auth/tokens", {"POST", "OPTIONS"}),
        ("GET", "/v1/gradebooks/c/MATH/1/entries", {"PUT", "OPTIONS"}),
        ("BREW", "/v1/status", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_a_method_that_a_path_does_not_have_is_405_and_told_which_it_has(
    shared: World, method: str, path: str, allowed: set[str]
) -> None:
    answer = await shared.ask(method, path, who=TEACHER)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert method == "HEAD" or answer.json()["slug"] == "method-not-allowed"


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "fr"),
        ("ar", "ar"),
        ("en-GB, fr;q=0.9", "en"),
        ("fr;q=0.1, ar;q=0.8, en;q=0.5", "ar"),
        ("de, en;q=0.3", "en"),
        ("de", "fr"),
        ("fr;q=0, en;q=0.2", "en"),
        ("*;q=0.5, fr;q=0", "ar"),
    ],
)
async def test_problems_speak_the_callers_language(shared: World, accept: str | None, language: str) -> None:
    refused = [
        await shared.ask("GET", "/nothing", headers={"accept-language": accept} if accept else {}),
        await shared.ask("GET", "/v1//", headers={"accept-language": accept} if accept else {}),
    ]
    for answer in refused:
        assert answer.headers["content-language"] == language
        assert answer.json()["title"] == PROBLEMS["not-found"].title(language)
        assert answer.headers["vary"] == "Accept-Language"
        assert answer.json()["instance"] == "urn:request:" + answer.headers["massar-request-id"]


async def test_a_datacenters_own_words_never_reach_a_caller(world: World) -> None:
    from tests.gateway.origin import refusal

    for status, slug in (
        (400, "bad-request"),
        (403, "forbidden"),
        (404, "not-found"),
        (409, "odd"),
        (500, "oops"),
    ):
        for origin in (world.rabat, world.marrakech):
            origin.canned["/v1/pupils"] = refusal(status, slug)
        answer = await world.get(f"/v1/pupils/{PUPIL}/absences", PUPIL)
        assert "upstream" not in answer.text
        assert answer.status_code in {404, 503}


async def test_a_bug_in_a_handler_is_told_to_operators_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr("routes.me.composed", broken)
    answer = await world.get("/v1/me", PUPIL)
    assert (answer.status_code, answer.json()["slug"]) == (500, "internal")
    assert SECRET not in answer.text
    assert "ZeroDivision" not in answer.text
    assert set(answer.json()) == {"type", "title", "status", "detail", "instance", "slug"}
