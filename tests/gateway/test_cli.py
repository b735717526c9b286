"""The `massar` command: what it writes, what it compares, what it says when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway import cli
from gateway.cli import main
from gateway.openapi import documents
from gateway.pages import pages

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `massar` without any setting of ours in the environment."""
    monkeypatch.delenv("MASSAR_DIE_WITH_PARENT", raising=False)
    monkeypatch.delenv("MASSAR_SITE", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("command", "texts"), [("openapi", documents()), ("docs", pages())])
def test_generated_files_are_written_and_then_found_up_to_date(
    run: Run, tmp_path: Path, command: str, texts: dict[str, str]
) -> None:
    folder = tmp_path / "new"
    assert run(command, "--dir", folder, "--check").exit_code == 1
    assert not folder.exists()
    assert run(command, "--dir", folder).exit_code == 0
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == texts
    checked = run(command, "--dir", folder, "--check")
    assert (checked.exit_code, checked.output) == (0, f"{len(texts)} documents, 0 out of date\n")


def test_a_changed_file_fails_the_check_by_its_name_and_is_left_alone(run: Run, tmp_path: Path) -> None:
    run("openapi", "--dir", tmp_path)
    changed = tmp_path / "waliye.json"
    changed.write_text(changed.read_text("utf-8").replace("parents", "grandparents"), "utf-8")
    before = changed.read_text("utf-8")
    checked = run("openapi", "--dir", tmp_path, "--check")
    assert checked.exit_code == 1
    assert "waliye.json" in checked.output
    assert "moudaris.json" not in checked.output
    assert "make openapi" in checked.output
    assert changed.read_text("utf-8") == before
    assert run("openapi", "--dir", tmp_path).output == "3 documents, 1 written\n"
    assert run("openapi", "--dir", tmp_path, "--check").exit_code == 0


def test_a_missing_setting_is_named_and_nothing_starts(run: Run) -> None:
    refused = run("gateway")
    assert refused.exit_code == 1
    assert refused.output == "Error: MASSAR_SITE is missing\n"


def test_commands_of_installed_packages_stand_beside_our_own(run: Run) -> None:
    listed = run("--help").output
    for command in ("gateway", "openapi", "docs", "sandbox", "audit", "cache", "dc", "director", "doctor"):
        assert f"\n  {command} " in listed
    assert "gateway-part" not in listed


def test_a_command_whose_package_is_not_there_does_not_exist(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = EntryPoint("ghost", "no_such_package:ghost", cli.COMMANDS_GROUP)
    monkeypatch.setattr(
        cli, "entry_points", lambda **asked: [absent] if asked.get("name", "ghost") == "ghost" else []
    )
    refused = run("ghost")
    assert refused.exit_code == 2
    assert "No such command" in refused.output


def test_an_unknown_command_is_refused(run: Run) -> None:
    assert run("no-such-command").exit_code == 2


def test_it_ends_with_its_parent_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tied: list[bool] = []
    monkeypatch.setattr("datacenters.lifeline.end_with_parent", lambda: tied.append(True))
    run("gateway")
    assert tied == []
    monkeypatch.setenv("MASSAR_DIE_WITH_PARENT", "1")
    run("gateway")
    assert tied == [True]


@pytest.mark.parametrize(
    ("words", "code"),
    [(["dc", "--help"], 0), (["dc", "nonsense"], 2), (["explain", "x", "--log", "/dev/null"], 1)],
)
def test_a_command_that_asks_ends_at_once_with_its_code_whatever_is_still_under_way(
    words: list[str], code: int
) -> None:
    program = (
        "import sys, threading\n"
        "from gateway.cli import run\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        f"sys.argv = ['massar', *{words!r}]\n"
        "run()\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert told.returncode == code, told.stderr
    assert told.stdout + told.stderr
