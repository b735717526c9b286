"""What operators see: sums over all workers, about nobody, and only on the private listener."""

from __future__ import annotations

import collections
import re
import time
from collections.abc import AsyncIterator, Iterable

import asyncpg
import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from datacenters.in_flight import CEILING, FLOOR
from gateway.metrics import FLUSH_INTERVAL_S
from gateway.router import endpoints
from tests.countries import RunningCountry
from tests.journeys.lines import Line
from tests.journeys.people import NOBODY, Mint, People
from tests.waiting import eventually

SETTLED_WITHIN_S = 10.0
REQUESTS = "massar_requests_total"
Counts = collections.Counter[tuple[str, str, str]]


class Operator:
    """Somebody at Rabat's private listener."""

    def __init__(self, country: RunningCountry, client: httpx.AsyncClient) -> None:
        self.base = country.addresses.metrics["rabat"]
        self._client = client

    async def ask(self, method: str, path: str) -> httpx.Response:
        """Ask the private listener."""
        return await self._client.request(method, self.base + path)

    async def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of one sample name."""
        text = (await self.ask("GET", "/metrics")).text
        families = text_string_to_metric_families(text)
        return [
            (each.labels, each.value) for family in families for each in family.samples if each.name == name
        ]

    async def counts(self) -> Counts:
        """Answered requests by route, method and status, once no worker has any to hand over."""
        seen: list[tuple[float, Counts]] = []

        async def unchanged() -> Counts | None:
            counts = collections.Counter(
                {
                    (labels["route"], labels["method"], labels["status"]): int(value)
                    for labels, value in await self.samples(REQUESTS)
                }
            )
            if not seen or seen[0][1] != counts:
                seen[:] = [(time.monotonic(), counts)]
            return counts if time.monotonic() - seen[0][0] > 4 * FLUSH_INTERVAL_S else None

        found = await eventually(unchanged, within_s=SETTLED_WITHIN_S, what="the counters stand still")
        assert isinstance(found, collections.Counter)
        return found


@pytest.fixture
async def operator(country: RunningCountry) -> AsyncIterator[Operator]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield Operator(country, client)


async def test_every_request_is_counted_once_whichever_worker_answered(
    operator: Operator, everywhere: tuple[Line, ...], mint: Mint, people: People
) -> None:
    token = mint.token("student", people.student.id)
    timetable = "/v1/pupils/{pupil_id}/timetable"
    mine = timetable.format(pupil_id=people.student.id)
    rabat = [line for line in everywhere if line.site == "rabat"]
    before = await operator.counts()
    expected: Counts = collections.Counter()
    for line in rabat:
        for turn in range(25):  # the first may come through the router, the rest from the edge
            etag = {"if_none_match": (await line.get(mine, token)).headers["etag"]}
            expected[timetable, "GET", "200"] += 1
            if turn % 5 == 0:
                assert (await line.get(mine, token, **etag)).status_code == 304
                expected[timetable, "GET", "304"] += 1
        for method, path, bearer, counted in [
            ("HEAD", mine, token, (timetable, "HEAD", "200")),
            ("GET", timetable.format(pupil_id=NOBODY), token, (timetable, "GET", "404")),
            ("GET", "/v1/me", None, ("/v1/me", "GET", "401")),
            ("GET", "/v1/teachers/me/service", token, ("/v1/teachers/me/service", "GET", "403")),
            ("GET", f"/v1/nothing/{people.student.id}", token, ("-", "GET", "404")),
            ("PUT", "/v1/status", token, ("-", "PUT", "405")),
            ("BREW", "/v1/status", token, ("-", "other", "405")),
            ("GET", "/v1/status/", token, ("-", "GET", "404")),
        ]:
            await line.ask(method, path, token=bearer)
            expected[counted] += 1
    after = await operator.counts()
    assert after - before == expected
    assert after.total() - before.total() == len(rabat) * 38


async def test_labels_come_from_fixed_sets(operator: Operator, rabat: Line) -> None:
    await rabat.ask("GET", "/v1/pupils/somebody/timetable")
    routes = {endpoint.path for endpoint in endpoints()} | {"-"}
    methods = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
    for route, method, status in await operator.counts():
        assert route in routes
        assert method in methods
        assert re.fullmatch(r"[2-5]\d\d", status)
    for labels, _ in await operator.samples("massar_forwarded_total"):
        assert labels["datacenter"] in {"rabat", "marrakech"}


async def test_every_living_worker_tells_of_its_way_to_both_datacenters(operator: Operator) -> None:
    breakers = await operator.samples("massar_breaker_workers")
    workers = {
        site: sum(value for labels, value in breakers if labels["datacenter"] == site)
        for site in ("rabat", "marrakech")
    }
    assert workers["rabat"] == workers["marrakech"] >= 1
    limits = {
        labels["datacenter"]: value for labels, value in await operator.samples("massar_in_flight_limit")
    }
    assert set(limits) == set(workers)
    for site, limit in limits.items():
        assert FLOOR * workers[site] <= limit <= CEILING * workers[site]


async def strings_about_people(
    records: asyncpg.Connection, accounts: asyncpg.Connection
) -> AsyncIterator[str]:
    """Every id, login and name of the country, codes and numbers of people too."""
    queries = {
        records: [
            "SELECT id, massar_code, name_fr, name_ar FROM pupils",
            "SELECT id, phone, name_fr, name_ar FROM guardians",
            "SELECT id, ppr, name_fr, name_ar FROM teachers",
            "SELECT id FROM classes",
        ],
        accounts: ["SELECT id, login FROM accounts", "SELECT sid, device_id FROM sessions"],
    }
    for connection, texts in queries.items():
        for query in texts:
            for row in await connection.fetch(query):
                for value in row.values():
                    yield str(value)


async def private_words(records: asyncpg.Connection, accounts: asyncpg.Connection) -> set[str]:
    """What must be read nowhere; device ids that tests make up are too short to tell."""
    return {word async for word in strings_about_people(records, accounts) if len(word) > 7}


def mentioned(words: Iterable[str], text: str) -> list[str]:
    return [word for word in words if word in text]


async def test_metrics_are_about_nobody(
    operator: Operator, country: RunningCountry, records: asyncpg.Connection, accounts: asyncpg.Connection
) -> None:
    words = await private_words(records, accounts)
    assert len(words) > 2000
    text = (await operator.ask("GET", "/metrics")).text
    assert REQUESTS in text
    assert mentioned(words, text) == []


@pytest.mark.parametrize("path", ["/metrics", "/internal/purge", "/internal/outcomes"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_private_paths_are_not_public(method: str, path: str, rabat: Line) -> None:
    answer = await rabat.ask(method, path)
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


@pytest.mark.parametrize("path", ["/v1/status", "/v1/me", "/livez", "/metrics/", "/internal"])
async def test_public_paths_are_not_private(path: str, operator: Operator) -> None:
    assert (await operator.ask("GET", path)).status_code == 404


async def test_an_unsigned_notice_changes_nothing(operator: Operator) -> None:
    assert (await operator.ask("POST", "/internal/purge")).status_code == 401


async def test_every_line_of_the_log_is_json_about_nobody(
    country: RunningCountry,
    records: asyncpg.Connection,
    accounts: asyncpg.Connection,
    people: People,
    mint: Mint,
    rabat: Line,
) -> None:
    token = mint.token("parent", people.parent.id)
    answer = await rabat.get(f"/v1/pupils/{people.student.id}/grades?year=2026", token)
    request_id = answer.headers["massar-request-id"]
    log = country.directory / "logs" / "rabat-gateway.log"
    await eventually(lambda: request_id in log.read_text(), within_s=5, what="the request is in the log")
    text = log.read_text()
    lines = [msgspec.json.decode(line) for line in text.splitlines()]
    (mine,) = [line for line in lines if line.get("request_id") == request_id]
    assert {name: mine[name] for name in ("event", "route", "method", "status")} == {
        "event": "request",
        "route": "/v1/pupils/{pupil_id}/grades",
        "method": "GET",
        "status": 200,
    }
    assert mentioned(await private_words(records, accounts), text) == []
    assert token not in text
