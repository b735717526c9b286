"""Which answers a read is allowed by what is known, before anybody is asked and after that failed; whole reads are in test_store.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.asking import Ask, Known, at_once, instead
from cache.cache_key import CacheKey
from cache.entries import NOWHERE, Entry, Position
from cache.freshness import Epochs
from cache.policy import CLASSES, ENTRY_LIFE_MAX_S, RELATIONS, Policy, S
from cache.reading import Fetched, State
from cache.softened import Softened
from tests.cache.building import KEY, NOW, TAG, Away, NotFound, Switching, entry

EPOCHS = Epochs(current=1)
NOTHING = Softened(max_tags=2)
EVERY = [each for each in (*CLASSES.values(), RELATIONS) if each.stored]


async def never(_: Entry | None) -> Fetched:
    raise AssertionError("a judgement asks nobody")


def ask(
    policy: Policy = S, *, not_before: Position = NOWHERE, key: CacheKey = KEY, shared: bool = False
) -> Ask:
    return Ask(
        key=key,
        text=key.text,
        policy=policy,
        tags=(TAG,),
        fetch=never,
        not_before=not_before,
        shared=shared,
    )


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_tier_2_keeps_what_may_be_shown_and_what_is_shared_longer_than_anything_personal(
    each: Policy,
) -> None:
    own, shared = ask(each), ask(each, shared=True)
    assert own.kept_s == each.life_s <= shared.kept_s <= ENTRY_LIFE_MAX_S
    assert all(shared.kept_s > one.life_s for one in EVERY if one.name != "R"), "nobody declares a personal R"


@pytest.mark.parametrize(
    ("age_s", "state"), [(59, State.HIT), (60, State.REVALIDATING), (119, State.REVALIDATING), (120, None)]
)
def test_fresh_then_stale_while_somebody_asks_then_not_before_that(age_s: float, state: State | None) -> None:
    assert at_once(ask(), Known(best=entry(), tier=1), NOW + age_s, epochs=EPOCHS, softened=NOTHING) is state


@given(st.sampled_from(EVERY), st.floats(0, 10 * 86_400))
def test_nothing_distrusted_or_from_before_a_write_is_ever_shown(each: Policy, age_s: float) -> None:
    beyond = EPOCHS.moved(2, (1, 50))
    for known, epochs, wanted in [
        (Known(best=entry()), beyond, ask(each)),
        (Known(best=entry()), EPOCHS, ask(each, not_before=(1, 101))),
        (Known(), EPOCHS, ask(each)),
    ]:
        assert at_once(wanted, known, NOW + age_s, epochs=epochs, softened=NOTHING) is None
        assert instead(wanted, known, Away(), NOW + age_s, epochs=epochs, softened=NOTHING) is None


@given(st.floats(60, 10 * 86_400))
def test_relations_are_never_shown_stale(age_s: float) -> None:
    assert at_once(ask(RELATIONS), Known(best=entry()), NOW + age_s, epochs=EPOCHS, softened=NOTHING) is None
    assert (
        instead(
            ask(RELATIONS), Known(best=entry()), Switching(), NOW + age_s, epochs=EPOCHS, softened=NOTHING
        )
        is None
    )


@pytest.mark.parametrize(
    ("error", "age_s", "state"),
    [
        (Switching(), 61, State.STALE),
        (Switching(), 3_600, None),
        (Away(), 3_600, State.SURVIVAL),
        (Away(), 13 * 3_600, None),
        (NotFound(), 61, None),
    ],
)
def test_what_may_stand_in_for_a_failure_is_the_class_and_the_error_to_say(
    error: Exception, age_s: float, state: State | None
) -> None:
    assert instead(ask(), Known(best=entry()), error, NOW + age_s, epochs=EPOCHS, softened=NOTHING) is state


@pytest.mark.parametrize("ahead_s", [-0.5, 0.0, 0.5, 2.0])
def test_a_soft_purge_near_this_clocks_instant_never_lets_relations_be_shown_before_they_are_asked_for(
    ahead_s: float,
) -> None:
    softened = Softened(max_tags=2)
    softened.soften(TAG, NOW + 1 + ahead_s)
    known = Known(best=entry(), tier=1)
    assert at_once(ask(RELATIONS), known, NOW + 1, epochs=EPOCHS, softened=softened) is None
    assert at_once(ask(), known, NOW + 1, epochs=EPOCHS, softened=softened) is State.REVALIDATING
