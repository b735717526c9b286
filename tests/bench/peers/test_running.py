"""What a run of the comparison prints: the numbers as they are, and whether an aim was met."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest

from bench import machine
from bench.figures import Figure
from bench.peers import running
from bench.peers.measuring import Block, Measuring
from bench.peers.scenarios import SCENARIOS, Scenario
from bench.peers.serving import Peer
from sandbox.processes import Running

SCENARIO = SCENARIOS["warm"]


def a_result(
    scenario: Scenario, *, ours: float, theirs: float, offered: float = 4_000.0, busy: float = 1.0
) -> running.Result:
    def blocks(per_s: float) -> list[Block]:
        return [
            Block(
                requests_per_s=per_s,
                cpu_us_per_request=1e6 / per_s,
                offered_per_s=offered,
                busy=busy,
                p50_ms=1.0,
                p99_ms=2.0,
            )
        ] * 10

    first, *others = (lane.name for lane in scenario.lanes)
    compared = running._compared(scenario, {first: blocks(ours), **{name: blocks(theirs) for name in others}})
    return running.Result(
        where=machine.this_machine(),
        cores=machine.Cores(server=0, load=1),
        peers={"nginx": "nginx version: nginx/1.22.1"},
        how=Measuring(rounds=10, seconds=2, connections=64, rate=4_000.0),
        scenarios={scenario.name: compared},
        failures={},
    )


@pytest.mark.parametrize(("ours", "said"), [(20_000.0, "aim 1: met"), (19_000.0, "aim 1: not met")])
def test_an_aim_is_judged_by_the_ratio_and_told_either_way(ours: float, said: str) -> None:
    text = running.table(a_result(SCENARIO, ours=ours, theirs=20_000.0))
    (line,) = [line for line in text.splitlines() if "auth_request remembered" in line and "aim" in line]
    assert line.endswith(said)
    assert f"{ours / 20_000:.2f}" in line


def test_every_lane_and_every_version_is_named() -> None:
    result = a_result(SCENARIO, ours=1.0, theirs=1.0)
    text = running.table(result)
    assert all(lane.title in text for lane in SCENARIO.lanes)
    assert "nginx version: nginx/1.22.1" in text
    assert result.where.processor in text


def test_a_peer_that_was_asked_less_is_told_so() -> None:
    assert " at 700/s" in running.table(a_result(SCENARIO, ours=1.0, theirs=1.0, offered=700.0))
    assert " at 700/s" not in running.table(a_result(SCENARIO, ours=1.0, theirs=1.0))


def test_processor_time_is_theirs_by_ours_and_throughput_ours_by_theirs() -> None:
    compared = a_result(SCENARIO, ours=20_000.0, theirs=10_000.0).scenarios[SCENARIO.name]
    assert {figure.median for figure in compared.throughput.values()} == {2.0}
    assert {figure.median for figure in compared.cpu.values()} == {2.0}


def test_what_ends_tls_and_the_worker_behind_it_count_as_one() -> None:
    before, worker = (cast("Running", object()) for _ in range(2))
    pem = Path("certificate.pem")
    assert running._both(Peer(8443, [before], pem), Peer(8080, [worker])) == Peer(8443, [before, worker], pem)


def test_a_server_that_waited_for_its_load_is_told_so() -> None:
    assert "core 70% busy at its peak" in running.table(a_result(SCENARIO, ours=1.0, theirs=1.0, busy=0.7))
    assert "busy" not in running.table(a_result(SCENARIO, ours=1.0, theirs=1.0))


def test_an_aim_within_the_interval_is_not_called_met() -> None:
    assert running._judged(Figure(median=1.1, low=0.9, high=1.2), 1.0) == "within the interval"
    assert running._judged(Figure(median=1.1, low=1.0, high=1.2), 1.0) == "met"
    assert running._judged(Figure(median=0.9, low=0.8, high=0.99), 1.0) == "not met"


def test_what_failed_is_told_beside_what_did_not() -> None:
    result = msgspec.structs.replace(a_result(SCENARIO, ours=1.0, theirs=1.0), failures={"large": "404"})
    text = running.table(result)
    assert "large\n  not measured: 404" in text
    assert SCENARIO.title in text
