"""Tier 1: entries inside the process, least recently used out first.

Invariant: the bytes held never exceed the bound, counting what Python itself needs around each entry; every
operation is O(1) but for the evictions it pays for itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from cache.entries import Entry
from cache.freshness import newer

# Dictionary slot, `Held`, `Entry`, tuples and numbers measure 700 bytes; the rest is for what the edge prepares.
HELD_OVERHEAD_BYTES = 1536
TAG_OVERHEAD_BYTES = 96
# A coding's bytes object, and the headers that the edge prepares for it.
CODING_OVERHEAD_BYTES = 1024
# One entry may fill at most this share of the tier, else a single big answer would empty it.
ENTRY_SHARE_MAX = 8


class Held:
    """An entry in tier 1, with the instants between which it may be shown without asking anybody.

    Until `until_s` whatever happens; until `fresh_until_s`, when its freshness ends, while every purge is heard. From
    `ahead_at` on it is worth fetching anew.
    `prepared` is the edge's own slot (ready headers); a new `Held` starts without.
    """

    __slots__ = (
        "ahead_at",
        "entry",
        "epochs_serial",
        "fresh_until_s",
        "from_s",
        "generations_serial",
        "prepared",
        "size_bytes",
        "until_s",
    )

    def __init__(
        self,
        entry: Entry,
        *,
        key: str,
        from_s: float,
        until_s: float,
        fresh_until_s: float,
        ahead_at: float = math.inf,
    ) -> None:
        self.entry = entry
        self.from_s = from_s
        self.until_s = until_s
        self.fresh_until_s = fresh_until_s
        self.ahead_at = ahead_at
        self.generations_serial = -1
        self.epochs_serial = -1
        self.prepared: object | None = None
        self.size_bytes = size_bytes(key, entry)


def size_bytes(key: str, entry: Entry) -> int:
    """What an entry costs in this process, body and surroundings, in bytes; never less than the truth."""
    tags = sum([4 * len(tag) + TAG_OVERHEAD_BYTES for tag in entry.tags])
    coded = sum([len(body) + CODING_OVERHEAD_BYTES for _, body in entry.coded])
    return HELD_OVERHEAD_BYTES + len(entry.body) + coded + 4 * len(key) + tags


class MemoryTier:
    """A bounded map from key text to `Held`."""

    def __init__(self, *, max_bytes: int, max_entries: int = 1_000_000) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._held: OrderedDict[str, Held] = OrderedDict()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Held | None:
        """The entry under this key, whatever its age; it becomes the last to be evicted."""
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
        return held

    def put(self, key: str, held: Held, *, replace: bool = False) -> bool:
        """Keep an entry; False when it is too big, or older than what is here and `replace` is not set."""
        present = self._held.get(key)
        if present is not None and not replace and newer(present.entry, held.entry):
            return False
        if held.size_bytes > self._max_bytes // ENTRY_SHARE_MAX:
            self.delete(key)
            return False
        if present is not None:
            self.held_bytes -= present.size_bytes
        self._held[key] = held
        self._held.move_to_end(key)
        self.held_bytes += held.size_bytes
        while self.held_bytes > self._max_bytes or len(self._held) > self._max_entries:
            _, evicted = self._held.popitem(last=False)
            self.held_bytes -= evicted.size_bytes
        return True

    def delete(self, key: str) -> None:
        """Forget one key."""
        held = self._held.pop(key, None)
        if held is not None:
            self.held_bytes -= held.size_bytes

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self.held_bytes = 0
