"""A failing schedule's drawing names everything its findings name."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from msgspec.structs import replace

from tests.failover.checker import check
from tests.failover.history import Kind, Operation, Outcome
from tests.failover.test_moves import CLOCKS, SITE_LOST, moved
from tests.failover.timeline import Told, svg, text

LOST = Operation(
    index=0,
    process=3,
    kind=Kind.APPEND,
    entity="board/<b>",
    began=154.9,
    ended=155.1,
    outcome=Outcome.OK,
    key="k",
    value="board/<b>/7",
    site="rabat",
    epoch=1,
)
FAR = replace(LOST, index=1, key="far", value="board/<b>/8", began=120.0, ended=120.1)
NEAR = replace(LOST, index=2, key="near", value="board/<b>/9", began=155.05, ended=155.3)
END = Operation(
    index=3,
    process=0,
    kind=Kind.FINAL,
    entity="board/<b>",
    began=190.0,
    ended=190.0,
    outcome=Outcome.OK,
    seen=("board/<b>/8", "board/<b>/9"),
)
OPERATIONS = (LOST, FAR, NEAR, END)
TOLD = Told(
    seed="7/0",
    operations=OPERATIONS,
    findings=check(OPERATIONS),
    faults=[SITE_LOST],
    rows=moved(),
    unix_minus_monotonic_s=CLOCKS,
)


def test_the_text_names_seed_fault_epochs_and_the_lost_write_but_not_what_is_far() -> None:
    told = text(TOLD)
    assert told.startswith(
        "seed 7/0: 1 findings in 4 operations\n  lost: board/<b> = 'board/<b>/7' was acknowledged"
    )
    for said in (
        "30.000  --- fault: site killed at rabat (dead)",
        "35.000  === epoch 2 PROMOTING, active rabat, by director:marrakech: dead",
        "34.900  >>> #0 p3 append board/<b> board/<b>/7: ok after 0.200 s at rabat epoch 1",
        "35.050      #2 p3 append",
    ):
        assert said in told
    assert "board/<b>/8: ok" not in told
    assert list(told.splitlines()[3:]) == sorted(told.splitlines()[3:])


def test_a_fault_that_did_not_bite_is_told() -> None:
    assert "NOT BITTEN" in text(replace(TOLD, faults=[replace(SITE_LOST, bitten="")]))


def test_the_drawing_is_well_formed_and_frames_what_was_lost() -> None:
    drawn = ET.fromstring(svg(TOLD))
    framed = [part for part in drawn.iter() if part.get("stroke") == "#d0021b"]
    assert any("board/<b>/7: ok" in (title.text or "") for part in framed for title in part)
    assert any(part.text == "2 PROMOTING" for part in drawn.iter())


def test_nothing_wrong_is_drawn_too() -> None:
    ET.fromstring(svg(replace(TOLD, findings=[], operations=[])))
    assert text(replace(TOLD, findings=[])).startswith("seed 7/0: 0 findings")
