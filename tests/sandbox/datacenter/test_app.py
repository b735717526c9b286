from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import httpx
import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from datacenters.assertion import Sender, sign
from datacenters.position import parse
from datacenters.sender_keys import read_private_key
from sandbox import ports
from sandbox.datacenter import contract
from sandbox.datacenter.app import create_datacenter
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.settings import Secret, Settings
from sandbox.datacenter.standing import Observer, Standing
from sandbox.postgres import PostgresServer
from tests.conformance import seed
from tests.conformance.ground import EPOCH, HEARD, SITE
from tests.sandbox.datacenter.conftest import Told
from tests.waiting import eventually

RELOAD = "SELECT pg_reload_conf()"
# A write's time where it ends in the middle of the write; the steps before it take far less.
SOON_S = 2.0
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

Assign = Callable[[], Coroutine[Any, Any, httpx.Response]]
Instead = Callable[[], Awaitable[None]]


class Gateway:
    """Speaks to a datacenter that runs inside the test."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings) -> None:
        self.client = client
        self._key = read_private_key(settings.assertion_keys_dir / f"gateway-{SITE}.pem")

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        asserted: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        claims: dict[str, Any] = {
            "key": self._key, "site": SITE, "audience": f"datacenter:{SITE}", "subject": seed.TEACHER,
            "role": "teacher", "method": method, "target": target, "body": body, "epoch": EPOCH, "now": time.time(),
        }  # fmt: skip
        token = sign(**{**claims, **(asserted or {})})
        signed = {"Massar-Epoch": str(EPOCH), "Massar-Assertion": token}
        return await self.client.request(method, target, content=body, headers={**signed, **(headers or {})})


@asynccontextmanager
async def served(settings: Settings, told: Told) -> AsyncIterator[Gateway]:
    """A datacenter in this very task: a lifespan begins and ends in one."""
    app = create_datacenter(settings, log=told.log)
    transport = httpx.ASGITransport(app=cast("Any", app), raise_app_exceptions=False)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://datacenter") as client:
        yield Gateway(client, settings)


async def test_a_request_is_one_line_without_ids_or_names(settings: Settings, told: Told) -> None:
    async with served(settings, told) as gateway:
        target = f"/v1/people/{seed.MOTHER}/profile?view=self"
        assert (await gateway.ask("GET", target)).status_code == 200
        assert (await gateway.ask("GET", f"/v1/people/{seed.NOBODY}/profile?view=self")).status_code == 404
        lines = [
            {name: event[name] for name in ("event", "method", "route", "status", "slug")}
            for event in told.events
        ]
        route = {"event": "answered", "method": "GET", "route": "/v1/people/{subject}/profile"}
        assert lines == [
            {**route, "status": 200, "slug": None},
            {**route, "status": 404, "slug": "not-found"},
        ]
        assert not any(
            word in str(told.events) for word in (seed.MOTHER, seed.NOBODY, seed.PUPIL, "Synthétique")
        )


async def test_a_mistake_of_ours_is_said_without_what_it_was_about(
    settings: Settings, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(settings, told) as gateway:

        def broken(*_: Any, **__: Any) -> None:
            raise LookupError(seed.MOTHER)

        monkeypatch.setattr("sandbox.datacenter.answers.etag", broken)
        answer = await gateway.ask("GET", f"/v1/people/{seed.MOTHER}/profile?view=self")
        assert (answer.status_code, answer.json()["slug"]) == (500, "internal")
        assert answer.headers["content-type"] == "application/problem+json"
        (event,) = (event for event in told.events if event["event"] == "internal")
        assert (event["error"], event["where"].partition(":")[0]) == ("LookupError", "sandbox.datacenter.app")
        assert seed.MOTHER not in str(told.events) + answer.text


async def test_a_value_the_records_refuse_is_the_callers_mistake_and_one_line_for_us(
    settings: Settings, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "Synthétique\x00"

    async def hostile(connection: AsyncConnection, _: Any) -> None:
        await connection.execute(text("SELECT CAST(:v AS text)"), {"v": secret})

    target = "/v1/calendar?view=public"
    (read,) = (one for one in contract.READS if one.path == "/v1/calendar")
    monkeypatch.setattr("sandbox.datacenter.app.READS", (msgspec.structs.replace(read, find=hostile),))
    async with served(settings, told) as gateway:
        answer = await gateway.ask("GET", target)
        assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
        assert answer.headers["massar-position"]
        (line,) = (event for event in told.events if event["event"] == "value refused by the records")
        assert line["sqlstate"].startswith("22")
        assert "Synth" not in str(told.events) + answer.text
        told.events.clear()
        assert (await gateway.ask("GET", target + "&more=1")).status_code == 400
        assert [event["event"] for event in told.events] == ["answered"]


async def test_a_write_is_done_in_process_and_answers_its_position(
    settings: Settings, told: Told, engine: AsyncEngine
) -> None:
    async with served(settings, told) as gateway:
        async with engine.begin() as connection:
            await connection.execute(text(HEARD))
        body = msgspec.json.encode({"subject": "MATH", "text": "In process", "due_on": "2026-11-30"})
        answer = await gateway.ask(
            "POST", f"/v1/classes/{seed.CLASS}/homework", body, headers={"Idempotency-Key": "in process"}
        )
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM homework WHERE body = 'In process'"))
        assert answer.status_code == 201
        assert answer.headers["massar-position"].startswith("1-")


async def heard(engine: AsyncEngine) -> None:
    """Let the datacenter take writes, as the word of its site's director does for a moment."""
    async with engine.begin() as connection:
        await connection.execute(text(HEARD))


