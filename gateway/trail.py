"""What was decided for one request, noted where it is decided, told once in its access-log line.

Invariant: only words of closed lists are noted (roles, relations, rules, sites, slugs); no id of anybody, no path with
one, nothing a caller chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from datacenters.attempts import Answer
from datacenters.forwarding import Forwarder

TRAIL_KEY = "massar.trail"
NOTHING = "-"


class Trail:
    """One request's decisions so far; `-` is what was not decided, or not met."""

    __slots__ = ("datacenter", "journal", "relation", "role", "rule", "slug")

    def __init__(self) -> None:
        self.role = NOTHING
        self.relation = NOTHING
        self.rule = NOTHING
        self.datacenter = NOTHING
        self.journal = NOTHING
        self.slug = NOTHING


_current: ContextVar[Trail | None] = ContextVar("massar_trail", default=None)


def begin() -> Trail:
    """A new trail for the request that this task works on from now on."""
    trail = Trail()
    _current.set(trail)
    return trail


def of(scope: Mapping[str, Any]) -> Trail:
    """The request's trail; one that nobody reads where the edge was passed by."""
    found: Trail | None = scope.get(TRAIL_KEY)
    return Trail() if found is None else found


def note_datacenter(site: str) -> None:
    """Note which site's datacenter answered; the last one that did stands."""
    trail = _current.get()
    if trail is not None:
        trail.datacenter = site


def note_journal(word: str) -> None:
    """Note what stands behind an acknowledged write: `kept` in the journal, `unprotected`, or `moved` (epoch)."""
    trail = _current.get()
    if trail is not None:
        trail.journal = word


class NotingForwarder(Forwarder):
    """A forwarder that notes who answered."""

    async def read(self, *asked: Any, **more: Any) -> Answer:
        """As `Forwarder.read`."""
        answer = await super().read(*asked, **more)
        note_datacenter(answer.datacenter)
        return answer

    async def write(self, *asked: Any, **more: Any) -> Answer:
        """As `Forwarder.write`."""
        answer = await super().write(*asked, **more)
        note_datacenter(answer.datacenter)
        return answer
