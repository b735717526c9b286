"""Denials: heard ones are never forgotten while they matter, and a full set fails closed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from auth.denials import DENIAL_MARGIN_S, Denials
from auth.tokens import ACCESS_TTL_S, CLOCK_LEEWAY_S
from tests.auth.people import START as NOW

UNTIL = NOW + ACCESS_TTL_S + DENIAL_MARGIN_S


def test_a_session_is_denied_alone() -> None:
    denials = Denials()
    denials.deny("sid-1", UNTIL, NOW)
    assert denials.denied("sid-1")
    assert not denials.denied("sid-2")


def test_an_ended_session_never_comes_back() -> None:
    denials = Denials()
    denials.deny("sid-1", UNTIL, NOW)
    denials.forget("sid-1")
    denials.replace({}, NOW)
    assert denials.denied("sid-1")


def test_a_longer_denial_of_the_same_session_holds() -> None:
    denials = Denials(max_entries=1)
    denials.deny("sid-1", UNTIL, NOW)
    denials.deny("sid-1", UNTIL + 100, NOW)
    denials.deny("sid-1", UNTIL - 100, NOW)
    assert len(denials) == 1
    denials.deny("sid-2", UNTIL + 700, UNTIL + 99)  # finds no room yet
    assert denials.denied("sid-1")
    assert denials.overflows == 1


def test_a_new_listing_adds_what_was_missed() -> None:
    denials = Denials()
    denials.deny("sid-1", UNTIL, NOW)
    denials.replace({"sid-2": UNTIL, "sid-3": UNTIL}, NOW)
    assert all(denials.denied(sid) for sid in ("sid-1", "sid-2", "sid-3"))


def test_room_is_made_by_those_that_no_longer_matter() -> None:
    denials = Denials(max_entries=2)
    denials.deny("sid-1", NOW + 1, NOW)
    denials.deny("sid-2", NOW + 3, NOW)
    denials.deny("sid-3", NOW + 500, NOW + 3)
    assert denials.overflows == 0
    assert denials.denied("sid-3")
    assert len(denials) == 1


def test_a_full_set_makes_every_older_token_run_out_instead_of_forgetting_one() -> None:
    denials = Denials(max_entries=2)
    for sid in ("sid-1", "sid-2", "sid-3"):
        denials.deny(sid, UNTIL, NOW)
    assert len(denials) == 2
    assert denials.overflows == 1
    assert denials.denied("sid-1")
    assert denials.denied("sid-2")
    # A token issued until now, by a clock ahead at most, runs out below the floor; one issued after does not.
    assert denials.expiry_floor >= NOW + CLOCK_LEEWAY_S + ACCESS_TTL_S
    assert denials.expiry_floor < NOW + CLOCK_LEEWAY_S + ACCESS_TTL_S + 1


def test_a_full_set_still_takes_what_it_knows() -> None:
    denials = Denials(max_entries=1)
    denials.deny("sid-1", UNTIL, NOW)
    denials.deny("sid-1", UNTIL + 1, NOW)
    assert denials.overflows == 0


def test_a_feed_never_heard_is_silent_for_ever() -> None:
    denials = Denials()
    assert denials.silent_for_s(123.0) == math.inf
    denials.heard(120.0)
    denials.heard(119.0)
    assert denials.silent_for_s(123.0) == 3.0


sids = st.sampled_from([f"sid-{n}" for n in range(9)])


@given(st.lists(st.tuples(sids, st.integers(min_value=0, max_value=700)), max_size=40), st.integers(1, 6))
def test_whatever_comes_a_denied_token_is_refused_one_way_or_the_other(
    steps: list[tuple[str, int]], most: int
) -> None:
    denials = Denials(max_entries=most)
    heard: dict[str, float] = {}
    now = NOW
    for sid, later in steps:
        now += later
        denials.deny(sid, now + ACCESS_TTL_S + DENIAL_MARGIN_S, now)
        heard[sid] = now
        assert len(denials) <= most
        for denied, denied_at in heard.items():
            expires_at = denied_at + ACCESS_TTL_S  # the last token its session could have been given
            if expires_at > now:
                assert denials.denied(denied) or expires_at <= denials.expiry_floor