@asynccontextmanager
async def written(gateway: Gateway, engine: AsyncEngine, *names: str) -> AsyncIterator[list[Assign]]:
    """Ways to assign the homework of these names, taken away afterwards."""

    def assigning(name: str) -> Assign:
        body = msgspec.json.encode({"subject": "MATH", "text": name, "due_on": "2026-11-30"})
        target = f"/v1/classes/{seed.CLASS}/homework"
        return lambda: gateway.ask("POST", target, body, headers={"Idempotency-Key": name})

    await heard(engine)
    try:
        yield [assigning(name) for name in names]
    finally:
        async with engine.begin() as connection:
            for name in names:
                await connection.execute(text("DELETE FROM homework WHERE body = :name"), {"name": name})
                await connection.execute(text("DELETE FROM idempotency WHERE key = :name"), {"name": name})


class Looks:
    """The observer's looks; those from number `since` on do what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, since: int, instead: Instead) -> None:
        self.count = 0
        look = Observer.look

        async def looked(observer: Observer, connection: AsyncConnection) -> Standing:
            self.count += 1
            if self.count >= since:
                await instead()
            return await look(observer, connection)

        monkeypatch.setattr(Observer, "look", looked)


async def failing() -> None:
    raise Refused("records-unavailable")


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("instead", "within_s"), [(failing, 30.0), (hanging, SOON_S)])
async def test_a_write_whose_position_cannot_be_read_is_done_and_its_outcome_is_called_unknown(
    settings: Settings,
    told: Told,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    instead: Instead,
    within_s: float,
) -> None:
    monkeypatch.setattr("sandbox.datacenter.app.WRITE_WITHIN_S", within_s)
    async with served(settings, told) as gateway, written(gateway, engine, "unplaced") as (assign,):
        with monkeypatch.context() as patched:
            Looks(patched, since=2, instead=instead)
            answer = await assign()
        assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
        assert "massar-order" not in answer.headers
        await heard(engine)
        again = await assign()
        assert (again.status_code, again.headers["massar-replayed"]) == (201, "1")


async def test_a_write_that_found_no_position_before_it_began_wrote_nothing(
    settings: Settings, told: Told, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(settings, told) as gateway, written(gateway, engine, "not begun") as (assign,):
        with monkeypatch.context() as patched:
            Looks(patched, since=1, instead=failing)
            answer = await assign()
        assert (answer.status_code, answer.json()["slug"]) == (503, "records-unavailable")
        assert "massar-replayed" not in (await assign()).headers


async def test_a_deadline_that_comes_during_the_commit_leaves_the_outcome_unknown(
    settings: Settings, told: Told, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: AsyncConnection) -> None:
        await hanging()

    monkeypatch.setattr("sandbox.datacenter.app.WRITE_WITHIN_S", SOON_S)
    async with served(settings, told) as gateway, written(gateway, engine, "uncommitted") as (assign,):
        with monkeypatch.context() as patched:
            patched.setattr(AsyncConnection, "commit", never)
            answer = await assign()
        assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
        await heard(engine)
        assert (await assign()).status_code == 201


async def test_an_answer_that_is_delayed_keeps_the_order_of_its_turn(
    settings: Settings, told: Told, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed, go_on = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        if not delayed.is_set():
            delayed.set()
            await go_on.wait()

    async with served(settings, told) as gateway, written(gateway, engine, "first", "second") as ways:
        Looks(monkeypatch, since=2, instead=waits)
        first = asyncio.create_task(ways[0]())
        await delayed.wait()
        second = await ways[1]()
        go_on.set()
        answers = [await first, second]
        orders, positions = (
            [answer.headers[name] for answer in answers] for name in ("massar-order", "massar-position")
        )
        assert int(orders[0]) < int(orders[1])
        assert parse(positions[0]) >= parse(positions[1])


async def test_of_the_directors_the_own_one_is_known(settings: Settings, told: Told) -> None:
    async with served(settings, told) as gateway:
        for site, status in ((SITE, 200), ("marrakech", 401)):
            key = read_private_key(settings.assertion_keys_dir / f"director-{site}.pem")
            answer = await gateway.ask(
                "GET",
                "/v1/calendar?view=public",
                asserted={"sender": Sender.DIRECTOR, "site": site, "key": key},
            )
            assert answer.status_code == status


async def test_without_postgresql_it_starts_and_says_so(settings: Settings, told: Told) -> None:
    nowhere = Secret(f"postgresql://u:p@127.0.0.1:{ports.free_ports(1)[0]}/records")
    async with served(msgspec.structs.replace(settings, records_dsn=nowhere), told) as gateway:
        answer = await gateway.ask("GET", "/v1/calendar?view=public")
        assert (answer.status_code, answer.json()["slug"], answer.headers["retry-after"]) == (
            503,
            "records-unavailable",
            "1",
        )
        assert "massar-position" not in answer.headers
        assert (await gateway.client.get("/health")).status_code == 503


async def test_what_litestar_refuses_is_a_problem_too(settings: Settings, told: Told) -> None:
    async with served(settings, told) as gateway:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("PUT", "/health", 405),
            ("GET", "/v1//calendar", 404),
        ):
            answer = await gateway.client.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (
                status,
                "application/problem+json",
            )


async def test_the_epoch_of_every_answer_is_the_highest_known(
    settings: Settings, told: Told, connection: AsyncConnection
) -> None:
    async with served(settings, told) as gateway:
        assert (await gateway.client.get("/nowhere")).headers["massar-epoch"] == "0"
        await gateway.ask("GET", "/v1/calendar?view=public")
        assert (await gateway.client.get("/nowhere")).headers["massar-epoch"] == str(EPOCH)


@pytest.mark.parametrize("found", [True, False])
async def test_a_read_says_the_position_from_before_its_own_snapshot_whatever_is_written_meanwhile(
    settings: Settings, told: Told, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    writing: list[Assign] = []
    written_at: list[str] = []
    (read,) = (one for one in contract.READS if one.path == "/v1/calendar")

    async def find(connection: AsyncConnection, params: Mapping[str, Any]) -> Any:
        seen = await read.find(connection, params)
        written_at.append((await writing[0]()).headers["massar-position"])
        if not found:
            raise Refused("not-found")
        return seen

    monkeypatch.setattr("sandbox.datacenter.app.READS", (msgspec.structs.replace(read, find=find),))
    async with served(settings, told) as gateway, written(gateway, engine, "meanwhile") as ways:
        writing += ways
        answer = await gateway.ask("GET", "/v1/calendar?view=public")
    assert answer.status_code == (200 if found else 404)
    assert parse(answer.headers["massar-position"]) < parse(written_at[0])


@asynccontextmanager
async def logged_but_not_shown(server: PostgresServer) -> AsyncIterator[None]:
    """Commits are logged and wait inside for a standby, which is nobody: no snapshot shows them until this ends."""
    await server.execute("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", RELOAD)
    committing = asyncio.create_task(
        commit_for_ever(server)
    )  # the setting holds some moment after the reload
    try:
        await commits_waiting(server, 1)
        yield
    finally:
        committing.cancel()
        await server.execute("postgres", "ALTER SYSTEM RESET synchronous_standby_names", RELOAD)
        await asyncio.wait([committing])


async def commit_for_ever(server: PostgresServer) -> None:
    while True:
        await server.execute("postgres", "SELECT pg_logical_emit_message(true, 'tests', '')")


async def commits_waiting(server: PostgresServer, count: int) -> None:
    connection = await asyncpg.connect(server.admin_dsn, ssl=False)

    async def waiting() -> bool:
        return bool(await connection.fetchval(WAITING) >= count)

    await eventually(waiting, within_s=10, what=f"{count} commits wait")
    await connection.close()


async def test_a_read_that_does_not_show_a_write_has_said_less_than_its_position(
    settings: Settings, told: Told, engine: AsyncEngine, postgres_server: PostgresServer
) -> None:
    target = f"/v1/classes/{seed.CLASS}/homework"
    async with served(settings, told) as gateway, written(gateway, engine, "logged") as (assign,):
        async with logged_but_not_shown(postgres_server):
            writing = asyncio.create_task(assign())
            await commits_waiting(postgres_server, 2)
            before = await gateway.ask("GET", f"{target}?view=class&from=2026-11-01")
        answer = await writing
        after = await gateway.ask("GET", f"{target}?view=class&from=2026-11-01")
    said, position, shown = (parse(one.headers["massar-position"]) for one in (before, answer, after))
    assert ("logged" in before.text, "logged" in after.text) == (False, True)
    assert said < position <= shown


async def test_a_database_that_is_a_standby_again_after_the_commit_leaves_the_outcome_unknown(
    settings: Settings, told: Told, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recovering(_: object, connection: AsyncConnection) -> None:
        await connection.execute(
            text("DO $$ BEGIN RAISE 'cannot assign TransactionIds' USING ERRCODE = 'XX000'; END $$")
        )

    async with served(settings, told) as gateway, written(gateway, engine, "demoted") as (assign,):
        with monkeypatch.context() as patched:
            patched.setattr(Observer, "look_beyond", recovering)
            answer = await assign()
        assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
        assert (await assign()).headers["massar-replayed"] == "1"
