"""The folder a sandbox lives in: its lock, its table of processes, the ready file.

Invariant: one sandbox at a time lives in a folder (an flock, which ends with its holder however it ends); only
what a sandbox made is ever removed; whatever holds a password is readable by its owner alone and written whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from sandbox import proc

TABLE = "sandbox.json"
LOCK = "lock"
GENERATED = ("keys", "logs", "etcd", "postgres", "valkey", "metrics", "quarantine", "ask.sock", TABLE)
SITES = ("rabat", "marrakech")
WITNESS = "witness"


class FolderRefused(Exception):
    """The folder cannot be used; the message says why."""


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready file holds; every address without a trailing slash."""

    gateways: dict[str, str]
    metrics: dict[str, str]
    datacenters: dict[str, str]
    valkey: dict[str, str]
    etcd: list[str]
    dir: str
    accounts: dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """One process the sandbox started, and whose it is."""

    name: str
    site: str
    kind: str
    who: proc.Identity


class Table(Addresses, frozen=True, kw_only=True):
    """What `sandbox.json` holds: the addresses, and what the other subcommands need."""

    boot_id: str
    supervisor: proc.Identity
    ready: bool
    databases: dict[str, dict[str, str]]
    processes: list[Row]

    @property
    def running(self) -> bool:
        """Whether the sandbox that wrote this still runs."""
        return self.boot_id == proc.boot_id() and proc.alive(self.supervisor)

    def living(self) -> list[Row]:
        """The processes that still run; none when the machine was started again since."""
        return (
            [row for row in self.processes if proc.alive(row.who)] if self.boot_id == proc.boot_id() else []
        )


class Folder:
    """A sandbox's folder, locked by this process until it ends or calls `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Let another sandbox have the folder."""
        os.close(self._lock)

    def clear(self) -> bool:
        """Remove what an earlier sandbox left; tells whether there was anything."""
        found = False
        for name in GENERATED:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or path.exists():
                path.unlink()
            else:
                continue
            found = True
        return found

    def make(self, name: str) -> Path:
        """Return a new folder inside, closed to others."""
        path = self.path / name
        path.mkdir(mode=0o700)
        return path

    def write_table(self, table: Table) -> None:
        """Replace the table in one step."""
        write_whole(self.path / TABLE, msgspec.json.format(msgspec.json.encode(table), indent=1))


def occupy(path: Path) -> Folder:
    """Take the folder, creating it where needed.

    Raises: FolderRefused: it belongs to somebody else, holds other things, or a sandbox runs in it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        raise FolderRefused(f"{path} belongs to another user")
    names = {entry.name for entry in path.iterdir()}
    if names and LOCK not in names:
        raise FolderRefused(f"{path} holds other things than a sandbox; choose an empty or a new folder")
    if not names:
        path.chmod(0o700)  # somebody may have made it with an ordinary mode
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FolderRefused(f"a sandbox already runs in {path}{_whose(path)}") from None
    return Folder(path, lock)


def read_table(path: Path) -> Table:
    """Return the table of the sandbox in this folder.

    Raises: FolderRefused: there is none.
    """
    try:
        return msgspec.json.decode((path / TABLE).read_bytes(), type=Table)
    except FileNotFoundError:
        raise FolderRefused(f"no sandbox in {path}: `massar sandbox --dir {path}` starts one") from None
    except msgspec.MsgspecError as problem:
        raise FolderRefused(f"{path / TABLE} cannot be read: {problem}") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file only its owner may read, so that nobody ever sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
    partial.replace(path)


def _whose(path: Path) -> str:
    try:
        return f" (process {read_table(path).supervisor.pid})"
    except FolderRefused:
        return ""
