"""What the results hour takes: the mix adds up, and cores and nodes follow from it."""

from __future__ import annotations

import itertools

import pytest

from bench import results_estimate as estimate
from bench.figures import Figure
from bench.results_estimate import EACH, EACH_COLD, Kind, cores, cpu_s_a_person, falls


def test_the_mix_is_the_estimate() -> None:
    assert estimate.requests_each() == pytest.approx(5)
    assert estimate.requests_each(EACH_COLD) == pytest.approx(5)
    assert estimate.PEOPLE * estimate.requests_each() / estimate.SPAN_S == pytest.approx(12_500)
    assert set(EACH) == set(EACH_COLD) == set(estimate.TITLES) == set(Kind)
    assert EACH[Kind.HANDSHAKE] == 1
    assert EACH[Kind.REFRESH] + EACH[Kind.SIGN_IN] == pytest.approx(1), "everybody needs a token"
    for each in (EACH, EACH_COLD):
        assert each[Kind.COLD] + each[Kind.FIRST_SEEN] == pytest.approx(1), "everybody reads with it first"


@pytest.mark.parametrize(("share", "of_300"), [(0.0, 0), (0.1, 30), (1 / 3, 100), (2 / 3, 200), (1.0, 300)])
def test_a_share_falls_evenly_and_exactly(share: float, of_300: int) -> None:
    fell = [number for number in range(300) if falls(number, share)]
    assert len(fell) == of_300
    apart = {later - earlier for earlier, later in itertools.pairwise(fell)}
    assert not apart or max(apart) - min(apart) <= 1


def test_a_person_is_the_sum_of_what_it_does() -> None:
    cost = dict.fromkeys(Kind, 100.0)
    assert cpu_s_a_person(cost) == pytest.approx(600e-6)
    dear = {**cost, Kind.SIGN_IN: 150_000.0}
    assert cpu_s_a_person(dear) - cpu_s_a_person(cost) == pytest.approx(0.1 * 149_900e-6)
    cold = {**cost, Kind.COLD: 1_000.0}
    assert cpu_s_a_person(cold, EACH_COLD) - cpu_s_a_person(cost) == pytest.approx(900e-6)


def test_cores_are_no_busier_than_said_with_their_own_work() -> None:
    # 1.5 million people at 24 ms within 600 s are 60 cores' work.
    assert cores(0.024, idle=0.0) == pytest.approx(100)
    assert cores(0.024, idle=0.1) == pytest.approx(120)
    assert cores(0.024, idle=0.0, share=0.1) == pytest.approx(10)
    assert cores(0.024, idle=0.0, span_s=estimate.HOUR_S) == pytest.approx(100 / 6)


def test_a_node_begun_is_a_node() -> None:
    assert estimate.nodes(Figure(median=100.0, low=99.0, high=101.0), 2) == "50 (50 - 51)"
    assert estimate.nodes(Figure(median=97.0, low=96.0, high=113.0), 16) == "7 (6 - 8)"


def test_the_interval_is_taken_round_by_round() -> None:
    found = estimate.cores_interval([0.012, 0.024, 0.036] * 2, [0.0] * 6)
    assert (found.median, found.low, found.high) == pytest.approx((100, 50, 150))
