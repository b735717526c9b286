"""How old and how long fresh: what says two things, or nothing anybody can read, is stale."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.http.age import (
    HEURISTIC_MAX_S,
    HEURISTIC_STATUSES,
    Manner,
    current_age,
    explicit_lifetime,
    freshness_left,
    lifetime,
    response_directives,
)
from cache.http.fields import DELTA_SECONDS_MAX, Fields
from cache.http.messages import Response, Stored
from tests.cache.building import NOW
from tests.cache.http.building import (
    AGES_S,
    HOSTILE_RESPONSES,
    MANNERS,
    MINUTE,
    PRIVATE,
    RESPONSES,
    SHARED,
    date,
    stored,
)

TARGETED = Manner(targeted=("ours-cache-control", "cdn-cache-control"))


def lasting(status: int = 200, manner: Manner = SHARED, /, **values: str) -> float:
    """The freshness lifetime of a response that came now."""
    return lifetime(status, Fields().replaced(**values), NOW, manner)


# Age (RFC 9111 §4.2.3)


def test_age_grows_with_the_time_in_the_store() -> None:
    assert current_age(stored(), NOW + 25) == 25


def test_what_was_old_when_it_came_stays_older() -> None:
    assert current_age(stored(age="30"), NOW + 25) == 55


def test_the_time_it_took_to_come_counts_on_top_of_the_age_it_tells() -> None:
    slow = msgspec.structs.replace(stored(age="30"), requested_at=NOW - 4)
    assert current_age(slow, NOW) == 34


def test_a_date_in_the_past_makes_it_as_old_as_that() -> None:
    assert current_age(stored(date=date(-100)), NOW) == 100


def test_the_larger_of_what_date_and_age_tell_counts() -> None:
    assert current_age(stored(date=date(-100), age="30"), NOW) == 100
    assert current_age(stored(date=date(-100), age="130"), NOW) == 130


@pytest.mark.parametrize("said", [date(100), "yesterday", "Sun, 06 Nov 0000 08:49:37 GMT"])
def test_a_date_in_the_future_or_none_at_all_makes_nothing_younger(said: str) -> None:
    assert current_age(stored(date=said, age="5"), NOW + 1) == 6


def test_a_clock_put_back_makes_nothing_younger() -> None:
    assert current_age(stored(age="5"), NOW - 1000) == 5
    rushed = msgspec.structs.replace(stored(age="5"), requested_at=NOW + 1000)
    assert current_age(rushed, NOW) == 5


@pytest.mark.parametrize("said", ["", "-1", "1.5", "old", "1, 2", "1, 1", "²"])
def test_an_age_that_cannot_be_believed_makes_it_stale(said: str) -> None:
    assert current_age(stored(age=said), NOW) == math.inf


def test_two_lines_of_age_make_it_stale_whatever_they_say() -> None:
    one = msgspec.structs.replace(stored(), fields=Fields((("age", "1"), ("age", "1"))))
    assert current_age(one, NOW) == math.inf


# Lifetime (§4.2.1)


def test_s_maxage_goes_before_max_age_and_max_age_before_expires() -> None:
    said = {"date": date(), "expires": date(10)}
    assert lasting(**said) == 10
    assert lasting(cache_control="max-age=20", **said) == 20
    assert lasting(cache_control="max-age=20, s-maxage=30", **said) == 30


def test_s_maxage_means_nothing_to_a_cache_of_one() -> None:
    assert lasting(200, PRIVATE, cache_control="max-age=20, s-maxage=30") == 20


def test_expires_counts_from_date_and_without_one_from_when_it_came() -> None:
    assert lasting(expires=date(10), date=date(-5)) == 15
    assert lasting(expires=date(10)) == 10
    assert lasting(expires=date(10), date="yesterday") == 10


@pytest.mark.parametrize("said", ["0", "-1", "", "tomorrow", date(-10), f"{date(10)}, {date(20)}"])
def test_expires_that_is_past_or_no_date_is_stale_at_once(said: str) -> None:
    # §5.3
    assert lasting(expires=said, date=date(), last_modified=date(-100_000)) == 0


def test_two_lines_of_expires_count_only_where_they_agree() -> None:
    agreed = Fields((("expires", date(10)), ("expires", date(10)), ("date", date())))
    assert explicit_lifetime(agreed, NOW, SHARED) == 10
    parted = Fields((("expires", date(10)), ("expires", date(20)), ("date", date())))
    assert explicit_lifetime(parted, NOW, SHARED) == 0


def test_max_age_that_nobody_can_read_is_stale_though_expires_is_not() -> None:
    assert lasting(cache_control="max-age=a lot", expires=date(10)) == 0


def test_without_a_word_there_is_no_explicit_lifetime() -> None:
    assert explicit_lifetime(Fields().replaced(cache_control="public"), NOW, SHARED) is None


def test_it_is_fresh_up_to_its_lifetime_and_not_at_it() -> None:
    # §4.2: freshness_lifetime > current_age
    one = stored(cache_control=MINUTE)
    assert freshness_left(one, NOW + 59, SHARED) > 0
    assert freshness_left(one, NOW + 60, SHARED) == 0


# A guess (§4.2.2)


@pytest.mark.parametrize("status", sorted(HEURISTIC_STATUSES))
def test_a_tenth_of_the_time_since_its_change_is_the_guess(status: int) -> None:
    assert lasting(status, last_modified=date(-1000), date=date()) == 100


@pytest.mark.parametrize("status", [201, 302, 307, 400, 403, 500, 599])
def test_for_other_statuses_nothing_is_guessed_unless_it_is_public(status: int) -> None:
    assert lasting(status, last_modified=date(-1000)) == 0
    assert lasting(status, last_modified=date(-1000), cache_control="public") == 100


def test_nothing_is_guessed_where_something_is_said() -> None:
    assert lasting(cache_control="max-age=0", last_modified=date(-1000)) == 0


def test_no_guess_is_longer_than_a_day() -> None:
    assert lasting(last_modified="Sun, 06 Nov 1994 08:49:37 GMT") == HEURISTIC_MAX_S


@pytest.mark.parametrize("said", [date(1000), "long ago", ""])
def test_a_change_to_come_or_no_date_of_it_gives_no_guess(said: str) -> None:
    assert lasting(last_modified=said) == 0


# Targeted fields (RFC 9213 §2.2)


def test_the_first_targeted_field_of_the_list_replaces_the_others_cache_control_and_expires() -> None:
    said = {"cache_control": "no-store", "expires": date(10), "cdn_cache_control": "max-age=20"}
    assert lasting(200, TARGETED, **said) == 20
    assert lasting(200, TARGETED, ours_cache_control="max-age=30", **said) == 30


def test_a_targeted_field_without_freshness_lets_expires_say_nothing() -> None:
    said = Fields().replaced(cdn_cache_control="public", expires=date(10))
    assert explicit_lifetime(said, NOW, TARGETED) is None


@pytest.mark.parametrize("said", ["", "max-age=20,", "Max-Age=20", "max-age=20 &"])
def test_a_targeted_field_that_is_no_dictionary_is_ignored(said: str) -> None:
    assert lasting(200, TARGETED, cdn_cache_control=said, cache_control="max-age=5") == 5


def test_a_targeted_field_that_is_not_ours_says_nothing() -> None:
    of = Fields().replaced(cdn_cache_control="no-store", cache_control="max-age=5")
    said, targeted = response_directives(of, SHARED)
    assert not targeted
    assert "no-store" not in said


# Whatever a peer sends


@given(HOSTILE_RESPONSES | RESPONSES, AGES_S, st.floats(0, 100), MANNERS)
def test_age_and_lifetime_are_never_negative_nor_without_bounds(
    told: Response, after_s: float, took_s: float, manner: Manner
) -> None:
    one = Stored(id="one", status=told.status, fields=told.fields, requested_at=NOW - took_s, received_at=NOW)
    assert current_age(one, NOW + after_s) >= 0
    assert current_age(one, NOW + after_s) >= after_s
    assert 0 <= lifetime(told.status, told.fields, NOW, manner) <= max(DELTA_SECONDS_MAX, 10**12)


@given(HOSTILE_RESPONSES | RESPONSES, AGES_S, AGES_S, MANNERS)
def test_nothing_gets_fresher_by_waiting(told: Response, one_s: float, more_s: float, manner: Manner) -> None:
    one = Stored(id="one", status=told.status, fields=told.fields, requested_at=NOW, received_at=NOW)
    assert freshness_left(one, NOW + one_s + more_s, manner) <= freshness_left(one, NOW + one_s, manner)
