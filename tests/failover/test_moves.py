"""The audit rows are judged: each automatic move has a fault that explains it, each change is there and says why."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from datacenters import record
from datacenters.audit_chain import AuditRow
from datacenters.record import Record
from tests.failover.checker import Wrong
from tests.failover.history import Kind, Operation, Outcome
from tests.failover.moves import Fault, Order, check_moves, longest_wait_s, rises, with_lost

START = 1_790_000_000.0
CLOCKS = START - 100.0  # the load's clock stood at 100 s
EVIDENCE = {"sites": ["marrakech", "witness"], "verdict": "dead"}
SITE_LOST = Fault(
    name="site killed", where="rabat", began=150.0, ended=400.0, explains=("rabat",), bitten="dead"
)


def row(before: Record | None, after: Record) -> AuditRow:
    """A row whose place in the chain does not matter here."""
    return AuditRow(sequence=1, previous="", before=before, after=after)


def moved(*, at: float = 155.0, since: Record | None = None, target: str = "marrakech") -> list[AuditRow]:
    """The three rows of an automatic move, and before them the first."""
    by = f"director:{target}"
    first = since or record.first(active="rabat", by="installation", now=START)
    claim = record.claim(first, target=target, reason="dead", evidence=EVIDENCE, now=CLOCKS + at, by=by)
    assert isinstance(claim, Record)
    replay = record.begin_replay(claim, site=target, switch_position="1-10", now=CLOCKS + at + 1, by=by)
    assert isinstance(replay, Record)
    active = record.activate(replay, site=target, now=CLOCKS + at + 2, by=by)
    assert isinstance(active, Record)
    steps = [first, claim, replay, active]
    rows = [row(earlier, later) for earlier, later in itertools.pairwise(steps)]
    return rows if since else [row(None, first), *rows]


def acknowledged(at: float, epoch: int) -> Operation:
    return Operation(
        index=0,
        process=0,
        kind=Kind.APPEND,
        entity="b",
        began=at,
        ended=at + 0.1,
        outcome=Outcome.OK,
        epoch=epoch,
        answer="done",
    )


def wrong(
    rows: list[AuditRow],
    *operations: Operation,
    faults: tuple[Fault, ...] = (SITE_LOST,),
    orders: tuple[Order, ...] = (),
) -> set[Wrong]:
    found = check_moves(rows, operations, faults, unix_minus_monotonic_s=CLOCKS, orders=orders)
    return {one.wrong for one in found}


def test_a_move_that_a_fault_explains_is_right() -> None:
    assert wrong(moved(), acknowledged(120, 1), acknowledged(154.8, 1), acknowledged(160, 2)) == set()
    assert len(rises(moved())) == 1


@pytest.mark.parametrize(
    "fault",
    [
        replace(SITE_LOST, explains=()),
        replace(SITE_LOST, explains=("marrakech",)),
        replace(SITE_LOST, began=155.2),
        replace(SITE_LOST, ended=130.0, began=110.0),
    ],
)
def test_a_move_that_no_fault_explains_is_false(fault: Fault) -> None:
    assert wrong(moved(), faults=(fault,)) == {Wrong.FALSE_MOVE}
    assert wrong(moved(), faults=()) == {Wrong.FALSE_MOVE}


def test_a_second_automatic_move_within_the_dwell_is_false() -> None:
    first = moved()
    lax = replace(first[-1].after, policy=replace(first[-1].after.policy, dwell_s=0))
    second = moved(at=200.0, since=lax, target="rabat")
    strict = [replace(row, after=replace(row.after, policy=first[0].after.policy)) for row in second]
    both = (SITE_LOST, replace(SITE_LOST, explains=("marrakech",)))
    rows = [*first, *strict]
    found = check_moves(rows, [], both, unix_minus_monotonic_s=CLOCKS)
    assert any(one.wrong is Wrong.FALSE_MOVE and "s after the last one" in one.sentence for one in found)


def test_an_ordered_move_needs_no_fault() -> None:
    first = record.first(active="rabat", by="installation", now=START)
    ordered = record.failover(
        first, target="marrakech", reason="drill", evidence={}, now=CLOCKS + 155, by="operator"
    )
    assert isinstance(ordered, Record)
    rows = [row(None, first), row(first, ordered)]
    order = Order(target="marrakech", began=154.0, ended=156.0)
    assert wrong(rows, faults=(), orders=(order,)) == set()
    for another in ((), (replace(order, target="rabat"),), (replace(order, ended=154.5),)):
        assert wrong(rows, faults=(), orders=another) == {Wrong.FALSE_MOVE}


def switched(*, by: str = "operator:tests", at: float = 155.0) -> list[AuditRow]:
    """The rows of a planned switchover, and before them the first."""
    now = CLOCKS + at
    steps = [record.first(active="rabat", by="installation", now=START)]
    for transition, stated in (
        (record.freeze, {"target": "marrakech", "reason": "works", "evidence": EVIDENCE, "by": by}),
        (record.seal, {"site": "rabat", "frozen_position": "1-9", "by": "director:rabat"}),
        (record.claim_sealed, {"site": "marrakech", "by": "director:marrakech"}),
        (record.begin_replay, {"site": "marrakech", "switch_position": "1-9", "by": "director:marrakech"}),
        (record.activate, {"site": "marrakech", "by": "director:marrakech"}),
    ):
        now += 0.1
        after = transition(steps[-1], now=now, **stated)
        assert isinstance(after, Record)
        steps.append(after)
    return [row(None, steps[0]), *(row(earlier, later) for earlier, later in itertools.pairwise(steps))]


ORDER = Order(target="marrakech", began=155.0, ended=156.0, undisturbed=True)


def test_a_planned_switchover_is_right_when_a_human_ordered_it() -> None:
    assert (
        wrong(switched(), acknowledged(120, 1), acknowledged(155.8, 2), faults=(), orders=(ORDER,)) == set()
    )
    assert wrong(switched(), faults=()) == {Wrong.FALSE_MOVE}
    assert wrong(switched(at=150.0), faults=(), orders=(ORDER,)) == {Wrong.FALSE_MOVE}
    assert wrong(switched(by="director:marrakech"), faults=(), orders=(ORDER,)) == {Wrong.FALSE_MOVE}


def test_a_switchover_that_was_given_up_needs_no_order_of_its_own() -> None:
    rows = switched()[:4]
    aborted = record.abort(rows[-1].after, reason="too long", now=CLOCKS + 158.0, by="director:rabat")
    assert isinstance(aborted, Record)
    assert wrong([*rows, row(rows[-1].after, aborted)], faults=(), orders=(ORDER,)) == set()
    claimed = moved()[:2]
    undone = record.abort(claimed[-1].after, reason="no", now=CLOCKS + 158.0, by="director:rabat")
    assert isinstance(undone, Record)
    assert wrong([*claimed, row(claimed[-1].after, undone)]) == {Wrong.FALSE_MOVE}


def test_while_nothing_else_is_wrong_a_switchover_costs_a_moment_and_no_error() -> None:
    waited = replace(acknowledged(155.0, 2), ended=156.5)
    assert longest_wait_s(switched(), [waited], ORDER, CLOCKS) == 1.5
    early = replace(waited, began=153.0, ended=155.05)  # before the freeze
    assert longest_wait_s(switched(), [early], ORDER, CLOCKS) == 0.0
    assert wrong(switched(), waited, faults=(), orders=(ORDER,)) == set()
    felt = (
        replace(waited, ended=157.5),
        replace(waited, outcome=Outcome.UNKNOWN, answer="", slug="outcome-unknown"),
        replace(waited, outcome=Outcome.FAILED, answer="", slug="switching"),
        replace(waited, kind=Kind.READ, outcome=Outcome.FAILED, slug="503"),
    )
    for one in felt:
        assert wrong(switched(), one, faults=(), orders=(ORDER,)) == {Wrong.DISTURBED}
        assert wrong(switched(), one, faults=(), orders=(replace(ORDER, undisturbed=False),)) == set()
        later = replace(one, began=157.0, ended=160.0)
        assert wrong(switched(), later, faults=(), orders=(ORDER,)) == set()


def test_a_machine_that_is_no_stopwatch_bounds_no_pause_and_forgives_no_refusal() -> None:
    slow = replace(acknowledged(155.0, 2), ended=159.0)
    refused = replace(slow, outcome=Outcome.FAILED, answer="", slug="switching")
    for one, found in ((slow, []), (refused, [Wrong.DISTURBED])):
        judged = check_moves(
            switched(), [one], (), unix_minus_monotonic_s=CLOCKS, orders=(ORDER,), pause_max_s=math.inf
        )
        assert [finding.wrong for finding in judged] == found


def test_an_etcd_that_was_put_back_goes_on_from_a_record_that_stood() -> None:
    before = moved()
    older = before[0].after
    raised = replace(
        older,
        epoch=before[-1].after.epoch + 1,
        active="marrakech",
        decided_at=CLOCKS + 170,
        decided_by="operator",
    )
    again = AuditRow(sequence=before[0].sequence + 1, previous="", before=older, after=raised)
    numbered = [replace(one, sequence=number) for number, one in enumerate(before, before[0].sequence)]
    joined = with_lost([numbered[0], again], numbered)
    assert joined == [*numbered, again]
    redeclared = Order(target="marrakech", began=169.0, ended=171.0)
    assert wrong(joined, orders=(redeclared,)) == set()
    assert wrong(joined) == {Wrong.FALSE_MOVE}
    assert Wrong.AUDIT in wrong([*numbered, replace(again, before=replace(older, reason="invented"))])
    assert Wrong.AUDIT in wrong([*numbered, replace(again, sequence=99)])
    assert Wrong.EPOCH in wrong([*numbered, replace(again, after=replace(raised, epoch=1))])


def without_evidence(rows: list[AuditRow]) -> list[AuditRow]:
    return [replace(row, after=replace(row.after, evidence={})) for row in rows]


def seen_by_one(rows: list[AuditRow]) -> list[AuditRow]:
    return [replace(row, after=replace(row.after, evidence={"sites": ["marrakech"]})) for row in rows]


def with_a_row_missing(rows: list[AuditRow]) -> list[AuditRow]:
    return [rows[0], rows[2], rows[3]]


def with_an_epoch_skipped(rows: list[AuditRow]) -> list[AuditRow]:
    return [*rows[:-1], replace(rows[-1], after=replace(rows[-1].after, epoch=7))]


def with_two_active_at_once(rows: list[AuditRow]) -> list[AuditRow]:
    return [*rows[:-1], replace(rows[-1], after=replace(rows[-1].after, epoch=1))]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (without_evidence, Wrong.AUDIT),
        (seen_by_one, Wrong.FALSE_MOVE),
        (with_a_row_missing, Wrong.AUDIT),
        (with_an_epoch_skipped, Wrong.EPOCH),
        (with_two_active_at_once, Wrong.SPLIT),
    ],
)
def test_rows_that_contradict_themselves_are_found(
    spoil: Callable[[list[AuditRow]], list[AuditRow]], expected: Wrong
) -> None:
    assert expected in wrong(spoil(moved()))


def test_an_answer_at_an_epoch_that_nobody_wrote_down_is_found() -> None:
    assert wrong(moved(), acknowledged(170, 3)) >= {Wrong.AUDIT}


def test_an_acknowledgement_below_a_claim_that_stood_is_found() -> None:
    """One alone, so that no other acknowledgement could show it."""
    assert wrong(moved(), acknowledged(154, 1)) == set()
    assert wrong(moved(), acknowledged(157.5, 1)) == {Wrong.SPLIT}
    assert wrong(moved(), acknowledged(153, 2)) == {Wrong.SPLIT}
