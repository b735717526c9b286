"""Where PostgreSQL lives: never somebody else's folder, never an ancestor opened, nothing left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox import postgres_home
from sandbox.processes import ProcessFailed

AS_ROOT = os.geteuid() == 0


def _home(folder: Path) -> postgres_home.Home:
    return postgres_home.open_home(folder=folder, override=None)


def test_data_and_secrets_belong_to_the_servers_user_alone(tmp_path: Path) -> None:
    home = _home(tmp_path / "home")
    data, secret = home.data("rabat"), home.secret("password", "word")
    expected = home.account.uid if home.account else os.geteuid()
    assert (data.stat().st_mode & 0o777, data.stat().st_uid) == (0o700, expected)
    assert (secret.stat().st_mode & 0o777, secret.stat().st_uid) == (0o600, expected)
    home.close()


def test_nothing_is_used_twice(tmp_path: Path) -> None:
    home = _home(tmp_path / "home")
    home.data("rabat")
    with pytest.raises(FileExistsError):
        home.data("rabat")
    home.close()


def test_a_home_outside_the_sandbox_is_removed_when_it_is_closed(tmp_path: Path) -> None:
    home = _home(tmp_path / "home")
    home.data("rabat")
    home.close()
    home.close()
    assert home.folder.exists() is not AS_ROOT


def test_ancestors_stay_as_closed_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    home = _home(tmp_path / "home")
    home.close()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_home_whose_owner_was_killed_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    for name in ("left", "living", "strange"):
        (tmp_path / f"massar-{name}").mkdir()
    (tmp_path / "massar-left" / "lock").touch()
    (tmp_path / "massar-link").symlink_to(tmp_path / "massar-left")
    held = postgres_home._hold(tmp_path / "massar-living")
    postgres_home._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "massar-link",
        "massar-living",
        "massar-strange",
    ]
    os.close(held)
    postgres_home._sweep(tmp_path)
    assert not (tmp_path / "massar-living").exists()


def test_a_copy_of_the_binaries_runs_whatever_the_originals_modes(tmp_path: Path) -> None:
    binaries = postgres_home._binaries(None)
    copied = postgres_home._copied(binaries, tmp_path / "copy")
    for program in ("postgres", "initdb"):
        said = subprocess.run([copied / program, "--version"], capture_output=True, check=True)
        assert b"PostgreSQL" in said.stdout
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "copy").rglob("*") if not path.is_symlink()}
    assert modes <= {0o755, 0o644}


def test_binaries_of_another_place_may_be_named() -> None:
    assert postgres_home._binaries("/opt/postgres/bin") == Path("/opt/postgres/bin")


def test_other_binaries_that_the_servers_user_may_not_run_are_refused(tmp_path: Path) -> None:
    if AS_ROOT:
        with pytest.raises(ProcessFailed, match="may not run"):
            postgres_home.open_home(folder=tmp_path, override=str(tmp_path))
    else:
        assert postgres_home.open_home(folder=tmp_path, override=str(tmp_path)).binaries == tmp_path
