"""May this entry be shown? Pure judgement by age, by class, by soft purges and by what is known of the epochs.

Invariant: an entry from beyond a switch position is never shown in any state; an older version is never
called newer; nothing that was softened is called fresh.
"""

from __future__ import annotations

import math
from enum import Enum

import msgspec

from cache.entries import Entry, Position
from cache.policy import Policy
from cache.softened import Softened

EPOCHS_REMEMBERED_MAX = 16
# Two clocks of one site differ by less; an entry from further in the future has no age to judge.
CLOCK_SKEW_MAX_S = 2.0


class Verdict(Enum):
    """What an entry's age and origin allow."""

    FRESH = "fresh"
    STALE = "stale"  # while it is fetched again, or when that fails
    EXPIRED = "expired"  # only in survival, if the class allows
    DISTRUSTED = "distrusted"  # never


class Epochs(msgspec.Struct, frozen=True):
    """The highest epoch heard, and for past epochs the last position that the next one took over."""

    current: int = 0
    switches: dict[int, Position] = {}

    def moved(self, epoch: int, switch: Position | None) -> Epochs:
        """What is known after hearing `epoch`, whose predecessor counts up to `switch` (None: not known yet).

        A lower epoch than the current one changes nothing; of two switch positions the earlier one holds.
        """
        if epoch < self.current:
            return self
        switches = dict(self.switches)
        if switch is not None:
            switches[epoch - 1] = min(switch, switches.get(epoch - 1, switch))
        for old in sorted(switches)[:-EPOCHS_REMEMBERED_MAX]:
            del switches[old]
        return Epochs(current=epoch, switches=switches)

    def trust(self, entry: Entry) -> bool:
        """Whether the entry belongs to the history that the current epoch continues.

        One epoch back without a known switch is trusted, because nothing yet says which tail was lost (and an
        aborted claim loses none); further back it is not. A datacenter that lost its role names the new epoch as soon
        as it hears of it: what stands beyond the switch on the timeline that ended there is nobody's, whatever it says.
        """
        if any(entry.position[0] == end[0] and entry.position > end for end in self.switches.values()):
            return False
        if entry.epoch >= self.current:
            return True
        switch = self.switches.get(entry.epoch)
        if switch is None:
            return entry.epoch == self.current - 1
        return entry.position <= switch


def judge(entry: Entry, policy: Policy, now: float, *, epochs: Epochs, softened: Softened) -> Verdict:
    """The verdict on one entry at `now` (Unix seconds). Hard purges are judged elsewhere, by generations."""
    if not epochs.trust(entry):
        return Verdict.DISTRUSTED
    if now < entry.stored_at - CLOCK_SKEW_MAX_S:
        return Verdict.EXPIRED
    stale_s = now - fresh_until(entry, policy, softened)
    if stale_s < 0 and softened.since(entry.tags, entry.stored_at) == math.inf:  # a clock may be set back
        return Verdict.FRESH
    return Verdict.STALE if max(0.0, stale_s) < policy.stale_if_error_s else Verdict.EXPIRED


def fresh_until(entry: Entry, policy: Policy, softened: Softened) -> float:
    """Unix seconds at which freshness ends: the earliest of the class's window, the origin's own, and a soft purge."""
    fresh_s = policy.fresh_s if entry.max_age_s is None else min(policy.fresh_s, entry.max_age_s)
    return min(entry.stored_at + fresh_s, softened.since(entry.tags, entry.stored_at))


def may_survive(entry: Entry, policy: Policy, now: float, *, epochs: Epochs) -> bool:
    """Whether the entry may be shown while no datacenter answers: trusted, and younger than the window."""
    if not epochs.trust(entry):
        return False
    return -CLOCK_SKEW_MAX_S <= now - entry.stored_at < policy.survival_s


def newer(one: Entry, other: Entry) -> bool:
    """Whether `one` shows a strictly later state of the records than `other`."""
    return (one.epoch, one.position) > (other.epoch, other.position)
