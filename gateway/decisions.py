"""What was decided for a caller and a target, kept as long as nothing that it was decided by has changed.

Whoever reads a page again asks the same questions: who is this, what is he to the pupil, which week is it, which entry is
that. A decision holds the answers together with the entries they were read from.
Invariant: a decision holds no entry's bytes and no token. It says which entries have to hold still; whoever uses it asks
the cache about each, and the token's own check was made before. One that cannot be used is made anew, never mended.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import NamedTuple

from auth.principal import Principal, Relation, Role
from cache.asking import NOT_LOOKED, Ask, Found
from cache.memory import Held

# In the ASGI scope: that the caller was let in already.
ALLOWED_KEY = "massar.allowed"
# Of a worker; a decision takes half a kilobyte, its path and query included.
DECISIONS_MAX = 50_000
# Of path and query: parameters that nobody knows may be as long as a caller likes.
TARGET_CHARS_MAX = 192


class Decision:
    """`principal` may read `held` as `relation`, by the facts and the calendar of these entries.

    `calendar` is None where no parameter came from it. The entries are weak references: they live as long as tier 1 keeps
    them.
    """

    __slots__ = ("calendar", "facts", "held", "principal", "relation")

    def __init__(
        self,
        principal: Principal,
        relation: Relation | None,
        *,
        facts: Held,
        calendar: Held | None,
        held: Held,
    ) -> None:
        self.principal = principal
        self.relation = relation
        self.facts = weakref.ref(facts)
        self.calendar = None if calendar is None else weakref.ref(calendar)
        self.held = weakref.ref(held)


class Allowed(NamedTuple):
    """Who was let in, and the question to the cache that his request comes to; `found` is what the tiers said to it."""

    role: Role
    relation: Relation | None
    ask: Ask
    found: Found = NOT_LOOKED


class Decisions:
    """A bounded memo of decisions by session, path and query; the oldest makes room."""

    def __init__(self, *, max_entries: int = DECISIONS_MAX) -> None:
        self._max_entries = max_entries
        self._made: OrderedDict[tuple[str, str, bytes], Decision] = OrderedDict()
        self.get = self._made.get
        """The decision under (session id, path, query), whether it still holds or not; or None."""

    def __len__(self) -> int:
        return len(self._made)

    def keep(self, session: str, path: str, query: bytes, decision: Decision) -> None:
        """Remember a decision in the place of an earlier one; one for a long target is not kept."""
        if len(path) + len(query) > TARGET_CHARS_MAX:
            return
        key = (session, path, query)
        if key not in self._made and len(self._made) >= self._max_entries:
            self._made.popitem(last=False)
        self._made[key] = decision
