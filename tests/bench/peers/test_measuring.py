"""Every lane has its block in every round, and goes on in the list of requests where it left it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from auth import keys
from bench.client import Load as Peak
from bench.client import Refused, Unexpected
from bench.peers import http2, measuring, peak, tools
from bench.peers.measuring import Load, Measuring, measure
from bench.peers.people import Issuer, Pupil
from bench.peers.probing import Probed
from bench.peers.scenarios import Lane, Scenario
from bench.peers.serving import Peer
from tests.bench.peers.conftest import Serve

PUPILS = [Pupil(name, f"/v1/pupils/{name}/timetable") for name in "ab"]
ONE, OTHER = Lane("one", "One"), Lane("other", "Other")
Asks: TypeAlias = tuple[Pupil, str]
HOW = Measuring(rounds=2, seconds=1, connections=2, rate=30.0)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    keys.generate(tmp_path)
    return Issuer({"MASSAR_ACCESS_KEYS_DIR": str(tmp_path)})


@pytest.fixture
def instead_of_wrk(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Puts something in the place of `peak.peak`, and needs no program."""

    def put(answered: object) -> None:
        monkeypatch.setattr(peak, "peak", answered)
        monkeypatch.setattr(tools, "program", lambda name: name)

    return put


def load(
    issuer: Issuer,
    place: Path,
    *,
    tokens: int = 4,
    fresh: bool = False,
    mixed: bool = False,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> Load:
    return Load(
        a_scenario(tokens=tokens, fresh=fresh, mixed=mixed),
        issuer=issuer,
        pupils=PUPILS,
        etags={"one": {}, "other": {}},
        scratch=place,
        seconds=1,
        monotonic=monotonic,
    )


def a_scenario(*, tokens: int = 4, fresh: bool = False, mixed: bool = False) -> Scenario:
    return Scenario(name="s", title="s", lanes=(ONE, OTHER), tokens=tokens, fresh=fresh, mixed=mixed)


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


def test_new_tokens_are_unseen_by_every_lane(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path)
    made.renew()
    made.seen(ONE)
    assert [made.unseen(lane) for lane in (ONE, OTHER)] == [False, True]
    made.renew()
    assert made.unseen(ONE)


def test_too_few_fresh_tokens_are_told(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, fresh=True)
    made.renew()
    made.sent(ONE, 4)
    made.sent(OTHER, 4)
    with pytest.raises(Unexpected, match="4 tokens are too few: One has seen"):
        made.sent(ONE, 1)


def test_what_comes_before_a_load_of_fresh_tokens_sends_none_of_them(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, fresh=True)
    made.renew()
    before = made.others(ONE)
    assert len(before) == len(PUPILS)
    assert not set(before) & set(made.next(ONE))


def test_who_asks_at_once_changes_from_load_to_load(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, tokens=5)
    made.renew()
    first, second = made.people(ONE, 3), made.people(ONE, 3)
    assert [pupil.subject for pupil, _ in first + second] == ["a", "b", "a", "b", "a", "a"]
    assert made.people(OTHER, 3) == first


def test_what_is_asked_is_the_scenarios_affair(issuer: Issuer, tmp_path: Path) -> None:
    made = load(issuer, tmp_path, tokens=500, mixed=True)
    made.renew()
    wanted = made.next(ONE)
    assert len(wanted) == 500
    assert 0 < sum(b"?week=" in one for one in wanted) < 100
    assert len(set(wanted)) < 400


async def test_who_speaks_http2_is_asked_by_h2load_alone(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float | None] = []

    async def driven(program: str, port: int, people: Sequence[Asks], **how: Any) -> http2.Driven:
        assert (program, port, len(people)) == ("h2load", 8443, 2)
        rates.append(how["rate"])
        return http2.Driven(requests=80, seconds=2.0, p50_ms=1.0, p99_ms=3.0, cpu_s=0.5)

    async def probed(_peer: Peer, requests: Sequence[bytes]) -> list[Probed]:
        return [Probed(200, {}, b"")] * len(requests)

    monkeypatch.setattr(http2, "drive", driven)
    monkeypatch.setattr(tools, "program", lambda name: name)
    monkeypatch.setattr(Peer, "probe", probed)
    peers = dict.fromkeys(("one", "other"), Peer(8443, [], tmp_path / "certificate.pem"))
    how = Measuring(rounds=1, seconds=2, connections=2 * http2.CONNECTIONS_EACH, rate=30.0)
    blocks = await measure(a_scenario(), peers, load(issuer, tmp_path), how)
    # The most, at the common rate or half of the most, at half of the most: two lanes, two rounds.
    assert rates == [None, 20.0, 20.0] * 4
    (block,) = blocks["one"]
    assert (block.requests_per_s, block.busy, block.cpu_us_per_request) == (40.0, 0.25, 6250.0)
    assert (block.p50_ms, block.p99_ms) == (1.0, 3.0)


async def test_what_is_asked_twice_is_warmed_once(
    origin: Serve, issuer: Issuer, tmp_path: Path, instead_of_wrk: Callable[[object], None]
) -> None:
    kept: list[bytes] = []

    async def answered(_wrk: str, _port: int, file: Path, **_how: int) -> Peak:
        kept.append(await asyncio.to_thread(file.read_bytes))
        return Peak(requests=50, seconds=1.0)

    instead_of_wrk(answered)
    made = load(issuer, tmp_path, tokens=300, mixed=True)
    made.renew()
    async with origin() as port:
        await measuring._warm(ONE, Peer(port, []), made, HOW, every=False)
        assert len(made.one_each(ONE)) == len(PUPILS)
    warmed = kept[0].split(b"\0")[:-1]
    assert len(warmed) == len(set(warmed))
    assert set(warmed) == set(made.next(ONE))


async def test_every_lane_has_a_block_a_round_and_the_order_turns(
    origin: Serve, issuer: Issuer, tmp_path: Path, instead_of_wrk: Callable[[object], None]
) -> None:
    asked: list[int] = []

    async def answered(_wrk: str, port: int, _file: Path, **_how: int) -> Peak:
        asked.append(port)
        return Peak(requests=50, seconds=1.0)

    instead_of_wrk(answered)
    async with origin() as one, origin() as other:
        peers = {"one": Peer(one, []), "other": Peer(other, [])}
        blocks = await measure(a_scenario(), peers, load(issuer, tmp_path), HOW)
    assert {name: len(many) for name, many in blocks.items()} == {"one": 2, "other": 2}
    # Of each block the warming and the peak: one, other; then other, one; then one, other again.
    assert asked == [one, one, other, other, other, other, one, one, one, one, other, other]
    (block, _) = blocks["one"]
    assert (block.requests_per_s, block.offered_per_s) == (50.0, 25.0)
    assert 0 < block.p50_ms <= block.p99_ms


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("refusals", [0, 1, measuring.AGAIN_MAX, measuring.AGAIN_MAX + 1])
async def test_a_block_in_which_something_was_refused_is_begun_again_a_few_times(
    origin: Serve,
    issuer: Issuer,
    tmp_path: Path,
    instead_of_wrk: Callable[[object], None],
    *,
    refusals: int,
    fresh: bool,
) -> None:
    begun = 0

    async def answered(*_: object, **_how: int) -> Peak:
        nonlocal begun
        begun += 1
        if begun <= refusals:
            raise Refused("Non-2xx or 3xx responses: 8")
        return Peak(requests=50, seconds=1.0)

    instead_of_wrk(answered)
    made = load(issuer, tmp_path, tokens=200, fresh=fresh)
    made.renew()
    async with origin() as port:
        tried = measuring._tried(ONE, Peer(port, []), made, HOW)
        if refusals > measuring.AGAIN_MAX:
            with pytest.raises(Unexpected, match="Non-2xx"):
                await tried
        else:
            assert (await tried).again == refusals
