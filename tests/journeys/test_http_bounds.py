"""What is too much, of another type or no document is refused by name, and harms nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import msgspec
import pytest

from gateway.settings import Settings
from tests.countries import RunningCountry
from tests.journeys.asking import BY_ROUTE, Asker
from tests.journeys.lines import Line, outcome
from tests.journeys.people import Mint, People

BODIES = [name for name, endpoint in BY_ROUTE.items() if endpoint.body is not None]
ASKED_MAX = 2000
# The settings' defaults, which the sandbox leaves alone.
BOUNDS = {field.name: field.default for field in msgspec.structs.fields(Settings)}
BODY_BYTES_MAX, TARGET_BYTES_MAX = BOUNDS["body_bytes_max"], BOUNDS["target_bytes_max"]
HEADER_BYTES_MAX = BOUNDS["header_bytes_max"]


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/problem+json", "json"],
)
async def test_a_body_of_another_type_is_refused(
    route: str, content_type: str | None, asker: Asker, rabat: Line
) -> None:
    assert outcome(await asker.send(rabat, route, b"{}", content_type)) == (415, "unsupported-media-type")


@pytest.mark.parametrize("route", BODIES)
async def test_json_is_json_with_parameters_and_in_capitals(route: str, asker: Asker, rabat: Line) -> None:
    for content_type in ("application/json; charset=utf-8", "Application/JSON"):
        assert outcome(await asker.send(rabat, route, b"{}", content_type)) == (400, "bad-request")


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"a":' * 2000, b"NaN"], ids=repr)
async def test_a_body_that_is_no_document_is_refused(
    route: str, content: bytes, asker: Asker, rabat: Line
) -> None:
    assert outcome(await asker.send(rabat, route, content, "application/json")) == (400, "bad-request")


@pytest.mark.parametrize("route", BODIES)
async def test_a_body_over_its_bound_is_refused(route: str, asker: Asker, rabat: Line) -> None:
    within = await asker.send(rabat, route, b" " * BODY_BYTES_MAX, "application/json")
    over = await asker.send(rabat, route, b" " * (BODY_BYTES_MAX + 1), "application/json")
    assert (outcome(within), outcome(over)) == ((400, "bad-request"), (413, "body-too-large"))


async def test_a_body_that_does_not_say_its_length_is_bounded_too(
    asker: Asker, country: RunningCountry
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 4096 + 1):
            yield b" " * 4096

    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            country.addresses.gateways["rabat"] + "/v1/auth/tokens",
            content=endless(),
            headers={"content-type": "application/json"},
        )
    assert outcome(answer) == (413, "body-too-large")


async def test_a_target_over_its_bound_is_refused(asker: Asker, rabat: Line) -> None:
    route = "GET /v1/me"
    within = await asker.ask(rabat, route, query="?" + "a" * (TARGET_BYTES_MAX - len("/v1/me")))
    over = await asker.ask(rabat, route, query="?" + "a" * TARGET_BYTES_MAX)
    assert (within.status_code, outcome(over)) == (200, (414, "uri-too-long"))


async def test_headers_over_their_bound_are_refused(asker: Asker, rabat: Line) -> None:
    within = await asker.ask(rabat, "GET /v1/me", padding="a" * (HEADER_BYTES_MAX // 2))
    over = await asker.ask(rabat, "GET /v1/me", padding="a" * HEADER_BYTES_MAX)
    assert (within.status_code, outcome(over)) == (200, (431, "headers-too-large"))


async def test_two_tokens_are_none(people: People, mint: Mint, rabat: Line) -> None:
    path = f"/v1/pupils/{people.student.id}/timetable"
    tokens = [mint.token("student", people.student.id) for _ in range(2)]
    assert (await rabat.get(path, tokens[0])).status_code == 200
    headers = [("authorization", f"Bearer {token}") for token in tokens]
    assert outcome(await rabat.ask("GET", path, headers=headers)) == (401, "token-invalid")


async def test_one_principal_in_a_loop_is_slowed_down_alone(
    records: asyncpg.Connection, mint: Mint, rabat: Line
) -> None:
    """Two pupils whom no other test asks for."""
    rows = await records.fetch("SELECT id FROM pupils ORDER BY id DESC LIMIT 2")
    looping, other = (mint.token("student", row["id"]) for row in rows)
    path = f"/v1/pupils/{rows[0]['id']}/timetable"
    answer = await rabat.get(path, looping)
    for _ in range(ASKED_MAX):
        answer = await rabat.get(path, looping)
        if answer.status_code != 200:
            break
    assert outcome(answer) == (429, "rate-limited")
    assert int(answer.headers["retry-after"]) >= 1
    assert (await rabat.get("/v1/me", other)).status_code == 200
