"""HTTP as the phones may rely on it: methods, paths, queries, conditional requests, languages, bounds."""

from __future__ import annotations

import httpx
import jwt
import pytest

from auth.access import Rule
from routes.answers import NO_STORE, PERSONAL, VARY
from routes.problems import PROBLEMS
from tests.journeys.asking import BY_ROUTE, Asker
from tests.journeys.lines import Line, outcome
from tests.journeys.people import Mint, People

GETS = [name for name, endpoint in BY_ROUTE.items() if endpoint.method == "GET"]
PERSONAL_GETS = [name for name in GETS if BY_ROUTE[name].read is not None or BY_ROUTE[name].conditional]
METHODS: dict[str, set[str]] = {}
for _endpoint in BY_ROUTE.values():
    METHODS.setdefault(_endpoint.path, {"OPTIONS"}).update(
        {_endpoint.method} | ({"HEAD"} if _endpoint.method == "GET" else set())
    )
# The age of what is shown stale among them: between two requests an entry may pass its time, or be fetched anew.
OF_ITS_OWN = ("massar-request-id", "date", "age", "cache-status", "massar-data-age")


def shared_headers(answer: httpx.Response) -> dict[str, str]:
    """The headers that do not differ from one request to the next."""
    return {name: value for name, value in answer.headers.items() if name not in OF_ITS_OWN}


# Methods and paths


@pytest.mark.parametrize("route", GETS)
async def test_head_is_get_without_the_body(route: str, asker: Asker, rabat: Line) -> None:
    await asker.ask(rabat, route)
    for _ in range(2):
        got, headed = await asker.ask(rabat, route), await asker.ask(rabat, route, method="HEAD")
        assert (headed.status_code, headed.content) == (got.status_code, b"") == (200, b"")
        assert shared_headers(headed) == shared_headers(got)


@pytest.mark.parametrize("path", METHODS)
async def test_another_method_is_told_which_there_are(path: str, asker: Asker, rabat: Line) -> None:
    route = next(name for name, endpoint in BY_ROUTE.items() if endpoint.path == path)
    tried = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"}
    for method in sorted(tried - METHODS[path]):
        answer = await asker.ask(rabat, route, method=method)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == METHODS[path]
        assert method == "HEAD" or answer.json()["slug"] == "method-not-allowed"


@pytest.mark.parametrize("path", METHODS)
async def test_options_tells_the_methods_to_anybody(path: str, asker: Asker, rabat: Line) -> None:
    endpoint = next(endpoint for endpoint in BY_ROUTE.values() if endpoint.path == path)
    answer = await rabat.ask("OPTIONS", asker.path(endpoint))
    assert (answer.status_code, answer.content) == (204, b"")
    assert set(answer.headers["allow"].split(", ")) == METHODS[path]


@pytest.mark.parametrize("route", BY_ROUTE)
async def test_a_trailing_slash_is_another_path(route: str, asker: Asker, rabat: Line) -> None:
    endpoint = BY_ROUTE[route]
    path = asker.path(endpoint)
    for other in (f"{path}/", f"/{path}", path.replace("/", "//", 2)):
        answer = await rabat.ask(endpoint.method, other, token=asker.token(endpoint.rule))
        assert outcome(answer) == (404, "not-found"), other


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/me", "/V1/me", "/v1/me.json", "/v1/pupils", "/docs", "/schema"]
)
async def test_there_is_nothing_elsewhere(path: str, asker: Asker, rabat: Line) -> None:
    answer = await rabat.get(path, asker.token(Rule.ANY_PRINCIPAL))
    assert outcome(answer) == (404, "not-found")


# Queries


@pytest.mark.parametrize("route", GETS)
async def test_an_unknown_query_is_ignored(route: str, asker: Asker, rabat: Line) -> None:
    plain = await asker.ask(rabat, route)
    for query in ("?utm=1", "?utm=1&utm=2&=&&", "?%00=%26"):
        asked = await asker.ask(rabat, route, query=query)
        assert (asked.status_code, asked.content) == (200, plain.content)
        assert asked.headers.get("etag") == plain.headers.get("etag")


