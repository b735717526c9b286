"""What a datacenter tells the gateways by itself, shown to a tiny private listener."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from datacenters.notices import Notice, verify_notice
from datacenters.sender_keys import read_private_key, read_public_keys
from datacenters.single_use import SingleUse
from sandbox import ports, postgres
from tests.conformance import seed
from tests.conformance.ground import EPOCH, SITE, Contract, Ground
from tests.conformance.serving import planted, serving
from tests.waiting import eventually

REVOKE = "UPDATE guardianships SET status = 'revoked', updated_at = clock_timestamp() WHERE guardian = $1 AND pupil = $2"
WAITING = "SELECT 1 FROM outbox WHERE delivered_at IS NULL"


class PrivateListener:
    """Takes notices as a gateway would and remembers them; answers what `statuses` says first, else 204."""

    def __init__(self, keys_folder: Path) -> None:
        self.notices: list[Notice] = []
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self._keys = read_public_keys(keys_folder, kind="datacenter")
        self._seen = SingleUse()

    def tags(self) -> set[str]:
        return {tag for notice in self.notices for tag in notice.tags}

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                signature = next(
                    (line[18:] for line in head if line.lower().startswith("massar-signature: ")), None
                )
                body = await reader.readexactly(int(headers["content-length"]))
                assert head[0] == "POST /internal/purge HTTP/1.1"
                self.bodies.append(body)
                status = self.statuses.pop(0) if self.statuses else 204
                notice = verify_notice(body, signature, keys=self._keys, seen=self._seen, now=time.time())
                if status == 204:
                    self.notices.append(notice)
                writer.write(f"HTTP/1.1 {status} -\r\ncontent-length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture(scope="module")
async def listener(site_keys: Path) -> AsyncIterator[tuple[PrivateListener, str]]:
    private = PrivateListener(site_keys)
    async with await asyncio.start_server(private.take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield private, f"http://127.0.0.1:{port}"
        server.close()


@pytest.fixture(scope="module")
async def talking(
    postgres_server: postgres.PostgresServer,
    listener: tuple[PrivateListener, str],
    contract: Contract,
    site_keys: Path,
    logs: Path,
) -> AsyncIterator[Ground]:
    """A datacenter that knows two listeners: one that is there, and before it one that is not."""
    dsn = await planted(postgres_server, "notices")
    urls = f"http://127.0.0.1:{ports.free_ports(1)[0]},{listener[1]}"
    async with serving(dsn=dsn, site=SITE, site_keys=site_keys, logs=logs, notice_urls=urls) as url:
        key = read_private_key(site_keys / f"gateway-{SITE}.pem")
        ground = Ground(url=url, key=key, contract=contract, dsn=dsn, epoch=EPOCH)
        alive = asyncio.create_task(_kept_alive(ground))
        yield ground
        alive.cancel()
        await asyncio.wait({alive})
        await ground.client.aclose()


async def _kept_alive(ground: Ground) -> None:
    """Renew the fence as a director does."""
    while True:
        await ground.sql(
            "UPDATE fence SET heard_at = clock_timestamp() WHERE id = 1 AND heard_at > '1971-01-01'"
        )
        await asyncio.sleep(0.2)


@pytest.fixture
def heard(listener: tuple[PrivateListener, str]) -> PrivateListener:
    private = listener[0]
    private.notices.clear()
    private.bodies.clear()
    private.statuses.clear()
    return private


async def relations(ground: Ground, subject: str) -> dict[str, Any]:
    body: dict[str, Any] = (await ground.get(f"/v1/people/{subject}/relations?view=gateway")).json()
    return body


async def test_a_revoked_guardianship_is_told_within_a_second_and_raises_the_generation(
    talking: Ground, heard: PrivateListener, contract: Contract
) -> None:
    before = await relations(talking, seed.MOTHER)
    await talking.sql(REVOKE, seed.MOTHER, seed.STRANGER)
    await eventually(lambda: f"relations:{seed.MOTHER}" in heard.tags(), within_s=1, what="the notice")
    assert heard.tags() == {f"relations:{seed.MOTHER}", f"profile:{seed.MOTHER}"}
    assert heard.notices[0].sender == f"datacenter:{SITE}"
    contract.validate({"$ref": "#/components/schemas/Notice"}, msgspec.json.decode(heard.bodies[0]))
    after = await relations(talking, seed.MOTHER)
    assert after["generation"] == before["generation"] + 1
    assert set(before["pupils"]) - set(after["pupils"]) == {seed.STRANGER}


async def test_a_listener_that_refuses_is_told_again_with_a_new_nonce(
    talking: Ground, heard: PrivateListener
) -> None:
    heard.statuses[:] = [503, 401]
    await talking.sql(REVOKE, seed.FATHER, seed.PUPIL)
    await eventually(lambda: heard.notices, within_s=2)
    assert len(set(heard.bodies)) == 3
    assert heard.tags() == {f"relations:{seed.FATHER}", f"profile:{seed.FATHER}"}


async def test_what_is_rolled_back_is_not_told(talking: Ground, heard: PrivateListener) -> None:
    connection = await asyncpg.connect(talking.dsn, ssl=False)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(REVOKE, seed.MOTHER, seed.PUPIL)
        await transaction.rollback()
        await connection.execute(
            "UPDATE assignments SET teacher = $1 WHERE teacher = $2 AND subject = 'FR'",
            seed.IDLE_TEACHER,
            seed.FRENCH_TEACHER,
        )
    finally:
        await connection.close()
    expected = {
        f"{kind}:{who}"
        for kind in ("relations", "profile", "assignments")
        for who in (seed.IDLE_TEACHER, seed.FRENCH_TEACHER)
    }
    await eventually(lambda: expected <= heard.tags(), within_s=2)
    assert heard.tags() == expected


async def test_a_pupil_who_changes_class_is_told_to_everyone_concerned(
    talking: Ground, heard: PrivateListener
) -> None:
    generation = (await relations(talking, seed.OTHER_TEACHER))["generation"]
    await talking.sql("UPDATE pupils SET class_id = $1 WHERE id = $2", seed.CLASS, seed.NEWCOMER)
    people = (seed.NEWCOMER, seed.TEACHER, seed.OTHER_TEACHER, seed.IDLE_TEACHER)
    expected = {f"{kind}:{who}" for kind in ("relations", "profile") for who in people}
    expected |= {f"roster:{seed.CLASS}", f"roster:{seed.OTHER_CLASS}"}
    await eventually(lambda: expected <= heard.tags(), within_s=2)
    assert heard.tags() == expected
    assert (await relations(talking, seed.OTHER_TEACHER))["generation"] == generation + 1


async def test_a_change_of_many_is_told_in_bounded_notices(talking: Ground, heard: PrivateListener) -> None:
    await talking.sql(
        "INSERT INTO guardianships (guardian, pupil, kind, status) SELECT 'crowd' || n, $1, 'guardian', 'active' FROM generate_series(1, 100) AS n",
        seed.PUPIL,
    )
    await eventually(lambda: len(heard.tags()) == 200, within_s=3)
    assert [len(notice.tags) for notice in heard.notices] == [64, 64, 64, 8]


async def test_a_lost_listening_connection_is_made_again_and_nothing_is_missed(
    talking: Ground, heard: PrivateListener
) -> None:
    await talking.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'massar-datacenter-outbox'"
    )
    await talking.sql(
        "UPDATE guardianships SET kind = 'uncle' WHERE guardian = $1 AND pupil = $2", seed.MOTHER, seed.PUPIL
    )
    await eventually(lambda: f"relations:{seed.MOTHER}" in heard.tags(), within_s=2)


async def test_delivered_rows_are_marked_and_told_once(talking: Ground, heard: PrivateListener) -> None:
    # The listener that is never there is given up after a few attempts; then the row is done with.
    await talking.sql(
        "UPDATE guardianships SET kind = 'aunt' WHERE guardian = $1 AND pupil = $2", seed.MOTHER, seed.PUPIL
    )

    async def settled() -> bool:
        return not await talking.sql(WAITING)

    await eventually(settled, within_s=8, what="every outbox row settled")
    assert len(heard.notices) == 1


@pytest.fixture
async def fenced(talking: Ground) -> AsyncIterator[Ground]:
    """Whatever a test does to the fence, the next one finds it whole."""
    yield talking
    await talking.sql("DELETE FROM outbox")
    await talking.sql(
        "UPDATE fence SET site = $1, epoch = $2, heard_at = clock_timestamp() WHERE id = 1", SITE, EPOCH
    )


TOUCH = "UPDATE guardianships SET kind = $3 WHERE guardian = $1 AND pupil = $2"


@pytest.mark.parametrize(
    "closing",
    [
        "UPDATE fence SET site = 'marrakech', epoch = epoch + 1",
        "UPDATE fence SET heard_at = '1970-01-01'",
        "UPDATE fence SET heard_at = '1970-01-01', epoch = epoch + 1, site = 'marrakech'",
    ],
)
async def test_behind_a_closed_fence_nothing_is_sent_and_nothing_is_forgotten(
    fenced: Ground, heard: PrivateListener, closing: str
) -> None:
    await fenced.sql(TOUCH, seed.MOTHER, seed.PUPIL, "before")
    await eventually(lambda: len(heard.notices) == 1, within_s=3)
    await fenced.sql(closing)
    await fenced.sql(TOUCH, seed.MOTHER, seed.PUPIL, "behind")
    await asyncio.wait_for(_looked_twice(fenced), 10)
    assert len(heard.notices) == 1
    assert await fenced.sql(WAITING)


async def test_what_an_epoch_did_not_get_to_send_a_later_one_does_not_send(
    fenced: Ground, heard: PrivateListener
) -> None:
    await fenced.sql("UPDATE fence SET heard_at = '1970-01-01'")
    await fenced.sql(TOUCH, seed.FATHER, seed.PUPIL, "old")
    await fenced.sql("UPDATE fence SET epoch = epoch + 1, heard_at = clock_timestamp()")
    await fenced.sql(TOUCH, seed.MOTHER, seed.PUPIL, "new")
    await eventually(lambda: f"relations:{seed.MOTHER}" in heard.tags(), within_s=3)

    async def settled() -> bool:
        return not await fenced.sql(WAITING)

    await eventually(settled, within_s=8, what="every outbox row settled")
    assert f"relations:{seed.FATHER}" not in heard.tags()


async def _looked_twice(ground: Ground) -> None:
    """Return once the outbox's own connection has asked for rows twice more."""
    looked = (
        "SELECT query_start FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'massar-datacenter-outbox' AND query LIKE '%JOIN fence%'"
    )
    seen: set[object] = set()
    while len(seen) < 3:
        seen.update(row["query_start"] for row in await ground.sql(looked))
        await asyncio.sleep(0.05)
