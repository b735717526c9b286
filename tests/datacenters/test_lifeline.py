"""A child must not outlive its parent, however the parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from sandbox import proc
from tests.waiting import eventually

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


def _parent_that(does: str) -> subprocess.Popen[str]:
    """A process that prints the id of each child it starts, then waits for ever."""
    program = f"""
    import multiprocessing, os, signal, subprocess, sys
    from datacenters import lifeline
    SLEEPER = {SLEEPER!r}
    def grandchild():
        lifeline.end_with_parent()
        print(os.getpid(), flush=True)
        signal.pause()
    {does}
    signal.pause()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )


async def _gone_with(parent: subprocess.Popen[str], signum: signal.Signals) -> None:
    assert parent.stdout is not None
    with parent.stdout:
        child = proc.identity(int(parent.stdout.readline()))
    assert proc.alive(child)
    parent.send_signal(signum)
    parent.wait()
    await eventually(lambda: not proc.alive(child), within_s=5)


async def test_a_child_started_with_the_tie_ends_when_its_parent_is_killed() -> None:
    started = "print(subprocess.Popen(SLEEPER, preexec_fn=lifeline.tied_child()).pid, flush=True)"
    await _gone_with(_parent_that(started), signal.SIGKILL)


async def test_the_tie_holds_across_a_change_of_session() -> None:
    started = "print(subprocess.Popen(SLEEPER, preexec_fn=lifeline.tied_child(), start_new_session=True).pid, flush=True)"
    await _gone_with(_parent_that(started), signal.SIGKILL)


async def test_a_multiprocessing_worker_that_ties_itself_ends_when_its_parent_is_killed() -> None:
    started = "multiprocessing.get_context('fork').Process(target=grandchild).start()"
    await _gone_with(_parent_that(started), signal.SIGKILL)


def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    program = (
        f"from datacenters import lifeline; lifeline.tie({os.getpid() + 1_000_000}); print('still here')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == ""


def test_the_signal_can_be_chosen(tmp_path: Path) -> None:
    mark = tmp_path / "asked"
    program = (
        "import os, signal, sys; from datacenters import lifeline\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(mark)!r}, 'w').close(), sys.exit(0)))\n"
        f"lifeline.tie({os.getpid() + 1_000_000}, signal.SIGTERM)\n"
        "signal.pause()"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=10).returncode == 0
    assert mark.exists()


def test_a_tie_to_the_living_parent_does_nothing_now() -> None:
    program = "from datacenters import lifeline; lifeline.end_with_parent(); print('here')"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "here\n"
