"""The machines of one site: a wall clock that is wrong, a disk that is slow or full, for processes that run.

`preload.c` does it inside the processes, which see this module's `Machine` through a shared file: libfaketime, which
would be at hand, fakes waits on the monotonic clock too (0.9.10: an hour behind, and a sleep lasts an hour).

Invariant: only what was started with `Machine.environment` is touched, and only while the file says so.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import time
from pathlib import Path

from sandbox import proc

SOURCE = Path(__file__).with_name("preload.c")
COMPILE_WITHIN_S = 60.0
VOLUME_BYTES = 512 << 20
_WORD = 8
# Where preload.c finds what, in words.
_AHEAD, _GAIN, _GAIN_SINCE, _SYNC_DELAY, _WRONG_CLOCKS_READ, _DELAYED_SYNCS = range(6)
_SIZE = 6 * _WORD
_BALLAST = "ballast"


def compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return shutil.which("cc")


def compiled(into: Path) -> Path:
    """The library made of preload.c."""
    library = into / "preload.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=COMPILE_WITHIN_S)
    return library


class Machine:
    """What the processes of one site find their machine to be like; the file is anybody's to write, as PostgreSQL runs as another user."""

    def __init__(self, file: Path, library: Path) -> None:
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_MACHINE": str(file)}
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.fchmod(handle, 0o666)
            os.ftruncate(handle, _SIZE)
            self._shared = mmap.mmap(handle, _SIZE)
        finally:
            os.close(handle)

    def set_clock(self, *, ahead_s: float) -> None:
        """Their wall clock jumps to so many seconds from the true time."""
        self._write(_AHEAD, round(ahead_s * 1e9))

    def let_clock_gain(self, *, per_s: float) -> None:
        """From now on their wall clock gains so many seconds in each; 0 sets it right again."""
        self._write(_GAIN, 0)
        self._write(_GAIN_SINCE, time.monotonic_ns())
        self._write(_GAIN, round(per_s * 1e9))

    def slow_disk(self, *, sync_s: float) -> None:
        """Every fsync takes so much longer; 0 ends it."""
        self._write(_SYNC_DELAY, round(sync_s * 1e9))

    @property
    def wrong_clocks_read(self) -> int:
        """How often somebody read a wrong clock."""
        return self._read(_WRONG_CLOCKS_READ)

    @property
    def delayed_syncs(self) -> int:
        """How many fsyncs were held up."""
        return self._read(_DELAYED_SYNCS)

    def _write(self, word: int, value: int) -> None:
        # One aligned word at a time: whoever reads it sees the old one or the new one.
        memoryview(self._shared).cast("q")[word] = value

    def _read(self, word: int) -> int:
        return memoryview(self._shared).cast("q")[word]


def data_folder(postgres: proc.Identity) -> Path:
    """Where a running PostgreSQL keeps its data, as its command line says."""
    words = proc.command(postgres)
    return Path(words[words.index("-D") + 1])


def fill(volume: Path) -> None:
    """Leave no room in the file system of `volume`."""
    ballast = os.open(volume / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        while free := _free_bytes(volume):
            os.posix_fallocate(ballast, os.fstat(ballast).st_size, free)
    except OSError as failure:
        if failure.errno != errno.ENOSPC:  # somebody else took the last of it
            raise
    finally:
        os.close(ballast)


def empty(volume: Path) -> None:
    """Take out what `fill` put there."""
    (volume / _BALLAST).unlink(missing_ok=True)


def _free_bytes(volume: Path) -> int:
    found = os.statvfs(volume)
    return found.f_bfree * found.f_frsize
