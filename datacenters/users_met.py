"""How users fare at a datacenter, counted by user and not by request: who repeats a failing request is still one.

Invariant: a process tells of one user at one datacenter at most once well and once badly in any `USERS_WINDOW_S`, as
long as no more than `USERS_MAX` others met the same in between; neither kind ever displaces the other.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

USERS_WINDOW_S = 10.0
USERS_MAX = 16_384

OnUser = Callable[[str, bool], None]


def nobody_listens(_datacenter: str, _well: bool) -> None:  # noqa: FBT001 - the form of every `OnUser`
    """Hear of a user and do nothing."""


class UsersMet:
    """Calls `on_user(datacenter, well)` for the first outcome of each kind that a user meets there in a window."""

    def __init__(
        self,
        on_user: OnUser,
        *,
        window_s: float = USERS_WINDOW_S,
        users_max: int = USERS_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_user = on_user
        self._window_s = window_s
        self._users_max = users_max
        self._monotonic = monotonic
        # By kind, when each was last told, the oldest first.
        self._told: dict[bool, OrderedDict[tuple[str, str], float]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }

    def note(self, datacenter: str, user: str, *, well: bool) -> None:
        """Take in what `user` (any text that names him) met at the datacenter just now."""
        told, now = self._told[well], self._monotonic()
        met = (datacenter, user)
        told_at = told.get(met)
        if told_at is not None and now - told_at < self._window_s:
            return
        told[met] = now
        told.move_to_end(met)
        while len(told) > self._users_max:
            told.popitem(last=False)
        self._on_user(datacenter, well)
