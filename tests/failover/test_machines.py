"""A machine's clock and disk are what its file says, at once and for the processes started on it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import proc
from tests.failover.machines import Machine, compiled, compiler, data_folder, empty, fill

HOUR_S = 3600.0
# Answers each line with the clocks, how long a sleep took, and how long an fsync.
TELLER = """
import os, sys, time
for path in sys.stdin:
    slept = time.monotonic(); time.sleep(0.01); slept = time.monotonic() - slept
    with open(path.strip(), "wb") as out:
        synced = time.monotonic(); os.fsync(out.fileno()); synced = time.monotonic() - synced
    print(time.time(), time.monotonic(), slept, synced, flush=True)
"""


class Teller:
    """A process on a machine."""

    def __init__(self, process: subprocess.Popen[str], written: Path) -> None:
        self._process = process
        self._written = written

    def tells(self) -> tuple[float, float, float, float]:
        """Its clocks' distances from ours, and how long a sleep of 10 ms and an fsync took it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._written}\n")
        self._process.stdin.flush()
        wall, monotonic, slept_s, synced_s = map(float, self._process.stdout.readline().split())
        return wall - time.time(), monotonic - time.monotonic(), slept_s, synced_s


@contextmanager
def teller(machine: Machine, written: Path) -> Iterator[Teller]:
    environment = {**os.environ, **machine.environment}
    command = [sys.executable, "-c", TELLER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Teller(process, written)
        process.kill()


@pytest.mark.parametrize("possible", [compiler() is not None])
def test_where_there_is_a_compiler_clocks_and_disks_are_as_they_are_set(
    possible: bool, tmp_path: Path
) -> None:
    if not possible:
        assert shutil.which("cc") is None
        return
    machine = Machine(tmp_path / "machine", compiled(tmp_path))
    with teller(machine, tmp_path / "written") as one:
        _clock_is(one, 0.0)
        assert machine.wrong_clocks_read == 0
        for ahead_s in (HOUR_S, -HOUR_S):
            machine.set_clock(ahead_s=ahead_s)
            _clock_is(one, ahead_s)
        assert machine.wrong_clocks_read > 0
        machine.set_clock(ahead_s=0.0)
        machine.let_clock_gain(per_s=100.0)
        assert 0.5 < one.tells()[0] < one.tells()[0]
        machine.let_clock_gain(per_s=0.0)
        _clock_is(one, 0.0)

        assert machine.delayed_syncs == 0
        machine.slow_disk(sync_s=0.2)
        assert one.tells()[3] >= 0.2
        assert machine.delayed_syncs == 1
        machine.slow_disk(sync_s=0.0)
        one.tells()
        assert machine.delayed_syncs == 1


def _clock_is(one: Teller, ahead_s: float) -> None:
    wall_s, monotonic_s, slept_s, _ = one.tells()
    assert wall_s == pytest.approx(ahead_s, abs=1.0)
    assert monotonic_s == pytest.approx(0.0, abs=1.0)
    assert slept_s < 5.0, "waits are on the monotonic clock"


@pytest.mark.parametrize("possible", [os.geteuid() == 0 and shutil.which("mount") is not None])
def test_where_one_may_mount_a_volume_is_filled_to_the_last_byte(possible: bool, tmp_path: Path) -> None:
    if not possible:
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "massar-chaos-test", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        return  # root in a container that may not
    try:
        fill(tmp_path)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "more").write_bytes(b"x" * 10_000)
        fill(tmp_path)
        empty(tmp_path)
        (tmp_path / "more").write_bytes(b"x" * 10_000)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_database_names_its_folder() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", "-D", "/somewhere/rabat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # its command line may be read a moment later than it was started
        assert data_folder(proc.identity(process.pid)) == Path("/somewhere/rabat")
        process.kill()
