"""The tables of the failover figures, from made-up runs."""

from __future__ import annotations

import msgspec

from bench import machine
from bench.failover_figures import Handover, Handovers, Loss, Losses, handover_table, loss_table

WHERE = machine.Machine(
    processor="a processor", cores=2, kernel="6", python="3", versions={}, load_average=0.1
)
LOSS = Loss(
    detected_s=2.0,
    resumed_s=3.0,
    followed_s=[0.01, 0.02],
    written_per_s=200.0,
    acknowledged=1000,
    lost=0,
    reads=300,
    rotated_reads=10,
    failed_reads=[],
)
HANDOVER = Handover(
    pause_s=0.8,
    longest_write_s=1.0,
    followed_s=[0.01] * 4,
    written_per_s=200.0,
    acknowledged=1000,
    errors=0,
    what={},
    failed_reads=[],
)


def cells(table: str, name: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if name in line)
    return line.replace(name, "").split()


def test_the_worst_of_thirty_runs_is_their_99th_percentile() -> None:
    slow = msgspec.structs.replace(LOSS, detected_s=2.9, lost=1, failed_reads=["rabat: no answer"])
    table = loss_table(Losses(WHERE, [*[LOSS] * 29, slow]), rate=200)
    assert "30 runs" in table
    assert cells(table, "seconds until the claim (detection)") == ["2.000", "2.900", "2.900"]
    assert cells(table, "of them lost") == ["1"]
    assert cells(table, "failed at both") == ["1"]
    assert cells(table, "acknowledged marks") == ["30000"]


def test_a_switchover_counts_every_answer_that_is_no_acknowledgement() -> None:
    bad = msgspec.structs.replace(HANDOVER, pause_s=1.9, errors=3)
    table = handover_table(Handovers(WHERE, [HANDOVER, bad]), rate=100)
    assert cells(table, "seconds without an acknowledgement") == ["1.350", "1.900", "1.900"]
    assert cells(table, "answers to writes other than that") == ["3"]
