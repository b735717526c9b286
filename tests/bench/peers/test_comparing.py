"""Before anything is measured all servers have given the same bytes, and refused what nobody signed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from auth import keys
from bench.client import Unexpected
from bench.peers import comparing
from bench.peers.comparing import Block, Load, Measuring, Peer, agree
from bench.peers.people import Issuer, Pupil
from bench.peers.scenarios import Lane, Scenario
from bench.peers.setups import HTTPX_SLOW
from tests.bench.peers.conftest import BODIES, Serve

PUPILS = [Pupil(name, f"/v1/pupils/{name}/timetable") for name in "ab"]


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    keys.generate(tmp_path)
    return Issuer({"MASSAR_ACCESS_KEYS_DIR": str(tmp_path)})


async def test_other_bytes_are_no_comparison(origin: Serve, issuer: Issuer) -> None:
    async with origin() as port:
        with pytest.raises(Unexpected, match="slow: 200, other bytes"):
            await agree({"slow": Peer(port, [])}, issuer, PUPILS, dict.fromkeys(BODIES, b"else"))


async def test_a_server_that_believes_every_token_is_no_comparison(origin: Serve, issuer: Issuer) -> None:
    async with origin() as port:
        with pytest.raises(Unexpected, match="open: 200 for a signature that nobody made"):
            await agree({"open": Peer(port, [])}, issuer, PUPILS, BODIES)


async def test_each_server_names_its_own_tags(origin: Serve, issuer: Issuer) -> None:
    async with origin() as port:
        etags = await agree({HTTPX_SLOW: Peer(port, [])}, issuer, PUPILS, BODIES)
    assert etags[HTTPX_SLOW].keys() == BODIES.keys()
    assert len(set(etags[HTTPX_SLOW].values())) == 2


def load(
    scenario: Scenario, issuer: Issuer, place: Path, *, monotonic: Callable[[], float] = lambda: 0.0
) -> Load:
    return Load(scenario, issuer=issuer, pupils=PUPILS, etags={"one": {}}, scratch=place, monotonic=monotonic)


def a_scenario(*, fresh: bool = False) -> Scenario:
    return Scenario(name="s", title="s", lanes=(Lane("one", "One"),), tokens=4, fresh=fresh)


def test_tokens_are_kept_for_a_while_and_made_anew_before_they_run_out(
    issuer: Issuer, tmp_path: Path
) -> None:
    now = 1000.0
    made = load(a_scenario(), issuer, tmp_path, monotonic=lambda: now)
    assert made.due()
    made.renew()
    before = made.of(Lane("one", "One"))
    assert not made.due()
    assert made.of(Lane("one", "One")) == before
    now += comparing.RENEWED_AFTER_S
    assert made.due()
    made.renew()
    assert not set(made.of(Lane("one", "One"))) & set(before)


def test_fresh_tokens_are_due_every_time(issuer: Issuer, tmp_path: Path) -> None:
    made = load(a_scenario(fresh=True), issuer, tmp_path)
    made.renew()
    assert made.due()


def test_no_part_of_a_block_sees_a_token_of_another() -> None:
    parts: Sequence[Sequence[bytes]] = comparing._thirds([b"%d" % number for number in range(10)])
    assert [len(part) for part in parts] == [3, 3, 3]
    assert len({one for part in parts for one in part}) == 9


def test_too_few_fresh_tokens_are_told() -> None:
    block = Block(requests_per_s=60.0, cpu_us_per_request=1.0, offered_per_s=10.0, p50_ms=1.0, p99_ms=1.0)
    how = Measuring(rounds=6, seconds=2, connections=1, rate=10.0)
    comparing._must_be_fresh(a_scenario(fresh=True), block, how, tokens=120)
    with pytest.raises(Unexpected, match="seen twice"):
        comparing._must_be_fresh(a_scenario(fresh=True), block, how, tokens=119)
    comparing._must_be_fresh(a_scenario(), block, how, tokens=1)
