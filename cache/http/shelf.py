"""Where stored responses are kept: the port that the proxy speaks to, and one process's memory behind it.

Invariant: a body is kept or given up whole; what a shelf takes is bounded in bytes; a response that was asked for
before its target was invalidated is never kept after it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from cache.http.messages import Stored

# Per target: beyond these the oldest goes.
VARIANTS_MAX = 32
# What an entry takes beyond its body and the text of its fields.
OVERHEAD_BYTES = 1_024
# What a field line takes beyond its text.
LINE_BYTES = 128
MEMORY_BODY_BYTES_MAX = 8 * 1024 * 1024


class Away(Exception):
    """It is not known now whether a body is held."""


class Held(msgspec.Struct, frozen=True):
    """Everything stored of a target, and its generation: another one since it was last invalidated."""

    generation: str
    stored: tuple[Stored, ...] = ()


class Shelf(Protocol):
    """Stored responses by target. Whatever fails behind it reads as nothing stored, and keeps nothing.

    No body is larger than `body_bytes_max`. `copies`: each reader of a body holds bytes of his own.
    """

    body_bytes_max: int
    copies: bool

    async def held(self, target: str) -> Held:
        """Everything stored of a target; what is older than its last invalidation is `doubted`."""

    async def body(self, target: str, id_: str) -> bytes | None:
        """The bytes held of a stored response, None when they are gone. Raises `Away`."""

    async def put(
        self, target: str, stored: Stored, body: bytes, *, since: Held, replacing: Sequence[str] = ()
    ) -> bool:
        """Keep one in the place of others, unless the target was invalidated since it was looked up; whether it is kept."""

    async def freshen(self, target: str, stored: Stored, *, generation: str) -> None:
        """Replace the head of one that is still there."""

    async def drop(self, target: str, ids: Sequence[str]) -> None:
        """Forget these."""

    async def invalidate(self, target: str) -> None:
        """Have everything of a target validated before its next use (RFC 9111 §4.4)."""

    async def aclose(self) -> None:
        """Let go of what is behind it."""


class _Kept(msgspec.Struct):
    stored: Stored
    body: bytes
    generation: str

    @property
    def size(self) -> int:
        text = sum(len(name) + len(value) for name, value in self.stored.fields.lines)
        selecting = sum(len(name) + len(value or "") for name, value in self.stored.selecting)
        lines = len(self.stored.fields.lines) + len(self.stored.selecting)
        return len(self.body) + text + selecting + lines * LINE_BYTES + OVERHEAD_BYTES


class _Target(msgspec.Struct):
    generation: str
    kept: dict[str, _Kept] = msgspec.field(default_factory=dict)


class MemoryShelf:
    """The stored responses of one process, at most `bytes_max` of them; the target unused for longest goes first."""

    body_bytes_max = MEMORY_BODY_BYTES_MAX
    copies = False

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._targets: OrderedDict[str, _Target] = OrderedDict()
        self._invalidations = 0
        # What a target that is not here was invalidated by, at the latest.
        self._unknown = "0"

    @property
    def size(self) -> int:
        """Bytes taken now."""
        return self._bytes

    async def held(self, target: str) -> Held:
        """Everything stored of a target; what is older than its last invalidation is `doubted`."""
        found = self._targets.get(target)
        if found is None:
            return Held(self._unknown)
        self._targets.move_to_end(target)
        return Held(found.generation, tuple(_as_of(one, found.generation) for one in found.kept.values()))

    async def body(self, target: str, id_: str) -> bytes | None:
        """The bytes held of a stored response, None when they are gone."""
        found = self._targets.get(target)
        kept = found.kept.get(id_) if found else None
        return None if kept is None else kept.body

    async def put(
        self, target: str, stored: Stored, body: bytes, *, since: Held, replacing: Sequence[str] = ()
    ) -> bool:
        """Keep one as the newest of its target; what is too large for the shelf is not kept."""
        new = _Kept(stored, body, since.generation)
        there = self._targets.get(target)
        generation = there.generation if there else self._unknown
        if generation != since.generation or new.size + OVERHEAD_BYTES + len(target) > self._bytes_max:
            return False
        there = self._open(target)
        self._forget(there, (stored.id, *replacing))
        there.kept[stored.id] = new
        self._bytes += new.size
        if len(there.kept) > VARIANTS_MAX:
            self._forget(there, (next(iter(there.kept)),))
        self._make_room()
        return True

    async def freshen(self, target: str, stored: Stored, *, generation: str) -> None:
        """Replace the head of one that is still there."""
        there = self._targets.get(target)
        if there is None or (kept := there.kept.get(stored.id)) is None:
            return
        self._bytes -= kept.size
        kept.stored, kept.generation = stored, generation
        self._bytes += kept.size
        self._make_room()

    async def drop(self, target: str, ids: Sequence[str]) -> None:
        """Forget these."""
        if (there := self._targets.get(target)) is not None:
            self._forget(there, ids)

    async def invalidate(self, target: str) -> None:
        """Have everything of a target validated before its next use; a fill on its way is not kept."""
        self._invalidations += 1
        self._open(target).generation = str(self._invalidations)
        self._make_room()

    async def aclose(self) -> None:
        """Forget everything."""
        self._targets.clear()
        self._bytes = 0

    def _open(self, target: str) -> _Target:
        there = self._targets.get(target)
        if there is None:
            there = self._targets[target] = _Target(self._unknown)
            self._bytes += OVERHEAD_BYTES + len(target)
        self._targets.move_to_end(target)
        return there

    def _forget(self, there: _Target, ids: Sequence[str]) -> None:
        for id_ in ids:
            if (gone := there.kept.pop(id_, None)) is not None:
                self._bytes -= gone.size

    def _make_room(self) -> None:
        while self._bytes > self._bytes_max:
            target, gone = self._targets.popitem(last=False)
            self._forget(gone, tuple(gone.kept))
            self._unknown = max(self._unknown, gone.generation, key=int)
            self._bytes -= OVERHEAD_BYTES + len(target)


def _as_of(kept: _Kept, generation: str) -> Stored:
    if kept.generation == generation:
        return kept.stored
    return msgspec.structs.replace(kept.stored, doubted=True)
