"""When writes go on without journal records, and when they are protected again."""

from __future__ import annotations

from typing import Any

import pytest

from datacenters.protecting import ROUNDS_BEFORE, Journaled, Protecting
from datacenters.record import Phase, Policy, Protection, Record
from datacenters.verdict import Health, Look, Observation
from tests.datacenters.worlds import declared

POLICY = Policy(journal_records_max=100, journal_bytes_max=10_000)
LITTLE = Journaled(records=3, bytes=500)
MUCH = Journaled(records=101, bytes=500)
HEAVY = Journaled(records=3, bytes=10_001)


def seen(
    primary_at: str = "1-900", standby_at: str | None = "1-900", **standby: Any
) -> dict[str, Observation]:
    """Both sites as their own directors see them; no standby when it has no position."""
    rabat = Look(failures=0, silent_s=0.1, health=Health(role="primary", epoch=1, position=primary_at))
    looks = {"rabat": Observation(site="rabat", sequence=1, looks={"rabat": rabat})}
    if standby_at is not None:
        said = {"role": "standby", "epoch": 1, "position": standby_at, "lag_s": 0.0, **standby}
        own = Look(failures=0, silent_s=0.1, health=Health(**said))
        looks["marrakech"] = Observation(site="marrakech", sequence=1, looks={"marrakech": own})
    return looks


def at(protection: Protection, **changes: Any) -> Record:
    return declared(policy=POLICY, protection=protection, **changes)


@pytest.mark.parametrize("journaled", [MUCH, HEAVY])
def test_beyond_the_bound_writes_go_on_unprotected_and_the_reason_says_how_much(journaled: Journaled) -> None:
    asked = Protecting("rabat").next(at(Protection.JOURNAL), journaled, seen(standby_at=None))
    assert asked is not None
    assert asked[0] is Protection.NONE
    assert "101" in asked[1] or "10001" in asked[1]


def test_within_the_bound_nothing_changes_however_long_the_standby_is_away() -> None:
    assert Protecting("rabat").next(at(Protection.JOURNAL), LITTLE, seen(standby_at=None)) is None


def test_records_are_asked_for_again_when_a_standby_streams() -> None:
    bare = at(Protection.NONE)
    assert Protecting("rabat").next(bare, LITTLE, seen(standby_at=None)) is None
    assert Protecting("rabat").next(bare, LITTLE, seen(lag_s=None)) is None
    assert Protecting("rabat").next(bare, LITTLE, seen(role="primary")) is None
    asked = Protecting("rabat").next(bare, LITTLE, seen())
    assert asked is not None
    assert asked[0] is Protection.RETURNING
    assert Protecting("rabat").next(bare, MUCH, seen()) is None


def test_writes_are_protected_again_once_the_standby_is_beyond_what_had_no_record() -> None:
    protecting, returning = Protecting("rabat"), at(Protection.RETURNING)
    for _ in range(ROUNDS_BEFORE + 1):
        assert protecting.next(returning, LITTLE, seen("1-500", "1-900")) is None, (
            "seen too early to prove it"
        )
    assert protecting.next(returning, LITTLE, seen("1-999", "1-499")) is None
    asked = protecting.next(returning, LITTLE, seen("1-999", "1-500"))
    assert asked is not None
    assert asked[0] is Protection.JOURNAL


def test_what_was_remembered_of_one_return_does_not_count_for_the_next() -> None:
    protecting, returning = Protecting("rabat"), at(Protection.RETURNING)
    for _ in range(ROUNDS_BEFORE + 1):
        protecting.next(returning, LITTLE, seen("1-500", "1-400"))
    assert protecting.next(at(Protection.NONE), LITTLE, seen(standby_at=None)) is None
    for _ in range(ROUNDS_BEFORE + 1):
        assert protecting.next(returning, LITTLE, seen("1-900", "1-600")) is None
    assert protecting.next(returning, LITTLE, seen("1-900", "1-600")) is None


@pytest.mark.parametrize(
    "changes", [{"active": "marrakech"}, {"phase": Phase.FREEZING, "target": "marrakech"}]
)
def test_only_the_serving_site_decides(changes: dict[str, Any]) -> None:
    record = at(Protection.JOURNAL, **changes)
    assert Protecting("rabat").next(record, MUCH, seen()) is None


def test_an_etcd_that_was_put_back_leaves_the_journal_in_doubt_until_the_standby_has_all() -> None:
    protecting = Protecting("rabat")
    protecting.rewound()
    asked = protecting.next(at(Protection.JOURNAL), LITTLE, seen())
    assert asked is not None
    assert asked[0] is Protection.RETURNING
    assert protecting.next(at(Protection.JOURNAL), LITTLE, seen()) == asked, "until it stands in the record"
    returning = at(Protection.RETURNING)
    for _ in range(ROUNDS_BEFORE + 1):
        assert protecting.next(returning, LITTLE, seen("1-900", "1-900")) is None
    back = protecting.next(returning, LITTLE, seen("1-900", "1-900"))
    assert back is not None
    assert back[0] is Protection.JOURNAL
    assert protecting.next(at(Protection.JOURNAL), LITTLE, seen()) is None


def test_a_second_return_begins_the_proof_again() -> None:
    protecting, returning = Protecting("rabat"), at(Protection.RETURNING)
    for _ in range(ROUNDS_BEFORE + 1):
        protecting.next(returning, LITTLE, seen("1-500", "1-400"))
    protecting.rewound()
    assert protecting.next(returning, LITTLE, seen("1-900", "1-600")) is None


def test_who_does_not_serve_leaves_it_to_the_one_who_does() -> None:
    protecting = Protecting("rabat")
    protecting.rewound()
    assert protecting.next(at(Protection.JOURNAL, active="marrakech"), LITTLE, seen()) is None
    assert protecting.next(at(Protection.JOURNAL), LITTLE, seen()) is None
