"""School pages: on their own host name, from listed origins, with nothing of who asks; and the attacks on that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import pytest

from gateway import school_sites
from gateway.school_sites import ROUTE, build_school_sites, read_origins
from gateway.settings import SettingsError
from tests.cache.http.origin import Client, Exchange, Origin, running_origin
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import PUPIL
from tests.gateway.world import World
from tests.waiting import eventually

HOST = "ecoles.massar.example"
SCHOOL, OTHER_SCHOOL, CLOSED = "01234A", "05678B", "09999Z"
SITE = f"/v1/schools/{SCHOOL}/site"
MINUTE = "max-age=60"
Ask = Callable[..., Coroutine[Any, Any, httpx.Response]]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as made:
        yield made


@pytest.fixture
async def world(make_world: MakeWorld, origin: Origin, tmp_path: Path) -> World:
    listed = tmp_path / "school-sites.json"
    listed.write_text(json.dumps({SCHOOL: origin.url, CLOSED: "http://127.0.0.1:1"}))
    return await make_world(school_sites_host=HOST, school_sites_file=str(listed), show_cache_status=True)


@pytest.fixture
def ask(world: World) -> Ask:
    async def asked(
        path: str = "/", *, method: str = "GET", host: str = HOST, **values: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in values.items()}
        return await world.http.request(method, f"{SITE}{path}", headers={"host": host, **named})

    return asked


async def test_a_page_is_fetched_once_and_then_served_from_the_cache(ask: Ask, origin: Origin) -> None:
    origin.says("/", b"<h1>Lyc\xc3\xa9e</h1>", cache_control=MINUTE, content_type="text/html")
    first, second = await ask(), await ask()
    assert (first.status_code, first.content) == (200, second.content)
    assert second.headers["cache-status"] == "massar; hit; ttl=60"
    assert second.headers["content-type"] == "text/html"
    assert origin.times("/") == 1


async def test_path_and_query_are_the_origins(ask: Ask, origin: Origin) -> None:
    origin.says("/a/b//c.css", b"css")
    assert (await ask("/a/b//c.css?v=2&v=1")).content == b"css"
    assert origin.asked[0].path == "/a/b//c.css?v=2&v=1"


async def test_the_front_page_without_its_slash_is_one_redirect_away(world: World) -> None:
    answer = await world.http.get(SITE, headers={"host": HOST})
    assert (answer.status_code, answer.headers["location"]) == (308, SITE + "/")


async def test_its_query_goes_along(world: World) -> None:
    answer = await world.http.get(f"{SITE}?page=2", headers={"host": HOST})
    assert (answer.status_code, answer.headers["location"]) == (308, f"{SITE}/?page=2")


async def test_what_the_origin_redirects_to_stays_below_the_school(ask: Ask, origin: Origin) -> None:
    origin.says("/old", status=302, location="/new?x=1")
    assert (await ask("/old")).headers["location"] == f"{SITE}/new?x=1"
    origin.says("/old", status=302, location=f"{origin.url}/new")
    assert (await ask("/old")).headers["location"] == f"{SITE}/new"
    origin.says("/old", status=302, location="https://www.men.gov.ma/")
    assert (await ask("/old")).headers["location"] == "https://www.men.gov.ma/"


async def test_open_redirect_no_address_of_the_origin_climbs_out_of_the_school(
    ask: Ask, origin: Origin
) -> None:
    for location in (
        "/../../../v1/me",
        f"{origin.url}/../../v1/me",
        f"{origin.url}//evil.example/../../v1/me",
        "/%2e%2e/%2E%2e/%2e%2e/v1/me",
        "/a%2f..%2f..%2fv1/me",
        "/..\\..\\v1\\me",
    ):
        origin.says("/old", status=302, location=location)
        there = (await ask("/old")).headers["location"]
        assert there.startswith(SITE + "/"), location
        assert "/../" not in unquote(there).replace("\\", "/")


@pytest.mark.parametrize("host", [HOST.upper(), HOST + ":8443", HOST + "."])
async def test_the_host_name_is_known_in_any_case_and_at_any_port(
    ask: Ask, origin: Origin, host: str
) -> None:
    origin.says("/", b"page")
    assert (await ask(host=host)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/me", "/v1/status", f"/v1/schools/{SCHOOL}", "/", "/livez"])
async def test_on_that_host_there_is_nothing_else(world: World, path: str) -> None:
    headers = {"host": HOST, "authorization": world.authorization(PUPIL)}
    answer = await world.http.get(path, headers=headers)
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


async def test_on_any_other_host_there_are_no_school_pages(ask: Ask, origin: Origin) -> None:
    answer = await ask(host="gateway")
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    assert origin.asked == []


@pytest.mark.parametrize("gresa", [OTHER_SCHOOL, "01234a", "1", "..", "%30%31234A"])
async def test_a_school_that_is_not_listed_is_not_there(world: World, origin: Origin, gresa: str) -> None:
    answer = await world.http.get(f"/v1/schools/{gresa}/site/", headers={"host": HOST})
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    assert origin.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_pages_are_only_read(ask: Ask, origin: Origin, method: str) -> None:
    answer = await ask(method=method)
    assert (answer.status_code, answer.json()["slug"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert origin.asked == []


@pytest.mark.parametrize(
    ("language", "title"), [("ar", "تعذر الوصول إلى موقع المؤسسة"), ("en", "School site unreachable")]
)
async def test_an_origin_that_is_away_is_a_problem_in_the_readers_language(
    world: World, language: str, title: str
) -> None:
    answer = await world.http.get(
        f"/v1/schools/{CLOSED}/site/", headers={"host": HOST, "accept-language": language}
    )
    assert (answer.status_code, answer.json()["slug"], answer.json()["title"]) == (
        502,
        "school-site-unavailable",
        title,
    )
    assert answer.headers["retry-after"] == "2"
    assert "127.0.0.1" not in answer.text


async def test_an_origins_own_error_page_is_passed_on(ask: Ask, origin: Origin) -> None:
    origin.says("/", b"broken", status=502)
    answer = await ask()
    assert (answer.status_code, answer.content) == (502, b"broken")


# What an origin hears, and what a page may do


async def test_an_origin_hears_nothing_of_who_asks(ask: Ask, origin: Origin, world: World) -> None:
    origin.says("/", b"page")
    await ask(
        authorization=world.authorization(PUPIL),
        cookie="session=1",
        dpop="x",
        user_agent="Waliye/1.0 (phone)",
        x_forwarded_for="41.0.0.1",
        forwarded="for=41.0.0.1",
        referer="https://massar.example/v1/pupils/abc",
        massar_position="1-1",
        accept_language="ar",
    )
    heard = {name for name, _ in origin.asked[0].fields.lines}
    assert heard == {"host", "accept", "accept-encoding", "accept-language", "via"}
    assert origin.asked[0].fields.get("host") == origin.url.removeprefix("http://")


async def test_validator_tracking_a_validator_that_only_the_reader_holds_is_not_asked_about(
    ask: Ask, origin: Origin
) -> None:
    origin.says("/", b"page", cache_control="no-store", etag='"reader-1"')
    await ask(if_none_match='"reader-1"', if_modified_since="Sun, 01 Nov 2026 00:00:01 GMT")
    await ask(if_range='"reader-1"', range="bytes=0-1")
    heard = {name for one in origin.asked for name, _ in one.fields.lines}
    assert not heard & {"if-none-match", "if-modified-since", "if-range", "range"}


async def test_what_is_stored_is_validated_and_answers_the_readers_own_validator(
    ask: Ask, origin: Origin
) -> None:
    origin.says("/", b"page", cache_control="no-cache", etag='"a"')
    await ask()
    origin.says("/", status=304, etag='"a"')
    assert (await ask(if_none_match='"a"')).status_code == 304
    assert origin.asked[1].fields.all("if-none-match") == ['"a"']


async def test_a_page_says_nothing_for_the_whole_host(ask: Ask, origin: Origin) -> None:
    origin.says(
        "/",
        b"page",
        cache_control=MINUTE,
        set_cookie="a=b; Domain=massar.example",
        service_worker_allowed="/",
        clear_site_data='"*"',
        strict_transport_security="max-age=0",
        access_control_allow_origin="*",
        massar_mode="normal",
        content_security_policy="default-src *",
        www_authenticate="Basic",
        server="Apache/1.3",
    )
    for _ in range(2):
        answer = await ask()
        policies = answer.headers.get_list("content-security-policy")
        assert policies == ["default-src *", "sandbox allow-forms allow-popups allow-scripts"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get_list("massar-mode") == ["normal"]
        said = set(answer.headers)
        assert not said & {"set-cookie", "service-worker-allowed", "clear-site-data", "server"}
        assert not said & {"strict-transport-security", "access-control-allow-origin", "www-authenticate"}
    assert origin.times("/") == 2, "what sets a cookie is not kept"


@pytest.mark.parametrize("most", ["IN_FLIGHT_MAX", "IN_FLIGHT_PER_SCHOOL_MAX"])
async def test_readers_of_pages_leave_room_for_the_apps(
    most: str, ask: Ask, origin: Origin, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(school_sites, most, 1)
    goes_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await goes_on.wait()
        await exchange.answer(b"slow")

    origin.scripts["/slow"] = slow
    first = asyncio.create_task(ask("/slow"))
    await eventually(lambda: origin.times("/slow"), within_s=5)
    busy = await ask("/other")
    assert (busy.status_code, busy.json()["slug"]) == (503, "overloaded")
    elsewhere = await world.http.get(f"/v1/schools/{CLOSED}/site/", headers={"host": HOST})
    assert elsewhere.status_code == (503 if most == "IN_FLIGHT_MAX" else 502), (
        "one school leaves room for others"
    )
    assert (await world.http.get("/v1/status")).status_code == 200
    goes_on.set()
    assert (await first).status_code == 200


async def test_a_school_whose_origin_is_asked_too_much_is_busy_and_not_away(
    make_world: MakeWorld, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(school_sites, "FORWARDS_PER_ORIGIN_MAX", 0)
    listed = tmp_path / "school-sites.json"
    listed.write_text(json.dumps({SCHOOL: origin.url}))
    world = await make_world(school_sites_host=HOST, school_sites_file=str(listed))
    busy = await world.http.get(SITE + "/", headers={"host": HOST})
    assert (busy.status_code, busy.json()["slug"]) == (503, "overloaded")


# Attacks


async def test_unkeyed_header_poisoning_a_field_that_does_not_select_does_not_arrive(
    ask: Ask, origin: Origin
) -> None:
    async def echo(exchange: Exchange) -> None:
        said = exchange.fields.get("x-forwarded-host") or exchange.fields.get("x-original-url") or "clean"
        await exchange.answer(said.encode(), cache_control=MINUTE)

    origin.scripts["/"] = echo
    poisoned = await ask(x_forwarded_host="evil.example", x_original_url="/admin", x_rewrite_url="/admin")
    assert (poisoned.content, (await ask()).content) == (b"clean", b"clean")


async def test_cache_busting_a_reader_cannot_make_the_origin_work_by_asking_for_fresh_pages(
    ask: Ask, origin: Origin
) -> None:
    origin.says("/", b"page", cache_control=MINUTE)
    for values in ({}, {"cache_control": "no-cache"}, {"pragma": "no-cache"}, {"cache_control": "max-age=0"}):
        assert (await ask(**values)).content == b"page"
    assert origin.times("/") == 1


@pytest.mark.parametrize("path", ["/../admin", "/a/%2e%2e/admin", "/%2E/x", "/..\\admin", "/a/.."])
async def test_path_traversal_what_leaves_the_path_is_not_there(
    world: World, origin: Origin, path: str
) -> None:
    got = await Client(world.app).ask(f"{SITE}{path}", host=HOST)
    assert (got.status, b'"slug":"not-found"' in got.body) == (404, True)
    assert origin.asked == []


@pytest.mark.parametrize("target", ["//evil.example/", "/@evil.example/", "/http://evil.example/"])
async def test_request_forgery_only_listed_origins_are_asked(ask: Ask, origin: Origin, target: str) -> None:
    origin.says(target, b"ours")
    assert (await ask(target)).content == b"ours"
    assert origin.asked[0].path == target


async def test_cache_deception_a_page_for_one_reader_is_kept_for_nobody(ask: Ask, origin: Origin) -> None:
    origin.says("/account/x.css", b"of one", cache_control="private, max-age=60")
    await ask("/account/x.css")
    await ask("/account/x.css")
    assert origin.times("/account/x.css") == 2


async def test_a_head_poisons_no_get(ask: Ask, origin: Origin) -> None:
    origin.says("/", b"page", cache_control=MINUTE)
    assert (await ask(method="HEAD")).content == b""
    assert (await ask()).content == b"page"


# The settings


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "no origins of school sites"),
        ('{"x/y": "http://a"}', "'x/y' is no GRESA code"),
        ('{"01234A": "file:///etc/passwd"}', "the site of 01234A"),
        ('{"01234A": "http://a/path"}', "the site of 01234A"),
        ('{"01234A": "http://user:secret@a"}', "the site of 01234A"),
        ('{"01234A": "http://a:port"}', "the site of 01234A"),
        ('{"01234A": "http://"}', "the site of 01234A"),
        ('{"01234A": "http://a?"}', "the site of 01234A"),
    ],
)
def test_a_wrong_list_stops_the_start_and_names_the_entry(text: str, complaint: str, tmp_path: Path) -> None:
    listed = tmp_path / "school-sites.json"
    listed.write_text(text)
    with pytest.raises(SettingsError, match=complaint) as stopped:
        read_origins(listed)
    assert "secret" not in str(stopped.value)


async def test_without_a_host_name_there_are_none(make_world: MakeWorld) -> None:
    world = await make_world()
    assert (
        build_school_sites(world.settings, world.metrics, clock=world.clock, monotonic=world.monotonic)
        is None
    )
    assert (await world.http.get(SITE + "/", headers={"host": HOST})).status_code == 404
    with pytest.raises(SettingsError, match="need each other"):
        msgspec.structs.replace(world.settings, school_sites_host=HOST)


async def test_the_log_names_the_route_and_never_the_page(ask: Ask, origin: Origin, world: World) -> None:
    origin.says("/secret-page", b"page")
    await ask("/secret-page?q=secret")
    line = world.app._access_log._lines[-1]
    assert (ROUTE.encode() in line, b"secret" in line) == (True, False)
