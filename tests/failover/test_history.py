"""Histories: bounded, written and read whole, exported as elle-cli reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.failover import history
from tests.failover.history import History, HistoryFull, Kind, Operation, Outcome
from tests.failover.honest import honest_histories


def noted(made: History, **facts: object) -> Operation:
    return made.note(
        **{
            "process": 1,
            "kind": Kind.APPEND,
            "entity": "b",
            "began": 1.0,
            "ended": 2.0,
            "outcome": Outcome.OK,
        }
        | facts
    )


def test_what_outgrows_its_bound_is_not_judged() -> None:
    made = History(operations_max=2)
    assert [noted(made).index, noted(made).index] == [0, 1]
    with pytest.raises(HistoryFull):
        noted(made)


def test_a_repeated_write_counts_once_and_only_answered_reads_count() -> None:
    made = History()
    for outcome in (Outcome.OK, Outcome.OK, Outcome.UNKNOWN):
        noted(made, key="a", outcome=outcome)
    noted(made, key="b", outcome=Outcome.UNKNOWN)
    reads = (
        (3.0, True, Outcome.OK),
        (3.0, True, Outcome.OK),
        (4.0, False, Outcome.OK),
        (5.0, True, Outcome.UNKNOWN),
    )
    for began, cold, outcome in reads:
        noted(made, kind=Kind.READ, began=began, cold=cold, outcome=outcome)
    assert made.acknowledged == 1
    assert made.fresh_work == 0.5


@given(honest_histories)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again(tmp_path: Path, operations: list[Operation]) -> None:
    history.write(tmp_path / "history.jsonl", operations)
    assert history.read(tmp_path / "history.jsonl") == operations


def test_cells_are_registers_and_boards_sets_to_elle() -> None:
    made = History()
    noted(made, entity="c", value="12.25", version=1, key="k")
    noted(made, entity="c", kind=Kind.READ, seen=("12.25",), version=1, began=3.0, ended=4.0)
    noted(made, entity="b", value="b/1", outcome=Outcome.UNKNOWN)
    noted(made, entity="b", kind=Kind.READ, seen=("b/1",), began=3.0, ended=4.0)
    noted(made, kind=Kind.FINAL)
    assert history.edn(made.operations, cells=True).splitlines() == [
        '{:index 0, :type :invoke, :process 0, :time 1000000000, :f :txn, :value [[:w "c" "12.25"]]}',
        '{:index 1, :type :ok, :process 0, :time 2000000000, :f :txn, :value [[:w "c" "12.25"]]}',
        '{:index 2, :type :invoke, :process 0, :time 3000000000, :f :txn, :value [[:r "c" nil]]}',
        '{:index 3, :type :ok, :process 0, :time 4000000000, :f :txn, :value [[:r "c" "12.25"]]}',
    ]
    assert history.edn(made.operations, cells=False).splitlines() == [
        '{:index 0, :type :invoke, :process 0, :time 1000000000, :f :add, :value "b/1"}',
        '{:index 1, :type :info, :process 0, :time 2000000000, :f :add, :value "b/1"}',
        "{:index 2, :type :invoke, :process 1, :time 3000000000, :f :read, :value nil}",
        '{:index 3, :type :ok, :process 1, :time 4000000000, :f :read, :value #{"b/1"}}',
    ]
