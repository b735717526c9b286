"""Judging the audit rows: who moved the active role, why, whether a fault explains it, whether all of it is written down.

Invariant: an automatic move is right only when a fault that was shown to bite explains it, any other only when a human
ordered it; a row without evidence explains nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec

from datacenters.audit_chain import AuditRow
from datacenters.record import DAY_S, FREEZE_PHASES, TAKEOVER_PHASES, Phase, Record
from tests.failover.checker import Finding, Step, Wrong, linearizable
from tests.failover.history import Kind, Operation, Outcome

# A verdict may rest on what was seen up to this long before the claim.
EXPLAINS_FOR_S = 15.0
CLOCKS_APART_S = 0.05
PAUSE_MAX_S = 2.0


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to the country, in seconds of the load's clock; `bitten` is what showed that it worked.

    `explains` names the sites from which a move away is right while it lasts; what is never mended has no end.
    """

    name: str
    where: str
    began: float
    ended: float | None
    explains: tuple[str, ...] = ()
    bitten: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A human's order that `target` be active, as long as its command ran; `undisturbed` when nothing else was wrong."""

    target: str
    began: float
    ended: float
    undisturbed: bool = False


def check_moves(
    rows: Sequence[AuditRow],
    operations: Sequence[Operation],
    faults: Sequence[Fault],
    *,
    unix_minus_monotonic_s: float,
    orders: Sequence[Order] = (),
    pause_max_s: float = PAUSE_MAX_S,
) -> list[Finding]:
    """Every contradiction between the audit rows, oldest first, what was answered, what was broken and what ordered."""
    return [
        *_chain(rows),
        *_serving(rows),
        *_audited(rows, operations),
        *_false_moves(rows, faults, unix_minus_monotonic_s),
        *_unordered(rows, orders, unix_minus_monotonic_s),
        *_felt(rows, operations, orders, unix_minus_monotonic_s, pause_max_s),
        *_too_often(rows),
        *_register(rows, operations, unix_minus_monotonic_s),
    ]


def with_lost(rows: Sequence[AuditRow], lost: Sequence[AuditRow]) -> list[AuditRow]:
    """All rows that ever stood, where a restored etcd has lost the end of what it had: `lost` first, then what is new."""
    return [*lost, *(row for row in rows if row not in lost)]


