"""What forwarding tells whoever counts; every method here does nothing, so that a counter overrides what it wants.

Invariant: arguments are site names and words of fixed sets, never anything from a request.
"""

from __future__ import annotations

from datacenters.breaker import State
from datacenters.in_flight import Priority


class ForwardingEvents:
    """Hears what the forwarder does; must not block."""

    def repeated(self, datacenter: str, kind: str) -> None:
        """A request was sent once more: `retry` to the same datacenter, `failover` of a read to the other one."""

    def hedged(self, datacenter: str, *, won: bool) -> None:
        """A second read was sent beside a slow one; told again, with `won`, if it was the one to answer."""

    def breaker(self, datacenter: str, state: State) -> None:
        """The breaker changed."""

    def limit(self, datacenter: str, limit: int) -> None:
        """The in-flight limit changed."""

    def in_flight(self, datacenter: str, count: int) -> None:
        """So many are under way now."""

    def shed(self, datacenter: str, priority: Priority) -> None:
        """A request was refused unsent, because too much is under way."""
