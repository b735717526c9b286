"""A few fixed schedules in every run of the suite; `make chaos` runs as many as one likes, sites parted by wires.

On loopback, so that anybody may run them: a site killed, a member of etcd killed; humans who move the role.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.failover.runner import Needs, Report, last_line, means_at_hand, run_one
from tests.failover.schedule import draw

# Less than a schedule of `make chaos` asks for: the suite shares its machine, and judges no speed. A pause that outlasts
# what a write waits for at most is a write that was refused, which is judged.
NEEDS = Needs(acknowledged_min=150, pause_max_s=math.inf)

THERE_AND_BACK = ["switchover to marrakech", "switchover to rabat"]
LOST_AND_BACK = ["revive rabat", "kill site", "switchover to rabat"]


@pytest.mark.parametrize(
    ("fault", "noted", "epoch"),
    [
        ("kill site", ["kill site"], 2),
        ("kill etcd", ["kill etcd"], 1),
        ("switchover", THERE_AND_BACK, 3),
        ("failback", LOST_AND_BACK, 3),
    ],
)
async def test_nothing_acknowledged_is_lost_doubled_or_split(
    fault: str, noted: list[str], epoch: int, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    seed = f"suite/{fault}"
    report = await run_one(
        seed,
        draw(seed, means_at_hand(None), only=(fault,)),
        folder=tmp_path_factory.mktemp("chaos"),
        results=tmp_path,
        network=None,
        needs=NEEDS,
    )
    drawn = tmp_path / "timeline.txt"
    assert report.passed, f"{report.line}\n{drawn.read_text('utf-8') if drawn.exists() else ''}"
    assert [fault.name for fault in report.faults] == noted
    assert report.epoch == epoch
    assert not drawn.exists()


def test_the_last_line_counts_what_must_be_nothing() -> None:
    report = Report(
        seed="1/0",
        strikes=(),
        faults=(),
        operations=9,
        acknowledged=500,
        unknown=0,
        fresh_work=0.5,
        epoch=1,
        active="rabat",
        wrong={"lost": 2, "out of order": 1},
        weak=(),
        unexpected={},
        took_s=1.0,
    )
    assert last_line([report, report]) == (
        "chaos: 2 schedules, 1000 acknowledged writes, 4 lost, 0 doubled, 0 split, 0 false moves"
    )
    assert not report.passed
