"""Whatever a request calls itself, its target is the origin's; the rest is in test_proxy.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cache.http.age import Manner
from cache.http.client import Receive, Scope, Send
from cache.http.fetching import Fetcher
from cache.http.proxy import CachingProxy
from cache.http.reverse_proxy import ReverseProxy
from cache.http.shelf import MemoryShelf
from tests.cache.http.origin import Client, Exchange, Origin, running_origin


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as made:
        yield made


@pytest.fixture
async def there(origin: Origin) -> AsyncIterator[ReverseProxy]:
    proxy = CachingProxy(MemoryShelf(bytes_max=1_000_000), manner=Manner(), fetcher=Fetcher())
    made = ReverseProxy(origin.url + "/", proxy)
    yield made
    await made.aclose()


@pytest.mark.parametrize("path", ["/page?a=1&a=2", "/page?a=2&a=1", "/page?", "/%7Epage", "/a//b;c...d"])
async def test_path_and_query_go_on_byte_for_byte(path: str, origin: Origin, there: ReverseProxy) -> None:
    for plain in ("/page", "/%7Epage", "/a//b;c...d"):
        origin.says(plain, b"page", cache_control="max-age=60")
    await Client(there).ask(path)
    assert [one.path for one in origin.asked] == [path.removesuffix("?")]


async def test_the_query_as_it_is_written_is_part_of_the_name(origin: Origin, there: ReverseProxy) -> None:
    origin.says("/page", b"page", cache_control="max-age=60")
    for query in ("a=1", "a=2", "a=1&a=2", "a=2&a=1", "A=1"):
        await Client(there).ask(f"/page?{query}")
    assert len(origin.asked) == 5


async def test_another_host_is_no_other_page(origin: Origin, there: ReverseProxy) -> None:
    origin.says("/page", b"page", cache_control="max-age=60")
    for host in ("one.example", "other.example"):
        await Client(there).ask("/page", host=host)
    assert [one.fields.get("host") for one in origin.asked] == [origin.url.removeprefix("http://")]


async def test_bytes_beyond_ascii_stay_the_bytes_they_are(origin: Origin, there: ReverseProxy) -> None:
    origin.says("/%D8%A7", b"page")
    assert (await Client(there).ask("/\u0627?\u0627")).status == 200
    assert origin.asked[0].path == "/%D8%A7?%D8%A7"


@pytest.mark.parametrize("host", ["", "a b", "a/b", "user@a", "a:b", "[::1", "a, b"])
async def test_a_host_that_names_none_is_refused(host: str, origin: Origin, there: ReverseProxy) -> None:
    # RFC 9112 §3.2
    assert (await Client(there).ask("/page", host=host)).status == 400
    assert origin.asked == []


@pytest.mark.parametrize("host", ["a", "a.example:80", "127.0.0.1:1", "[::1]:80", "a_b", "xn--mgba"])
async def test_any_name_of_a_host_will_do(host: str, origin: Origin, there: ReverseProxy) -> None:
    origin.says("/page", b"page")
    assert (await Client(there).ask("/page", host=host)).status == 200


@pytest.mark.parametrize(
    ("version", "hosts", "answered"),
    [("1.1", 0, 400), ("1.1", 2, 400), ("1.0", 0, 200), ("1.0", 2, 400)],
)
async def test_one_request_has_one_host(
    version: str, hosts: int, answered: int, origin: Origin, there: ReverseProxy
) -> None:
    # RFC 9112 §3.2
    origin.says("/page", b"page")

    async def asked_with(scope: Scope, receive: Receive, send: Send) -> None:
        await there({**scope, "http_version": version, "headers": [(b"host", b"a")] * hosts}, receive, send)

    assert (await Client(asked_with).ask("/page")).status == answered


@pytest.mark.parametrize(
    "name", ["x-forwarded-host", "forwarded", "x-original-url", "x-rewrite-url", "x-http-method-override"]
)
async def test_cache_poisoning_by_a_field_that_no_key_holds_the_origin_does_not_hear_it(
    name: str, origin: Origin, there: ReverseProxy
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer((exchange.fields.get(name) or "clean").encode(), cache_control="max-age=60")

    origin.scripts["/page"] = script

    async def attacker(scope: Scope, receive: Receive, send: Send) -> None:
        await there(
            {**scope, "headers": [*scope["headers"], (name.encode(), b"evil.example")]}, receive, send
        )

    assert (await Client(attacker).ask("/page")).body == b"clean"
    assert (await Client(there).ask("/page")).body == b"clean"


async def test_a_question_about_the_server_as_such_is_answered_by_it(
    origin: Origin, there: ReverseProxy
) -> None:
    # RFC 9110 §9.3.7
    assert (await Client(there).ask("*", method="OPTIONS")).status == 204
    assert origin.asked == []


@pytest.mark.parametrize(
    "path",
    [
        *("*", "page", "/..", "/a/../b", "/a/%2e%2E/b", "/a/.%2e", "/a/./b", "/a\\..\\b", "/a/%2E"),
        *("/a%2f..%2Fb", "/a/..%5cb", "/a%5C%2e%2e", "/a/..;/b", "/a/..;x=1/b", "/a/.%3Bb"),
    ],
)
async def test_path_confusion_what_could_be_read_as_another_path_is_refused(
    path: str, origin: Origin, there: ReverseProxy
) -> None:
    assert (await Client(there).ask(path)).status == 400
    assert origin.asked == []
