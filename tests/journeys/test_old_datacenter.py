"""A datacenter whose director is gone closes by itself: it refuses every write though its PostgreSQL would take it."""

from __future__ import annotations

import secrets
import time
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import msgspec

from datacenters.assertion import HEADER_NAME, datacenter_audience, sign
from datacenters.sender_keys import read_private_key
from sandbox import ports, proc, processes
from sandbox.postgres import RECORDS
from tests.journeys.breaking import Broken, Marks, audited, declared, server, stopped
from tests.journeys.lines import Line, lines
from tests.waiting import eventually

# The guard is 1.5 s; the last sign of life may be a quarter older, and this machine is busy.
CLOSED_WITHIN_S = 4.0
GUARD_AT_LEAST_S = 1.0
OPEN_AGAIN_WITHIN_S = 5.0
TWIN_READY_WITHIN_S = 20.0


class Gatewayless:
    """Speaks to Rabat's datacenter (or another process of it, at `url`) as Rabat's gateway does, with its key."""

    def __init__(self, worn: Broken, url: str | None = None) -> None:
        self._url = url or worn.country.addresses.datacenters["rabat"]
        self._key = read_private_key(worn.country.directory / "keys" / "gateway-rabat.pem")
        self._teacher = worn.people.teacher

    async def assign_homework(self, *, epoch: int) -> tuple[int, str, int]:
        """A valid, new write under `epoch`: status, slug and the epoch the datacenter names."""
        target = f"/v1/classes/{self._teacher.class_id}/homework"
        body = msgspec.json.encode({"subject": self._teacher.subject, "text": "Lire", "due_on": "2026-11-25"})
        assertion = sign(
            key=self._key,
            site="rabat",
            audience=datacenter_audience("rabat"),
            subject=self._teacher.id,
            role="teacher",
            method="POST",
            target=target,
            body=body,
            epoch=epoch,
            now=time.time(),
        )
        headers = {
            "content-type": "application/json",
            "idempotency-key": secrets.token_hex(8),
            "massar-epoch": str(epoch),
            HEADER_NAME: assertion,
        }
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(self._url + target, content=body, headers=headers)
        return answer.status_code, answer.json().get("slug", ""), int(answer.headers["massar-epoch"])


async def _postgres_takes_writes(worn: Broken) -> bool:
    """Whether Rabat's PostgreSQL itself would write a mark; nothing is left of the try."""
    connection = await asyncpg.connect(worn.country.table().databases["rabat"][RECORDS], ssl=False)
    try:
        trial = connection.transaction()
        await trial.start()
        done = await connection.execute(
            "UPDATE marks SET version = version WHERE pupil = $1", worn.people.student.pupil_id
        )
        await trial.rollback()
    finally:
        await connection.close()
    return not done.endswith(" 0")


async def _writable(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/health?nonce=n")
    found = answer.json()["writable"]
    assert isinstance(found, bool)
    return found


async def test_without_its_director_a_datacenter_refuses_writes_and_opens_again_with_it(
    worn: Broken,
) -> None:
    directly = Gatewayless(worn)
    marks = Marks(worn, worn.people.parent.children[0])
    async with lines(worn.only("rabat"), workers=1) as (rabat,):
        await marks.learn(rabat)
        assert (await marks.enter(rabat)).status_code == 200
        assert (await directly.assign_homework(epoch=1))[0] == 201
        with stopped(worn.country.table(), "rabat-director") as at:
            await eventually(
                partial(_refused, marks, rabat), within_s=CLOSED_WITHIN_S, what="writes are refused"
            )
            closed_s = time.monotonic() - at
            assert await directly.assign_homework(epoch=1) == (503, "read-only", 1)
            assert not await _writable(worn.country.addresses.datacenters["rabat"])
            assert await _postgres_takes_writes(worn)
            read = await rabat.get(worn.book, worn.token("teacher"))
            assert (read.status_code, read.headers["massar-mode"]) == (200, "normal")
        began = time.monotonic()
        await eventually(
            partial(_taken, marks, rabat), within_s=OPEN_AGAIN_WITHIN_S, what="writes are taken again"
        )
        open_s = time.monotonic() - began
    print(f"\nclosed {closed_s:.2f} s after its director fell silent, open {open_s:.2f} s after it came back")
    assert closed_s >= GUARD_AT_LEAST_S
    record = await declared(worn.country.addresses.etcd)
    assert (record.epoch, record.active) == (1, "rabat"), "nobody took it for a disaster"
    assert len(await audited(worn.country.addresses.etcd)) <= 1


async def _refused(marks: Marks, line: Line) -> bool:
    answer = await marks.enter(line)
    if answer.status_code == 200:
        return False
    assert (answer.status_code, answer.json()["slug"]) == (503, "read-only")
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    return True


async def _taken(marks: Marks, line: Line) -> bool:
    return (await marks.enter(line)).status_code == 200


async def test_an_epoch_that_is_not_its_own_is_refused(worn: Broken, tmp_path: Path) -> None:
    """By another process of Rabat's datacenter, for it will know of an epoch that no record declares."""
    original = server(worn.country.table(), "rabat-datacenter")
    command, environment = _started_as(original)
    port = str(ports.free_ports(1)[0])
    command[command.index("--port") + 1] = port
    twin = processes.spawn(command, name="twin", log=tmp_path / "twin.log", environment=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        await processes.ready(twin, partial(_opened, url), within_s=TWIN_READY_WITHIN_S)
        directly = Gatewayless(worn, url)
        assert await directly.assign_homework(epoch=0) == (409, "stale-epoch", 1)
        assert (await directly.assign_homework(epoch=1))[0] == 201
        assert await directly.assign_homework(epoch=2) == (503, "read-only", 2)
        assert await directly.assign_homework(epoch=1) == (409, "stale-epoch", 2), (
            "the highest one seen counts"
        )
        assert not await _writable(url)
    finally:
        await twin.stop()
    assert (await Gatewayless(worn).assign_homework(epoch=1))[0] == 201


def _started_as(who: proc.Identity) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a process."""
    command = proc.command(who)
    environment = Path(f"/proc/{who.pid}/environ").read_text("utf-8").rstrip("\0").split("\0")
    return command, dict(entry.split("=", 1) for entry in environment)


async def _opened(url: str) -> bool:
    try:
        return await _writable(url)
    except httpx.TransportError:
        return False
