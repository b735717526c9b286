"""The checker lets every honest history pass, and finds every anomaly that is planted into one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.failover.checker import Finding, Step, Wrong, check, linearizable
from tests.failover.history import Kind, Operation, Outcome
from tests.failover.honest import BOARD, CELL, honest_histories

T = TypeVar("T")
LATER = 2_000.0
bounded = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.filter_too_much],
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # a history is read by its timeline, not by shrinking
)


def of(found: list[Finding], wrong: Wrong) -> set[str]:
    return {one.subject for one in found if one.wrong is wrong}


def final(operations: list[Operation], entity: str) -> Operation:
    return next(one for one in operations if one.kind is Kind.FINAL and one.entity == entity)


def done(operations: list[Operation], entity: str) -> list[Operation]:
    """What was acknowledged at the first attempt."""
    attempts = Counter(one.key for one in operations)
    return [
        one
        for one in operations
        if one.kind is Kind.APPEND
        and one.entity == entity
        and one.outcome is Outcome.OK
        and attempts[one.key] == 1
    ]


def acknowledged(operations: list[Operation], entity: str) -> list[Operation]:
    """What was acknowledged at all."""
    return [
        one
        for one in operations
        if one.kind is Kind.APPEND and one.entity == entity and one.outcome is Outcome.OK
    ]


def put(operations: list[Operation], *changed: Operation) -> list[Operation]:
    """The history with some operations in place of those of their index, or added."""
    by_index = {one.index: one for one in operations} | {one.index: one for one in changed}
    return list(by_index.values())


def later_read(operations: list[Operation], entity: str, seen: tuple[str, ...], **facts: object) -> Operation:
    """One more read, long after everything; shows what was there at the end unless told otherwise."""
    return replace(
        final(operations, entity),
        index=len(operations),
        kind=Kind.READ,
        began=LATER,
        ended=LATER + 1,
        site="rabat",
        mode="normal",
        seen=seen,
        **facts,
    )


@given(honest_histories)
@bounded
def test_an_honest_history_passes(operations: list[Operation]) -> None:
    assert check(operations) == []


Plant = Callable[[list[Operation], int], tuple[list[Operation], Wrong, str]]


def loses_on_the_board(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one, end = pick(done(operations, BOARD), which), final(operations, BOARD)
    left = tuple(value for value in end.seen if value != one.value)
    return put(operations, replace(end, seen=left)), Wrong.LOST, one.key


def loses_the_cells_last(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    del which
    end = final(operations, CELL)
    last = max(done(operations, CELL), key=lambda one: one.version or 0, default=None)
    assume(last is not None and last.version == end.version)
    assert last is not None
    assert last.version is not None
    return put(operations, replace(end, version=last.version - 1, seen=("old",))), Wrong.LOST, last.key


def overwrites_a_version(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, CELL), which)
    other = replace(
        one, index=len(operations), key="other", value="19.99", answer="other", began=LATER, ended=LATER + 1
    )
    return put(operations, other), Wrong.LOST, one.key


def does_it_twice(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one, end = pick(done(operations, BOARD), which), final(operations, BOARD)
    return put(operations, replace(end, seen=(*end.seen, one.value))), Wrong.DOUBLED, one.key


def answers_with_another_effect(
    operations: list[Operation], which: int
) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, BOARD), which)
    again = replace(one, index=len(operations), began=LATER, ended=LATER + 1, answer="another id")
    return put(operations, again), Wrong.DOUBLED, one.key


def takes_an_acceptance_back(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, CELL), which)
    again = replace(
        one, index=len(operations), outcome=Outcome.FAILED, began=LATER, ended=LATER + 1, answer="rejected"
    )
    return put(operations, again), Wrong.ANSWER, one.key


def does_what_it_refused(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, BOARD), which)
    return put(operations, replace(one, outcome=Outcome.FAILED, answer="")), Wrong.INVENTED, one.key


def shows_a_later_one_without_an_earlier(
    operations: list[Operation], which: int
) -> tuple[list[Operation], Wrong, str]:
    appends = done(operations, BOARD)
    pairs = [(one, other) for one in appends for other in appends if one.ended < other.began]
    _, other = pick(pairs, which)
    first = min(
        (each for each in acknowledged(operations, BOARD) if each.ended < other.began),
        key=lambda each: each.ended,
    )
    # Labelled: old is allowed, out of order is not.
    read = later_read(operations, BOARD, (other.value,))
    return put(operations, replace(read, mode="read-only")), Wrong.ORDER, first.key


def shows_an_old_board(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, BOARD), which)
    left = tuple(value for value in final(operations, BOARD).seen if value != one.value)
    return put(operations, later_read(operations, BOARD, left)), Wrong.STALE, one.key


def shows_an_old_mark(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    """As a family sees it: the value without its version."""
    del which
    first = min(acknowledged(operations, CELL), key=lambda one: one.ended, default=None)
    assume(first is not None)
    assert first is not None
    old = later_read(operations, CELL, ("13.25",), version=None)
    return put(operations, old), Wrong.STALE, first.key


def goes_back(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    """What another site wrote just now need not be known here yet; to show it and then not is wrong all the same."""
    one = replace(pick(done(operations, BOARD), which), site="elsewhere", ended=LATER - 0.5)
    full = later_read(operations, BOARD, final(operations, BOARD).seen)
    left = tuple(value for value in full.seen if value != one.value)
    less = replace(full, index=len(operations) + 1, began=LATER + 2, ended=LATER + 3, seen=left)
    return put(operations, one, full, less), Wrong.STALE, BOARD


def does_not_show_its_own(operations: list[Operation], which: int) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, BOARD), which)
    left = tuple(value for value in final(operations, BOARD).seen if value != one.value)
    read = later_read(operations, BOARD, left, after=(one.key,), age_s=3.0)
    return put(operations, replace(read, mode="read-only")), Wrong.UNREAD, one.key


def acknowledges_below_an_epoch(
    operations: list[Operation], which: int
) -> tuple[list[Operation], Wrong, str]:
    one = pick(done(operations, BOARD) + done(operations, CELL), which)
    earlier = replace(
        one, index=len(operations), key="9", value="9", epoch=one.epoch + 1, began=1.0, ended=1.5, entity="z"
    )
    assume(one.began > 2.0)
    return put(operations, earlier), Wrong.SPLIT, one.key


def pick(among: list[T], which: int) -> T:
    assume(among)
    return among[which % len(among)]


PLANTS: tuple[Plant, ...] = (
    loses_on_the_board,
    loses_the_cells_last,
    overwrites_a_version,
    does_it_twice,
    answers_with_another_effect,
    takes_an_acceptance_back,
    does_what_it_refused,
    shows_a_later_one_without_an_earlier,
    shows_an_old_board,
    shows_an_old_mark,
    goes_back,
    does_not_show_its_own,
    acknowledges_below_an_epoch,
)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_anomaly_is_found(plant: Plant) -> None:
    @given(honest_histories, st.integers(0, 39))
    @bounded
    def found(operations: list[Operation], which: int) -> None:
        planted, wrong, subject = plant(operations, which)
        assert subject in of(check(planted), wrong)

    found()


def test_a_timeout_is_neither_done_nor_refused() -> None:
    facts = {"process": 1, "kind": Kind.APPEND, "entity": BOARD, "key": "k", "value": f"{BOARD}/1"}
    unknown = Operation(index=0, began=1.0, ended=2.0, outcome=Outcome.UNKNOWN, **facts)  # type: ignore[arg-type]  # spelt once
    for seen in ((), (f"{BOARD}/1",)):
        end = Operation(
            index=1,
            process=0,
            kind=Kind.FINAL,
            entity=BOARD,
            began=9.0,
            ended=9.0,
            outcome=Outcome.OK,
            seen=seen,
        )
        assert check([unknown, end]) == []


def test_what_another_site_wrote_a_moment_ago_need_not_be_known_yet() -> None:
    facts = {"kind": Kind.APPEND, "entity": BOARD, "key": "k", "value": f"{BOARD}/1", "site": "rabat"}
    one = Operation(index=0, process=1, began=1.0, ended=2.0, outcome=Outcome.OK, **facts)  # type: ignore[arg-type]  # spelt once
    read = Operation(
        index=1,
        process=2,
        kind=Kind.READ,
        entity=BOARD,
        began=3.0,
        ended=3.1,
        outcome=Outcome.OK,
        site="marrakech",
    )
    assert check([one, read], elsewhere_s=2.0) == []
    assert of(check([one, read], elsewhere_s=0.5), Wrong.STALE) == {"k"}
    assert of(check([one, replace(read, site="rabat")], elsewhere_s=2.0), Wrong.STALE) == {"k"}


@pytest.mark.parametrize(
    ("at_s", "mode", "found"), [(2.0, "", set()), (12.0, "degraded", set()), (12.0, "", {"l"})]
)
def test_what_nobody_was_promised_may_be_shown_and_go_away_until_another_is_acknowledged_or_with_a_label(
    at_s: float, mode: str, found: set[str]
) -> None:
    facts: dict[str, Any] = {"process": 1, "kind": Kind.APPEND, "entity": CELL, "version": 2}
    gone = Operation(
        index=0, began=1.0, ended=9.0, outcome=Outcome.UNKNOWN, key="k", value="10.00", site="rabat", **facts
    )
    instead = replace(gone, index=1, began=3.0, outcome=Outcome.OK, key="l", value="11.00", site="marrakech")
    instead = replace(instead, epoch=2, answer="2")
    read = replace(gone, index=2, kind=Kind.READ, outcome=Outcome.OK, key="", value="", seen=("10.00",))
    read = replace(read, process=2, began=at_s, ended=at_s + 0.1, epoch=1, mode=mode)
    end = replace(read, index=3, kind=Kind.FINAL, began=20.0, ended=20.0, epoch=2, mode="", seen=("11.00",))
    judged = check([gone, instead, read, end])
    assert of(judged, Wrong.STALE) == found
    assert of(judged, Wrong.LOST) == set()


@pytest.mark.parametrize(
    ("worker", "acked_at", "found"), [("a", 2.5, {BOARD}), ("b", 2.5, set()), ("a", 9.0, set())]
)
def test_a_worker_takes_back_nothing_that_it_showed_and_that_was_acknowledged(
    worker: str, acked_at: float, found: set[str]
) -> None:
    facts: dict[str, Any] = {"entity": BOARD, "process": 1, "outcome": Outcome.OK}
    one = Operation(
        index=0,
        kind=Kind.APPEND,
        began=1.0,
        ended=acked_at,
        key="k",
        value=f"{BOARD}/1",
        site="rabat",
        **facts,
    )
    full = Operation(
        index=1,
        kind=Kind.READ,
        began=2.0,
        ended=2.1,
        site="marrakech",
        worker="a",
        seen=(one.value,),
        **facts,
    )
    less = replace(full, index=2, began=3.0, ended=3.1, worker=worker, seen=())
    assert of(check([one, full, less], elsewhere_s=2.0), Wrong.STALE) == found


@pytest.mark.parametrize(("mode", "known_after_s"), [("normal", 0.0), ("read-only", 2.0)])
def test_what_a_site_that_is_cut_off_showed_binds_it_only_once_it_must_know_of_it(
    mode: str, known_after_s: float
) -> None:
    facts = {"kind": Kind.APPEND, "entity": BOARD, "key": "k", "value": f"{BOARD}/1", "site": "rabat"}
    one = Operation(index=0, process=1, began=1.0, ended=2.0, outcome=Outcome.OK, **facts)  # type: ignore[arg-type]  # spelt once
    read = Operation(
        index=1,
        process=2,
        kind=Kind.READ,
        entity=BOARD,
        began=2.0,
        ended=2.5,
        outcome=Outcome.OK,
        site="marrakech",
        mode=mode,
        seen=(f"{BOARD}/1",),
    )
    for after_s in (0.1, 2.1):
        began = read.ended + after_s
        less = replace(read, index=2, mode="normal", began=began, ended=began + 0.1, seen=())
        found = of(check([one, read, less], elsewhere_s=2.0), Wrong.STALE)
        assert (BOARD in found) is (after_s > known_after_s)


# The register


def saw(began: float, ended: float, epoch: int) -> Step:
    return Step(began, ended, epoch, claims=False)


def claimed(began: float, ended: float, epoch: int) -> Step:
    return Step(began, ended, epoch, claims=True)


@pytest.mark.parametrize(
    ("steps", "held"),
    [
        ([], True),
        ([saw(0, 1, 1), claimed(1, 3, 2), saw(2, 4, 1), saw(2, 4, 2)], True),
        ([saw(0, 1, 2)], False),
        ([claimed(0, 1, 2), saw(2, 3, 1)], False),
        ([claimed(0, 5, 2), saw(1, 2, 2), saw(3, 4, 1)], False),
        ([claimed(0, 5, 2), saw(1, 2, 1), saw(3, 4, 2)], True),
        ([claimed(0, math.inf, 2), saw(3, 4, 1)], True),
        ([claimed(0, math.inf, 2), saw(3, 4, 1), saw(5, 6, 2), saw(7, 8, 1)], False),
        ([claimed(0, 1, 2), claimed(2, 3, 3), saw(1.5, 2.5, 2), saw(2.2, 3.5, 3), saw(0, 9, 1)], True),
        ([claimed(0, 1, 3), saw(2, 3, 3)], False),
    ],
)
def test_the_search_finds_an_order_exactly_when_there_is_one(steps: list[Step], held: bool) -> None:
    assert linearizable(steps) is held


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 3), st.floats(0.1, 3)), max_size=40))
@bounded
def test_a_register_that_is_one_is_found_to_be(drawn: list[tuple[bool, float, float]]) -> None:
    epoch, steps = 1, []
    for at, (claims, before, behind) in enumerate(drawn):
        epoch += claims
        steps.append(Step(at - before, at + behind, epoch, claims=claims))
    assert linearizable(steps)
