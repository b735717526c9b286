"""The schools' own web pages: from listed origins, through the HTTP cache, on a host name that serves nothing else.

Invariant: an origin hears what page is asked for and nothing of who asks; a page sets no cookie and nothing for the whole
host, and no script on it shares an origin with the API or with another school; no address is asked that is not listed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from cache.bounded_valkey import BoundedValkey
from cache.http.age import Manner
from cache.http.client import Client
from cache.http.fetching import Fetcher
from cache.http.fields import Fields, fields
from cache.http.messages import Request
from cache.http.proxy import CachingProxy
from cache.http.reverse_proxy import is_origin, relative_reference
from cache.http.shelf import MemoryShelf, Shelf
from cache.http.valkey_shelf import ValkeyShelf
from cache.reading import Event
from cache.sealing import Sealer, SealingKeys
from gateway import trail
from gateway.metrics import Metrics
from gateway.scope import LANGUAGE_KEY, REQUEST_ID_KEY, ROUTE_KEY, Message, Receive, Scope, Send
from gateway.settings import Settings, SettingsError
from routes.endpoint import OUTCOME_KEY
from routes.problems import render

ROUTE = "/v1/schools/{gresa}/site/{path}"
RETRY_AFTER_S = 2.0
ORIGINS_MAX = 20_000
# Per worker, and well below what a worker works on at all: anonymous readers of pages leave room for the apps.
IN_FLIGHT_MAX = 128
# Of one school, and of these the requests to its origin: one that is slow, or wanted by all, leaves room for the others.
IN_FLIGHT_PER_SCHOOL_MAX = 32
FORWARDS_PER_ORIGIN_MAX = 16
_PATH = re.compile(r"/v1/schools/([0-9A-Z]{1,16})/site(?:(/[^?]*))?(\?.*)?")
_GRESA = re.compile(r"[0-9A-Z]{1,16}")
# What selects or validates a page. Anything else could change an answer that others are given, or tell who asks.
_PASSED_ON = frozenset({
    "accept", "accept-encoding", "accept-language", "if-modified-since", "if-none-match", "if-range", "range",
})  # fmt: skip
# What a page may say: of its bytes, their age and their place. All else is for the whole host, or tells of the origin.
_PASSED_BACK = frozenset({
    "accept-ranges", "age", "allow", "cache-control", "cache-status", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-security-policy",
    "content-type", "date", "etag", "expires", "last-modified", "location", "retry-after", "vary",
})  # fmt: skip
_ADDED = (
    # An origin of its own for each page: no school's script reads another school's page. A page's own policy stays beside.
    (b"content-security-policy", b"sandbox allow-forms allow-popups allow-scripts"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class SchoolSites:
    """An ASGI application for requests to `host`."""

    def __init__(
        self, proxy: CachingProxy, *, host: str, origins: Mapping[str, str], problem_base_url: str
    ) -> None:
        self._proxy = proxy
        self._host = host.lower().rstrip(".").encode()
        self._in_flight: Counter[str] = Counter()
        self._origins = origins
        self._problem_base_url = problem_base_url

    def are_asked(self, scope: Scope) -> bool:
        """Whether the request is for their host name."""
        for name, value in scope["headers"]:
            if name == b"host":
                return bool(value.partition(b":")[0].lower().rstrip(b".") == self._host)
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `Broken` when an origin's page ends too soon: the client is broken off."""
        target = relative_reference(scope["raw_path"], scope["query_string"])
        found = _PATH.fullmatch(target) if target is not None else None
        origin = self._origins.get(found[1]) if found else None
        if found is None or origin is None:
            await self._refuse("not-found", scope, send)
            return
        scope[ROUTE_KEY] = ROUTE
        if scope["method"] not in {"GET", "HEAD"}:
            await self._refuse("method-not-allowed", scope, send)
            return
        prefix = f"/v1/schools/{found[1]}/site"
        if found[2] is None:  # relative links of the front page need the slash
            await _redirect(f"{prefix}/{found[3] or ''}", send)
            return
        asked = Fields(tuple(line for line in _lines(scope).lines if line[0] in _PASSED_ON))
        request = Request(scope["method"], origin + found[2] + (found[3] or ""), asked)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _headers(message["headers"], request.target, prefix)}
                scope[OUTCOME_KEY] = _outcome(message["headers"])
            await send(message)

        async def failing(status: int, _cache_status: str, _client: Client) -> None:
            slug = "overloaded" if status == HTTPStatus.SERVICE_UNAVAILABLE else "school-site-unavailable"
            await self._refuse(slug, scope, send)

        school = found[1]
        if self._in_flight[school] >= IN_FLIGHT_PER_SCHOOL_MAX or self._in_flight.total() >= IN_FLIGHT_MAX:
            await self._refuse("overloaded", scope, send)
            return
        self._in_flight[school] += 1
        try:
            await self._proxy.respond(request, receive, answer, failing=failing)
        finally:
            self._in_flight -= Counter((school,))

    async def aclose(self) -> None:
        """Give up what is on its way."""
        await self._proxy.aclose()

    async def _refuse(self, slug: str, scope: Scope, send: Send) -> None:
        trail.of(scope).slug = slug
        status, headers, body = render(
            slug,
            language=scope[LANGUAGE_KEY],
            base_url=self._problem_base_url,
            request_id=scope[REQUEST_ID_KEY],
            retry_after_s=RETRY_AFTER_S if slug in {"overloaded", "school-site-unavailable"} else None,
            allow="GET, HEAD" if slug == "method-not-allowed" else None,
        )
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def build_school_sites(
    settings: Settings, metrics: Metrics, *, clock: Callable[[], float], monotonic: Callable[[], float]
) -> SchoolSites | None:
    """The schools' pages as the settings say, sealed in a Valkey of their own where there is one; None without a host.

    Raises: SettingsError, ValueError.
    """
    if not settings.school_sites_host:
        return None
    manner = Manner(keep_set_cookie=False, passes_conditions=False)
    shelf: Shelf = MemoryShelf(bytes_max=settings.school_sites_bytes_max)
    if settings.school_sites_valkey_url:
        keys = SealingKeys.parse(settings.seal_key_file.read_text())
        shelf = ValkeyShelf(
            BoundedValkey(settings.school_sites_valkey_url, monotonic=monotonic),
            manner=manner,
            clock=clock,
            sealer=Sealer(keys),
            name_secret=keys.name_secret,
            on_away=lambda: metrics.cache_event(Event.UNAVAILABLE.value),
        )
    return SchoolSites(
        CachingProxy(
            shelf,
            manner=manner,
            fetcher=Fetcher(),
            forwards_per_origin_max=FORWARDS_PER_ORIGIN_MAX,
            clock=clock,
        ),
        host=settings.school_sites_host,
        origins=read_origins(Path(settings.school_sites_file)),
        problem_base_url=settings.problem_base_url,
    )


