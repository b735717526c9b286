"""Servers start tied to this process, say what they say into bounded logs, and end within a bound."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from sandbox import proc, processes
from tests.waiting import eventually

PAUSE = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: time.sleep(60)",
]


def _says(log: Path, text: str) -> bool:
    return text in log.read_text()


async def test_what_a_server_says_goes_to_a_log_of_its_owner_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = processes.spawn(PAUSE, name="pause", log=log)
    await processes.ready(running, lambda: _says(log, "up"), within_s=10)
    assert log.stat().st_mode & 0o777 == 0o600
    running.kill()
    assert running.ended
    assert await running.exited() == -signal.SIGKILL


async def test_standard_input_is_handed_over(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = processes.spawn(["/bin/cat"], name="cat", log=log, stdin=b"a secret\n")
    assert await running.exited() == 0
    assert log.read_text() == "a secret\n"


async def test_a_server_sees_only_the_environment_it_is_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = processes.spawn(["/usr/bin/env"], name="env", log=log, environment={"ONE": "1"})
    await running.exited()
    assert log.read_text() == "ONE=1\n"


async def test_an_orderly_stop_is_orderly(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = processes.spawn(PAUSE, name="pause", log=log)
    await processes.ready(running, lambda: _says(log, "up"), within_s=10)
    await running.stop()
    assert await running.exited() == -signal.SIGTERM


async def test_a_server_that_does_not_listen_is_killed_after_the_bound(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = processes.spawn(DEAF, name="deaf", log=log)
    await processes.ready(running, lambda: _says(log, "up"), within_s=10)
    await running.stop(within_s=0.05)
    assert await running.exited() == -signal.SIGKILL


async def test_children_that_outlive_their_server_are_killed_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        f"import subprocess, signal; print(subprocess.Popen({PAUSE!r}).pid, 'up', flush=True); signal.pause()"
    )
    running = processes.spawn([sys.executable, "-c", program], name="two", log=log)
    await processes.ready(running, lambda: _says(log, "up"), within_s=10)
    child = proc.identity(int(log.read_text().split()[0]))
    await running.stop()
    await eventually(lambda: not proc.alive(child), within_s=5)


async def test_a_server_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"]
    running = processes.spawn(program, name="brief", log=tmp_path / "log")
    with pytest.raises(processes.ProcessFailed, match=r"(?s)brief: ended with code 3.*no such port"):
        await processes.ready(running, lambda: False, within_s=10)


async def test_a_server_that_is_never_ready_is_told_after_the_bound(tmp_path: Path) -> None:
    running = processes.spawn(PAUSE, name="pause", log=tmp_path / "log")
    with pytest.raises(processes.ProcessFailed, match=r"pause: not ready after 0.05 s"):
        await processes.ready(running, lambda: False, within_s=0.05)
    running.kill()


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(processes.ProcessFailed, match=r"nothing: /no/such/program does not start"):
        processes.spawn(["/no/such/program"], name="nothing", log=tmp_path / "log")


async def test_a_command_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "print('wrong folder'); raise SystemExit(2)"]
    with pytest.raises(processes.ProcessFailed, match=r"(?s)once: exit code 2.*wrong folder"):
        await processes.run(program, name="once", log=tmp_path / "log", within_s=10)


async def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(processes.ProcessFailed, match=r"slow: not done after 0.05 s"):
        await processes.run(PAUSE, name="slow", log=tmp_path / "log", within_s=0.05)


def test_servers_start_from_the_main_thread_alone(tmp_path: Path) -> None:
    refused: list[BaseException] = []

    def start() -> None:
        try:
            processes.spawn(PAUSE, name="pause", log=tmp_path / "log")
        except RuntimeError as reason:
            refused.append(reason)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(refused) == 1


def test_a_log_over_its_bound_keeps_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as out:
        out.write(b"a" * 900 + b"b" * 200)
        out.flush()
        processes.bound_log(log, bytes_max=1000)
        assert (tmp_path / "log.1").read_bytes() == b"a" * 300 + b"b" * 200
        out.write(b"later")
        out.flush()
    assert log.read_bytes() == b"later"
    assert (tmp_path / "log.1").stat().st_mode & 0o777 == 0o600


def test_a_log_within_its_bound_stays_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a" * 10)
    processes.bound_log(log, bytes_max=10)
    processes.bound_log(tmp_path / "none", bytes_max=10)
    assert log.read_bytes() == b"a" * 10
