"""Purge by counting: every tag has a generation, an entry remembers those it was fetched under.

A purge raises a tag's generation to the purge's own place in one cluster-wide ordered feed; nothing keeps lists
of members. Between two places of the feed there is room for purges that have none, and a feed that begins again
further down counts in a new era, above all that was heard before.
Invariant: a generation never falls and is never forgotten downwards. When the map is full the oldest
half is folded into a floor that all tags share, which may outdate too much, never too little.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Generic, TypeVar

# Every entry carries this tag besides its own, so that one raise outdates all of them.
EVERYTHING = "*"
# A place leaves room for this many purges without one, an era for 2^40 places; 255 eras fit into 64 bits.
BETWEEN = 1 << 16
ERA = BETWEEN << 40


Number = TypeVar("Number", int, float)


class Rising(Generic[Number]):
    """A number for each tag that only rises, bounded to `max_tags` tags (about 200 bytes each) above a floor for all."""

    def __init__(self, *, max_tags: int, floor: Number) -> None:
        if max_tags < 2:
            raise ValueError("max_tags must be at least 2")
        self._max_tags = max_tags
        self._values: dict[str, Number] = {}
        self._floor: Number = floor
        self.highest: Number = floor
        """The largest number ever heard, of any tag."""
        self.serial = 0
        """Changes whenever any number does: equal serials mean that nothing was heard in between."""

    def __len__(self) -> int:
        return len(self._values)

    def current(self, tag: str) -> Number:
        """The number of a tag; the floor when nothing was heard about it."""
        return self._values.get(tag, self._floor)

    def raise_to(self, tag: str, value: Number) -> bool:
        """Raise a tag's number; a lower or equal value changes nothing and returns False."""
        if value <= self.current(tag):
            return False
        self.serial += 1
        self.highest = max(self.highest, value)
        if tag == EVERYTHING:
            self._raise_floor(value)
            return True
        self._values.pop(tag, None)  # re-inserted last: the order of the map is the order of the feed
        if len(self._values) >= self._max_tags:
            self._fold_oldest_half()
        if value > self._floor:
            self._values[tag] = value
        return True

    def _fold_oldest_half(self) -> None:
        oldest = list(islice(self._values, (self._max_tags + 1) // 2))
        self._raise_floor(max(self._values[tag] for tag in oldest))

    def _raise_floor(self, value: Number) -> None:
        self._floor = value
        self._values = {tag: own for tag, own in self._values.items() if own > value}


class Generations(Rising[int]):
    """The process's own knowledge of purges."""

    def __init__(self, *, max_tags: int) -> None:
        super().__init__(max_tags=max_tags, floor=0)

    def at(self, place: int | None) -> int:
        """The value of the purge at this place of the feed; None: it has none, and comes after all that was heard."""
        if place is None:
            return self.highest + 1
        return self.highest // ERA * ERA + place * BETWEEN

    def next_era(self) -> int:
        """The value above all of this era, for a feed that begins again further down."""
        return (self.highest // ERA + 1) * ERA

    def snapshot(self, tags: Sequence[str]) -> tuple[int, ...]:
        """The generations of `tags`, to be read before the fetch whose entry will carry them."""
        values, floor = self._values, self._floor
        return tuple([values.get(tag, floor) for tag in tags])

    def outdated(self, tags: Sequence[str], recorded: Sequence[int]) -> bool:
        """Whether any of the tags was purged after `recorded` was read."""
        values, floor = self._values, self._floor
        for tag, generation in zip(tags, recorded, strict=True):
            if values.get(tag, floor) > generation:
                return True
        return False
