"""The tie between a process and the one that started it: the child must not outlive its parent.

Why here: directors, gateway workers and datacenter workers are all started by something that may be killed
without a chance to say goodbye, and an orphan that still holds a port or a lease would answer for the dead.

Invariant: Linux keeps the tie (`PR_SET_PDEATHSIG`), so it holds against SIGKILL and needs no thread and no poll.
It is bound to the *thread* that forked: a parent must start its children from its main thread.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def tie(parent_pid: int, on_death: signal.Signals = signal.SIGKILL) -> None:
    """Deliver `on_death` to this process as soon as `parent_pid` ends, at once when it already has.

    Call it after any change of user and before `exec`: a change of user unties, `exec` does not.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, int(on_death), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it ended between fork and prctl; no signal will come for that
        os.kill(os.getpid(), on_death)


def tied_child(on_death: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Return what `Popen(preexec_fn=…)` runs in the child so that it ends with the calling process."""
    parent_pid = os.getpid()

    def before_exec() -> None:
        tie(parent_pid, on_death)

    return before_exec


def end_with_parent(on_death: signal.Signals = signal.SIGKILL) -> None:
    """Tie the calling process to its present parent; a multiprocessing worker whose parent is gone ends now."""
    parent = multiprocessing.parent_process()
    tie(parent.pid if parent is not None and parent.pid is not None else os.getppid(), on_death)
