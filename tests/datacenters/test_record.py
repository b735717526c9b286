"""Transitions keep the invariants of the record: epochs rise, one site serves per epoch, rules bind."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import record
from datacenters.record import DAY_S, Phase, Policy, Record, Refusal
from tests.datacenters.worlds import NOW, RECORDS, SITES, declared


def claim(held: Record, *, target: str = "marrakech", now: float = NOW) -> Record | Refusal:
    return record.claim(held, target=target, reason="it burns", evidence={"x": 1}, now=now, by="director:m")


def claimed(held: Record, *, target: str = "marrakech", now: float = NOW) -> Record:
    after = claim(held, target=target, now=now)
    assert isinstance(after, Record)
    return after


def activated(held: Record, *, site: str = "marrakech", now: float = NOW) -> Record:
    after = record.activate(held, site=site, switch_position="1-77", now=now, by="director:m")
    assert isinstance(after, Record)
    return after


def test_a_move_is_a_claim_and_then_an_activation_at_the_same_epoch() -> None:
    under_way = claimed(declared())
    assert (under_way.epoch, under_way.phase, under_way.active, under_way.target) == (
        2,
        Phase.PROMOTING,
        "rabat",
        "marrakech",
    )
    assert under_way.serving is None
    done = activated(under_way)
    assert (done.epoch, done.phase, done.active, done.target, done.switch_position) == (
        2,
        Phase.ACTIVE,
        "marrakech",
        None,
        "1-77",
    )
    assert done.serving == "marrakech"


@given(RECORDS)
def test_a_record_survives_etcd(held: Record) -> None:
    assert record.decode(record.encode(held)) == held
    assert record.encode(record.decode(record.encode(held))) == record.encode(held)


@given(RECORDS, st.sampled_from(SITES), st.floats(NOW - 1000, NOW + 1000))
def test_every_claim_raises_the_epoch_by_one_and_serves_nobody(held: Record, target: str, now: float) -> None:
    after = claim(held, target=target, now=now)
    if isinstance(after, Record):
        assert after.epoch == held.epoch + 1
        assert after.serving is None
        assert after.active == held.active != target
        assert after.moves[-1] == now


@given(RECORDS, st.sampled_from(SITES), st.floats(NOW - 1000, NOW + 1000))
def test_no_other_transition_changes_the_epoch_or_the_moves(held: Record, site: str, now: float) -> None:
    for after in (
        record.activate(held, site=site, switch_position="1-1", now=now, by="x"),
        record.hold(held, reason="r", now=now, by="x"),
        record.release(held, reason="r", now=now, by="x"),
    ):
        if isinstance(after, Record):
            assert (after.epoch, after.moves, after.policy) == (held.epoch, held.moves, held.policy)
            assert after.serving == (held.serving or held.target)


@given(RECORDS, st.floats(NOW - 1000, NOW + 1000))
def test_no_automatic_move_when_a_rule_is_broken(held: Record, now: float) -> None:
    target = next(site for site in SITES if site != held.active)
    after = claim(held, target=target, now=now)
    policy = held.policy
    refused = (
        not policy.auto
        or held.phase is not Phase.ACTIVE
        or sum(now - at < DAY_S for at in held.moves) >= policy.moves_per_day
        or any(0 <= now - at < policy.dwell_s or now < at for at in held.moves if policy.dwell_s)
    )
    assert isinstance(after, Refusal) == refused
    assert refused == any(not rule.holds for rule in record.rules(held, target=target, now=now))


@pytest.mark.parametrize("since_s", [0, 1, 899.9, -5, -100_000])
def test_no_second_move_within_the_dwell_even_when_the_clock_went_back(since_s: float) -> None:
    moved = activated(claimed(declared()))
    refusal = claim(moved, target="rabat", now=NOW + since_s)
    assert isinstance(refusal, Refusal)
    assert "at least 900 s" in refusal.reason


def test_a_second_move_after_the_dwell_and_a_third_only_the_next_day() -> None:
    once = activated(claimed(declared()))
    twice = activated(claimed(once, target="rabat", now=NOW + 900), site="rabat", now=NOW + 900)
    assert twice.epoch == 3
    third = claim(twice, now=NOW + 5_000)
    assert isinstance(third, Refusal)
    assert "2 automatic moves in 24 h" in third.reason
    assert claimed(twice, now=NOW + DAY_S + 901).epoch == 4


def test_a_held_record_serves_but_does_not_move() -> None:
    held = record.hold(declared(), reason="exam week", now=NOW, by="operator:a")
    assert isinstance(held, Record)
    assert held.serving == "rabat"
    refusal = claim(held)
    assert isinstance(refusal, Refusal)
    assert "a human holds" in refusal.reason
    released = record.release(held, reason="over", now=NOW, by="operator:a")
    assert isinstance(released, Record)
    assert claimed(released).epoch == 2


def test_release_does_not_shorten_the_dwell() -> None:
    moved = activated(claimed(declared()))
    held = record.hold(moved, reason="h", now=NOW + 10, by="o")
    assert isinstance(held, Record)
    released = record.release(held, reason="r", now=NOW + 20, by="o")
    assert isinstance(released, Record)
    assert isinstance(claim(released, target="rabat", now=NOW + 30), Refusal)


def test_only_the_target_of_a_promotion_becomes_active() -> None:
    under_way = claimed(declared())
    for site, held in (("rabat", under_way), ("marrakech", declared())):
        assert isinstance(record.activate(held, site=site, switch_position="1-1", now=NOW, by="x"), Refusal)


def test_a_promotion_is_not_claimed_again_nor_held() -> None:
    under_way = claimed(declared())
    assert isinstance(claim(under_way, now=NOW + 10_000), Refusal)
    assert isinstance(record.hold(under_way, reason="h", now=NOW, by="o"), Refusal)


def test_switched_off_policy_refuses_with_its_reason() -> None:
    refusal = claim(declared(policy=Policy(auto=False)))
    assert isinstance(refusal, Refusal)
    assert "automatic moves are off" in refusal.reason


def test_a_refusal_names_every_broken_rule() -> None:
    refusal = claim(declared(policy=Policy(auto=False, moves_per_day=0)), target="rabat")
    assert isinstance(refusal, Refusal)
    assert refusal.reason.count(";") == 2


def test_remembered_moves_stay_few() -> None:
    busy = declared(policy=Policy(dwell_s=0, moves_per_day=1000))
    now = NOW
    for turn in range(40):
        now += 1
        target = SITES[1 - turn % 2]
        busy = activated(claimed(busy, target=target, now=now), site=target, now=now)
    assert len(busy.moves) == record.MOVES_KEPT_MAX
    assert busy.epoch == 41


def test_an_unknown_phase_is_no_record() -> None:
    raw = record.encode(declared()).replace(b'"ACTIVE"', b'"RELAXED"')
    with pytest.raises(msgspec.ValidationError):
        record.decode(raw)
