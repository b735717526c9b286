"""What a measurement says about where it was made, and what it reads from /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench import machine
from sandbox import proc

# Works for a while, says what that took, waits to be let go.
WORK = "import sys, time\nwhile time.process_time() < 0.2: pass\nprint(time.process_time(), flush=True)\nsys.stdin.read()"


def test_the_machine_is_named_with_every_version_that_matters() -> None:
    here = machine.this_machine()
    assert here.processor
    assert here.cores == os.cpu_count()
    assert set(here.versions) == set(machine.PACKAGES)
    assert all(here.versions.values())


def test_server_and_load_get_different_cores_where_there_are_two() -> None:
    allowed = os.sched_getaffinity(0)
    cores = machine.choose_cores()
    assert {cores.server, cores.load} <= allowed
    assert (cores.server != cores.load) is (len(allowed) > 1)


def test_pinning_ends_with_its_block_also_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    core = machine.choose_cores().server
    with machine.pinned(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(RuntimeError), machine.pinned(core):
        raise RuntimeError
    assert os.sched_getaffinity(0) == before


def test_processor_time_is_what_a_process_says_it_used_itself() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        used_s = float(child.stdout.readline())
        assert machine.cpu_s(proc.identity(child.pid)) == pytest.approx(used_s, abs=0.03)
        child.communicate()
