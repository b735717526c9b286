"""Processes are found by /proc and killed by name and start time alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandbox import proc

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
_CHILD = f"""
import signal, subprocess
print(subprocess.Popen({SLEEPER!r}, start_new_session=True).pid, flush=True)
signal.pause()
"""
# Starts a child and a grandchild, each in a session of its own, prints their ids and waits.
FAMILY = [
    sys.executable,
    "-c",
    f"""
import signal, subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {_CHILD!r}], start_new_session=True).pid, flush=True)
signal.pause()
""",
]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], list[proc.Identity]]]:
    process = subprocess.Popen(FAMILY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    members = [proc.identity(process.pid)]
    members += [proc.identity(int(process.stdout.readline())) for _ in range(2)]
    yield process, members
    for member in members:
        proc.send(member, signal.SIGKILL)
    process.stdout.close()
    process.wait()


def test_a_process_knows_itself() -> None:
    found = proc.look(os.getpid())
    assert found is not None
    assert found.parent_pid == os.getppid()
    assert proc.own_identity() == proc.Identity(pid=os.getpid(), started_ticks=found.started_ticks)


def test_a_name_with_brackets_and_spaces_is_read_right() -> None:
    program = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) R 1 (b', 0, 0, 0); print(flush=True); sys.stdin.read()"
    odd = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert odd.stdout is not None
    odd.stdout.readline()
    found = proc.look(odd.pid)
    odd.communicate()
    assert found is not None
    assert found.parent_pid == os.getpid()


def test_a_process_that_does_not_exist_is_none() -> None:
    assert proc.look(2**22 + 5) is None
    with pytest.raises(ProcessLookupError):
        proc.identity(2**22 + 5)


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    who = proc.identity(sleeper.pid)
    assert proc.alive(who)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not proc.alive(who)


def test_a_process_tells_the_words_it_was_started_with(sleeper: subprocess.Popen[bytes]) -> None:
    assert proc.command(proc.identity(sleeper.pid)) == SLEEPER


def test_a_process_that_is_gone_tells_no_words(sleeper: subprocess.Popen[bytes]) -> None:
    who = proc.identity(sleeper.pid)
    another = proc.Identity(pid=who.pid, started_ticks=who.started_ticks - 1)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert proc.command(who) == [], "a zombie"
    sleeper.wait()
    assert proc.command(who) == []
    assert proc.command(another) == []


def test_descendants_are_found_across_sessions_parents_first(
    family: tuple[subprocess.Popen[str], list[proc.Identity]],
) -> None:
    _, members = family
    assert proc.descendants([members[0]]) == members


def test_killing_a_root_takes_its_descendants_along(
    family: tuple[subprocess.Popen[str], list[proc.Identity]],
) -> None:
    _, members = family
    assert proc.kill_trees([members[0]]) == members
    assert not any(proc.alive(member) for member in members)


def test_a_recycled_id_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    who = proc.identity(sleeper.pid)
    another = proc.Identity(pid=who.pid, started_ticks=who.started_ticks - 1)
    assert not proc.send(another, signal.SIGKILL)
    assert proc.kill_trees([another]) == []
    assert proc.alive(who)


def test_a_process_that_is_gone_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    who = proc.identity(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert not proc.send(who, signal.SIGKILL)


def test_this_boot_has_a_name() -> None:
    assert len(proc.boot_id()) == 36
    assert proc.boot_id() == proc.boot_id()
