"""The ground of a measurement: a real sandbox, a signed-in pupil, and the environment of its gateway.

Invariant: everything started here ends with this process; the sandbox shares the load's core, never the server's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType

import asyncpg
import httpx
import msgspec

from sandbox import folder, processes
from sandbox.postgres import RECORDS

PUPILS = 400
READY_WITHIN_S = 120.0
POLL_S = 0.1
CLIENT_WAIT_S = 10.0
SITE = "rabat"
# A whole week is about 4 KB. So many lessons of it are the 1.4 KB that this measurement is about.
LESSONS_KEPT = 6
_SANDBOX = (sys.executable, "-P", "-m", "gateway", "sandbox")


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"),
    *("MASSAR_POSTGRES_BIN", "MASSAR_VALKEY_BIN", "MASSAR_ETCD_BIN"),
)


class Ground(msgspec.Struct, frozen=True):
    """What a server variant needs to serve; `token` may read `path`, whose answer is `body`."""

    environment: dict[str, str]
    token: str
    path: str
    body: bytes
    place: Path


@asynccontextmanager
async def running(
    directory: Path,
    *,
    pupils: int = PUPILS,
    workers: int = 1,
    options: Sequence[str] = (),
    settings: Mapping[str, str] = NO_SETTINGS,
) -> AsyncIterator[Path]:
    """A sandbox that is ready, in a folder within `directory`; `settings` are for its gateways."""
    place = directory / "country"
    ready_file = directory / "ready.json"
    size = ("--pupils", str(pupils), "--workers", str(workers))
    sandbox = processes.spawn(
        [*_SANDBOX, "--dir", str(place), *size, "--ready-file", str(ready_file), *options],
        name="sandbox",
        log=directory / "sandbox.log",
        environment={**_passed_on(), **settings, "MASSAR_DIE_WITH_PARENT": "1"},
    )
    try:
        await processes.ready(sandbox, ready_file.exists, within_s=READY_WITHIN_S, poll_s=POLL_S)
        yield place
    finally:
        await sandbox.stop(within_s=15.0)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="massar-bench-") as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # PostgreSQL may run as a user of its own
        yield scratch


@asynccontextmanager
async def country(directory: Path) -> AsyncIterator[Ground]:
    """A sandbox on loopback with a pupil who has signed in and read a timetable of about 1.4 KB."""
    async with running(directory) as place:
        table = folder.read_table(place)
        student = table.accounts["student"]
        await _shorten_week(table.databases[SITE][RECORDS], student["class_id"])
        async with httpx.AsyncClient(
            base_url=table.gateways[SITE], timeout=CLIENT_WAIT_S, trust_env=False
        ) as client:
            token = await _sign_in(client, student)
            path = f"/v1/pupils/{student['pupil_id']}/timetable"
            read = await client.get(path, headers={"authorization": f"Bearer {token}"})
            read.raise_for_status()
        yield Ground(
            environment=gateway_environment(table), token=token, path=path, body=read.content, place=place
        )


async def _shorten_week(records: str, class_id: str) -> None:
    """Leave the class its first LESSONS_KEPT lessons, before anybody has read its timetable."""
    connection = await asyncpg.connect(records, ssl=False)
    try:
        await connection.execute(
            "DELETE FROM lessons WHERE class_id = $1 AND (day, start_at) NOT IN"
            " (SELECT day, start_at FROM lessons WHERE class_id = $1 ORDER BY day, start_at LIMIT $2)",
            class_id,
            LESSONS_KEPT,
        )
    finally:
        await connection.close()


async def _sign_in(client: httpx.AsyncClient, account: dict[str, str]) -> str:
    wanted = {name: account[name] for name in ("app", "login", "password")}
    device = {"id": "bench", "name": "bench"}
    answer = await client.post("/v1/auth/tokens", json={"grant": "password", **wanted, "device": device})
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def gateway_environment(table: folder.Table) -> dict[str, str]:
    """What the sandbox's own gateway was started with. Source: proc_pid_environ(5)."""
    gateway = next(row.who for row in table.living() if row.name == f"{SITE}-gateway")
    pairs = Path(f"/proc/{gateway.pid}/environ").read_text(encoding="utf-8").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def _passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
