"""Starting and ending the servers of the sandbox.

Invariant: a started process ends with the one that started it, even when that one is killed with SIGKILL;
every wait has an end; what a server says goes to a log file of bounded size.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from datacenters import lifeline
from sandbox import proc, seats

LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_TAIL_LINES = 12
READY_POLL_S = 0.02
BARE_ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LANG": "C", "TZ": "UTC"}


class ProcessFailed(Exception):
    """A process ended, or did not get ready, when it should have; the message ends with its last log lines."""


class Account(msgspec.Struct, frozen=True):
    """A system user that a server runs as."""

    name: str
    uid: int
    gid: int


class Running:
    """A started process: `who` names it for good, `process` is its handle in the process that started it."""

    def __init__(self, *, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.who = proc.identity(process.pid)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.who.pid

    @property
    def ended(self) -> bool:
        """Tell whether it has ended; reaps it."""
        return self.process.poll() is not None

    def complaint(self, what: str) -> ProcessFailed:
        """Return the error that says `what` happened, with the end of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return ProcessFailed("\n  ".join([f"{self.name}: {what}; last lines of {self.log}:", *lines]))

    async def exited(self) -> int:
        """Wait until it has ended and return its exit code; negative numbers are signals."""
        if self.process.poll() is None:
            loop = asyncio.get_running_loop()
            gone = asyncio.Event()
            handle = os.pidfd_open(self.process.pid)
            loop.add_reader(handle, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        return self.process.wait()

    async def stop(self, signum: signal.Signals = signal.SIGTERM, *, within_s: float = 5.0) -> None:
        """End it in order; whatever is left of its tree after `within_s` is killed."""
        if not self.ended:
            left = proc.descendants([self.who])
            proc.send(self.who, signum)
            try:
                async with asyncio.timeout(within_s):
                    await self.exited()
            except TimeoutError:
                proc.kill_trees([self.who])
            proc.kill_trees(left)
        self.process.wait()

    def kill(self) -> None:
        """SIGKILL it and all its descendants, and reap it."""
        proc.kill_trees([self.who])
        self.process.wait()


def spawn(
    command: Sequence[str],
    *,
    name: str,
    log: Path,
    environment: Mapping[str, str] = BARE_ENVIRONMENT,
    account: Account | None = None,
    stdin: bytes = b"",
    on_parent_death: signal.Signals = signal.SIGKILL,
    namespace: str | None = None,
) -> Running:
    """Start `command` in a session of its own, as `account` and in the network `namespace` where given, writing to `log`.

    `stdin` is at most 64 KiB (it is written before anything reads). Call it from the main thread only:
    the tie to this process is one to the thread that forks.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a server is started from the main thread: it would end with any other one")
    inside = _opened(namespace, name) if namespace else None
    reader, writer = os.pipe()
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(writer, stdin)
        process = subprocess.Popen(
            list(command),
            stdin=reader,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
            preexec_fn=_before_exec(account, inside, on_parent_death),  # noqa: PLW1509 — system calls, no lock taken
        )
    except OSError as failure:
        raise ProcessFailed(f"{name}: {command[0]} does not start: {failure}") from failure
    finally:
        for handle in (reader, writer, out, *([] if inside is None else [inside])):
            os.close(handle)
    return Running(name=name, process=process, log=log)


def _opened(namespace: str, name: str) -> int:
    try:
        return seats.open_namespace(namespace)
    except seats.SeatRefused as refused:
        raise ProcessFailed(f"{name}: {refused}") from None


def _before_exec(
    account: Account | None, namespace: int | None, on_parent_death: signal.Signals
) -> Callable[[], None]:
    """What the child does before `exec`: enter the namespace while it is still root, change user, then tie itself."""
    tied = lifeline.tied_child(on_parent_death)

    def prepare() -> None:
        if namespace is not None:
            seats.enter(namespace)
        if account is not None:
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
        tied()

    return prepare


async def ready(
    running: Running,
    answers: Callable[[], bool | Awaitable[bool]],
    *,
    within_s: float,
    poll_s: float = READY_POLL_S,
) -> None:
    """Return once `answers` says so; raise `ProcessFailed` as soon as the process ended, or after `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                outcome = answers()
                if outcome if isinstance(outcome, bool) else await outcome:
                    return
                if running.ended:
                    raise running.complaint(
                        f"ended with code {running.process.returncode} before it was ready"
                    )
                await asyncio.sleep(poll_s)
    except TimeoutError:
        raise running.complaint(f"not ready after {within_s} s") from None


async def run(
    command: Sequence[str],
    *,
    name: str,
    log: Path,
    within_s: float,
    environment: Mapping[str, str] = BARE_ENVIRONMENT,
    account: Account | None = None,
    namespace: str | None = None,
) -> None:
    """Run a command to its end; raise `ProcessFailed` when it fails or needs more than `within_s`."""
    running = spawn(
        command, name=name, log=log, environment=environment, account=account, namespace=namespace
    )
    try:
        async with asyncio.timeout(within_s):
            code = await running.exited()
    except TimeoutError:
        raise running.complaint(f"not done after {within_s} s") from None
    finally:
        running.kill()
    if code != 0:
        raise running.complaint(f"exit code {code}")


def bound_log(log: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keep a log that is still written to (in append mode) under `bytes_max`: its end moves to `<log>.1`."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size <= bytes_max:
            return
        with log.open("rb") as lines:
            lines.seek(-(bytes_max // 2), os.SEEK_END)
            kept = lines.read(bytes_max // 2)
        older = log.with_name(f"{log.name}.1")
        older.touch(mode=0o600)
        older.write_bytes(kept)
        os.truncate(log, 0)
