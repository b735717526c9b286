"""Signing in, rotating and signing out, over a real accounts database and a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.accounts import open_engine, transaction
from auth.denials import Denials
from auth.principal import Role
from auth.refusals import AccountsUnavailable
from datacenters import etcd_keys
from datacenters.directory import Directory
from datacenters.etcd import Etcd, KeyValue
from datacenters.feeds import Publisher
from datacenters.journal import Journal, opened
from datacenters.journal_seal import JournalSeal
from datacenters.position import Position
from datacenters.record import Phase, encode
from gateway import holding as holding_module
from gateway import signing_in as signing_in_module
from gateway.account_records import EndedSession, sign_out_record, stands
from gateway.settings import Site
from gateway.signing_in import Deny
from tests.auth.people import PASSWORD, START, add_account
from tests.datacenters.listening import Proxy
from tests.gateway.accounts import Accounts
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import PARENT, PUPIL, TEACHER
from tests.gateway.world import (
    FREEZING,
    NAMES,
    NOWHERE,
    PROMOTING,
    REPLAYING,
    SEALING,
    SID,
    SWITCHED,
    World,
    declare,
    follow,
    move,
)
from tests.waiting import eventually

HEARD_WITHIN_S = 10.0
AWAY = "postgresql://nobody:x@127.0.0.1:9/accounts"


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
    await refused_as_read_only(await make_world(sites=sites(AWAY)))


async def test_devices_are_listed_from_the_standbys_copy(make_world: MakeWorld, accounts: Accounts) -> None:
    world = await make_world(sites=sites(AWAY, accounts.dsn))
    answer = await world.ask(
        "GET", "/v1/auth/sessions", headers={"authorization": world.authorization(PARENT)}
    )
    assert (answer.status_code, answer.json()) == (200, {"sessions": []})


async def test_an_account_belongs_to_its_own_app(accounts_world: World, accounts: Accounts) -> None:
    login = "both@famille.example"
    await add_account(accounts.engine, login, role=Role.PARENT, subject=PARENT)
    await add_account(accounts.engine, login, role=Role.TEACHER, subject=TEACHER)
    for app, subject in (("waliye", PARENT), ("moudaris", TEACHER)):
        answer = await sign_in(accounts_world, login, app=app)
        assert answer.json()["principal"]["id"] == subject


# A sign-out's record and denial


async def signed_in(world: World, accounts: Accounts) -> dict[str, str]:
    """The header of somebody who has just signed in."""
    given = (await sign_in(world, await accounts.login(PARENT))).json()
    return {"authorization": f"Bearer {given['access_token']}"}


async def sign_out(world: World, headers: dict[str, str]) -> tuple[int, str | None]:
    answer = await world.ask("DELETE", "/v1/auth/sessions", headers=headers)
    return answer.status_code, answer.json()["slug"] if answer.content else None


async def reads(world: World, headers: dict[str, str]) -> int:
    return (await world.ask("GET", f"/v1/pupils/{PUPIL}/timetable", headers=headers)).status_code


async def lying(etcd: Etcd, *prefixes: str) -> list[KeyValue]:
    return [item for prefix in prefixes for item in (await etcd.range(prefix, prefix=True)).items]


async def test_a_sign_out_is_in_the_journal_and_denied_in_one_transaction(
    accounts_world: World, accounts: Accounts, etcd_client: Etcd, keys_folder: Path
) -> None:
    headers = await signed_in(accounts_world, accounts)
    async with transaction(accounts.engine) as connection:
        before = await stands(connection)
    assert await sign_out(accounts_world, headers) == (204, None)
    denial, item = await lying(etcd_client, etcd_keys.DENIALS, etcd_keys.JOURNAL)
    assert denial.revision == item.revision
    assert (bool(denial.lease), bool(item.lease)) == (True, False)
    sid = denial.key.removeprefix(etcd_keys.DENIALS)
    assert sid.encode() not in item.value
    timeline, lsn, name = item.key.removeprefix(etcd_keys.JOURNAL).split("/")
    at = (int(timeline), int(lsn))
    assert at > before
    record = opened(item.value, name, JournalSeal.load(keys_folder / "journal.key"))
    assert record == sign_out_record(EndedSession(sid=sid, ended_at=START), order=at[1])


async def test_a_sign_out_that_etcd_does_not_hear_is_none_and_may_be_repeated(
    make_world: MakeWorld, accounts: Accounts, proxy: tuple[Proxy, str], etcd_client: Etcd
) -> None:
    line, url = proxy
    world = await make_world(etcd_urls=(url,), sites=sites(accounts.dsn))
    headers = await signed_in(world, accounts)
    line.cut()
    assert await sign_out(world, headers) == (503, "read-only")
    assert not await lying(etcd_client, etcd_keys.DENIALS, etcd_keys.JOURNAL)
    line.mend()
    assert await sign_out(world, headers) == (204, None)
    assert len(await lying(etcd_client, etcd_keys.JOURNAL)) == 1
    assert await reads(world, headers) == 401


async def test_a_sign_out_overtaken_by_a_claim_is_none_and_may_be_repeated(
    make_world: MakeWorld, accounts: Accounts, etcd_client: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(sites=sites(accounts.dsn, accounts.dsn))
    headers = await signed_in(world, accounts)

    async def overtaken(connection: AsyncConnection) -> Position:
        await move(etcd_client, epoch=2, active="marrakech")
        return await stands(connection)

    with monkeypatch.context() as patched:
        patched.setattr(signing_in_module, "stands", overtaken)
        assert await sign_out(world, headers) == (503, "read-only")
    assert not await lying(etcd_client, etcd_keys.DENIALS, etcd_keys.JOURNAL)
    await follow(world, etcd_client, epoch=2, active="marrakech")
    assert await sign_out(world, headers) == (204, None)
    assert await reads(world, headers) == 401


async def test_a_session_ended_at_a_site_that_is_active_no_more_is_not_denied(
    accounts: Accounts, etcd_client: Etcd, keys_folder: Path
) -> None:
    """The accounts of the new active site do not know that it ended: its refresh token would live on there."""
    declared = await declare(etcd_client, epoch=2, active="marrakech")
    directory = Directory(etcd_client, site="rabat", sites={})
    publisher = Publisher(etcd_client)
    journal = Journal(etcd_client, publisher, JournalSeal.load(keys_folder / "journal.key"))
    denials, marrakech = Denials(), open_engine(accounts.dsn)
    engines = {"rabat": accounts.engine, "marrakech": marrakech}
    deny = Deny(publisher, journal, directory, engines, denials, clock=lambda: START)
    with pytest.raises(AccountsUnavailable):  # no record was ever read
        await deny(marrakech, SID, START + 660)
    directory._adopt(KeyValue(key="", value=encode(declared), revision=1))
    with pytest.raises(AccountsUnavailable):
        await deny(accounts.engine, SID, START + 660)
    assert not denials.denied(SID)
    assert not await lying(etcd_client, etcd_keys.DENIALS, etcd_keys.JOURNAL)
    await deny(marrakech, SID, START + 660)
    assert denials.denied(SID)
    await journal.aclose()
    await marrakech.dispose()


# In a planned switchover


async def test_accounts_are_written_after_a_planned_switchover_at_the_new_site(
    make_world: MakeWorld, accounts: Accounts, etcd_client: Etcd
) -> None:
    world = await make_world(sites=sites(AWAY, accounts.dsn), record={"active": "marrakech"})
    login = await accounts.login(PARENT)
    given = (await sign_in(world, login)).json()
    headers = {"authorization": f"Bearer {given['access_token']}"}
    await follow(world, etcd_client, **FREEZING)  # of Rabat, whose database answers nothing
    asked = [
        asyncio.create_task(sign_in(world, login, device="tablet-1")),
        asyncio.create_task(refresh(world, given["refresh_token"])),
        asyncio.create_task(world.ask("DELETE", "/v1/auth/sessions/" + "s" * 16, headers=headers)),
    ]
    await eventually(lambda: len(world.app._places) == 3, within_s=10.0)
    for step in (SEALING, PROMOTING, REPLAYING):
        await follow(world, etcd_client, **step)
        assert not any(task.done() for task in asked)
    await follow(world, etcd_client, **SWITCHED)
    assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200, 200, 404]


async def test_a_sign_out_during_which_its_site_is_frozen_is_done_again_afterwards(
    make_world: MakeWorld, accounts: Accounts, etcd_client: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(sites=sites(accounts.dsn, accounts.dsn))
    headers = await signed_in(world, accounts)
    denying = Deny.__call__
    frozen = asyncio.Event()

    async def freezing(self: Deny, engine: AsyncEngine, sid: str, until: float) -> None:
        if not frozen.is_set():
            await follow(world, etcd_client, **FREEZING)
            frozen.set()
        await denying(self, engine, sid, until)

    monkeypatch.setattr(Deny, "__call__", freezing)
    ending = asyncio.create_task(sign_out(world, headers))
    await asyncio.wait_for(frozen.wait(), 10)
    await follow(world, etcd_client, **SWITCHED)
    assert await ending == (204, None)
    assert await reads(world, headers) == 401


async def test_a_switchover_that_takes_too_long_signs_nobody_in(
    make_world: MakeWorld, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding_module, "HELD_WITHIN_S", 0.05)
    world = await make_world(record=FREEZING, sites=sites(accounts.dsn, accounts.dsn))
    answer = await sign_in(world, await accounts.login(PARENT))
    assert (answer.status_code, answer.json()["slug"]) == (503, "switching")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
