"""What an order is refused for, and what it may cost, in the words an operator reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from datacenters import preflight
from datacenters.preflight import Situation
from datacenters.record import OtherWriters, Phase, Policy, Protection
from datacenters.verdict import Health, Observation
from tests.datacenters.worlds import all_well, declared, rabat_lost, seen, silent, standby


def situation(observations: dict[str, Observation] | None = None, **changes: Any) -> Situation:
    return Situation(record=declared(**changes), observations=observations or all_well())


def broken(rules: tuple[Any, ...]) -> set[str]:
    return {rule.name for rule in rules if not rule.holds}


def test_with_all_well_a_switchover_may_begin() -> None:
    assert broken(preflight.switchover_rules(situation(), target="marrakech")) == set()


@pytest.mark.parametrize(
    ("observations", "changes", "rule"),
    [
        (None, {"phase": Phase.PROMOTING}, "idle"),
        (None, {"protection": Protection.NONE}, "protected"),
        ({"marrakech": all_well()["marrakech"]}, {}, "directors"),
        (rabat_lost(), {}, "active-answers"),
        ({**all_well(), "marrakech": seen("marrakech", silent(), standby(lag_s=4.0))}, {}, "close-behind"),
        ({**all_well(), "marrakech": seen("marrakech", silent(), standby(lag_s=None))}, {}, "close-behind"),
        (
            {**all_well(), "marrakech": seen("marrakech", silent(), standby(receipt_age_s=5.0))},
            {},
            "receives",
        ),
        ({**all_well(), "marrakech": seen("marrakech", silent(), silent())}, {}, "target-answers"),
    ],
)
def test_each_rule_of_a_switchover_stands_by_itself(
    observations: dict[str, Observation] | None, changes: dict[str, Any], rule: str
) -> None:
    rules = preflight.switchover_rules(situation(observations, **changes), target="marrakech")
    assert rule in broken(rules)
    assert all(one.sentence for one in rules)


def test_to_where_it_stands_nothing_switches() -> None:
    assert "other-site" in broken(preflight.switchover_rules(situation(), target="rabat"))


def test_a_failover_needs_only_somebody_to_take_over() -> None:
    late = situation(rabat_lost(receipt_age_s=500.0), policy=Policy(auto=False), moves=(1.0,))
    rules = preflight.failover_rules(late, target="marrakech")
    assert "stream-was-alive" in broken(rules)
    assert preflight.failover_refusal(rules) is None
    gone = situation({"witness": seen("witness", silent(), silent())})
    refusal = preflight.failover_refusal(preflight.failover_rules(gone, target="marrakech"))
    assert refusal == "marrakech's director does not see its datacenter answer"
    moving = situation(rabat_lost(), phase=Phase.PROMOTING, target="marrakech")
    assert (
        preflight.failover_refusal(preflight.failover_rules(moving, target="marrakech")) == "phase PROMOTING"
    )


def test_while_the_active_site_answers_a_failover_says_there_is_a_better_way() -> None:
    rules = preflight.failover_rules(situation(), target="marrakech")
    assert broken(rules) == {"active-is-away"}
    assert preflight.failover_refusal(rules) is None


def test_what_a_failover_may_lose_is_said_in_numbers() -> None:
    ahead = silent(silent_s=2.6)
    ahead = msgspec.structs.replace(ahead, health=Health(role="primary", epoch=1, position="1-5009"))
    risk = preflight.at_risk(
        Situation(
            record=declared(),
            observations={site: seen(site, ahead, standby()) for site in ("marrakech", "witness")},
            journal_records=12,
        ),
        target="marrakech",
    )
    assert (risk.behind_bytes, risk.active_position, risk.target_position) == (5000, "1-5009", "1-9")
    assert "marrakech lacks 5000 bytes" in risk.sentence
    assert "as rabat was last seen 2.6 s ago" in risk.sentence
    assert "the journal holds 12 acknowledged writes" in risk.sentence


def test_what_cannot_be_known_is_said_to_be_unknown() -> None:
    unknown = situation({"witness": seen("witness", silent(), silent())})
    assert preflight.at_risk(unknown, target="nowhere").behind_bytes is None
    assert "cannot be known" in preflight.at_risk(unknown, target="nowhere").sentence
    unprotected = situation(
        rabat_lost(), protection=Protection.NONE, policy=Policy(other_writers=OtherWriters.ASYNCHRONOUS)
    )
    sentence = preflight.at_risk(unprotected, target="marrakech").sentence
    assert "acknowledged writes may be in neither" in sentence
    assert "other programs write asynchronous" in sentence


def test_evidence_is_plain_and_names_what_was_broken() -> None:
    late = situation(rabat_lost())
    rules = preflight.failover_rules(late, target="marrakech")
    found = preflight.evidence(late, order="failover", rules=rules)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert found["broken"] == []
    assert set(found["observations"]) == {"marrakech", "witness"}
