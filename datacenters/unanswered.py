"""The ways a forwarded request ends without a datacenter's answer; what the caller may believe stands in each name.

Invariant: only `OutcomeUnknown` leaves open whether something was written; every other one means nothing was.

    ForwardingFailed
    ├── ReadOnly                 no datacenter takes writes now
    ├── Switching                the active datacenter is changing
    ├── Overloaded               too much is under way
    ├── OutcomeUnknown           sent, no answer: repeat with the same key
    ├── PositionNotReached       nobody who answers a read shows the caller's write yet
    └── DatacentersUnavailable   nobody answered a read
"""

from __future__ import annotations

from typing import ClassVar


class ForwardingFailed(Exception):
    """No answer for the caller; `retry_after_s` says when coming back makes sense."""

    slug: ClassVar[str] = "datacenters-unavailable"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ReadOnly(ForwardingFailed):
    """Nothing was written: no datacenter takes writes now."""

    slug: ClassVar[str] = "read-only"


class Switching(ForwardingFailed):
    """Nothing was written: the active datacenter is changing."""

    slug: ClassVar[str] = "switching"


class Overloaded(ForwardingFailed):
    """Nothing was sent: too much is already under way towards the datacenter."""

    slug: ClassVar[str] = "overloaded"


class OutcomeUnknown(ForwardingFailed):
    """The write was sent and may have happened; repeating it with the same key tells."""

    slug: ClassVar[str] = "outcome-unknown"


class PositionNotReached(ForwardingFailed):
    """Whoever answered this read does not show the write that the caller wants to see."""

    slug: ClassVar[str] = "position-not-reached"


class DatacentersUnavailable(ForwardingFailed):
    """No datacenter gave this read; `datacenters_away` when none of them answers anything at all."""

    slug: ClassVar[str] = "datacenters-unavailable"

    def __init__(self, message: str, *, retry_after_s: float, datacenters_away: bool) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.datacenters_away = datacenters_away
