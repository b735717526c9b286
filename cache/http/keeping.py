"""A body on its way into the shelf.

Invariant: it is stored whole and once, or not at all; what its head says of its length is true of what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cache.http.filling import Budget
from cache.http.messages import Stored
from cache.http.shelf import Held, Shelf


class Keeping:
    """Gathers chunks; `length`: how many bytes there will be, None where that is not known."""

    def __init__(
        self,
        shelf: Shelf,
        target: str,
        stored: Stored,
        *,
        since: Held,
        replacing: Sequence[str],
        length: int | None,
        budget: Budget,
    ) -> None:
        self._shelf = shelf
        self._target = target
        self._stored = stored
        self._since = since
        self._replacing = replacing
        self._length = length
        self._budget = budget
        self._chunks: list[bytes] = []
        self._size = 0
        self._stored_already = False

    def takes(self, chunk: bytes) -> bool:
        """Add a chunk; no when the body becomes too large, or there is too much of all bodies."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._budget.used += len(chunk)
        return self._size <= self._shelf.body_bytes_max and not self._budget.spent

    @property
    def hopeless(self) -> bool:
        """Whether it is known beforehand that it will not be stored."""
        return (self._length or 0) > self._shelf.body_bytes_max or self._budget.spent

    @property
    def complete(self) -> bool:
        """Whether this is known to be all: who has the last byte may ask again, and shall find it."""
        return self._size == self._length

    async def store(self) -> bool:
        """Put it there unless its size is not what its head says; whether it is there."""
        if self._stored_already:
            return True
        self._stored_already = True
        stored = msgspec.structs.replace(self._stored, length=self._size)
        body = b"".join(self._chunks)
        self.give_up()
        right = self._length is None or self._length == stored.length
        if not right or (stored.span is not None and stored.span.length != stored.length):
            return False
        return await self._shelf.put(self._target, stored, body, since=self._since, replacing=self._replacing)

    async def decline(self) -> None:
        """Store nothing, though there is something newer than what is stored: that goes."""
        self.give_up()
        await self._shelf.drop(self._target, self._replacing)

    def give_up(self) -> None:
        """Let go of what was gathered."""
        self._budget.used -= sum(map(len, self._chunks))
        self._chunks = []
