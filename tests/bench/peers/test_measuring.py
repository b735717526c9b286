"""Every lane has its block in every round, and goes on in the list of requests where it left it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auth import keys
from bench.client import Load as Peak
from bench.client import Unexpected
from bench.peers import measuring, peak, tools
from bench.peers.measuring import Load, Measuring, measure
from bench.peers.people import Issuer, Pupil
from bench.peers.scenarios import Lane, Scenario
from bench.peers.serving import Peer
from tests.bench.peers.conftest import Serve

PUPILS = [Pupil(name, f"/v1/pupils/{name}/timetable") for name in "ab"]
ONE, OTHER = Lane("one", "One"), Lane("other", "Other")
HOW = Measuring(rounds=2, seconds=1, connections=2, rate=30.0)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    keys.generate(tmp_path)
    return Issuer({"MASSAR_ACCESS_KEYS_DIR": str(tmp_path)})


def load(
    issuer: Issuer,
    place: Path,
    *,
    tokens: int = 4,
    fresh: bool = False,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> Load:
    return Load(
        a_scenario(tokens=tokens, fresh=fresh),
        issuer=issuer,
        pupils=PUPILS,
        etags={"one": {}, "other": {}},
        scratch=place,
        seconds=1,
        monotonic=monotonic,
    )


def a_scenario(*, tokens: int = 4, fresh: bool = False) -> Scenario:
    return Scenario(name="s", title="s", lanes=(ONE, OTHER), tokens=tokens, fresh=fresh)


def test_tokens_are_kept_for_a_while_and_made_anew_before_they_run_out(
    issuer: Issuer, tmp_path: Path
) -> None:
    now = 1000.0
    made = load(issuer, tmp_path, monotonic=lambda: now)
    assert made.due()
    made.renew()
    before = made.next(ONE)
    assert not made.due()
    assert made.next(ONE) == before
    now += measuring.RENEWED_AFTER_S
    assert made.due()
    made.renew()
    assert not set(made.next(ONE)) & set(before)


def test_fresh_tokens_are_due_every_time(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, fresh=True)
    made.renew()
    assert made.due()


def test_a_lane_goes_on_where_it_ended_and_disturbs_no_other(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, tokens=10)
    made.renew()
    every = made.next(ONE)
    made.sent(ONE, 3)
    assert made.next(ONE) == every[3:] + every[:3]
    made.sent(ONE, 9)
    assert made.next(ONE) == every[2:] + every[:2]
    assert made.next(OTHER) == every


def test_too_few_fresh_tokens_are_told(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, fresh=True)
    made.renew()
    made.sent(ONE, 4)
    made.sent(OTHER, 4)
    with pytest.raises(Unexpected, match="4 tokens are too few: One has seen"):
        made.sent(ONE, 1)


async def test_every_lane_has_a_block_a_round_and_the_order_turns(
    origin: Serve, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def answered(_wrk: str, port: int, _file: Path, **_how: int) -> Peak:
        asked.append(port)
        return Peak(requests=50, seconds=1.0)

    monkeypatch.setattr(peak, "peak", answered)
    monkeypatch.setattr(tools, "program", lambda name: name)
    async with origin() as one, origin() as other:
        peers = {"one": Peer(one, []), "other": Peer(other, [])}
        blocks = await measure(a_scenario(), peers, load(issuer, tmp_path), HOW)
    assert {name: len(many) for name, many in blocks.items()} == {"one": 2, "other": 2}
    # Of each block the warming and the peak: one, other; then other, one; then one, other again.
    assert asked == [one, one, other, other, other, other, one, one, one, one, other, other]
    (block, _) = blocks["one"]
    assert (block.requests_per_s, block.offered_per_s) == (50.0, 25.0)
    assert 0 < block.p50_ms <= block.p99_ms
