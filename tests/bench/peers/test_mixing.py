"""Who asks is drawn by Zipf's law and the same in every run; a part of them ask for what has changed."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.peers import mixing
from bench.peers.people import Pupil
from bench.peers.scenarios import raw
from bench.variants import CHANGING_WEEK

TOKENS = [(Pupil(f"{n}", f"/v1/pupils/{n}/timetable"), f"token-{n}") for n in range(20_000)]
CHANGED = f"?week={CHANGING_WEEK}"


@pytest.mark.parametrize("rank", [2, 10, 100])
def test_what_stands_further_back_is_drawn_less_as_the_law_says(rank: int) -> None:
    often = Counter(mixing.drawn(range(1, 1_001), 200_000))
    assert often[1] / often[rank] == pytest.approx(rank**mixing.EXPONENT, rel=0.15)
    assert set(often) <= set(range(1, 1_001))


def test_the_draws_are_the_same_in_every_run() -> None:
    assert mixing.mixed(TOKENS) == mixing.mixed(TOKENS)
    assert len(mixing.mixed(TOKENS)) == len(TOKENS)


def test_so_many_of_the_reads_find_a_changed_answer() -> None:
    changed = [pupil.path.endswith(CHANGED) for pupil, _ in mixing.mixed(TOKENS)]
    assert sum(changed) / len(changed) == pytest.approx(mixing.CHANGED_SHARE, rel=0.1)


def test_everybody_asks_for_his_own_with_his_own_token() -> None:
    own = {token: pupil for pupil, token in TOKENS}
    for pupil, token in mixing.mixed(TOKENS):
        assert pupil in {own[token], mixing.changing(own[token])}


def test_a_changed_read_is_the_same_resource_with_a_query() -> None:
    pupil = Pupil("a", "/v1/pupils/a/timetable")
    assert mixing.changing(pupil) == Pupil("a", "/v1/pupils/a/timetable" + CHANGED)
    assert raw(mixing.changing(pupil).path, "t").startswith(b"GET /v1/pupils/a/timetable?week=2026-W")
