"""All that one worker knows of its own way to one datacenter: breaker, in-flight limit, latencies of reads.

Invariant: every request that entered leaves once, by exactly one of the ways that say how it ended.
"""

from __future__ import annotations

from collections.abc import Callable

from datacenters.breaker import Breaker, State
from datacenters.forwarding_events import ForwardingEvents
from datacenters.hedging import ReadLatencies
from datacenters.in_flight import InFlightLimit, Priority


class Full(Exception):
    """As many requests to this datacenter are under way as its latency allows; nothing was sent."""


class Lane:
    """Feeds the deciders with what happens and tells their changes."""

    def __init__(
        self, datacenter: str, *, ceiling: int, events: ForwardingEvents, monotonic: Callable[[], float]
    ) -> None:
        self._datacenter = datacenter
        self._events = events
        self._monotonic = monotonic
        self._breaker = Breaker()
        self._limit = InFlightLimit(ceiling=ceiling)
        self._latencies = ReadLatencies()
        self._told_state = State.CLOSED
        self._told_limit = self._limit.limit
        events.breaker(datacenter, self._told_state)
        events.limit(datacenter, self._told_limit)

    @property
    def hedge_after_s(self) -> float:
        """How long a read waits before it is worth a second one."""
        return self._latencies.hedge_after_s

    def admits_reads(self) -> bool:
        """Whether a read would be let through to this datacenter; nothing is begun by asking."""
        return self._breaker.admits(self._monotonic())

    def begin_read(self) -> bool:
        """Whether a read may be sent; if so it must be sent."""
        began = self._breaker.begin(self._monotonic())
        self._tell()
        return began

    def keeps_back_writes(self) -> bool:
        """Whether the datacenter failed so freshly that a write would only meet it again."""
        return self._breaker.keeps_back_writes(self._monotonic())

    def may_hedge(self) -> bool:
        """Whether nothing speaks against a second read beside the first."""
        return self._breaker.state is State.CLOSED and self._limit.admits(Priority.HEDGE)

    def enter(self, priority: Priority) -> float:
        """Count a request as under way and return when it began. Raises: Full."""
        if not self._limit.admits(priority):
            self._breaker.gave_up()
            self._events.shed(self._datacenter, priority)
            raise Full(f"{self._limit.in_flight} requests to {self._datacenter} are under way")
        self._limit.enter()
        self._events.in_flight(self._datacenter, self._limit.in_flight)
        return self._monotonic()

    def answered(self, began: float, *, read: bool, refused: bool = False) -> None:
        """An answer came; `refused` when it says that the datacenter is overloaded."""
        now = self._leave()
        self._breaker.answered(now)
        self._limit.note(now - began, now, refused=refused)
        if read and not refused:
            self._latencies.note(now - began)
        self._tell()

    def unreachable(self) -> None:
        """No connection could be made."""
        self._breaker.unreachable(self._leave())
        self._tell()

    def hung(self, began: float, *, read: bool) -> None:
        """No answer came in time."""
        now = self._leave()
        self._breaker.hung(now)
        self._limit.note(now - began, now)
        if read:
            self._latencies.note_unanswered(now - began)
        self._tell()

    def broken(self) -> None:
        """The connection broke off, or something before the datacenter says that it does not work."""
        self._breaker.broken(self._leave())
        self._tell()

    def gave_up(self, began: float, *, read: bool) -> None:
        """Whoever asked left before anything was known."""
        now = self._leave()
        self._breaker.gave_up()
        if read:
            self._latencies.note_unanswered(now - began)

    def _leave(self) -> float:
        self._limit.leave()
        self._events.in_flight(self._datacenter, self._limit.in_flight)
        return self._monotonic()

    def _tell(self) -> None:
        if self._breaker.state is not self._told_state:
            self._told_state = self._breaker.state
            self._events.breaker(self._datacenter, self._told_state)
        if self._limit.limit != self._told_limit:
            self._told_limit = self._limit.limit
            self._events.limit(self._datacenter, self._told_limit)
