"""The request that this task works for: what is left of its patience, and whether it only waits for what others asked for.

Invariant: where purges are heard one request waits for a slow tier 2 once, however many reads it is made of; and it has one
place among those of its worker while it is worked on, whatever outlives it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar


class Places:
    """How many requests a worker has: `working` on something of their own, or `waiting` for what another one asked for.

    No more than `working_max` are let in to work. Up to `waiting_max` of them may wait beside these; more wait in the places
    they have.
    """

    __slots__ = ("waiting", "waiting_max", "working", "working_max")

    def __init__(self, *, working_max: int, waiting_max: int) -> None:
        self.working = 0
        self.waiting = 0
        self.working_max = working_max
        self.waiting_max = waiting_max

    @property
    def full(self) -> bool:
        """Whether nobody else is let in."""
        return self.working >= self.working_max

    def __len__(self) -> int:
        return self.working + self.waiting


class Request:
    """One request; as a context manager, the place it has while it is worked on."""

    __slots__ = ("_inside", "_joined", "_own", "_places", "_waits", "patience_spent")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._inside = False
        self._waits = False
        self._own = self._joined = 0
        self.patience_spent = False

    def __enter__(self) -> None:
        self._inside = True
        self._places.working += 1

    def __exit__(self, *_: object) -> None:
        if self._waits:
            self._places.waiting -= 1
        else:
            self._places.working -= 1
        self._inside = self._waits = False

    def count(self, reads: int, *, joined: bool) -> None:
        """So many reads more (or fewer) wait for what another read asked for (`joined`), or for what they asked for themselves.

        The request waits while all of its reads do so behind others.
        """
        if joined:
            self._joined += reads
        else:
            self._own += reads
        waits = self._inside and self._joined > 0 and not self._own
        if waits and not self._waits and self._places.waiting < self._places.waiting_max:
            self._move(+1)
        elif self._waits and not waits:
            self._move(-1)

    def _move(self, waiting: int) -> None:
        self._waits = waiting > 0
        self._places.waiting += waiting
        self._places.working -= waiting


_request: ContextVar[Request | None] = ContextVar("request", default=None)


def begin_request(places: Places) -> Request:
    """From here on this task works for one request, with patience of its own."""
    request = Request(places)
    _request.set(request)
    return request


def spend_patience() -> None:
    """Tier 2 has kept this request waiting; outside a request nothing is noted."""
    request = _request.get()
    if request is not None:
        request.patience_spent = True


def patience_is_spent() -> bool:
    """Whether this request asks tier 2 for nothing more."""
    request = _request.get()
    return request is not None and request.patience_spent


@contextlib.contextmanager
def awaiting(*, joined: bool) -> Iterator[None]:
    """A read of this request waits: for what another read asked for (`joined`), or for what it asks for itself."""
    request = _request.get()
    if request is None:
        yield
        return
    request.count(+1, joined=joined)
    try:
        yield
    finally:
        request.count(-1, joined=joined)
