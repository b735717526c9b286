"""What a run prints: the numbers as they are, and the machine they are from."""

from __future__ import annotations

import pytest

from bench import machine, warm_read
from bench.figures import Figure
from bench.warm_read import EDGE, FLOOR, LITESTAR, Block, Result


def a_result(*, cpu_ratio: float = 0.5, load_core: int = 1) -> Result:
    return Result(
        where=machine.this_machine(),
        cores=machine.Cores(server=0, load=load_core),
        sender="own client",
        connections=16,
        seconds=2,
        body_bytes=1449,
        blocks={
            name: [Block(cpu_us_per_request=50.0, requests_per_s=20_000.0, requests=40_000, routed=48)] * 12
            for name in (EDGE, LITESTAR, FLOOR)
        },
        cpu_us=dict.fromkeys((EDGE, LITESTAR, FLOOR), Figure(median=50.0, low=49.0, high=51.0)),
        requests_per_s=dict.fromkeys((EDGE, LITESTAR, FLOOR), Figure(median=2e4, low=1.9e4, high=2.1e4)),
        cpu_ratio=Figure(median=cpu_ratio, low=0.4, high=0.6),
        throughput_ratio=Figure(median=3.1, low=3.0, high=3.2),
        routed_share=0.0012,
    )


@pytest.mark.parametrize("cpu_ratio", [0.5, 3.25])
def test_the_ratio_is_printed_whatever_it_is(cpu_ratio: float) -> None:
    text = warm_read.table(a_result(cpu_ratio=cpu_ratio))
    assert f"CPU per request B / A: {cpu_ratio:.2f} (0.40 - 0.60)" in text


def test_the_table_names_the_machine_its_versions_and_every_variant() -> None:
    result = a_result()
    text = warm_read.table(result)
    assert result.where.processor in text
    assert all(f"{name} {number}" in text for name, number in result.where.versions.items())
    assert all(name in text for name in warm_read.NAMES.values())
    assert "1449 bytes" in text
    assert "99.880% were answered by the edge" in text
    assert "one core for both" not in text


def test_a_machine_with_one_core_is_told_so() -> None:
    assert "one core for both" in warm_read.table(a_result(load_core=0))
