"""Signing in and refreshing: what is refused before anybody's account is looked at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.gateway.world import World
from tests.routes.writing import NOT_JSON

SIGN_IN = "/v1/auth/tokens"
REFRESH = "/v1/auth/tokens/refresh"
ASKED: dict[str, Any] = {
    "grant": "password",
    "app": "waliye",
    "login": "parent@famille.example",
    "password": "guess",
    "device": {"id": "phone-1", "name": "Téléphone"},
}


async def refused(world: World, target: str, body: Any, **more: Any) -> tuple[int, str, str | None]:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"content-type": "application/json", **more}
    answer = await world.ask("POST", target, content=content, headers=headers)
    problem = answer.json()
    assert "guess" not in answer.text
    return answer.status_code, problem["slug"], problem.get("pointer")


@pytest.mark.parametrize(
    "grant", ["one-time-code", "oidc", "PASSWORD", "password ", "client_credentials", ""]
)
async def test_another_grant_is_told_so_whatever_else_is_wrong(shared: World, grant: str) -> None:
    assert (await refused(shared, SIGN_IN, {**ASKED, "grant": grant}))[:2] == (400, "unsupported-grant")
    assert (await refused(shared, SIGN_IN, {"grant": grant, "code": "123456"}))[:2] == (
        400,
        "unsupported-grant",
    )


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ASKED.items() if key != name}


BAD = {
    "no grant": (without("grant"), "/"),
    "a grant that is no text": ({**ASKED, "grant": 7}, "/grant"),
    "no app": (without("app"), "/"),
    "an app nobody has": ({**ASKED, "app": "massar"}, "/app"),
    "no login": (without("login"), "/"),
    "an empty login": ({**ASKED, "login": ""}, "/login"),
    "a login that is a novel": ({**ASKED, "login": "x" * 257}, "/login"),
    "no password": (without("password"), "/"),
    "an empty password": ({**ASKED, "password": ""}, "/password"),
    "a password that is a novel": ({**ASKED, "password": "x" * 257}, "/password"),
    "no device": (without("device"), "/"),
    "a device without id": ({**ASKED, "device": {"name": "x"}}, "/device"),
    "a device id that is a novel": ({**ASKED, "device": {"id": "x" * 129}}, "/device/id"),
    "a device name that is a novel": ({**ASKED, "device": {"id": "x", "name": "x" * 129}}, "/device/name"),
    "an unknown field": ({**ASKED, "remember": True}, "/"),
    "an unknown field of the device": ({**ASKED, "device": {"id": "x", "os": "x"}}, "/device"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_sign_in_of_another_form_is_refused_and_names_the_part(shared: World, kind: str) -> None:
    body, pointer = BAD[kind]
    assert await refused(shared, SIGN_IN, body) == (400, "bad-request", pointer)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"refresh_token": "x"}, "/"),
        ({"device": {"id": "x"}}, "/"),
        ({"refresh_token": "", "device": {"id": "x"}}, "/refresh_token"),
        ({"refresh_token": "x" * 4097, "device": {"id": "x"}}, "/refresh_token"),
        ({"refresh_token": "x", "device": {"id": ""}}, "/device/id"),
        ({"refresh_token": "x", "device": {"id": "x"}, "grant": "refresh_token"}, "/"),
    ],
)
async def test_a_refresh_of_another_form_is_refused(shared: World, body: Any, pointer: str) -> None:
    assert await refused(shared, REFRESH, body) == (400, "bad-request", pointer)


@pytest.mark.parametrize("kind", NOT_JSON)
@pytest.mark.parametrize("target", [SIGN_IN, REFRESH])
async def test_what_is_no_json_object_is_a_bad_request(shared: World, target: str, kind: str) -> None:
    assert (await refused(shared, target, NOT_JSON[kind]))[:2] == (400, "bad-request")


async def test_a_form_is_not_read(shared: World) -> None:
    for target in (SIGN_IN, REFRESH):
        answer = await shared.ask("POST", target, data={"grant": "password"})
        assert (answer.status_code, answer.json()["slug"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "x" * 3000, "\x00"])
async def test_a_refresh_token_that_is_none_opens_nothing(shared: World, token: str) -> None:
    body = {"refresh_token": token, "device": {"id": "phone-1"}}
    status, slug, _ = await refused(shared, REFRESH, body)
    # The shared gateway has no accounts database: what is read of a token is read before one is needed.
    assert (status, slug) in {(401, "refresh-invalid"), (503, "read-only")}
