"""Writes that have no verdict yet, kept where a phone that is switched off keeps them.

Invariant: what `add` has returned for is there after any death of the process, under the key it had, in the order it
came in, until `end` is told of its verdict. A write whose end was not noted is sent again, and answered as before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import msgspec

# So many ended writes lie in the file before it is written anew.
ENDED_KEPT_MAX = 256


class Waiting(msgspec.Struct, frozen=True):
    """One write: under one key for ever; those of one `order` (a gradebook) are sent one after the other."""

    key: str
    method: str
    path: str
    body: str
    order: str


class Outbox(Protocol):
    """Where writes wait; `position` is the last `Massar-Position` heard, by order."""

    def add(self, write: Waiting) -> None:
        """Keep a write; it is safe when this returns."""
        ...

    def end(self, key: str, *, position: str | None = None) -> None:
        """Forget a write that has its verdict, and note the position it was answered with."""
        ...

    def waiting(self) -> list[Waiting]:
        """What has no verdict yet, oldest first."""
        ...

    def positions(self) -> dict[str, str]:
        """The last position heard, by order; the newest last."""
        ...


class MemoryOutbox:
    """An outbox that ends with the process: for load and demonstrations."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._positions: dict[str, str] = {}

    def add(self, write: Waiting) -> None:
        """Keep a write. Raises: ValueError for a key that is waiting already."""
        if write.key in self._waiting:
            raise ValueError("this key is waiting already")
        self._waiting[write.key] = write

    def end(self, key: str, *, position: str | None = None) -> None:
        """Forget a write that has its verdict."""
        write = self._waiting.pop(key)
        if position is not None:
            self.note(write.order, position)

    def waiting(self) -> list[Waiting]:
        """What has no verdict yet, oldest first."""
        return list(self._waiting.values())

    def positions(self) -> dict[str, str]:
        """The last position heard, by order; the newest last."""
        return dict(self._positions)

    def note(self, order: str, position: str) -> None:
        """Note a position as the newest."""
        self._positions.pop(order, None)
        self._positions[order] = position


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the file: a write that came in, the end of one, or a position that still counts."""

    add: Waiting | None = None
    end: str | None = None
    order: str | None = None
    position: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class FileOutbox:
    """An outbox in a file of JSON lines, each on the disk before the call returns.

    Raises: msgspec.MsgspecError for a file that holds anything else: what it promised must not be dropped unseen.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = MemoryOutbox()
        self._ended = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        whole = self._read()
        # A line that was being written when the phone went off was promised to nobody.
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)
        _sync_folder(path.parent)

    def add(self, write: Waiting) -> None:
        """Keep a write; it is on the disk when this returns."""
        self._memory.add(write)
        self._append(_Line(add=write))

    def end(self, key: str, *, position: str | None = None) -> None:
        """Forget a write that has its verdict."""
        self._append(_Line(end=key, position=position))
        self._memory.end(key, position=position)
        self._ended += 1
        if self._ended >= ENDED_KEPT_MAX:
            self._write_anew()

    def waiting(self) -> list[Waiting]:
        """What has no verdict yet, oldest first."""
        return self._memory.waiting()

    def positions(self) -> dict[str, str]:
        """The last position heard, by order; the newest last."""
        return self._memory.positions()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _read(self) -> int:
        """Take in every whole line; the length of these in bytes."""
        *lines, torn = (raw := self._path.read_bytes()).split(b"\n")
        for line in lines:
            self._take_in(_decode(line))
        return len(raw) - len(torn)

    def _take_in(self, line: _Line) -> None:
        if line.add is not None:
            self._memory.add(line.add)
        elif line.end is not None:
            self._memory.end(line.end, position=line.position)
            self._ended += 1
        elif line.order is not None and line.position is not None:
            self._memory.note(line.order, line.position)

    def _append(self, line: _Line) -> None:
        _write(self._file, _encode(line) + b"\n")

    def _write_anew(self) -> None:
        """Replace the file by one that holds what still counts, in one step."""
        lines = [_Line(order=order, position=at) for order, at in self._memory.positions().items()]
        lines += [_Line(add=write) for write in self._memory.waiting()]
        fresh = self._path.with_name(self._path.name + ".new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        _write(file, b"".join(_encode(line) + b"\n" for line in lines))
        fresh.replace(self._path)
        _sync_folder(self._path.parent)
        os.close(self._file)
        self._file, self._ended = file, 0


def _write(file: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(file, raw) :]
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
