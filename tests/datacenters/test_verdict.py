"""A verdict that allows a move needs two sites, time, and a standby that is ready."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters import verdict
from datacenters.verdict import Judgement, Look, Observation, Verdict
from tests.datacenters.worlds import OBSERVATIONS, all_well, primary, rabat_lost, seen, silent, standby

MANY = 50


def judge(observations: dict[str, Observation]) -> Judgement:
    return verdict.judge(observations, active="rabat", target="marrakech")


def missed(observation: Observation, failures: int, silent_s: float) -> Observation:
    look = msgspec.structs.replace(observation.looks["rabat"], failures=failures, silent_s=silent_s)
    return msgspec.structs.replace(observation, looks={**observation.looks, "rabat": look})


def test_answering_everybody_is_healthy() -> None:
    judgement = judge(all_well())
    assert (judgement.verdict, judgement.allows_move) == (Verdict.HEALTHY, False)


def test_no_answer_at_two_sites_and_no_wal_is_dead() -> None:
    judgement = judge(rabat_lost())
    assert judgement.verdict is Verdict.DEAD
    assert judgement.sites == ("marrakech", "witness")
    assert judgement.allows_move
    assert "no WAL for 2.6 s" in judgement.sentence


def test_wal_still_arriving_is_waited_on_for_ten_seconds_and_then_unreachable() -> None:
    assert judge(rabat_lost(receipt_age_s=0.3, silent_s=9.9)).verdict is Verdict.WAIT
    assert judge(rabat_lost(receipt_age_s=0.3, silent_s=10.0)).verdict is Verdict.UNREACHABLE


def test_dead_needs_the_whole_wal_silence() -> None:
    assert judge(rabat_lost(receipt_age_s=2.39)).verdict is Verdict.WAIT
    assert judge(rabat_lost(receipt_age_s=2.4)).verdict is Verdict.DEAD


@pytest.mark.parametrize("alone", ["marrakech", "witness"])
def test_one_site_alone_is_never_enough(alone: str) -> None:
    observations = rabat_lost()
    other = "witness" if alone == "marrakech" else "marrakech"
    observations[other] = seen(other, primary(), standby(receipt_age_s=60.0))
    judgement = judge(observations)
    assert judgement.verdict is Verdict.WAIT
    assert "two sites" in judgement.sentence


def test_two_other_sites_do_not_decide_for_a_target_that_sees_an_answer() -> None:
    observations = rabat_lost()
    observations["rabat"] = seen("rabat", silent(), standby())
    observations["marrakech"] = seen("marrakech", primary(), standby(receipt_age_s=60.0))
    assert not judge(observations).allows_move


def test_users_failing_at_two_sites_for_ten_seconds_is_gray() -> None:
    observations = all_well()
    for site, failing_s in (("rabat", 11.0), ("marrakech", 10.0)):
        observations[site] = seen(site, primary(), standby(), failed=MANY, rabat=failing_s)
    judgement = judge(observations)
    assert (judgement.verdict, judgement.sites) == (Verdict.GRAY, ("marrakech", "rabat"))
    observations["rabat"] = seen("rabat", primary(), standby(), failed=MANY, rabat=9.9)
    assert judge(observations).verdict is Verdict.HEALTHY


@pytest.mark.parametrize(("at_rabat", "at_marrakech"), [(1, 1), (0, 9), (4, 5), (0, 0)])
def test_a_few_users_failing_are_waited_on_however_long_and_wherever(
    at_rabat: int, at_marrakech: int
) -> None:
    observations = all_well()
    for site, failed in (("rabat", at_rabat), ("marrakech", at_marrakech)):
        observations[site] = seen(site, primary(), standby(), failed=failed, rabat=3600.0)
    judgement = judge(observations)
    assert (judgement.verdict, judgement.allows_move) == (Verdict.WAIT, False)
    assert (
        f"{at_rabat + at_marrakech} of late; {verdict.GRAY_USERS_MIN} of them are asked" in judgement.sentence
    )
    observations["rabat"] = seen(
        "rabat", primary(), standby(), failed=verdict.GRAY_USERS_MIN - at_marrakech, rabat=3600.0
    )
    assert judge(observations).verdict is Verdict.GRAY


def test_users_who_failed_elsewhere_do_not_make_up_the_number() -> None:
    observations = {
        site: seen(site, primary(), standby(), failed=2, rabat=60.0) for site in ("rabat", "marrakech")
    }
    observations["witness"] = seen("witness", primary(), standby(), failed=MANY, rabat=9.9)
    assert judge(observations).verdict is Verdict.WAIT


def test_a_few_failing_users_beside_an_unready_standby_are_no_case_of_both_bad() -> None:
    observations = {
        site: seen(site, primary(), silent(), failed=1, rabat=60.0) for site in ("rabat", "marrakech")
    }
    assert judge(observations).verdict is Verdict.WAIT


def test_users_of_the_standby_failing_say_nothing_of_the_active_one() -> None:
    observations = {
        site: seen(site, primary(), standby(), failed=MANY, marrakech=60.0) for site in ("rabat", "marrakech")
    }
    assert judge(observations).verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("own", "lacking"),
    [
        (silent(), "does not see its datacenter answer"),
        (primary(), "says it is a primary"),
        (standby(lag_s=None, receipt_age_s=2.6), "does not know its replay lag"),
        (standby(receipt_age_s=None), "never received"),
        (standby(receipt_age_s=3600.0), "behind when rabat was last seen"),
    ],
)
def test_without_a_ready_standby_both_are_bad_and_nobody_moves(own: Look, lacking: str) -> None:
    observations = rabat_lost()
    observations["marrakech"] = seen("marrakech", silent(silent_s=2.6), own)
    judgement = judge(observations)
    assert (judgement.verdict, judgement.allows_move) == (Verdict.BOTH_BAD, False)
    assert lacking in judgement.sentence


def test_a_gray_active_with_a_standby_that_lost_its_stream_stays() -> None:
    observations = {
        site: seen(site, primary(), standby(receipt_age_s=30.0), failed=MANY, rabat=20.0)
        for site in ("rabat", "marrakech")
    }
    assert judge(observations).verdict is Verdict.BOTH_BAD


def test_a_long_outage_does_not_make_a_good_standby_look_left_behind() -> None:
    assert judge(rabat_lost(receipt_age_s=3600.0, silent_s=3599.0)).verdict is Verdict.DEAD


def test_nobody_publishing_is_no_reason_to_move() -> None:
    assert judge({}).verdict is Verdict.WAIT


@given(OBSERVATIONS)
def test_a_move_always_rests_on_two_sites_and_a_ready_target(observations: dict[str, Observation]) -> None:
    judgement = judge(observations)
    if not judgement.allows_move:
        return
    assert len(judgement.sites) >= 2
    assert set(judgement.sites) <= set(observations)
    assert all(rule.holds for rule in judgement.readiness)
    own = observations["marrakech"].looks["marrakech"]
    assert own.health is not None
    assert (own.failures, own.health.role) == (0, "standby")
    if judgement.verdict is Verdict.GRAY:
        failed = sum(observations[site].users_failed.get("rabat", 0) for site in judgement.sites)
        assert failed >= verdict.GRAY_USERS_MIN
        return
    assert "marrakech" in judgement.sites
    for site in judgement.sites:
        assert observations[site].looks["rabat"].failures >= verdict.FAILED_PROBES_MIN
    if judgement.verdict is Verdict.DEAD:
        assert (own.health.receipt_age_s or 0.0) >= verdict.WAL_SILENT_S


@given(OBSERVATIONS, st.sampled_from(["rabat", "marrakech", "witness"]))
def test_one_site_can_never_move_it_alone(observations: dict[str, Observation], only: str) -> None:
    assert not judge({site: it for site, it in observations.items() if site == only}).allows_move


@given(st.integers(0, 3), st.integers(0, 12), st.floats(0, 60))
def test_a_few_missed_probes_never_move_it(few: int, many: int, age_s: float) -> None:
    observations = {
        site: seen(site, primary(), standby(receipt_age_s=age_s)) for site in ("marrakech", "witness")
    }
    observations = {
        "marrakech": missed(observations["marrakech"], few, 30.0),
        "witness": missed(observations["witness"], many, 30.0),
    }
    assert not judge(observations).allows_move


@given(OBSERVATIONS)
def test_evidence_is_plain_and_complete(observations: dict[str, Observation]) -> None:
    judgement = judge(observations)
    evidence = msgspec.json.decode(msgspec.json.encode(judgement.evidence(observations)))
    assert evidence["verdict"] == judgement.verdict
    assert set(evidence["observations"]) == set(observations)
