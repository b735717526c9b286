"""An explanation says what a director would do, by the very rules it goes by."""

from __future__ import annotations

import msgspec
from hypothesis import given

from datacenters import explaining, record, verdict
from datacenters.explaining import Status
from datacenters.record import Phase, Policy, Record
from datacenters.verdict import Fenced, Observation, Verdict
from tests.datacenters.worlds import NOW, OBSERVATIONS, RECORDS, all_well, declared, rabat_lost


def test_a_healthy_country_stays_and_says_why() -> None:
    explanation = explaining.explain(declared(), all_well(), now=NOW)
    assert (explanation.verdict, explanation.would_move, explanation.target) == (
        Verdict.HEALTHY,
        False,
        "marrakech",
    )
    assert explanation.conclusion == "rabat stays active; refused by: verdict-allows"


def test_a_lost_site_is_moved_away_from() -> None:
    explanation = explaining.explain(declared(), rabat_lost(), now=NOW)
    assert explanation.would_move
    assert "takes over" in explanation.conclusion


def test_a_hold_and_a_switched_off_policy_are_named() -> None:
    held = declared(phase=Phase.HOLD, policy=Policy(auto=False))
    explanation = explaining.explain(held, rabat_lost(), now=NOW)
    assert not explanation.would_move
    assert explanation.conclusion.endswith("refused by: auto, not-held")


def test_a_move_under_way_is_waited_for() -> None:
    under_way = declared(epoch=2, phase=Phase.PROMOTING, target="marrakech")
    explanation = explaining.explain(under_way, all_well(), now=NOW)
    assert not explanation.would_move
    assert "before marrakech is active" in explanation.conclusion


def test_without_any_director_nothing_is_concluded() -> None:
    explanation = explaining.explain(declared(), {}, now=NOW)
    assert (explanation.target, explanation.would_move) == (None, False)
    assert "no other datacenter is observed" in explanation.sentence


@given(RECORDS, OBSERVATIONS)
def test_it_agrees_with_what_a_director_would_do(found: Record, observations: dict[str, Observation]) -> None:
    explanation = explaining.explain(found, observations, now=NOW)
    if explanation.target is None or found.serving is None:
        assert not explanation.would_move
        return
    judgement = verdict.judge(observations, active=found.active, target=explanation.target)
    claim = record.claim(found, target=explanation.target, reason="", evidence={}, now=NOW, by="x")
    assert explanation.would_move == (judgement.allows_move and isinstance(claim, Record))


@given(RECORDS, OBSERVATIONS)
def test_every_state_can_be_told_in_text_and_json(
    found: Record, observations: dict[str, Observation]
) -> None:
    explanation = explaining.explain(found, observations, now=NOW)
    text = explaining.explanation_text(explanation)
    assert all(rule.name in text and rule.sentence in text for rule in explanation.rules)
    status = Status(record=found, observations=observations)
    assert f"epoch {found.epoch}" in explaining.status_text(status, now=NOW)
    assert msgspec.json.decode(msgspec.json.encode(explanation))["would_move"] is explanation.would_move


def test_a_fenced_site_is_shown_with_its_counts_alone() -> None:
    seen = all_well()
    for fenced, line in (
        (Fenced(stage="fenced"), "rabat      FENCED (fenced): its history is over, it takes no write"),
        (
            Fenced(stage="listed", orphans=3),
            "FENCED (listed): its history is over, it takes no write; 3 writes listed",
        ),
        (
            Fenced(stage="rejoined", orphans=3, absent=2),
            "REJOINED: 3 writes of its old history in quarantine, 2 of",
        ),
    ):
        seen["rabat"] = msgspec.structs.replace(seen["rabat"], fenced=fenced)
        assert line in explaining.status_text(Status(record=declared(), observations=seen), now=NOW)
