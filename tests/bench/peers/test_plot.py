"""The drawing says what the table says."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from bench.peers import plot
from bench.peers.scenarios import SCENARIOS
from tests.bench.peers.test_running import a_result

SCENARIO = SCENARIOS["warm"]


def drawn(ours: float, theirs: float) -> ET.Element:
    return ET.fromstring(plot.svg(a_result(SCENARIO, ours=ours, theirs=theirs)))


def parts(drawing: ET.Element, kind: str) -> list[ET.Element]:
    return [one for one in drawing.iter() if one.get("class") == kind]


def test_every_peer_has_its_name_its_dot_and_its_aim() -> None:
    drawing = drawn(20_000.0, 10_000.0)
    texts = [one.text for one in drawing.iter() if one.text]
    assert all(lane.title in texts for lane in SCENARIO.lanes[1:])
    assert len(parts(drawing, "dot")) == len(SCENARIO.lanes) - 1
    assert len(parts(drawing, "aim")) == sum(lane.aim is not None for lane in SCENARIO.lanes)


@pytest.mark.parametrize(("ours", "side"), [(10_000.0, 0), (20_000.0, 1), (5_000.0, -1)])
def test_a_draw_is_on_the_middle_line_and_more_is_to_its_right(ours: float, side: int) -> None:
    drawing = drawn(ours, 10_000.0)
    (even,) = parts(drawing, "even")
    places = {float(dot.get("cx", "0")) for dot in parts(drawing, "dot")}
    assert {
        (place > float(even.get("x1", "0"))) - (place < float(even.get("x1", "0"))) for place in places
    } == {side}


@pytest.mark.parametrize("ours", [1.0, 10_000.0, 1e8])
def test_everything_lies_within_the_drawing(ours: float) -> None:
    drawing = drawn(ours, 10_000.0)
    places = [
        float(value)
        for one in drawing.iter()
        for name, value in one.attrib.items()
        if re.fullmatch(r"c?x[12]?", name)
    ]
    assert 0 <= min(places) <= max(places) <= plot.WIDTH
