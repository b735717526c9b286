"""Soft purges: when the freshness of what carries a tag was ended by order, so that it is asked about again.

A hard purge says that entries are known to be wrong (`cache.generations`); a soft one only that they may be old, and they
stay as valid as any stale entry.
Invariant: of each tag the newest instant counts and none is forgotten downwards. When the map is full the oldest half is
folded into a floor that all tags share, which may end freshness too early, never too late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cache.generations import Rising


class Softened(Rising[float]):
    """The process's own knowledge of soft purges, by tag; instants are Unix seconds."""

    def __init__(self, *, max_tags: int) -> None:
        super().__init__(max_tags=max_tags, floor=-math.inf)

    def soften(self, tag: str, at: float) -> bool:
        """End the freshness of what was stored at `at` or before; False when that was known."""
        return self.raise_to(tag, at)

    def since(self, tags: Sequence[str], stored_at: float) -> float:
        """The instant at which a soft purge ended the freshness of an entry stored at `stored_at`; infinity: none did."""
        if self.highest < stored_at:  # nearly always: soft purges are rare
            return math.inf
        values, floor = self._values, self._floor
        return min([at for tag in tags if (at := values.get(tag, floor)) >= stored_at], default=math.inf)
