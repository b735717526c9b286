"""Logs, metrics and Valkey of a whole demo, and of a rude visitor after it, name nobody and tell nothing about anybody."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from sandbox.phone import Phone
from sandbox.postgres import RECORDS
from tests.journeys.searching import (
    Secrets,
    everything_about_everybody,
    leaks_in_entries,
    leaks_in_files,
    leaks_in_texts,
)
from tests.journeys.telling import ToldDemo, everything_in

SERVERS = ("gateway", "datacenter", "director", "postgres", "valkey", "etcd")
ENTRIES_MIN = 20
JSON = re.compile(rb'"[a-z_]{3,}":')


@pytest.fixture(scope="module")
async def person(told: ToldDemo) -> dict[str, str]:
    """One pupil, of whom every kind of word is known."""
    connection = await asyncpg.connect(told.table.databases["marrakech"][RECORDS], ssl=False)
    try:
        row = await connection.fetchrow(
            "SELECT * FROM pupils WHERE id = $1", told.accounts["student"].pupil_id
        )
        phone = await connection.fetchval("SELECT phone FROM guardians WHERE phone <> '' LIMIT 1")
    finally:
        await connection.close()
    assert row is not None
    account = told.accounts["student"]
    return {
        "id": row["id"],
        "code": row["massar_code"],
        "name_fr": row["name_fr"],
        "name_ar": row["name_ar"],
        "login": account.login,
        "password": account.password,
        "phone": phone,
    }


@pytest.fixture(scope="module")
async def visited(told: ToldDemo, person: dict[str, str]) -> ToldDemo:
    """The demo after somebody has tried everything that goes wrong, with real words in it."""
    await _misuse_the_gateway(told, person)
    await _misuse_the_datacenter(told, person)
    await _misuse_the_private_listener(told, person)
    await _misuse_the_records(told, person)
    return told


@pytest.fixture(scope="module")
async def secrets(visited: ToldDemo) -> Secrets:
    return await everything_about_everybody(visited.table, site="marrakech")


async def test_no_log_tells_anything_about_anybody(visited: ToldDemo, secrets: Secrets) -> None:
    logs = visited.directory / "logs"
    written = {path.name: path.stat().st_size for path in logs.iterdir()}
    assert {f"{site}-{kind}.log" for site in ("rabat", "marrakech") for kind in SERVERS} <= set(written)
    assert sum(written.values()) > 50_000
    assert leaks_in_files(secrets, logs) == []


async def test_no_metric_tells_anything_about_anybody(visited: ToldDemo, secrets: Secrets) -> None:
    assert set(visited.before.metrics) == {"rabat", "marrakech"}
    assert all("massar_requests_total" in text for text in visited.before.metrics.values())
    now = await _read(f"{visited.table.metrics['marrakech']}/metrics")
    assert leaks_in_texts(secrets, {**visited.before.metrics, "now": now}) == []


async def test_nothing_in_valkey_is_readable(visited: ToldDemo, secrets: Secrets) -> None:
    for site, entries in visited.before.valkey.items():
        print(f"\n{site}: {len(entries)} keys, {sum(map(len, entries.values()))} bytes")
    assert len(visited.before.valkey["rabat"]) >= ENTRIES_MIN
    now = await everything_in(visited.table.valkey["marrakech"])
    assert len(now) >= ENTRIES_MIN
    for entries in (*visited.before.valkey.values(), now):
        assert leaks_in_entries(secrets, entries) == []
        assert not any(JSON.search(value) for value in entries.values())


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "sign-in", "login": "{login}"}',
        "LOG:  parameters: $1 = '{code}'",
        '{"event": "shown", "to": "{name_fr}"}',
        '{"event": "shown", "to": "{escaped}"}',
        "GET /v1/search?q={percent} 200",
        "sent to {phone}",
        "argument {password} is wrong",
        '"GET /v1/pupils/{id}/grades HTTP/1.1" 200',
        '{"event": "answered", "route": "/v1/classes/x/timetable"}',
        '{"event": "filled", "query": "?view=family&year=2026"}',
        '{"event": "entered", "mark":"17.25"}',
        "DETAIL:  Failing row contains (…, '17.25', 3)",
        "authorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    ],
)
async def test_a_leak_is_found(
    visited: ToldDemo, secrets: Secrets, person: dict[str, str], line: str
) -> None:
    """The search is no good unless it finds what is planted."""
    words = {
        **person,
        "escaped": person["name_ar"].encode("unicode_escape").decode(),
        "percent": str(httpx.URL("/", params={"q": person["name_ar"]}).query, "ascii").removeprefix("q="),
    }
    for name, word in words.items():
        line = line.replace("{" + name + "}", word)
    planted = visited.directory / "logs" / "planted.log"
    planted.write_text(f"something ordinary\n{line}\n", encoding="utf-8")
    try:
        leaks = leaks_in_files(secrets, visited.directory / "logs")
    finally:
        planted.unlink()
    assert leaks
    assert all(leak.startswith("planted.log: ") for leak in leaks)


@pytest.mark.parametrize("word", ["login", "name_ar", "name_fr", "id", "code"])
async def test_a_leak_into_valkey_is_found(
    visited: ToldDemo, secrets: Secrets, person: dict[str, str], word: str
) -> None:
    client = Redis.from_url(visited.table.valkey["marrakech"])
    try:
        for key, value in ((f"planted {person[word]}", "x"), ("planted", f"… {person[word]} …")):
            await client.set(key, value)
            found = leaks_in_entries(secrets, await everything_in(visited.table.valkey["marrakech"]))
            await client.delete(key)
            assert found
    finally:
        await client.aclose()


async def _misuse_the_gateway(told: ToldDemo, person: dict[str, str]) -> None:
    url = told.marrakech["marrakech"]
    phone = Phone(told.accounts["teacher"], told.marrakech)
    signing_in = {
        "grant": "password",
        "app": "moutamadris",
        "login": person["login"],
        "password": person["password"],
    }
    device = {"id": person["id"], "name": person["name_fr"]}
    teacher = told.accounts["teacher"]
    book = f"/v1/gradebooks/{teacher.class_id}/{teacher.subject}/{teacher.session}/entries"
    bad_mark = {"pupil_id": person["id"], "number": 1, "mark": "27.75", "state": "marked", "version": 0}
    try:
        assert (await phone.sign_in()).status == 200
        payloads: list[tuple[str, str, Any]] = [
            ("POST", "/v1/auth/tokens", {**signing_in, "password": "wrong", "device": device}),
            ("POST", "/v1/auth/tokens", {**signing_in, "device": person["name_ar"]}),
            ("POST", "/v1/auth/tokens", [person]),
            ("POST", "/v1/auth/tokens", {**signing_in, "app": person["login"], "device": device}),
            (
                "POST",
                "/v1/auth/tokens/refresh",
                {"refresh_token": phone.refresh_token[:-4], "device": device},
            ),
            ("POST", f"/v1/{person['login']}", person),
            ("PUT", book, {"entries": [bad_mark]}),
            ("PUT", book, {"entries": [{**bad_mark, "mark": 17.25}]}),
            ("PUT", book, {"entries": [{**bad_mark, person["name_fr"]: "17.25"}]}),
            ("POST", f"/v1/classes/{person['id']}/homework", {"subject": "FR", "text": person["name_ar"]}),
        ]
        for method, path, payload in payloads:
            answer = await phone.send(
                method, path, payload=payload, headers={"idempotency-key": person["login"]}
            )
            assert 200 <= answer.status < 500, f"{method} {path}: {answer.status}"
        for path in (
            f"/v1/pupils/{person['id']}/nothing?login={person['login']}",
            f"/v1/pupils/{person['name_ar']}/grades",
            f"/v1/pupils/{person['code']}/grades?week={person['phone']}",
            f"/v1/pupils/{person['id']}/timetable?week={person['name_fr']}",
            f"/v1/pupils/{person['id']}/timetable/",
            f"/{person['login']}",
        ):
            assert 400 <= (await phone.get(path)).status < 500
    finally:
        await phone.aclose()
    async with httpx.AsyncClient(trust_env=False) as client:
        for headers in ({"authorization": f"Bearer {person['login']}"}, {"cookie": person["code"]}):
            assert (await client.get(f"{url}/v1/me", headers=headers)).status_code == 401
        broken = await client.post(f"{url}/v1/auth/tokens", content=f'{{"login":"{person["login"]}"'.encode())
        assert broken.status_code in {400, 415}
        assert (await client.request("DELETE", f"{url}/v1/pupils/{person['id']}/grades")).status_code == 405


async def _misuse_the_datacenter(told: ToldDemo, person: dict[str, str]) -> None:
    url = told.table.datacenters["marrakech"]
    async with httpx.AsyncClient(trust_env=False) as client:
        for path in (
            f"/v1/pupils/{person['id']}/grades?view=family",
            f"/v1/people/{person['login']}/profile",
        ):
            headers = {"massar-epoch": "2", "massar-assertion": person["name_fr"]}
            assert (await client.get(url + path, headers=headers)).status_code == 401
        assert (await client.get(f"{url}/{person['login']}/{person['id']}")).status_code == 404
        assert (await client.get(f"{url}/health?nonce={person['name_ar']}")).status_code == 400


async def _misuse_the_private_listener(told: ToldDemo, person: dict[str, str]) -> None:
    notice = {"sender": person["login"], "nonce": "n", "at": 0, "tags": [f"relations:{person['id']}"]}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{told.table.metrics['marrakech']}/internal/purge",
            content=msgspec.json.encode(notice),
            headers={"massar-signature": f'keyid="{person["login"]}", sig=AAAA'},
        )
    assert answer.status_code in {400, 401}


async def _misuse_the_records(told: ToldDemo, person: dict[str, str]) -> None:
    """Statements that PostgreSQL refuses; by default it would log statement, key and whole row."""
    connection = await asyncpg.connect(told.table.databases["marrakech"][RECORDS], ssl=False)
    try:
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(
                "INSERT INTO pupils SELECT $1, massar_code, name_ar, name_fr, class_id, 99, birth_date"
                " FROM pupils WHERE id = $2",
                "a" * 16,
                person["id"],
            )
        with pytest.raises(asyncpg.NotNullViolationError):
            await connection.execute(
                "UPDATE pupils SET name_fr = NULL WHERE massar_code = $1", person["code"]
            )
        with pytest.raises(asyncpg.UndefinedColumnError):
            await connection.execute(f"SELECT nothing FROM pupils WHERE massar_code = '{person['code']}'")
    finally:
        await connection.close()


async def _read(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).text
