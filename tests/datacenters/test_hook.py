"""The rejoin command: told by name what it needs, run without a shell, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from datacenters.hook import Hook, HookFailed
from sandbox import proc, processes
from tests.waiting import eventually


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


WRITES = "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(repr(sorted(os.environ.items())))"
WAITS = (
    "import os, sys, signal, pathlib; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); signal.pause()"
)


async def test_it_is_told_names_and_nothing_else(tmp_path: Path) -> None:
    told = tmp_path / "told; rm -rf"  # no shell reads this
    await Hook(python(WRITES, str(told)), environment={"PATH": "/bin", "LC_ALL": "C"}).run(
        site="rabat", active="marrakech", epoch=2
    )
    assert told.read_text() == repr(
        [
            ("LC_ALL", "C"),
            ("MASSAR_REJOIN_ACTIVE", "marrakech"),
            ("MASSAR_REJOIN_EPOCH", "2"),
            ("MASSAR_REJOIN_SITE", "rabat"),
            ("PATH", "/bin"),
        ]
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [(python("raise SystemExit(3)"), "exit code 3"), (["/no/such/command"], "does not start")],
)
async def test_a_failure_is_told(command: list[str], reason: str) -> None:
    with pytest.raises(HookFailed, match=reason):
        await Hook(command, environment={}).run(site="rabat", active="marrakech", epoch=2)


async def test_it_ends_within_its_bound(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match="not done after"):
        await Hook(python(WAITS, str(tmp_path / "pid")), environment={}, within_s=0.5).run(
            site="rabat", active="marrakech", epoch=2
        )


async def _waiting(path: Path) -> proc.Identity:
    await eventually(lambda: path.exists() and path.read_text(), within_s=10)
    return proc.identity(int(path.read_text()))


async def test_it_ends_with_the_director_that_is_dismissed(tmp_path: Path) -> None:
    hook = Hook(python(WAITS, str(tmp_path / "pid")), environment={})
    running = asyncio.create_task(hook.run(site="rabat", active="marrakech", epoch=2))
    command = await _waiting(tmp_path / "pid")
    running.cancel()
    await asyncio.wait({running})
    await eventually(lambda: not proc.alive(command), within_s=5)


async def test_it_ends_with_the_director_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from datacenters.hook import Hook;"
        "asyncio.run(Hook(sys.argv[1:], environment={}).run(site='a', active='b', epoch=1))"
    )
    director = processes.spawn(
        python(program, *python(WAITS, str(tmp_path / "pid"))),
        name="director",
        log=tmp_path / "log",
        environment={**processes.BARE_ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    command = await _waiting(tmp_path / "pid")
    os.kill(director.pid, signal.SIGKILL)
    await director.exited()
    await eventually(lambda: not proc.alive(command), within_s=5)
