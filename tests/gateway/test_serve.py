"""Running one site's gateway: what is cheap to hold without one; whole processes are for the journeys."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import serve
from gateway.condition import DRAINING_FILE
from gateway.settings import SettingsError


def test_a_wrong_setting_stops_everything_before_anything_is_touched(tmp_path: Path) -> None:
    left = tmp_path / "counter_1.db"
    left.touch()
    with pytest.raises(SettingsError, match="MASSAR_SITE is missing"):
        serve.run_gateway({"MASSAR_METRICS_DIR": str(tmp_path)})
    assert left.exists()


def test_the_metrics_folder_is_emptied_of_what_an_earlier_run_left_and_of_nothing_else(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "metrics"
    serve._empty(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("counter_1.db", "histogram_22.db", DRAINING_FILE, "keep.txt"):
        (folder / name).touch()
    serve._empty(folder)
    assert [path.name for path in folder.iterdir()] == ["keep.txt"]


@pytest.mark.parametrize(
    ("hard", "told"),
    [
        (serve.OPEN_FILES_MIN - 1, True),
        (serve.OPEN_FILES_MIN, False),
        (resource.RLIM_INFINITY, False),
    ],
)
def test_a_hard_limit_of_open_files_below_what_a_worker_takes_is_told_at_the_start(
    hard: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (128, hard))
    with capture_logs() as logs:
        serve._tell_of_few_files()
    needed = {"may": hard, "needs": serve.OPEN_FILES_MIN}
    assert [{key: log[key] for key in needed} for log in logs] == ([needed] if told else [])


def child(program: str) -> subprocess.Popen[bytes]:
    """A child that says `ready` once its signals are as the program wants them."""
    started = subprocess.Popen(
        [sys.executable, "-c", f"import signal, sys\n{program}\nprint('ready', flush=True)\nsignal.pause()"],
        stdout=subprocess.PIPE,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    started.stdout.close()
    return started


def test_parts_are_ended_in_order_and_killed_when_they_do_not_end() -> None:
    orderly = child("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))")
    stubborn = child("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    gone = child("pass")
    gone.kill()
    gone.wait()
    began = time.monotonic()
    serve._stop([orderly, stubborn, gone], -1)  # the grace is two seconds more
    assert time.monotonic() - began < 30
    assert (orderly.returncode, stubborn.returncode) == (7, -9)


def test_a_gateway_whose_part_ends_by_itself_ends_too(tmp_path: Path, keys_folder: Path) -> None:
    (tmp_path / "datacenter-rabat.pub.pem").write_text("not a key")
    environment = {
        "PATH": "/usr/bin:/bin",
        "MASSAR_SITE": "rabat",
        "MASSAR_SITES": '{"rabat":{"datacenter_url":"http://127.0.0.1:9"}}',
        "MASSAR_ETCD_URLS": "http://127.0.0.1:9",
        "MASSAR_ACCESS_KEYS_DIR": str(keys_folder / "access"),
        "MASSAR_ASSERTION_KEY_FILE": str(keys_folder / "gateway-rabat.pem"),
        "MASSAR_NOTICE_KEYS_DIR": str(tmp_path),
        "MASSAR_JOURNAL_KEY_FILE": str(keys_folder / "journal.key"),
        "MASSAR_SEAL_KEY_FILE": str(keys_folder / "seal.key"),
        "MASSAR_METRICS_DIR": str(tmp_path / "metrics"),
        "MASSAR_LISTEN": "127.0.0.1:0",
        "MASSAR_PRIVATE_LISTEN": "127.0.0.1:0",
        "MASSAR_STOP_S": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "gateway"],
        env=environment,
        cwd=Path(serve.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "a part of the gateway ended by itself" in done.stderr
