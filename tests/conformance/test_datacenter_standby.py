"""One datacenter on a real streaming standby: what it answers before, during and after the primary's death.

The tests of this module tell one story, in order: copy, loss, promotion, return of the old one's server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from datacenters.sender_keys import read_private_key
from sandbox import ports, postgres, postgres_home, proc
from sandbox.datacenter import tables
from sandbox.datacenter.app import READ_WITHIN_S
from tests.conformance import seed
from tests.conformance.acting import EXERCISE, HOMEWORK, homework_count
from tests.conformance.ground import EPOCH, SITE, Contract, Ground
from tests.conformance.serving import serving
from tests.conformance.test_datacenter_contract import EVERY_READ
from tests.waiting import eventually

SECOND = "marrakech"
TARGET = "/v1/calendar?view=public"
ASSIGNED = {**EXERCISE, "text": "Before the loss"}


class Pair(msgspec.Struct):
    """Two sites, each a PostgreSQL and the datacenter on it."""

    home: postgres_home.Home
    logs: Path
    first_server: postgres.PostgresServer
    second_server: postgres.PostgresServer
    first: Ground
    second: Ground


@pytest.fixture(scope="module")
async def pair(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract, site_keys: Path, logs: Path
) -> AsyncIterator[Pair]:
    home = postgres_home.open_home(
        folder=tmp_path_factory.mktemp("pair"), override=os.environ.get("MASSAR_POSTGRES_BIN")
    )
    port, other_port = ports.free_ports(2)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(home.close)
        primary = await postgres.start_primary(
            home=home, logs=logs, site=SITE, port=port, passwords=postgres.new_passwords()
        )
        stack.callback(primary.process.kill)
        await tables.create(primary.dsn(postgres.RECORDS, "massar_records"))
        await seed.plant(primary.dsn(postgres.RECORDS, "massar_records"), site=SITE, epoch=EPOCH)
        standby = await postgres.start_standby(
            home=home, logs=logs, site=SECOND, port=other_port, primary=primary
        )
        stack.callback(standby.process.kill)
        grounds = []
        for server, site in ((primary, SITE), (standby, SECOND)):
            dsn = server.dsn(postgres.RECORDS, "massar_records")
            url = await stack.enter_async_context(serving(dsn=dsn, site=site, site_keys=site_keys, logs=logs))
            key = read_private_key(site_keys / f"gateway-{SITE}.pem")
            ground = Ground(url=url, key=key, contract=contract, dsn=dsn, site=site, sender=SITE)
            stack.push_async_callback(ground.client.aclose)
            grounds.append(ground)
        yield Pair(home, logs, primary, standby, *grounds)


async def health(ground: Ground) -> dict[str, Any]:
    answer = await ground.client.get("/health?nonce=n")
    ground.contract.check(answer)
    body: dict[str, Any] = answer.json()
    return body


def place(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-"))


async def test_a_standby_says_what_it_is_and_how_far_behind(pair: Pair) -> None:
    async def streaming() -> dict[str, Any] | None:
        said = await health(pair.second)
        return said if said["receipt_age_s"] is not None else None

    said = await eventually(streaming, within_s=5)
    assert isinstance(said, dict)
    assert (said["site"], said["role"], said["writable"], said["epoch"]) == (SECOND, "standby", False, EPOCH)
    assert said["lag_s"] == 0
    assert said["receipt_age_s"] < 5


@pytest.mark.parametrize("target", EVERY_READ)
async def test_a_standby_reads_the_same_bytes_and_says_their_age(pair: Pair, target: str) -> None:
    here, there = await pair.first.get(target), await pair.second.get(target)
    assert (there.status_code, there.content, there.headers["etag"]) == (
        200,
        here.content,
        here.headers["etag"],
    )
    assert float(there.headers["massar-data-age"]) >= 0
    assert "massar-data-age" not in here.headers
    again = await pair.second.get(target, headers={"If-None-Match": here.headers["etag"]})
    assert again.status_code == 304


async def test_a_standby_takes_no_write_even_when_its_fence_looks_open(pair: Pair) -> None:
    answer = await pair.first.write("POST", HOMEWORK, ASSIGNED, key="before the loss")
    assert answer.status_code == 201

    async def replayed() -> bool:
        return await homework_count(pair.second, "Before the loss") == 1

    await eventually(replayed, within_s=2)
    answer = await pair.second.write("POST", HOMEWORK, ASSIGNED, key="elsewhere", heard=False)
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")


async def test_a_postgresql_that_hangs_is_said_within_its_deadline_and_served_again_afterwards(
    pair: Pair,
) -> None:
    frozen = proc.descendants([pair.second_server.process.who])
    for who in frozen:
        proc.send(who, signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = await asyncio.gather(*(pair.second.get(TARGET) for _ in range(20)))
        assert {answer.json()["slug"] for answer in answers} <= {"records-unavailable", "overloaded"}
        assert time.monotonic() - started < READ_WITHIN_S + 1
        assert (await pair.second.client.get("/health")).status_code == 503
    finally:
        for who in frozen:
            proc.send(who, signal.SIGCONT)

    async def serves() -> bool:
        return (await pair.second.get(TARGET)).status_code == 200

    await eventually(serves, within_s=5)
    answers = await asyncio.gather(*(pair.second.get(TARGET) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}


async def test_a_dead_postgresql_is_said_quickly_and_forgotten_nowhere(pair: Pair) -> None:
    before = await health(pair.second)
    pair.first_server.process.kill()
    for target in (TARGET, *EVERY_READ[:3]):
        started = time.monotonic()
        answer = await pair.first.get(target)
        assert (answer.status_code, answer.json()["slug"]) == (503, "records-unavailable")
        assert time.monotonic() - started < 1
    refused = await pair.first.write("POST", HOMEWORK, EXERCISE, heard=False)
    assert (refused.status_code, refused.json()["slug"]) == (503, "records-unavailable")
    assert (await pair.first.client.get("/health?nonce=n")).status_code == 503

    async def silence_grows() -> bool:
        return bool((await health(pair.second))["receipt_age_s"] > before["receipt_age_s"] + 1)

    await eventually(silence_grows, within_s=5, what="the age of the primary's last message")
    assert (await pair.second.get(TARGET)).status_code == 200


async def test_the_process_on_a_promoted_standby_takes_writes_without_a_restart(pair: Pair) -> None:
    before = place((await health(pair.second))["position"])
    await pair.second_server.execute("postgres", "SELECT pg_promote(true, 10)")
    said = await health(pair.second)
    assert (said["role"], said["writable"], said["receipt_age_s"], said["lag_s"]) == (
        "primary",
        False,
        None,
        None,
    )
    assert (place(said["position"])[0], place(said["position"]) > before) == (2, True)
    # The copied fence row is the other site's: it opens nothing here, however fresh.
    answer = await pair.second.write("POST", HOMEWORK, EXERCISE)
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
    pair.second.epoch += 1
    await pair.second.sql(
        "UPDATE fence SET epoch = $1, site = $2, heard_at = clock_timestamp()", pair.second.epoch, SECOND
    )
    assert (await health(pair.second))["writable"] is True
    answer = await pair.second.write("POST", HOMEWORK, {**EXERCISE, "text": "After"})
    assert answer.status_code == 201
    assert place(answer.headers["massar-position"])[0] == 2
    answer = await pair.second.get(TARGET, epoch=EPOCH)
    assert (answer.status_code, answer.json()["slug"]) == (409, "stale-epoch")


async def test_an_answer_given_before_the_loss_is_repeated_after_it(pair: Pair) -> None:
    answer = await pair.second.write("POST", HOMEWORK, ASSIGNED, key="before the loss")
    assert (answer.status_code, answer.headers["massar-replayed"]) == (201, "1")
    assert await homework_count(pair.second, "Before the loss") == 1


async def test_a_notice_of_the_promoted_site_leaves_the_outbox(pair: Pair) -> None:
    await pair.second.sql("UPDATE guardianships SET status = 'revoked' WHERE guardian = $1", seed.FATHER)

    async def settled() -> bool:
        return not await pair.second.sql("SELECT 1 FROM outbox WHERE delivered_at IS NULL")

    await eventually(settled, within_s=3)


async def test_a_postgresql_that_comes_back_is_served_by_the_same_process(pair: Pair) -> None:
    old = pair.first_server
    pair.first_server = await postgres.launch(
        home=pair.home, data=old.folder, logs=pair.logs, site=SITE, port=old.port, passwords=old.passwords
    )
    try:

        async def serves() -> bool:
            return (await pair.first.get(TARGET)).status_code == 200

        await eventually(serves, within_s=10, what="its crash recovery")
        # It has heard from no director since: it takes nothing.
        answer = await pair.first.write("POST", HOMEWORK, EXERCISE, heard=False)
        assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
        # A gateway of the new epoch asks it once; from then on it refuses the old one.
        assert (await pair.first.get(TARGET, epoch=pair.second.epoch)).status_code == 200
        answer = await pair.first.write("POST", HOMEWORK, EXERCISE)
        assert (answer.status_code, answer.json()["slug"]) == (409, "stale-epoch")
        assert await homework_count_at(pair.first, "After") == 0
    finally:
        pair.first_server.process.kill()


async def homework_count_at(ground: Ground, text: str) -> int:
    connection = await asyncpg.connect(ground.dsn, ssl=False)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM homework WHERE body = $1", text))
    finally:
        await connection.close()