QUERIES = {
    ("GET /v1/pupils/{pupil_id}/timetable", "week"): [
        "2026-W00",
        "2026-W54",
        "2025-W53",
        "26-W47",
        "2026-47",
        "",
    ],
    ("GET /v1/pupils/{pupil_id}/grades", "year"): ["26", "2026 ", "1999", "20x6", ""],
    ("GET /v1/pupils/{pupil_id}/grades", "session"): ["0", "3", "01", "1;", ""],
    ("GET /v1/pupils/{pupil_id}/absences", "from"): ["2026-02-30", "20261118", "2026-W47-3", "today", ""],
    ("GET /v1/pupils/{pupil_id}/homework", "from"): ["2026-13-01", "2026-1-1", ""],
    ("GET /v1/announcements", "since"): ["2026-11-18T00:00:00Z", "%D9%A2026-11-18", ""],
    ("GET /v1/home", "pupil_id"): ["A" * 16, "a b", "../me", "a" * 65, ""],
}
GOOD = {"week": "2026-W46", "year": "2026", "session": "1", "from": "2026-09-02", "since": "2026-11-01"}


def test_every_documented_parameter_is_tried() -> None:
    assert set(QUERIES) == {(route, each.name) for route in GETS for each in BY_ROUTE[route].query}


@pytest.mark.parametrize(("route", "name"), QUERIES)
async def test_a_bad_query_is_told_by_name(
    route: str, name: str, asker: Asker, people: People, rabat: Line
) -> None:
    good = GOOD.get(name, people.parent.children[0])
    bad = [f"?{name}={value}" for value in QUERIES[route, name]] + [f"?{name}={good}&{name}={good}"]
    for query in bad:
        answer = await asker.ask(rabat, route, query=query)
        assert outcome(answer) == (400, "bad-request"), query
        assert answer.json()["pointer"] in {f"?{name}", "?"}, query


@pytest.mark.parametrize(("route", "name"), QUERIES)
async def test_a_good_query_is_obeyed(
    route: str, name: str, asker: Asker, people: People, rabat: Line
) -> None:
    good = GOOD.get(name, people.student.id)
    assert (await asker.ask(rabat, route, query=f"?{name}={good}")).status_code == 200


async def test_too_many_parameters_are_not_read(asker: Asker, rabat: Line) -> None:
    query = "?" + "&".join(f"a{number}=1" for number in range(17))
    answer = await asker.ask(rabat, "GET /v1/pupils/{pupil_id}/timetable", query=query)
    assert outcome(answer) == (400, "bad-request")


# Conditional requests


@pytest.mark.parametrize("route", PERSONAL_GETS)
async def test_what_the_phone_holds_is_not_sent_again(route: str, asker: Asker, rabat: Line) -> None:
    for _ in range(2):  # through the router, then from the edge where it may
        got = await asker.ask(rabat, route)
        etag = got.headers["etag"]
        assert (got.headers["cache-control"], got.headers["vary"]) == (PERSONAL, VARY)
        for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            answer = await asker.ask(rabat, route, if_none_match=held)
            assert (answer.status_code, answer.content) == (304, b""), held
            assert "content-length" not in answer.headers or int(answer.headers["content-length"]) == len(
                got.content
            )
            for name in ("etag", "cache-control", "vary"):
                assert answer.headers[name] == got.headers[name]
        for held in ('"other"', etag.strip('"'), "W/*", ""):
            assert (await asker.ask(rabat, route, if_none_match=held)).content == got.content, held


async def test_one_etag_serves_all_who_share_a_view(
    people: People, mint: Mint, everywhere: tuple[Line, ...]
) -> None:
    path = f"/v1/pupils/{people.student.id}/timetable"
    readers = [
        mint.token("student", people.student.id),
        mint.token("parent", people.parent.id),
        mint.token("parent", people.other_parent.id),
        mint.token("teacher", people.teacher.id),
    ]
    etag = (await everywhere[0].get(path, readers[0])).headers["etag"]
    for line in everywhere:
        for token in readers:
            assert (await line.get(path, token, if_none_match=etag)).status_code == 304
    theirs = f"/v1/pupils/{people.classmate.id}/timetable"
    mate = mint.token("student", people.classmate.id)
    assert (await everywhere[0].get(theirs, mate, if_none_match=etag)).status_code == 304


