"""Each check of what the sites share, spoiled by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from datacenters import cluster_checks as checks
from datacenters.checkup import Checkup, Said, State
from datacenters.record import Phase, Policy, Protection
from tests.datacenters.examined import MEMBERS, members, situation, well
from tests.datacenters.worlds import NOW, declared, rabat_lost, seen, silent, standby

ALL = (
    checks.majority, checks.members, checks.version, checks.full, checks.alarm, checks.failover, checks.automatic,
    checks.stuck, checks.at_risk, checks.journal, checks.parked, checks.put_back,
)  # fmt: skip
LATE = {"marrakech": seen("marrakech", silent(), standby(lag_s=60.0))}


def recorded(**changes: Any) -> dict[str, Any]:
    return {"situation": situation(record=declared(**changes))}


@pytest.mark.parametrize("check", ALL)
def test_when_all_is_well_every_check_says_so(check: Callable[[Checkup], Said]) -> None:
    state, sentence = check(well())
    assert state is State.OK, sentence
    assert sentence


@pytest.mark.parametrize("check", ALL)
def test_what_could_not_be_looked_at_is_never_told_as_good(check: Callable[[Checkup], Said]) -> None:
    gone = tuple(type(one)(url=one.url, failure="ConnectError") for one in MEMBERS)
    state, sentence = check(well(members=gone, majority=False, situation=None, chain=None, clocks=None))
    if check not in {checks.alarm, checks.version}:
        assert state is not State.OK, sentence


@pytest.mark.parametrize(
    ("check", "changes", "state", "words"),
    [
        (checks.majority, {"majority": False}, State.WRONG, "no majority"),
        (checks.majority, {"members": members(leader=2)}, State.WRONG, "2 leaders"),
        (checks.members, {"members": members(failure="ReadTimeout")}, State.WRONG, "no answer from http://witness"),
        (checks.members, {"members": MEMBERS[:1]}, State.NOTICE, "1 of 3 members were asked"),
        (checks.put_back, recorded(epoch=0), State.WRONG, "declares epoch 0 and the sites know 1: it was put back"),
        (checks.version, {"members": members(version="3.5.1")}, State.WRONG, "3.5.1 may diverge"),
        (checks.version, {"members": members(version="3.5.1"), "sandbox": True}, State.NOTICE, "sandbox only"),
        (checks.version, {"members": members(version="3.4.33")}, State.NOTICE, "different versions"),
        (checks.full, {"members": members(size=80 << 20)}, State.WRONG, "80.0 MiB of a quota of 100.0 MiB (80%)"),
        (checks.full, {"members": members(size=1 << 40, quota=0)}, State.NOTICE, "quota it does not tell"),
        (checks.alarm, {"members": members(alarms=("NOSPACE",))}, State.WRONG, "raised: NOSPACE"),
        (checks.failover, {"situation": situation(observations={})}, State.WRONG, "nobody could take over"),
        (checks.failover, {"situation": situation(observations=LATE)}, State.OK, "could take over now"),
        (checks.failover, {"situation": situation(observations=rabat_lost(lag_s=None))}, State.WRONG, "its replay lag"),
        (checks.automatic, recorded(phase=Phase.HOLD), State.NOTICE, "held by tests"),
        (checks.automatic, recorded(phase=Phase.READ_ONLY), State.NOTICE, "writes are stopped"),
        (checks.automatic, recorded(policy=Policy(auto=False)), State.NOTICE, "off in the policy"),
        (checks.automatic, recorded(moves=(NOW + 3500,)), State.NOTICE, "100 s ago: none for 900 s"),
        (checks.stuck, recorded(phase=Phase.PROMOTING, target="marrakech"), State.WRONG, "PROMOTING for 3600 s"),
        (checks.stuck, recorded(phase=Phase.SEALING, target="m", decided_at=NOW + 3599), State.NOTICE, "for 1 s"),
        (checks.at_risk, {"situation": situation(observations=LATE)}, State.WRONG, "60.0 s behind"),
        (checks.at_risk, {"situation": situation(observations={})}, State.WRONG, "one site alone"),
        (checks.at_risk, recorded(protection=Protection.NONE), State.WRONG, "protection is none"),
        (checks.at_risk, {"journal_bytes": 77}, State.OK, "writes of 77 bytes"),
        (checks.journal, {"situation": situation(journal_records=60_000)}, State.WRONG, "60000 records"),
        (checks.parked, {"situation": situation(parked=2)}, State.WRONG, "2 acknowledged writes wait"),
    ],
)  # fmt: skip
def test_each_thing_that_can_be_wrong_is_found(
    check: Callable[[Checkup], Said], changes: dict[str, Any], state: State, words: str
) -> None:
    found, sentence = check(well(**changes))
    assert (found, words in sentence) == (state, True), (found, sentence)


def test_a_cluster_of_one_or_two_survives_no_loss() -> None:
    two = tuple(msgspec.structs.replace(one, members=("a", "b")) for one in MEMBERS[:2])
    assert checks.members(well(members=two)) == (
        State.WRONG,
        "the cluster has 2 members: it survives no loss",
    )