def rises(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """The rows that claimed or aborted: those where the epoch rose."""
    return [row for row in rows if row.before is not None and row.after.epoch > row.before.epoch]


def automatic(row: AuditRow) -> bool:
    """Whether a director moved the role by itself (every claim of that kind is counted in `moves`)."""
    assert row.before is not None
    return row.before.moves != row.after.moves


def _chain(rows: Sequence[AuditRow]) -> Iterator[Finding]:
    stood: list[Record | None] = []
    for earlier, later in itertools.pairwise(rows):
        stood.append(earlier.after)
        # Numbers begin again further down only in an etcd that was put back: it goes on from what it then had.
        went_back = later.sequence <= earlier.sequence and later.before in stood
        if later.before != earlier.after and not went_back:
            sentence = f"the change to epoch {later.after.epoch} {later.after.phase} does not begin where the one before it ended"
            yield Finding(Wrong.AUDIT, str(later.after.epoch), sentence)
        if later.after.epoch - earlier.after.epoch not in {0, 1}:
            yield Finding(
                Wrong.EPOCH,
                str(later.after.epoch),
                f"epoch {later.after.epoch} follows {earlier.after.epoch}",
            )


def _serving(rows: Sequence[AuditRow]) -> Iterator[Finding]:
    serving: dict[int, str] = {}
    for row in rows:
        site, epoch = row.after.serving, row.after.epoch
        if site is not None and serving.setdefault(epoch, site) != site:
            yield Finding(
                Wrong.SPLIT, str(epoch), f"{serving[epoch]} and {site} were both active at epoch {epoch}"
            )


def _audited(rows: Sequence[AuditRow], operations: Sequence[Operation]) -> Iterator[Finding]:
    known = {row.after.epoch for row in rows}
    for epoch in sorted({one.epoch for one in operations if one.epoch} - known):
        yield Finding(Wrong.AUDIT, str(epoch), f"answers name epoch {epoch}, of which no audit row tells")
    for row in rises(rows):
        told = row.after
        if not (told.reason and told.decided_by) or (automatic(row) and not told.evidence):
            sentence = f"epoch {told.epoch} by {told.decided_by or 'nobody'} has no reason or no evidence"
            yield Finding(Wrong.AUDIT, str(told.epoch), sentence)


def _false_moves(
    rows: Sequence[AuditRow], faults: Sequence[Fault], unix_minus_monotonic_s: float
) -> Iterator[Finding]:
    for row in rises(rows):
        assert row.before is not None
        if not automatic(row):
            continue
        at = row.after.decided_at - unix_minus_monotonic_s
        left = row.before.active
        explained = any(
            left in fault.explains
            and fault.began <= at + CLOCKS_APART_S
            and (fault.ended is None or at <= fault.ended + EXPLAINS_FOR_S)
            for fault in faults
        )
        sites = row.after.evidence.get("sites", ())
        if not explained or len(sites) < 2:
            sentence = (
                f"epoch {row.after.epoch}: {row.after.decided_by} moved away from {left}"
                f" ({row.after.reason}); {'no fault explains it' if not explained else 'fewer than two sites saw it'}"
            )
            yield Finding(Wrong.FALSE_MOVE, str(row.after.epoch), sentence)


def given_up(row: AuditRow) -> bool:
    """Whether the row ends a move at the site where it began."""
    before = row.before
    return (
        before is not None
        and before.phase in FREEZE_PHASES | TAKEOVER_PHASES
        and (row.after.serving == before.active)
    )


def _unordered(
    rows: Sequence[AuditRow], orders: Sequence[Order], unix_minus_monotonic_s: float
) -> Iterator[Finding]:
    """Freezes and claims that are no director's own need a human's order; giving up needs a planned move."""
    for row in rows:
        after, before = row.after, row.before
        freezes = after.phase is Phase.FREEZING
        claims = row in rises(rows) and not automatic(row) and not given_up(row)
        if before is not None and given_up(row) and not before.planned:
            yield _nobodys(row, f"{after.decided_by} gave up what was no switchover")
        if not (freezes or claims):
            continue
        at = after.decided_at - unix_minus_monotonic_s
        ordered = any(
            one.target == (after.target or after.active)
            and one.began - CLOCKS_APART_S <= at <= one.ended + CLOCKS_APART_S
            for one in orders
        )
        human = after.decided_by.startswith("operator") or (claims and after.planned)
        if not (ordered and human):
            yield _nobodys(row, f"{after.decided_by} moved the role to {after.target}, which nobody ordered")


def _nobodys(row: AuditRow, sentence: str) -> Finding:
    return Finding(Wrong.FALSE_MOVE, str(row.after.epoch), f"epoch {row.after.epoch}: {sentence}")


def longest_wait_s(
    rows: Sequence[AuditRow], operations: Sequence[Operation], order: Order, unix_minus_monotonic_s: float
) -> float:
    """How long the slowest write took that was under way while the order let no site serve."""
    times = [
        at
        for row in rows
        if order.began <= (at := row.after.decided_at - unix_minus_monotonic_s) <= order.ended
    ]
    if not times:
        return 0.0
    met = _met(operations, began=min(times), ended=max(times))
    return max((one.ended - one.began for one in met if one.kind is Kind.APPEND), default=0.0)


def _met(operations: Sequence[Operation], *, began: float, ended: float) -> Iterator[Operation]:
    return (
        one for one in operations if one.kind is not Kind.FINAL and one.began <= ended and one.ended >= began
    )


def _felt(
    rows: Sequence[AuditRow],
    operations: Sequence[Operation],
    orders: Sequence[Order],
    unix_minus_monotonic_s: float,
    pause_max_s: float,
) -> Iterator[Finding]:
    """While nothing else is wrong, a planned switchover costs every write a moment, and nobody an error."""
    for order in orders:
        if not order.undisturbed:
            continue
        for one in _met(operations, began=order.began, ended=order.ended):
            answered = bool(one.answer) if one.kind is Kind.APPEND else one.outcome is Outcome.OK
            if not answered:
                sentence = f"a {one.kind} at {one.site} met {one.slug or 'no answer'} in the switchover to {order.target}"
                yield Finding(Wrong.DISTURBED, f"{one.kind} {one.slug}", sentence, (one.index,))
        waited_s = longest_wait_s(rows, operations, order, unix_minus_monotonic_s)
        if waited_s > pause_max_s:
            sentence = f"a write waited {waited_s:.2f} s in the switchover to {order.target}"
            yield Finding(Wrong.DISTURBED, "pause", sentence)


def _too_often(rows: Sequence[AuditRow]) -> Iterator[Finding]:
    moves = [row for row in rises(rows) if automatic(row)]
    for earlier, later in itertools.pairwise(moves):
        apart_s = later.after.decided_at - earlier.after.decided_at
        if apart_s < later.after.policy.dwell_s:
            yield Finding(
                Wrong.FALSE_MOVE,
                str(later.after.epoch),
                f"epoch {later.after.epoch}: an automatic move {apart_s:.0f} s after the last one",
            )
    for at, row in enumerate(moves):
        day = [one for one in moves[: at + 1] if row.after.decided_at - one.after.decided_at < DAY_S]
        if len(day) > row.after.policy.moves_per_day:
            yield Finding(
                Wrong.FALSE_MOVE,
                str(row.after.epoch),
                f"epoch {row.after.epoch}: {len(day)} automatic moves a day",
            )


def _register(
    rows: Sequence[AuditRow], operations: Sequence[Operation], unix_minus_monotonic_s: float
) -> Iterator[Finding]:
    """The epoch as one register: acknowledgements read it, claims raise it."""
    steps = [
        Step(one.began, one.ended, one.epoch, claims=False, operation=one.index)
        for one in operations
        if one.kind is Kind.APPEND and one.outcome is Outcome.OK and one.epoch
    ]
    for at, row in enumerate(rows):
        if row.before is None or row.after.epoch == row.before.epoch:
            continue
        began = row.after.decided_at - unix_minus_monotonic_s - CLOCKS_APART_S
        # Who decided the next change had read this one.
        after = rows[at + 1].after.decided_at if at + 1 < len(rows) else math.inf
        ended = max(began, after - unix_minus_monotonic_s + CLOCKS_APART_S)
        steps.append(Step(began, ended, row.after.epoch, claims=True))
    if not linearizable(steps, initial=rows[0].after.epoch if rows else 1):
        sentence = "no order of claims and acknowledgements explains the epochs that were answered"
        yield Finding(Wrong.SPLIT, "epoch", sentence)
