"""The machine's processes as /proc tells them, and the only place that sends SIGKILL.

Invariant: a process is named by its id *and* its start time, and is signalled through a pidfd opened before
the start time was compared, so a recycled id is never hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

STOP_ROUNDS_MAX = 20
POLL_S = 0.01
_DEAD_STATES = frozenset("ZX")


class Process(msgspec.Struct, frozen=True):
    """One process at one moment; `started_ticks` counts clock ticks since boot and tells a recycled id apart."""

    pid: int
    parent_pid: int
    started_ticks: int
    state: str


class Identity(msgspec.Struct, frozen=True):
    """What is enough to find the same process again, or to know that it is gone."""

    pid: int
    started_ticks: int


def boot_id() -> str:
    """Return the kernel's name for this boot: start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def look(pid: int) -> Process | None:
    """Return the process with this id, a zombie included, or None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return Process(pid=pid, parent_pid=int(fields[1]), started_ticks=int(fields[19]), state=fields[0])


def identity(pid: int) -> Identity:
    """Name a process that is known to exist (a child not yet waited for)."""
    found = look(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return Identity(pid=pid, started_ticks=found.started_ticks)


def command(who: Identity) -> list[str]:
    """Return the words a process was started with, or shows instead; none when it is gone. Source: proc_pid_cmdline(5)."""
    try:
        words = Path(f"/proc/{who.pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return os.fsdecode(words).rstrip("\0").split("\0") if alive(who) else []


def own_identity() -> Identity:
    """Name the calling process."""
    return identity(os.getpid())


def alive(who: Identity) -> bool:
    """Tell whether exactly this process still runs; a zombie does not."""
    found = look(who.pid)
    return found is not None and found.started_ticks == who.started_ticks and found.state not in _DEAD_STATES


def every_process() -> list[Process]:
    """Return all processes of the machine, in no order."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 — names, thousands of times
    return [found for found in map(look, pids) if found is not None]


def descendants(roots: Iterable[Identity]) -> list[Identity]:
    """Return the living roots and all that descends from them, parents first."""
    children: dict[int, list[Process]] = {}
    for process in every_process():
        children.setdefault(process.parent_pid, []).append(process)
    found = [who for who in roots if alive(who)]
    known = {who.pid for who in found}
    for who in found:  # grows while it is walked
        for child in children.get(who.pid, []):
            if child.pid not in known and child.state not in _DEAD_STATES:
                known.add(child.pid)
                found.append(Identity(pid=child.pid, started_ticks=child.started_ticks))
    return found


def send(who: Identity, signum: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone, or its id belongs to another one now."""
    try:
        handle = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(who):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signum)
            return True
        return False
    finally:
        os.close(handle)


def kill_trees(roots: Iterable[Identity], *, within_s: float = 5.0) -> list[Identity]:
    """SIGKILL the roots and all their descendants; return those that were killed, parents first.

    Every process is stopped before any is killed: a child whose parent died first could not be found any more,
    and a parent still running could fork once more.
    """
    roots = tuple(roots)
    stopped: dict[int, Identity] = {}
    for _ in range(STOP_ROUNDS_MAX):
        fresh = [who for who in descendants(roots) if who.pid not in stopped]
        if not fresh:
            break
        for who in fresh:
            if send(who, signal.SIGSTOP):
                stopped[who.pid] = who
    killed = [who for who in stopped.values() if send(who, signal.SIGKILL)]
    deadline = time.monotonic() + within_s
    while any(alive(who) for who in killed) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return killed
