"""The freshness classes keep their own rules."""

from __future__ import annotations

import pytest

from cache import policy
from cache.policy import CLASSES, RELATIONS, Policy, is_failure, nobody_answers
from tests.cache.building import Away, NotFound, Switching

EVERY = [*CLASSES.values(), RELATIONS]


def test_the_six_classes_are_declared() -> None:
    assert set(CLASSES) == set("NSMDRX")
    assert (policy.S.fresh_s, policy.M.fresh_s, policy.D.fresh_s) == (60, 900, 21_600)


def test_no_store_and_unreleased_keep_nothing() -> None:
    assert not policy.N.stored
    assert not policy.X.stored


def test_relations_are_fresh_a_minute_never_stale_and_survive_four_hours() -> None:
    assert RELATIONS.fresh_s == 60
    assert RELATIONS.stale_if_error_s == RELATIONS.stale_while_revalidate_s == 0
    assert RELATIONS.survival_s == 4 * 3600


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_no_entry_outlives_the_generations_it_recorded(each: Policy) -> None:
    assert each.life_s <= policy.ENTRY_LIFE_MAX_S < policy.GENERATION_LIFE_S


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_what_is_shown_while_somebody_asks_would_be_shown_if_that_failed(each: Policy) -> None:
    assert each.stale_while_revalidate_s <= each.stale_if_error_s


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_tier_1_looks_again_within_seconds(each: Policy) -> None:
    assert each.tier1_s <= policy.TIER1_RECHECK_MAX_S == 3


@pytest.mark.parametrize("error", [Away(), Switching(), TimeoutError(), ConnectionResetError()])
def test_what_says_that_nobody_knows_is_a_failure(error: Exception) -> None:
    assert is_failure(error)


@pytest.mark.parametrize("error", [NotFound(), KeyError("a bug"), ValueError("a bug")])
def test_an_answer_or_a_bug_is_not_hidden_behind_an_old_entry(error: Exception) -> None:
    assert not is_failure(error)


def test_survival_needs_the_error_to_say_so() -> None:
    assert nobody_answers(Away())
    assert not nobody_answers(Switching())
    assert not nobody_answers(TimeoutError())
