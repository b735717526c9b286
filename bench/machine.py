"""Where a measurement was made: the processor, its cores, and the versions that were measured.

Invariant: nothing here names the host or its user.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import msgspec

from sandbox import proc

PACKAGES = ("granian", "litestar", "uvloop", "msgspec", "PyJWT", "redis")
# Which clock of a process counts what its threads have run. Source: clock_getcpuclockid(3), as glibc makes its id.
_SCHEDULED = 2


class Cores(msgspec.Struct, frozen=True):
    """Which core serves and which one sends; the same one on a machine with one."""

    server: int
    load: int


class Machine(msgspec.Struct, frozen=True):
    """The machine of one run; `load_average` is how busy it was when the run began (one minute)."""

    processor: str
    cores: int
    kernel: str
    python: str
    versions: dict[str, str]
    load_average: float

    def country(self) -> str:
        """One line, for what a whole country was measured on."""
        return f"{self.processor}, {self.cores} cores for three sites and the load, load average {self.load_average} before"


def this_machine() -> Machine:
    """Describe the machine this runs on."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        kernel=platform.release(),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
        load_average=round(os.getloadavg()[0], 2),
    )


def choose_cores() -> Cores:
    """The first and the last core this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(server=allowed[0], load=allowed[-1])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep the calling thread, and whatever it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(who: proc.Identity) -> float:
    """The processor time that a process and its living descendants have used, in seconds."""
    return sum(used_s(member.pid) for member in proc.descendants([who]))


def used_s(pid: int) -> float:
    """The processor time that one process has used, in seconds; none when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _SCHEDULED)
    except OSError:
        return 0.0  # it ended since it was found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
