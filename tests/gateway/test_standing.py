"""How things stand: looked at when it may have changed, and never later."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from datacenters.directory import ETCD_SILENT_MAX_S, Mode
from gateway.standing import AWAY_REMEMBERED_S, PURGES_SILENT_MAX_S, Standing
from tests.auth.people import Clock

DENIALS_MAX_S = 60.0


class Declared:
    """What a directory says, set by hand."""

    def __init__(self) -> None:
        self.serial = 0
        self.epoch = 3
        self.mode = Mode.NORMAL
        self.heard_at = 1000.0
        self.monotonic: Callable[[], float] = lambda: 1000.0
        self.looks = 0

    def etcd_silent_s(self) -> float:
        self.looks += 1
        return self.monotonic() - self.heard_at


class Ground:
    """A standing over feeds whose last words are set by hand."""

    def __init__(self, denials_max_s: float = DENIALS_MAX_S) -> None:
        self.clock, self.monotonic = Clock(), Clock(1000.0)
        self.declared = Declared()
        self.declared.monotonic = self.monotonic
        self.denials_at = self.purges_at = 1000.0
        self.standing = Standing(
            self.declared,  # type: ignore[arg-type]  # as much of a directory as is asked
            denials_silent_for_s=lambda: self.monotonic() - self.denials_at,
            purges_silent_for_s=lambda: self.monotonic() - self.purges_at,
            denial_silence_max_s=denials_max_s,
            clock=self.clock,
            monotonic=self.monotonic,
        )

    def heard(self) -> None:
        self.declared.heard_at = self.denials_at = self.purges_at = self.monotonic()


@pytest.fixture
def ground() -> Ground:
    return Ground()


def test_what_stands_still_is_looked_at_once(ground: Ground) -> None:
    first = ground.standing.now()
    ground.monotonic.advance(PURGES_SILENT_MAX_S - 0.01)
    assert ground.standing.now() is first
    assert ground.declared.looks == 1
    assert first.headers == ((b"massar-epoch", b"3"), (b"massar-mode", b"normal"))
    assert (first.hears_denials, first.hears_purges) == (True, True)


def test_the_first_silence_to_count_is_met_in_its_own_instant(ground: Ground) -> None:
    assert ground.standing.mode == "normal"
    ground.monotonic.advance(PURGES_SILENT_MAX_S)
    assert ground.standing.mode == "normal"
    ground.monotonic.advance(0.001)
    assert (ground.standing.mode, ground.standing.now().hears_purges) == ("degraded", False)
    assert ground.standing.now().hears_denials
    ground.monotonic.advance(DENIALS_MAX_S)
    assert not ground.standing.now().hears_denials


def test_sign_outs_that_fall_silent_alone_are_met_in_their_own_instant() -> None:
    ground = Ground(denials_max_s=1.0)
    assert ground.standing.now().hears_denials
    ground.monotonic.advance(1.001)
    assert not ground.standing.now().hears_denials
    assert ground.standing.mode == "normal"


def test_what_was_silent_counts_as_heard_with_its_next_word(ground: Ground) -> None:
    ground.monotonic.advance(DENIALS_MAX_S + 1)
    silent = ground.standing.now()
    assert (silent.mode, silent.hears_denials, silent.hears_purges) == ("degraded", False, False)
    ground.heard()
    heard = ground.standing.now()
    assert (heard.mode, heard.hears_denials, heard.hears_purges) == ("normal", True, True)


def test_a_silence_is_met_though_words_came_in_between(ground: Ground) -> None:
    ground.standing.now()
    ground.monotonic.advance(1.5)
    ground.heard()
    ground.monotonic.advance(1.5)
    assert ground.standing.mode == "normal"
    ground.monotonic.advance(1.0)
    assert ground.standing.mode == "degraded"


@pytest.mark.parametrize(
    "change",
    [{"epoch": 4}, {"mode": Mode.SWITCHING}, {"mode": Mode.UNPROTECTED}, {"mode": Mode.READ_ONLY}],
)
def test_every_change_of_the_record_is_told_at_once(ground: Ground, change: dict[str, object]) -> None:
    before = ground.standing.now()
    for name, value in change.items():
        setattr(ground.declared, name, value)
    ground.declared.serial += 1
    after = ground.standing.now()
    assert (after.epoch, after.mode) == (ground.declared.epoch, ground.declared.mode.value)
    assert after.headers != before.headers


@pytest.mark.parametrize("mode", [Mode.SWITCHING, Mode.READ_ONLY, Mode.DEGRADED])
def test_missed_purges_hide_no_graver_word(ground: Ground, mode: Mode) -> None:
    ground.declared.mode = mode
    ground.monotonic.advance(PURGES_SILENT_MAX_S + 0.1)
    assert ground.standing.mode == mode.value


def test_etcds_silence_is_looked_at_again_when_it_is_due(ground: Ground) -> None:
    ground.standing.now()
    ground.monotonic.advance(ETCD_SILENT_MAX_S)
    ground.purges_at = ground.denials_at = ground.monotonic()
    ground.standing.now()
    ground.monotonic.advance(0.001)
    ground.declared.mode = Mode.DEGRADED  # a directory says so without a new record
    assert ground.standing.mode == "degraded"


def test_survival_is_remembered_for_a_while_and_ends_with_an_answer(ground: Ground) -> None:
    assert ground.standing.mode == "normal"
    ground.standing.note_away()
    assert ground.standing.mode == "survival"
    ground.clock.advance(AWAY_REMEMBERED_S - 0.1)
    assert ground.standing.mode == "survival"
    ground.clock.advance(0.1)
    assert ground.standing.mode == "normal"
    ground.standing.note_away()
    ground.standing.note_answered()
    assert ground.standing.mode == "normal"


def test_what_was_never_heard_is_silent(ground: Ground) -> None:
    ground.purges_at = -math.inf
    assert (ground.standing.mode, ground.standing.now().hears_purges) == ("degraded", False)
