"""`massar sandbox …` from outside: what is said, which exit code, and what is left running."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from sandbox import cli, folder, ports, proc
from tests.countries import RunningCountry


@pytest.fixture(autouse=True)
def signals_of_the_test_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A start inside this process must not leave its handlers behind, nor tie this process to anything."""
    monkeypatch.delenv("MASSAR_DIE_WITH_PARENT", raising=False)
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def _invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.sandbox, [str(argument) for argument in arguments])


def _folder_with_table(path: Path, *rows: folder.Row, supervisor: proc.Identity | None = None) -> Path:
    place = folder.occupy(path)
    place.write_table(
        folder.Table(
            gateways={},
            metrics={},
            datacenters={},
            valkey={},
            etcd=[],
            dir=str(path),
            accounts={},
            boot_id=proc.boot_id(),
            supervisor=supervisor or proc.own_identity(),
            ready=True,
            databases={},
            processes=list(rows),
        )
    )
    place.close()
    return path


@pytest.mark.parametrize(
    "command", [["kill", "rabat"], ["status"], ["revoke-guardianship", "--parent", "a", "--pupil", "b"]]
)
def test_every_subcommand_takes_dir_after_its_name_and_says_when_there_is_no_sandbox(
    tmp_path: Path, command: list[str]
) -> None:
    result = _invoke(*command, "--dir", tmp_path)
    assert result.exit_code == 1
    assert f"no sandbox in {tmp_path}" in result.output


def test_a_sandbox_that_is_over_is_told(tmp_path: Path) -> None:
    own = proc.own_identity()
    gone = proc.Identity(pid=own.pid, started_ticks=own.started_ticks - 1)
    result = _invoke("kill", "rabat", "--dir", _folder_with_table(tmp_path / "country", supervisor=gone))
    assert result.exit_code == 1
    assert "does not run any more" in result.output


def test_a_recycled_process_id_is_never_killed(tmp_path: Path) -> None:
    own = proc.own_identity()  # this very test would be the victim
    recycled = proc.Identity(pid=own.pid, started_ticks=own.started_ticks - 1)
    row = folder.Row(name="rabat-postgres", site="rabat", kind="postgres", who=recycled)
    result = _invoke("kill", "rabat", "--dir", _folder_with_table(tmp_path / "country", row))
    assert result.exit_code == 1
    assert "nothing of rabat runs any more" in result.output


@pytest.mark.parametrize("target", ["casablanca", "postgres", ""])
def test_only_sites_and_valkey_can_be_killed(target: str) -> None:
    assert _invoke("kill", target).exit_code == 2


@pytest.mark.parametrize("port", ["rabat", "rabat=", "rabat=99999", "rabat=http"])
def test_a_port_that_is_none_is_told(tmp_path: Path, port: str) -> None:
    result = _invoke("--dir", tmp_path, "--gateway-port", port)
    assert result.exit_code == 2
    assert "is not NAME=PORT" in result.output


@pytest.mark.parametrize("seat", ["agadir=10.0.0.1", "rabat", "rabat=ten@ns", "rabat=10.0.0.1@../ns"])
def test_a_seat_that_is_none_is_told(tmp_path: Path, seat: str) -> None:
    result = _invoke("--dir", tmp_path / "country", "--site", seat)
    assert result.exit_code == 2
    assert not (tmp_path / "country").exists()


def test_a_namespace_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    result = _invoke("--dir", tmp_path / "country", "--site", "rabat=10.0.0.1@none-such")
    assert result.exit_code == 1
    assert "no network namespace 'none-such'" in result.output


def test_a_port_with_an_unknown_name_is_told(tmp_path: Path) -> None:
    result = _invoke("--dir", tmp_path / "country", "--gateway-port", "agadir=8000")
    assert result.exit_code == 2
    assert "no port is called 'agadir.gateway'" in result.output
    assert not (tmp_path / "country").exists()