async def test_views_have_etags_of_their_own(people: People, mint: Mint, rabat: Line) -> None:
    path = f"/v1/pupils/{people.student.id}/absences"
    etags = {
        (await rabat.get(path, mint.token(role, account.id))).headers["etag"]
        for role, account in (("parent", people.parent), ("teacher", people.teacher))
    }
    assert len(etags) == 2


@pytest.mark.parametrize("route", [name for name in GETS if name not in PERSONAL_GETS])
async def test_other_answers_say_how_long_they_may_be_kept(route: str, asker: Asker, rabat: Line) -> None:
    answer = await asker.ask(rabat, route)
    assert answer.headers["cache-control"] == ("public, max-age=300" if "jwks" in route else NO_STORE)


# Languages


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "fr"),
        ("", "fr"),
        ("ar", "ar"),
        ("ar-MA", "ar"),
        ("en-GB,en;q=0.9", "en"),
        ("de", "fr"),
        ("de, ar;q=0.1", "ar"),
        ("fr;q=0.5, ar;q=0.9", "ar"),
        ("fr;q=0.5, ar;q=0.4, en;q=0.6", "en"),
        ("fr;q=0, *;q=0.5", "ar"),
        ("*", "fr"),
        ("ar;q=0", "fr"),
        ("ar;q=2, en;q=0.1", "en"),
        ("a" * 300, "fr"),
        (b"\xe9, ar", "ar"),
    ],
)
async def test_a_problem_is_told_in_the_callers_language(
    accepted: str | bytes | None, language: str, rabat: Line
) -> None:
    headers = {} if accepted is None else {"accept-language": accepted}
    answer = await rabat.ask("GET", "/v1/me", headers=headers)
    kind = PROBLEMS["token-missing"]
    assert answer.headers["content-language"] == language
    assert answer.headers["vary"] == "Accept-Language"
    assert answer.headers["cache-control"] == NO_STORE
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "https://massar.example/problems/token-missing",
        "title": kind.title(language),
        "status": 401,
        "detail": kind.detail(language),
        "instance": f"urn:request:{answer.headers['massar-request-id']}",
        "slug": "token-missing",
    }


# What everybody may ask


@pytest.mark.parametrize(("path", "said"), [("/livez", "alive"), ("/readyz", "ready")])
async def test_probes_answer_at_every_worker(path: str, said: str, everywhere: tuple[Line, ...]) -> None:
    for line in everywhere:
        answer = await line.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": said})


async def test_status_tells_the_mode_and_the_active_datacenter(everywhere: tuple[Line, ...]) -> None:
    for line in everywhere:
        answer = await line.get("/v1/status")
        told = answer.json()
        assert told["epoch"] >= 1
        assert {name: told[name] for name in ("mode", "datacenter", "retry_after_s")} == {
            "mode": "normal",
            "datacenter": {"ar": "الرباط", "fr": "Rabat"},
            "retry_after_s": None,
        }
        assert answer.headers["massar-epoch"] == str(told["epoch"])


async def test_the_public_keys_verify_an_access_token(
    people: People, mint: Mint, everywhere: tuple[Line, ...]
) -> None:
    token = mint.token("student", people.student.id)
    for line in everywhere:
        answer = await line.get("/.well-known/jwks.json")
        (key,) = jwt.PyJWKSet.from_dict(answer.json()).keys
        assert key.key_id == jwt.get_unverified_header(token)["kid"]
        claims = jwt.decode(token, key, algorithms=["ES256"], audience="moutamadris")
        assert claims["sub"] == people.student.id
        assert b'"d"' not in answer.content


async def test_every_answer_names_its_request_the_epoch_and_the_mode(asker: Asker, rabat: Line) -> None:
    answers = [await asker.ask(rabat, route) for route in (*GETS, *GETS)]
    answers += [await rabat.ask(method, "/v1/nothing") for method in ("GET", "PUT", "OPTIONS")]
    assert len({answer.headers["massar-request-id"] for answer in answers}) == len(answers)
    assert {
        (answer.headers["massar-epoch"].isdecimal(), answer.headers["massar-mode"]) for answer in answers
    } == {(True, "normal")}
    assert not [name for answer in answers for name in answer.headers if name.startswith("x-")]