def read_origins(path: Path) -> dict[str, str]:
    """The schools' origins from a JSON file: GRESA code to scheme and authority.

    Raises: SettingsError, naming the entry.
    """
    try:
        origins = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"no origins of school sites in {path}: {error}") from None
    if len(origins) > ORIGINS_MAX:
        raise SettingsError(f"{path}: more than {ORIGINS_MAX} school sites")
    for gresa, origin in origins.items():
        if not _GRESA.fullmatch(gresa):
            raise SettingsError(f"{path}: {gresa!r} is no GRESA code")
        if not is_origin(origin):
            raise SettingsError(f"{path}: the site of {gresa} is not http:// or https:// with a host alone")
    return origins


def _lines(scope: Scope) -> Fields:
    return fields((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])


def _headers(lines: Any, target: str, prefix: str) -> list[tuple[bytes, bytes]]:
    """Of the origin's fields those that a page may say, its own addresses as ours."""
    kept: list[tuple[bytes, bytes]] = []
    for name, value in lines:
        word = name.decode("latin-1")
        if word not in _PASSED_BACK:
            continue
        if word == "cache-status":  # what caches before us say is the origin's own affair
            kept = [line for line in kept if line[0] != name]
        if word in {"location", "content-location"}:
            value = _relocated(value.decode("latin-1"), target, prefix).encode("latin-1")  # noqa: PLW2901
        kept.append((name, value))
    return [*kept, *_ADDED]


def _relocated(location: str, target: str, prefix: str) -> str:
    """An address below the origin as an address below `prefix`; any other as it is."""
    try:
        there, here = urlsplit(urljoin(target, location)), urlsplit(target)
        if _authority(there) != _authority(here):
            return location
    except ValueError:
        return location
    path = urlsplit(urljoin("http://origin/", there.path.lstrip("/"))).path  # without dot segments
    if relative_reference(path.encode("latin-1"), b"") is None:  # nor any that is written otherwise
        return f"{prefix}/"
    query = f"?{there.query}" if there.query else ""
    fragment = f"#{there.fragment}" if there.fragment else ""
    return f"{prefix}{path}{query}{fragment}"


def _authority(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _outcome(lines: list[tuple[bytes, bytes]]) -> str:
    """The word of the access log."""
    said = next((value for name, value in lines if name == b"cache-status"), b"")
    return "hit" if b"; hit" in said else "collapsed" if b"collapsed" in said else "miss"


async def _redirect(location: str, send: Send) -> None:
    headers = [(b"location", location.encode()), (b"content-length", b"0")]
    await send(
        {"type": "http.response.start", "status": HTTPStatus.PERMANENT_REDIRECT.value, "headers": headers}
    )
    await send({"type": "http.response.body", "body": b"", "more_body": False})
