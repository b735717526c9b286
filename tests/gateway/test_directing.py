"""The director put together: its settings, each named when it is wrong, and its process from start to end."""

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

from datacenters.etcd import Etcd
from datacenters.sites import Site
from gateway.cli import main
from gateway.directing import OwnGround, Settings, run_director, settings_from
from sandbox.postgres import PostgresServer
from tests.datacenters.test_fence import TABLE
from tests.datacenters.typing_in import invoke
from tests.gateway.accounts import Accounts
from tests.gateway.world import NOWHERE, declare
from tests.waiting import eventually

SITES = '{"rabat":{"datacenter_url":"http://r"},"witness":{}}'
WITNESS = {"MASSAR_SITE": "witness", "MASSAR_SITES": SITES, "MASSAR_ETCD_URLS": "http://e,http://f"}
RABAT = {
    **WITNESS,
    "MASSAR_SITE": "rabat",
    "MASSAR_DIRECTOR_DSN": "postgresql://u:secret@h/records",
    "MASSAR_DIRECTOR_ACCOUNTS_DSN": "postgresql://u:secret@h/accounts",
    "MASSAR_DIRECTOR_KEY_FILE": "/keys/director-rabat.pem",
    "MASSAR_JOURNAL_KEY_FILE": "/keys/journal.key",
}


# Settings


def test_a_site_with_a_datacenter_is_told_all_that_a_take_over_needs() -> None:
    settings = settings_from(RABAT)
    assert (settings.site, settings.etcd_urls) == ("rabat", ("http://e", "http://f"))
    assert settings.sites == {"rabat": Site(datacenter_url="http://r"), "witness": Site()}
    assert settings.ground == OwnGround(
        records_dsn=RABAT["MASSAR_DIRECTOR_DSN"],
        accounts_dsn=RABAT["MASSAR_DIRECTOR_ACCOUNTS_DSN"],
        key_file=Path("/keys/director-rabat.pem"),
        journal_key_file=Path("/keys/journal.key"),
    )


def test_the_witness_needs_neither_database_nor_key() -> None:
    assert settings_from(WITNESS).ground is None


@pytest.mark.parametrize("missing", sorted(RABAT))
async def test_a_missing_setting_stops_the_director_and_is_named(missing: str) -> None:
    refused = await invoke(main, "director", **{**RABAT, missing: ""})
    assert refused.exit_code == 1
    assert refused.output.startswith(f"Error: {missing}: ")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"MASSAR_SITES": "{"}, "MASSAR_SITES: "),
        ({"MASSAR_SITES": '{"rabat":{}}'}, "MASSAR_SITES: no site has a datacenter_url"),
        ({"MASSAR_SITE": "witness"}, "MASSAR_DIRECTOR_DSN: MASSAR_SITES names no datacenter at this site"),
        ({"MASSAR_DIRECTOR_KEY_FILE": "/nowhere/key.pem"}, "MASSAR_DIRECTOR_KEY_FILE: "),
    ],
)
async def test_a_wrong_setting_stops_the_director_and_is_named(changes: dict[str, str], named: str) -> None:
    refused = await invoke(main, "director", **{**RABAT, **changes})
    assert refused.exit_code == 1
    assert refused.output.startswith(f"Error: {named}")
    assert "secret" not in refused.output


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
    with pytest.raises(ValueError, match=r"^MASSAR_JOURNAL_KEY_FILE: "):
        run_director(environment)


def test_settings_do_not_show_their_passwords() -> None:
    shown = repr(settings_from(RABAT))
    assert "secret" not in shown
    assert isinstance(settings_from(RABAT), Settings)


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
