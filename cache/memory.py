"""Tier 1: entries inside the process, within a bound of bytes; who must go was not asked for again.

An entry waits in a queue of new ones; one that was asked for again by the time it comes to the head moves to a second
queue, where each later use buys another turn (as in S3-FIFO, Yang et al., SOSP 2023, without its ghosts). So a crawl of any
length pushes out other new entries and no used one, and a hit costs an increment. There is a pair of queues for what is
shared and one for what is personal; the personal goes first while it fills more than its share.

Invariant: the bytes held never exceed the bound, counting what Python itself needs around each entry; every operation is
O(1) but for the evictions it pays for itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from cache.entries import Entry
from cache.freshness import newer

# Dictionary slot, `Held`, `Entry`, tuples and numbers measure 800 bytes; the rest is for what the edge prepares.
HELD_OVERHEAD_BYTES = 1664
TAG_OVERHEAD_BYTES = 96
# A coding's bytes object, and the headers that the edge prepares for it.
CODING_OVERHEAD_BYTES = 1200
# One entry may fill at most this share of the tier, else a single big answer would empty it.
ENTRY_SHARE_MAX = 8
# What new entries may fill of a class before they have to leave or move on.
NEW_SHARE = 4
# What personal entries fill goes before anything shared does, down to this share of the tier.
PERSONAL_SHARE = 4
# Turns that an entry can earn: what was popular once does not stay for ever.
USES_MAX = 3
# Entries that are looked at to find one to evict; where all of them had earned another turn, who came last goes.
LOOKED_AT_MAX = 64
# What a decoded body takes beside its bytes, for each of them (records of people measure 3.3).
DECODED_BYTES_PER_BYTE = 4


class Held:
    """An entry in tier 1, with the instants between which it may be shown without asking anybody.

    Until `until_s` whatever happens; until `fresh_until_s`, when its freshness ends, while every purge is heard. From
    `ahead_at` on it is worth fetching anew.
    `prepared` is the edge's own slot (ready headers); a new `Held` starts without. `uses`: how often it was asked for
    since it last moved, USES_MAX at most. `shared`: it is about no single person. Who remembers one between two requests
    does so by a weak reference, so that it keeps no room beyond the tier's bound.
    """

    __slots__ = (
        "__weakref__",
        "ahead_at",
        "entry",
        "fresh_until_s",
        "from_s",
        "generations_serial",
        "heard_serial",
        "prepared",
        "shared",
        "size_bytes",
        "until_s",
        "uses",
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
        shared: bool = False,
        decoded: bool = False,
    ) -> None:
        self.entry = entry
        self.from_s = from_s
        self.until_s = until_s
        self.fresh_until_s = fresh_until_s
        self.ahead_at = ahead_at
        self.generations_serial = -1
        self.heard_serial = -1
        self.prepared: object | None = None
        self.shared = shared
        self.uses = 0
        self.size_bytes = size_bytes(key, entry, decoded=decoded)

    def withdraw(self) -> None:
        """Let nobody show it any more, also not who still knows it: it has left the tier, or something speaks against it."""
        self.until_s = self.fresh_until_s = -math.inf


def size_bytes(key: str, entry: Entry, *, decoded: bool = False) -> int:
    """What an entry costs in this process, body and surroundings, in bytes; never less than the truth.

    `decoded`: whoever reads it keeps it decoded in its slot.
    """
    tags = sum([4 * len(tag) + TAG_OVERHEAD_BYTES for tag in entry.tags])
    coded = sum([len(body) + CODING_OVERHEAD_BYTES for _, body in entry.coded])
    body = len(entry.body) * (1 + (DECODED_BYTES_PER_BYTE if decoded else 0))
    return HELD_OVERHEAD_BYTES + body + coded + 4 * len(key) + tags


class _Queues:
    """The entries of one class: new ones, and those that were asked for again, each in order of arrival."""

    def __init__(self) -> None:
        self._new: OrderedDict[str, Held] = OrderedDict()
        self._used: OrderedDict[str, Held] = OrderedDict()
        self._new_bytes = 0
        self.bytes = 0

    def put(self, key: str, held: Held, present: Held | None) -> None:
        """Take in an entry, in the place of `present` where there is one."""
        queue = self._used if key in self._used else self._new
        if present is not None:
            held.uses = present.uses
        queue[key] = held
        self._count(queue, held.size_bytes - (0 if present is None else present.size_bytes))

    def remove(self, key: str, held: Held) -> None:
        """Let go of an entry that is here."""
        queue = self._used if key in self._used else self._new
        del queue[key]
        self._count(queue, -held.size_bytes)

    def evict(self) -> str:
        """Let go of the entry that is missed least, and name it; there is one."""
        for _ in range(LOOKED_AT_MAX):
            over = self._new_bytes * NEW_SHARE > self.bytes
            queue = self._new if self._new and (over or not self._used) else self._used
            key, held = queue.popitem(last=False)
            self._count(queue, -held.size_bytes)
            if held.uses == 0:
                return key
            held.uses = 0 if queue is self._new else held.uses - 1
            self._used[key] = held
            self._count(self._used, held.size_bytes)
        queue = self._new or self._used
        key, held = queue.popitem(last=queue is self._new)
        self._count(queue, -held.size_bytes)
        return key

    def _count(self, queue: OrderedDict[str, Held], more_bytes: int) -> None:
        self.bytes += more_bytes
        if queue is self._new:
            self._new_bytes += more_bytes


class MemoryTier:
    """A bounded map from key text to `Held`."""

    def __init__(self, *, max_bytes: int, max_entries: int = 1_000_000) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._held: dict[str, Held] = {}
        self.clear()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """What all entries cost."""
        return self._personal.bytes + self._shared.bytes

    def get(self, key: str) -> Held | None:
        """The entry under this key, whatever its age; that counts as a use."""
        held = self._held.get(key)
        if held is not None and held.uses < USES_MAX:
            held.uses += 1
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
            present.withdraw()
        if present is not None and present.shared is not held.shared:
            self.delete(key)
            present = None
        self._held[key] = held
        self._queues(held).put(key, held, present)
        while self.held_bytes > self._max_bytes or len(self._held) > self._max_entries:
            self._evict()
        return True

    def delete(self, key: str) -> None:
        """Forget one key."""
        held = self._held.pop(key, None)
        if held is not None:
            held.withdraw()
            self._queues(held).remove(key, held)

    def clear(self) -> None:
        """Forget everything."""
        for held in self._held.values():
            held.withdraw()
        self._held = {}
        self._personal = _Queues()
        self._shared = _Queues()

    def _queues(self, held: Held) -> _Queues:
        return self._shared if held.shared else self._personal

    def _evict(self) -> None:
        personal_first = self._personal.bytes * PERSONAL_SHARE > self._max_bytes
        queues = self._personal if personal_first or not self._shared.bytes else self._shared
        self._held.pop(queues.evict()).withdraw()
