"""What a run with one worker and with two prints, and by what the aim is judged."""

from __future__ import annotations

import pytest

from bench.figures import Figure
from bench.machine import Cores
from bench.workers_cost import ALONE, DOUBLED, LANES, SHARED, WORKERS, Block, Result, _judged, table
from tests.bench.test_failover_figures import WHERE


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.96, 1.04, "met"),
        (0.9, 1.04, "within the interval"),
        (0.96, 1.1, "within the interval"),
        (1.06, 1.1, "not met"),
        (0.8, 0.94, "not met"),
    ],
)
def test_the_aim_is_judged_by_the_whole_interval(low: float, high: float, said: str) -> None:
    assert _judged(Figure(median=(low + high) / 2, low=low, high=high)) == said


def test_the_load_is_one_workers_or_one_workers_each() -> None:
    asked = {name: lane.times / WORKERS[lane.server] for name, lane in LANES.items()}
    assert asked == {ALONE: 1.0, SHARED: 0.5, DOUBLED: 1.0}


def test_the_table_has_every_lane_and_both_ratios() -> None:
    text = table(
        Result(
            where=WHERE,
            cores=Cores(server=0, load=1),
            seconds=4,
            rate=4_000.0,
            body_bytes=1449,
            blocks={name: [Block(cpu_us_per_request=60.0, p99_ms=2.0, busiest=0.52)] * 6 for name in LANES},
            ratios={SHARED: Figure(1.06, 1.055, 1.07), DOUBLED: Figure(0.99, 0.98, 1.0)},
        )
    )
    assert all(lane.title in text for lane in LANES.values())
    assert "60.0 (60.0 - 60.0)" in text
    assert "52%" in text
    assert "B / A: 1.060 (1.055 - 1.070)   aim: equal within 5%: not met" in text
    assert "C / A: 0.990 (0.980 - 1.000)" in text
    assert WHERE.processor in text
