"""What a site must do whose PostgreSQL is the primary of a history that the record says is over; pure.

Such a site is fenced: it takes no write. What it executed and the active site lacks is listed, then it rejoins as a
standby. The active role never comes back by this.

Invariant: nothing is undone before it was listed, nothing is listed before the fence is closed, and nothing is begun
on a word of etcd's that is old, nor while a move is under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from datacenters import position
from datacenters.record import Phase, Record

WORD_MAX_AGE_S = 1.0
# After so long without a stream a standby's own reconnecting does not help: the log that it lacks is gone.
STARVED_S = 60.0
# A write learns its place in the log a moment before it commits: those that began before the fork may end behind it.
FORK_MARGIN_BYTES = 4 * 1024 * 1024
_SETTLED_PHASES = frozenset({Phase.ACTIVE, Phase.HOLD, Phase.READ_ONLY})


class Step(StrEnum):
    """What the director of a site does next about a history that is over."""

    NOTHING = "nothing"
    LIST = "list"
    REJOIN = "rejoin"
    SETTLE = "settle"


class Standing(msgspec.Struct, frozen=True):
    """One look at the site's own PostgreSQL; `timeline` is a primary's, the last three are a standby's.

    `starved_s` counts since it was last seen to stream.
    """

    in_recovery: bool
    timeline: int | None
    fence_epoch: int
    fence_site: str | None
    streaming: bool = False
    caught_up: bool = False
    starved_s: float = 0.0


class Fate(StrEnum):
    """What the active site knows of a write that an old one executed behind the fork.

    HELD: it has the write too, from the journal or from a phone that asked again. ABSENT: it never heard of it, so
    that nobody was told it was done (or its replay is parked). OTHER: it has something else under the same key.
    """

    UNKNOWN = "unknown"
    HELD = "held"
    ABSENT = "absent"
    OTHER = "other"


class Written(msgspec.Struct, frozen=True):
    """One decided write, as the deduplication row of one datacenter has it; the digest in hexadecimal."""

    principal: str
    route: str
    key: str
    digest: str
    decided_at: str
    order_lsn: int | None

    @property
    def scope(self) -> tuple[str, str, str]:
        """What makes it the same write at every datacenter."""
        return self.principal, self.route, self.key


class Orphan(msgspec.Struct, frozen=True):
    """A write of a history that is over, and what became of it."""

    written: Written
    fate: Fate = Fate.UNKNOWN


class Report(msgspec.Struct, frozen=True):
    """One rejoin of `site`, begun because `active` was declared at `epoch`.

    `fork_lsn` is where its history left the active one's, 0 when nobody knows. `rejoined_at` is None until the site
    follows and every fate is known. `more` tells that there were too many to list.
    """

    site: str
    epoch: int
    active: str
    timeline: int
    fork_lsn: int
    listed_at: float
    orphans: tuple[Orphan, ...]
    more: bool = False
    rejoined_at: float | None = None

    def number(self, fate: Fate) -> int:
        """How many orphans met this fate."""
        return sum(1 for orphan in self.orphans if orphan.fate is fate)


def is_over(declared: Record | None, *, site: str, standing: Standing) -> bool:
    """Whether the record says that the history of this site's primary is over."""
    return (
        declared is not None
        and declared.phase in _SETTLED_PHASES
        and declared.active != site
        and not standing.in_recovery
    )


def step(
    declared: Record | None,
    *,
    word_age_s: float,
    site: str,
    standing: Standing | None,
    report: Report | None,
) -> Step:
    """What comes next, from a record of `word_age_s` ago; `standing` is None when PostgreSQL does not answer."""
    settled = declared is not None and declared.phase in _SETTLED_PHASES and word_age_s < WORD_MAX_AGE_S
    if declared is None or not settled or declared.active == site:
        return Step.NOTHING
    begun = report is not None and report.rejoined_at is None
    if standing is None:
        return (
            Step.REJOIN if begun else Step.NOTHING
        )  # stopped by a rejoin that did not end, or for other reasons
    if standing.in_recovery:
        return _of_a_standby(standing, begun=begun)
    if standing.fence_epoch < declared.epoch or standing.fence_site == site:
        return Step.NOTHING  # the fence is closed first, so that nothing more is written
    # A list of an earlier epoch may lack what was written since, had the site been active again in between.
    listed = report is not None and begun and report.epoch == declared.epoch
    return Step.REJOIN if listed else Step.LIST


def _of_a_standby(standing: Standing, *, begun: bool) -> Step:
    if not begun:  # it has nothing of its own to list, but the report is what makes a rejoin outlive a crash
        return Step.LIST if standing.starved_s >= STARVED_S else Step.NOTHING
    if not standing.streaming:
        return Step.REJOIN
    return Step.SETTLE if standing.caught_up else Step.NOTHING


def fork(declared: Record, *, timeline: int) -> int:
    """Where the active history left the one of `timeline`, in bytes of the log; 0 when the record does not tell."""
    if declared.switch_position is None:
        return 0
    ended, lsn = position.parse(declared.switch_position)
    return lsn if ended == timeline else 0


def listed_from(fork_lsn: int) -> int:
    """From which place in the log on a write may lie behind the fork."""
    return max(0, fork_lsn - FORK_MARGIN_BYTES)


def settle(report: Report, held: Mapping[tuple[str, str, str], Written], *, now: float) -> Report:
    """The report with every fate known, from what the active history holds by scope.

    What lies before the fork and is there as it was, had been replicated: no orphan.
    """
    return msgspec.structs.replace(report, orphans=tuple(_settled(report, held)), rejoined_at=now)


def _settled(report: Report, held: Mapping[tuple[str, str, str], Written]) -> Iterable[Orphan]:
    for orphan in report.orphans:
        ours, theirs = orphan.written, held.get(orphan.written.scope)
        if theirs is None:
            yield Orphan(ours, Fate.ABSENT)
        elif theirs == ours and (ours.order_lsn or 0) < (report.fork_lsn or 1 << 63):
            continue
        else:
            yield Orphan(ours, Fate.HELD if theirs.digest == ours.digest else Fate.OTHER)