def test_a_port_in_use_stops_the_start_before_anything_runs(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        result = _invoke("--dir", tmp_path / "c", "--gateway-port", f"rabat={listener.getsockname()[1]}")
    assert result.exit_code == 1
    assert "(rabat.gateway) is in use" in result.output
    assert [path.name for path in (tmp_path / "c").iterdir()] == [folder.LOCK]


def test_a_ready_file_without_a_folder_is_told_at_once(tmp_path: Path) -> None:
    result = _invoke("--dir", tmp_path / "country", "--ready-file", tmp_path / "none" / "ready.json")
    assert result.exit_code == 2
    assert "there is no folder" in result.output


def test_settings_of_a_gateway_are_passed_on_and_the_rest_of_the_environment_is_not() -> None:
    told = cli._passed_on(
        {
            "PATH": "/bin",
            "MASSAR_RATE_PER_S": "9",
            "MASSAR_ETCD_BIN": "/etcd",
            "MASSAR_DIE_WITH_PARENT": "1",
            "TOKEN": "x",
        }
    )
    assert told == {"PYTHONUNBUFFERED": "1", "PATH": "/bin", "MASSAR_RATE_PER_S": "9"}


async def test_what_is_said_to_a_file_names_nobody(country: RunningCountry) -> None:
    said = country.process.log.read_text()
    assert "ready; Ctrl-C ends it" in said
    for account in country.addresses.accounts.values():
        assert account["login"] not in said
        assert account["password"] not in said


async def test_a_second_start_says_so_and_harms_nothing(country: RunningCountry) -> None:
    code, said = await country.massar("sandbox")
    assert code == 1
    assert said == f"Error: a sandbox already runs in {country.directory} (process {country.process.pid})\n"
    assert len(country.table().living()) == len(country.table().processes)


async def test_status_lists_every_process(country: RunningCountry) -> None:
    code, said = await country.massar("sandbox", "status")
    assert code == 0
    for row in country.table().processes:
        assert f"{row.name:24} {row.who.pid:>8}  running" in said


async def test_the_ready_file_holds_what_it_promises(country: RunningCountry) -> None:
    ready = msgspec.to_builtins(country.addresses)
    assert set(ready) == {"gateways", "metrics", "datacenters", "valkey", "etcd", "dir", "accounts"}
    urls = [
        *ready["gateways"].values(),
        *ready["metrics"].values(),
        *ready["datacenters"].values(),
        *ready["etcd"],
    ]
    assert len(urls) == 9
    assert not any(url.endswith(("/", "/v1")) for url in urls)
    assert ready["dir"] == str(country.directory)
    path = country.directory.parent / "ready.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(msgspec.json.decode(path.read_bytes())) == set(ready)


async def test_the_sample_accounts_hang_together(country: RunningCountry) -> None:
    accounts = country.addresses.accounts
    assert {"student", "classmate", "stranger_student", "parent", "other_parent", "teacher"} <= set(accounts)
    for account in accounts.values():
        assert {"app", "login", "password"} <= set(account)
    student = accounts["student"]
    assert accounts["classmate"]["class_id"] == student["class_id"]
    assert accounts["parent"]["children"][0] == student["pupil_id"]
    assert student["pupil_id"] in accounts["other_parent"]["children"]
    assert accounts["teacher"]["class_id"] == student["class_id"]
    assert {"subject", "session"} <= set(accounts["teacher"])


async def test_a_country_runs_from_a_folder_closed_to_everyone_else(country: RunningCountry) -> None:
    assert country.directory.stat().st_mode & 0o777 == 0o700
    assert country.directory.parent.stat().st_mode & 0o077 == 0
    postgres = next(row for row in country.table().processes if row.name == "rabat-postgres")
    assert Path(f"/proc/{postgres.who.pid}").stat().st_uid != 0 or os.geteuid() != 0


async def test_secrets_in_the_folder_are_closed_to_others(country: RunningCountry) -> None:
    table = country.directory / folder.TABLE
    assert table.stat().st_mode & 0o777 == 0o600
    for path in (country.directory / "keys").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
