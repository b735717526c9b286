"""Transitions keep the invariants of the record: epochs rise, one site serves per epoch, rules bind."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import record
from datacenters.record import DAY_S, OtherWriters, Phase, Policy, Protection, Record, Refusal
from tests.datacenters.worlds import NOW, RECORDS, SITES, declared


def claim(
    held: Record, *, target: str = "marrakech", now: float = NOW, clocks: Sequence[float] = ()
) -> Record | Refusal:
    return record.claim(
        held, target=target, reason="it burns", evidence={"x": 1}, now=now, by="director:m", clocks=clocks
    )


def claimed(
    held: Record, *, target: str = "marrakech", now: float = NOW, clocks: Sequence[float] = ()
) -> Record:
    after = claim(held, target=target, now=now, clocks=clocks)
    assert isinstance(after, Record)
    return after


def activated(held: Record, *, site: str = "marrakech", now: float = NOW) -> Record:
    replaying = record.begin_replay(held, site=site, switch_position="1-77", now=now, by="director:m")
    assert isinstance(replaying, Record)
    after = record.activate(replaying, site=site, now=now, by="director:m")
    assert isinstance(after, Record)
    return after


def test_a_move_is_a_claim_a_replay_and_an_activation_at_the_same_epoch() -> None:
    under_way = claimed(declared())
    assert (under_way.epoch, under_way.phase, under_way.active, under_way.target) == (
        2,
        Phase.PROMOTING,
        "rabat",
        "marrakech",
    )
    assert under_way.serving is None
    replaying = record.begin_replay(
        under_way, site="marrakech", switch_position="1-77", now=NOW, by="director:m"
    )
    assert isinstance(replaying, Record)
    assert (replaying.epoch, replaying.phase, replaying.active, replaying.serving) == (
        2,
        Phase.REPLAYING,
        "rabat",
        None,
    )
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
        record.freeze(held, target=site, reason="r", evidence={}, now=now, by="x"),
        record.seal(held, site=site, frozen_position="1-1", now=now, by="x"),
        record.begin_replay(held, site=site, switch_position="1-1", now=now, by="x"),
        record.activate(held, site=site, now=now, by="x"),
        record.hold(held, reason="r", now=now, by="x"),
        record.release(held, reason="r", now=now, by="x"),
        record.stop_writes(held, reason="r", now=now, by="x"),
        record.allow_writes(held, reason="r", now=now, by="x"),
        record.protect(held, protection=Protection.NONE, reason="r", now=now, by="x"),
    ):
        if isinstance(after, Record):
            assert (after.epoch, after.moves, after.policy) == (held.epoch, held.moves, held.policy)
            assert after.serving in {None, held.serving, held.target, held.active}


@given(RECORDS, st.sampled_from(SITES), st.floats(NOW - 1000, NOW + 1000))
def test_every_claim_and_every_abort_raises_the_epoch_by_one(held: Record, site: str, now: float) -> None:
    for after in (
        claim(held, target=site, now=now),
        record.failover(held, target=site, reason="r", evidence={}, now=now, by="x"),
        record.claim_sealed(held, site=site, now=now, by="x"),
        record.abort(held, reason="r", now=now, by="x"),
    ):
        if isinstance(after, Record):
            assert after.epoch == held.epoch + 1
            assert after.active == held.active
            assert after.serving in {None, held.active}


def switching() -> Record:
    """A planned switchover to Marrakech whose writes have just been frozen."""
    after = record.freeze(
        declared(), target="marrakech", reason="works", evidence={}, now=NOW, by="operator:a"
    )
    assert isinstance(after, Record)
    return after


def test_a_switchover_freezes_seals_claims_and_ends_at_the_next_epoch() -> None:
    freezing = switching()
    assert (freezing.epoch, freezing.phase, freezing.serving, freezing.planned) == (
        1,
        Phase.FREEZING,
        None,
        True,
    )
    sealed = record.seal(freezing, site="rabat", frozen_position="1-900", now=NOW, by="director:r")
    assert isinstance(sealed, Record)
    assert (sealed.phase, sealed.frozen_position) == (Phase.SEALING, "1-900")
    under_way = record.claim_sealed(sealed, site="marrakech", now=NOW, by="director:m")
    assert isinstance(under_way, Record)
    assert (under_way.epoch, under_way.phase, under_way.planned, under_way.moves) == (
        2,
        Phase.PROMOTING,
        True,
        (),
    )
    done = activated(under_way)
    assert (done.active, done.planned, done.frozen_position, done.serving) == (
        "marrakech",
        False,
        None,
        "marrakech",
    )


def test_a_step_of_a_switchover_belongs_to_one_site_alone() -> None:
    freezing = switching()
    assert isinstance(
        record.seal(freezing, site="marrakech", frozen_position="1-9", now=NOW, by="x"), Refusal
    )
    sealed = record.seal(freezing, site="rabat", frozen_position="1-9", now=NOW, by="x")
    assert isinstance(sealed, Record)
    assert isinstance(record.seal(sealed, site="rabat", frozen_position="1-9", now=NOW, by="x"), Refusal)
    assert isinstance(record.claim_sealed(sealed, site="rabat", now=NOW, by="x"), Refusal)
    assert isinstance(record.claim_sealed(freezing, site="marrakech", now=NOW, by="x"), Refusal)


@pytest.mark.parametrize("phase", [Phase.FREEZING, Phase.SEALING, Phase.PROMOTING, Phase.REPLAYING])
def test_an_aborted_move_leaves_the_same_site_serving_under_a_new_epoch(phase: Phase) -> None:
    under_way = declared(epoch=4, phase=phase, target="marrakech", planned=True, frozen_position="1-9")
    back = record.abort(under_way, reason="too slow", now=NOW, by="director:r")
    assert isinstance(back, Record)
    assert (back.epoch, back.phase, back.serving, back.target) == (5, Phase.ACTIVE, "rabat", None)
    assert (back.planned, back.frozen_position) == (False, None)


@pytest.mark.parametrize("phase", [Phase.ACTIVE, Phase.HOLD, Phase.READ_ONLY])
def test_there_is_nothing_to_abort_while_no_move_is_under_way(phase: Phase) -> None:
    assert isinstance(record.abort(declared(phase=phase), reason="r", now=NOW, by="x"), Refusal)


def test_a_human_may_fail_over_against_dwell_count_hold_and_policy_but_not_during_a_move() -> None:
    moved = activated(claimed(declared(policy=Policy(moves_per_day=1))))
    for held in (moved, record.hold(moved, reason="h", now=NOW, by="o")):
        assert isinstance(held, Record)
        ordered = record.failover(held, target="rabat", reason="flood", evidence={}, now=NOW, by="operator:a")
        assert isinstance(ordered, Record)
        assert (ordered.phase, ordered.target, ordered.moves) == (Phase.PROMOTING, "rabat", moved.moves)
        again = record.failover(ordered, target="rabat", reason="r", evidence={}, now=NOW, by="operator:a")
        assert isinstance(again, Refusal)


def test_nothing_moves_by_itself_while_writes_are_unprotected() -> None:
    bare = record.protect(
        declared(), protection=Protection.NONE, reason="journal full", now=NOW, by="director:r"
    )
    assert isinstance(bare, Record)
    refusal = claim(bare)
    assert isinstance(refusal, Refusal)
    assert "without a journal record" in refusal.reason
    frozen = record.freeze(bare, target="marrakech", reason="r", evidence={}, now=NOW, by="o")
    assert isinstance(frozen, Refusal)


def test_protection_comes_back_by_way_of_returning() -> None:
    def turned(held: Record, to: Protection) -> Record | Refusal:
        return record.protect(held, protection=to, reason="r", now=NOW, by="director:r")

    bare = turned(declared(), Protection.NONE)
    assert isinstance(bare, Record)
    assert isinstance(turned(bare, Protection.JOURNAL), Refusal)
    returning = turned(bare, Protection.RETURNING)
    assert isinstance(returning, Record)
    assert isinstance(claim(returning), Refusal)
    assert isinstance(turned(returning, Protection.NONE), Record)
    back = turned(returning, Protection.JOURNAL)
    assert isinstance(back, Record)
    assert claimed(back).epoch == 2


def test_other_programs_that_write_without_waiting_for_the_standby_forbid_automatic_moves() -> None:
    refusal = claim(declared(policy=Policy(other_writers=OtherWriters.ASYNCHRONOUS)))
    assert isinstance(refusal, Refusal)
    assert claimed(declared(policy=Policy(other_writers=OtherWriters.SYNCHRONOUS))).epoch == 2


def test_stopped_writes_are_allowed_again_at_the_same_site_and_epoch() -> None:
    stopped = record.stop_writes(declared(), reason="r", now=NOW, by="o")
    assert isinstance(stopped, Record)
    assert stopped.serving is None
    assert isinstance(claim(stopped), Refusal)
    allowed = record.allow_writes(stopped, reason="r", now=NOW, by="o")
    assert isinstance(allowed, Record)
    assert (allowed.epoch, allowed.serving) == (1, "rabat")


@given(RECORDS, st.floats(NOW - 1000, NOW + 1000))
def test_no_automatic_move_when_a_rule_is_broken(held: Record, now: float) -> None:
    target = next(site for site in SITES if site != held.active)
    after = claim(held, target=target, now=now)
    policy = held.policy
    refused = (
        not policy.auto
        or held.protection is not Protection.JOURNAL
        or policy.other_writers is OtherWriters.ASYNCHRONOUS
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


def test_one_wrong_clock_does_not_shorten_the_dwell() -> None:
    moved = activated(claimed(declared()))
    assert isinstance(claim(moved, target="rabat", now=NOW + 3600, clocks=[NOW + 10]), Refusal)
    by_a_clock_behind = activated(claimed(declared(), now=NOW - 3600, clocks=[NOW]), now=NOW)
    assert isinstance(claim(by_a_clock_behind, target="rabat", now=NOW + 10), Refusal)
    assert isinstance(claim(by_a_clock_behind, target="rabat", now=NOW + 901), Record)


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
        assert isinstance(
            record.begin_replay(held, site=site, switch_position="1-1", now=NOW, by="x"), Refusal
        )
        assert isinstance(record.activate(held, site=site, now=NOW, by="x"), Refusal)


def test_no_site_serves_before_its_replay_began() -> None:
    assert isinstance(record.activate(claimed(declared()), site="marrakech", now=NOW, by="x"), Refusal)


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
