"""Signing in, rotating and signing out, over a real accounts database and a real etcd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from auth.denials import Denials
from auth.principal import Role
from auth.refusals import AccountsUnavailable
from datacenters.etcd import Etcd
from datacenters.feeds import Publisher
from datacenters.record import Phase
from gateway.settings import Site
from gateway.signing_in import Deny
from tests.auth.people import PASSWORD, START, add_account
from tests.gateway.accounts import Accounts
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import PARENT, PUPIL, TEACHER
from tests.gateway.world import NAMES, NOWHERE, World
from tests.waiting import eventually

HEARD_WITHIN_S = 10.0


async def sign_in(world: World, login: str, *, device: str = "phone-1", **changes: Any) -> httpx.Response:
    asked = {
        "grant": "password",
        "app": "waliye",
        "login": login,
        "password": PASSWORD,
        "device": {"id": device, "name": "Téléphone"},
        **changes,
    }
    return await world.ask("POST", "/v1/auth/tokens", json=asked)


async def refresh(world: World, token: str, *, device: str = "phone-1") -> httpx.Response:
    asked = {"refresh_token": token, "device": {"id": device}}
    return await world.ask("POST", "/v1/auth/tokens/refresh", json=asked)


async def listed(world: World, access: str) -> httpx.Response:
    return await world.ask("GET", "/v1/auth/sessions", headers={"authorization": f"Bearer {access}"})


async def test_signing_in_gives_tokens_that_open_the_callers_own_data(
    accounts_world: World, accounts: Accounts
) -> None:
    answer = await sign_in(accounts_world, await accounts.login(PARENT))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert (given["token_type"], given["expires_in"], given["refresh_expires_in"]) == ("Bearer", 600, 2592000)
    assert given["principal"] == {
        "id": PARENT,
        "role": "parent",
        "app": "waliye",
        "name": {"ar": "سلمى", "fr": "Salma"},
    }
    headers = {"authorization": f"Bearer {given['access_token']}"}
    for target, status in ((f"/v1/pupils/{PUPIL}/grades", 200), ("/v1/teachers/me/service", 403)):
        assert (await accounts_world.ask("GET", target, headers=headers)).status_code == status


async def test_a_wrong_password_and_an_unknown_login_read_the_same(
    accounts_world: World, accounts: Accounts
) -> None:
    login = await accounts.login(PARENT)
    wrong = await sign_in(accounts_world, login, password="guess")
    unknown = await sign_in(accounts_world, "nobody@famille.example")
    other_app = await sign_in(accounts_world, login, app="moudaris")
    for answer in (wrong, unknown, other_app):
        assert (answer.status_code, answer.json()["slug"]) == (401, "credentials-invalid")
        assert answer.headers["www-authenticate"] == 'Bearer realm="massar"'
        assert {**answer.json(), "instance": ""} == {**wrong.json(), "instance": ""}


async def test_too_many_failures_are_told_how_long_to_wait(accounts_world: World, accounts: Accounts) -> None:
    login = await accounts.login(TEACHER)
    answers = [await sign_in(accounts_world, login, password="guess", app="moudaris") for _ in range(11)]
    assert [answer.status_code for answer in answers[:10]] == [401] * 10
    assert (answers[10].status_code, answers[10].json()["slug"]) == (429, "too-many-attempts")
    assert 1 <= int(answers[10].headers["retry-after"]) <= 15 * 60


async def test_rotation_gives_a_successor_and_kills_the_family_of_a_thief(
    accounts_world: World, accounts: Accounts
) -> None:
    first = (await sign_in(accounts_world, await accounts.login(PARENT))).json()
    second = (await refresh(accounts_world, first["refresh_token"])).json()
    assert second["principal"] == first["principal"]
    third = (await refresh(accounts_world, second["refresh_token"])).json()
    accounts_world.clock.advance(31)
    stolen = await refresh(accounts_world, second["refresh_token"])
    assert (stolen.status_code, stolen.json()["slug"]) == (401, "refresh-reused")
    after = await refresh(accounts_world, third["refresh_token"])
    assert (after.status_code, after.json()["slug"]) == (401, "refresh-invalid")
    ended = await listed(accounts_world, third["access_token"])
    assert (ended.status_code, ended.json()["slug"]) == (401, "session-ended")


async def test_sessions_are_listed_and_ended_one_by_one(accounts_world: World, accounts: Accounts) -> None:
    login = await accounts.login(PARENT)
    phone = (await sign_in(accounts_world, login)).json()["access_token"]
    accounts_world.clock.advance(5)
    tablet = (await sign_in(accounts_world, login, device="tablet-1")).json()["access_token"]
    sessions = (await listed(accounts_world, phone)).json()["sessions"]
    assert [(one["device"]["id"], one["current"]) for one in sessions] == [
        ("tablet-1", False),
        ("phone-1", True),
    ]
    assert sessions[1]["created_at"] == "2027-01-15T08:00:00Z"
    assert sessions[1]["device"]["name"] == "Téléphone"
    headers = {"authorization": f"Bearer {phone}"}
    ended = await accounts_world.ask("DELETE", f"/v1/auth/sessions/{sessions[0]['id']}", headers=headers)
    assert (ended.status_code, ended.content) == (204, b"")
    assert ended.headers["cache-control"] == "no-store"
    assert (await listed(accounts_world, tablet)).json()["slug"] == "session-ended"
    assert [one["device"]["id"] for one in (await listed(accounts_world, phone)).json()["sessions"]] == [
        "phone-1"
    ]


async def test_nobody_ends_anybody_elses_session(accounts_world: World, accounts: Accounts) -> None:
    theirs = (await sign_in(accounts_world, await accounts.login(PARENT))).json()
    (session,) = (await listed(accounts_world, theirs["access_token"])).json()["sessions"]
    pupil = await sign_in(accounts_world, await accounts.login(PUPIL), app="moutamadris")
    headers = {"authorization": f"Bearer {pupil.json()['access_token']}"}
    for sid in (session["id"], "s2b7c4d5e6f3g2h7", "NO", "x" * 65):
        answer = await accounts_world.ask("DELETE", f"/v1/auth/sessions/{sid}", headers=headers)
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    assert (await listed(accounts_world, theirs["access_token"])).status_code == 200


async def test_signing_out_everywhere_is_heard_by_every_worker(
    accounts_world: World, accounts: Accounts, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def as_it_is(*_arguments: object, **_changes: object) -> None:
        """The other worker starts beside this one: the record stays."""

    monkeypatch.setattr("tests.gateway.conftest.declare", as_it_is)
    other_worker = await make_world()
    login = await accounts.login(PARENT)
    tokens = [
        (await sign_in(accounts_world, login, device=name)).json()["access_token"] for name in ("a", "b")
    ]
    target = f"/v1/pupils/{PUPIL}/timetable"

    async def read(world: World, access: str) -> str | None:
        answer = await world.ask("GET", target, headers={"authorization": f"Bearer {access}"})
        slug: str | None = answer.json().get("slug")
        return slug

    for access in tokens:
        assert await read(other_worker, access) is None
    headers = {"authorization": f"Bearer {tokens[0]}"}
    assert (await accounts_world.ask("DELETE", "/v1/auth/sessions", headers=headers)).status_code == 204
    for access in tokens:
        assert await read(accounts_world, access) == "session-ended"

        async def heard(access: str = access) -> bool:
            return await read(other_worker, access) == "session-ended"

        await eventually(heard, within_s=HEARD_WITHIN_S)


# When the accounts cannot be written


def sites(rabat: str, marrakech: str = "") -> dict[str, Site]:
    return {
        "rabat": Site(datacenter_url=NOWHERE, name=NAMES["rabat"], accounts_dsn=rabat),
        "marrakech": Site(datacenter_url=NOWHERE, name=NAMES["marrakech"], accounts_dsn=marrakech),
    }


async def refused_as_read_only(world: World) -> None:
    headers = {"authorization": world.authorization(PARENT)}
    answers = [
        await sign_in(world, "parent@famille.example"),
        await refresh(world, world.tokens.issue_refresh(family="s", sequence=1, device_id="d", now=START)[0]),
        await world.ask("DELETE", "/v1/auth/sessions", headers=headers),
        await world.ask("DELETE", "/v1/auth/sessions/s2b7c4d5e6f3g2h7", headers=headers),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_site_without_accounts_database_signs_nobody_in(world: World) -> None:
    await refused_as_read_only(world)
    headers = {"authorization": world.authorization(PARENT)}
    answer = await world.ask("GET", "/v1/auth/sessions", headers=headers)
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")


async def test_while_the_active_site_changes_nobody_is_signed_in(
    make_world: MakeWorld, accounts: Accounts
) -> None:
    record = {"phase": Phase.PROMOTING, "target": "marrakech", "epoch": 2}
    await refused_as_read_only(await make_world(record=record, sites=sites(accounts.dsn, accounts.dsn)))


async def test_without_etcd_nobody_is_signed_in_or_out(
    cut_off: Callable[..., World], accounts: Accounts
) -> None:
    world = cut_off(sites=sites(accounts.dsn))
    await refused_as_read_only(world)


async def test_an_accounts_database_that_is_gone_is_read_only_too(make_world: MakeWorld) -> None:
    await refused_as_read_only(await make_world(sites=sites("postgresql://nobody:x@127.0.0.1:9/accounts")))


async def test_devices_are_listed_from_the_standbys_copy(make_world: MakeWorld, accounts: Accounts) -> None:
    world = await make_world(sites=sites("postgresql://nobody:x@127.0.0.1:9/accounts", accounts.dsn))
    answer = await world.ask(
        "GET", "/v1/auth/sessions", headers={"authorization": world.authorization(PARENT)}
    )
    assert (answer.status_code, answer.json()) == (200, {"sessions": []})


async def test_a_denial_that_cannot_be_told_to_every_site_is_no_denial() -> None:
    etcd = Etcd([NOWHERE])
    denials = Denials()
    deny = Deny(Publisher(etcd), denials, clock=lambda: START)
    with pytest.raises(AccountsUnavailable):
        await deny("sidaaaaaaaaaaaaa", START + 660)
    assert not denials.denied("sidaaaaaaaaaaaaa")
    await etcd.aclose()


async def test_an_account_belongs_to_its_own_app(accounts_world: World, accounts: Accounts) -> None:
    login = "both@famille.example"
    await add_account(accounts.engine, login, role=Role.PARENT, subject=PARENT)
    await add_account(accounts.engine, login, role=Role.TEACHER, subject=TEACHER)
    for app, subject in (("waliye", PARENT), ("moudaris", TEACHER)):
        answer = await sign_in(accounts_world, login, app=app)
        assert answer.json()["principal"]["id"] == subject
