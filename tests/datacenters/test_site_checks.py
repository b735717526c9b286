"""Each check of what a site stands on, spoiled by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from datacenters import site_checks as checks
from datacenters.audit_chain import START, Problem, Walk
from datacenters.checkup import Checkup, Said, State
from datacenters.clocks import Offset
from datacenters.ground import Disk, Ground
from datacenters.key_files import KeyFile
from tests.datacenters.examined import GROUND, MIB, situation, well
from tests.datacenters.worlds import NOW

ALL = (
    checks.slots, checks.disks, checks.directors, checks.clocks, checks.keys, checks.certificates, checks.audit,
    checks.audit_size,
)  # fmt: skip
SLOT = GROUND.slots[0]
DAY_S = 86_400.0


def slot(**changes: Any) -> dict[str, Any]:
    changed = msgspec.structs.replace(SLOT, **changes)
    return {"situation": situation(msgspec.structs.replace(GROUND, slots=(changed,)))}


def certificate(ends_in_s: float) -> dict[str, Any]:
    return {"keys": (KeyFile("rabat.crt", "certificate", ends_at=NOW + 3600 + ends_in_s),)}


@pytest.mark.parametrize("check", ALL)
def test_when_all_is_well_every_check_says_so(check: Callable[[Checkup], Said]) -> None:
    state, sentence = check(well())
    assert (state, bool(sentence)) == (State.OK, True), sentence


@pytest.mark.parametrize("check", ALL)
def test_what_could_not_be_looked_at_is_never_told_as_good(check: Callable[[Checkup], Said]) -> None:
    state, sentence = check(well(situation=None, chain=None, clocks=None, keys=None))
    if check is not checks.certificates:
        assert state is not State.OK, sentence


@pytest.mark.parametrize(
    ("check", "changes", "state", "words"),
    [
        (checks.slots, slot(retained_bytes=300 * MIB), State.WRONG, "keeps 300.0 MiB (at most 512.0 MiB)"),
        (checks.slots, slot(wal_status="lost"), State.WRONG, "must be built anew"),
        (checks.slots, slot(active=False), State.WRONG, "nobody follows it"),
        (checks.slots, slot(bound_bytes=None), State.NOTICE, "no bound"),
        (checks.slots, {"situation": situation(Ground())}, State.NOTICE, "no director tells of a replication slot"),
        (checks.slots, {"situation": situation(Ground(failure="X"))}, State.WRONG, "could not be asked (X)"),
        (checks.disks, {"situation": situation(Ground(disks=(Disk("/d", 5, 100),)))}, State.WRONG, "(5%) under /d"),
        (checks.disks, {"situation": situation(Ground(disks=(Disk("/d", 0, 0),)))}, State.WRONG, "(0%)"),
        (checks.disks, {"situation": situation(Ground())}, State.NOTICE, "MASSAR_DIRECTOR_FOLDERS"),
        (checks.directors, {"expected": ("rabat", "tangier")}, State.WRONG, "the director of tangier"),
        (checks.directors, {"situation": situation(observations={}), "expected": ()}, State.WRONG, "no director"),
        (checks.clocks, {"clocks": {"rabat": Offset(9.0, 0.5)}}, State.WRONG, "rabat's clock is 9.0 s ahead of here's"),
        (checks.clocks, {"clocks": {"rabat": Offset(-9.0, 0.5)}}, State.WRONG, "here's clock is 9.0 s ahead of rabat"),
        (checks.clocks, {"clocks": {"rabat": Offset(9.0, 8.0)}}, State.OK, "+9.00 s (give or take 8.00)"),
        (checks.keys, {"keys": (KeyFile("k.pem", "key", problem="is open"),)}, State.WRONG, "k.pem: is open"),
        (checks.keys, {"keys_missing": ("notice key",)}, State.WRONG, "no notice key is there"),
        (checks.certificates, certificate(10 * DAY_S), State.WRONG, "rabat.crt ends 10 days from now"),
        (checks.certificates, certificate(-2 * DAY_S), State.WRONG, "rabat.crt ended 2 days ago"),
        (checks.certificates, certificate(90 * DAY_S), State.OK, "ends in 90 days"),
    ],
)  # fmt: skip
def test_each_thing_that_can_be_wrong_is_found(
    check: Callable[[Checkup], Said], changes: dict[str, Any], state: State, words: str
) -> None:
    found, sentence = check(well(**changes))
    assert (found, words in sentence) == (state, True), (found, sentence)


def test_a_broken_or_grown_chain_is_found() -> None:
    walk = Walk(rows=3, volume=100 * MIB, head=START, last=None, broken=Problem(2, "torn"), lacking=())
    assert checks.audit(well(chain=walk)) == (State.WRONG, "broken at row 2: torn")
    bare = msgspec.structs.replace(walk, broken=None, lacking=(Problem(3, "no evidence"),))
    assert checks.audit(well(chain=bare)) == (State.WRONG, "row 3: no evidence")
    assert checks.audit_size(well(chain=walk))[0] is State.NOTICE


def test_many_bad_keys_are_counted_not_listed() -> None:
    many = tuple(KeyFile(f"{n}.pem", "key", problem="is open") for n in range(9))
    assert checks.keys(well(keys=many))[1].endswith("and 4 more")
