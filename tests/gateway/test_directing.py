"""The director put together: its process from start to end."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from datacenters.etcd import Etcd
from gateway.directing import (
    MESSAGE_CHARS_MAX,
    _log_unretrieved,
    run_director,
)
from gateway.settings import SettingsError
from sandbox.postgres import PostgresServer
from tests.datacenters.test_fence import TABLE
from tests.gateway.accounts import Accounts
from tests.gateway.test_directing_settings import RABAT
from tests.gateway.world import NOWHERE, declare
from tests.waiting import eventually


@pytest.mark.parametrize("content", [None, "", "0 no-hexadecimal", "00ff"])
def test_a_journal_key_that_cannot_be_used_stops_the_director_and_is_named(
    keys_folder: Path, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "journal.key"
    if content is not None:
        path.write_text(content)
    environment = {
        **RABAT,
        "MASSAR_DIRECTOR_KEY_FILE": str(keys_folder / "director-rabat.pem"),
        "MASSAR_JOURNAL_KEY_FILE": str(path),
    }
    with pytest.raises(SettingsError, match=r"^MASSAR_JOURNAL_KEY_FILE: "):
        run_director(environment)


# The process


@pytest.fixture
async def records(postgres_server: PostgresServer) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """A database with a fence that a director keeps, and a way to look at it."""
    dsn = await postgres_server.create_database(f"directing_{secrets.token_hex(4)}")
    connection = await asyncpg.connect(dsn, ssl=False)
    await connection.execute(TABLE)
    yield dsn, connection
    await connection.close()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_guards_its_site_speaks_json_and_ends_in_order(
    records: tuple[str, asyncpg.Connection],
    accounts: Accounts,
    keys_folder: Path,
    etcd_client: Etcd,
    signum: signal.Signals,
) -> None:
    await declare(etcd_client)
    dsn, connection = records
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from gateway.cli import main; main()",
        "director",
        env={
            "MASSAR_SITE": "rabat",
            "MASSAR_SITES": json.dumps(
                {name: {"datacenter_url": NOWHERE} for name in ("rabat", "marrakech")}
            ),
            "MASSAR_ETCD_URLS": ",".join(etcd_client._urls),
            "MASSAR_DIRECTOR_DSN": dsn,
            "MASSAR_DIRECTOR_ACCOUNTS_DSN": accounts.dsn,
            "MASSAR_DIRECTOR_KEY_FILE": str(keys_folder / "director-rabat.pem"),
            "MASSAR_JOURNAL_KEY_FILE": str(keys_folder / "journal.key"),
            "PYTHONWARNINGS": "error",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def guarded() -> bool:
        row = await connection.fetchrow("SELECT epoch, site FROM fence")
        return row is not None and tuple(row) == (1, "rabat")

    await eventually(guarded, within_s=15)
    process.send_signal(signum)
    said, complained = await asyncio.wait_for(process.communicate(), timeout=10)
    assert process.returncode == 0
    assert complained == b""
    lines = [json.loads(line) for line in said.splitlines()]
    assert any("epoch 1 ACTIVE active rabat" in line["event"] for line in lines)
    for secret in (dsn, accounts.dsn):
        assert secret.encode() not in said


async def test_what_nobody_waits_for_any_more_is_told_by_its_kind_alone() -> None:
    loop = asyncio.get_running_loop()
    with capture_logs() as lines:
        _log_unretrieved(
            loop, {"message": "Future exception was never retrieved", "exception": OSError("a secret")}
        )
        _log_unretrieved(loop, {"message": "m" * 10_000})
    assert [line["exception"] for line in lines] == ["OSError", "none"]
    assert all(len(line["message"]) <= MESSAGE_CHARS_MAX for line in lines)
