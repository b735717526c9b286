"""The caller's own devices, as the routes tell them; what ends them is tested with the gateway's signing in."""

from __future__ import annotations

import pytest

from auth.principal import Role
from routes.sessions import LIST_SESSIONS, SessionList
from tests.auth.people import PASSWORD
from tests.gateway.accounts import Accounts
from tests.gateway.people import PARENT
from tests.gateway.world import World


async def test_a_signed_in_device_is_listed_and_never_kept(accounts_world: World, accounts: Accounts) -> None:
    asked = {
        "grant": "password",
        "app": "waliye",
        "login": await accounts.login(PARENT),
        "password": PASSWORD,
        "device": {"id": "phone-1"},
    }
    access = (await accounts_world.ask("POST", "/v1/auth/tokens", json=asked)).json()["access_token"]
    headers = {"authorization": f"Bearer {access}"}
    answer = await accounts_world.ask("GET", "/v1/auth/sessions", headers=headers)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    (session,) = answer.json()["sessions"]
    assert session == {
        "id": session["id"],
        "device": {"id": "phone-1", "name": ""},
        "created_at": "2027-01-15T08:00:00Z",
        "last_used_at": "2027-01-15T08:00:00Z",
        "current": True,
    }
    head = await accounts_world.ask("HEAD", "/v1/auth/sessions", headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("role", Role)
async def test_every_role_has_sessions(accounts_world: World, role: Role) -> None:
    headers = {"authorization": accounts_world.authorization("somebodyaaaaaaaa", role=role)}
    answer = await accounts_world.ask("GET", "/v1/auth/sessions", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"sessions": []})


async def test_a_session_id_of_another_form_names_nothing(shared: World) -> None:
    for sid in ("NO", "a-b", "x" * 65, "%2e%2e"):
        answer = await shared.ask("DELETE", f"/v1/auth/sessions/{sid}", who=PARENT)
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found"), sid


def test_the_list_is_no_cached_read() -> None:
    assert LIST_SESSIONS.read is None
    assert LIST_SESSIONS.answer is SessionList
