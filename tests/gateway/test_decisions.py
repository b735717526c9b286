"""The memo of decisions: bounded, and keeping no entry alive that its tier let go."""

from __future__ import annotations

from auth.principal import App, Principal, Relation, Role
from cache.memory import Held
from gateway.decisions import TARGET_CHARS_MAX, Decision, Decisions
from tests.cache.building import NOW, entry

PRINCIPAL = Principal(
    subject="pupil", role=Role.STUDENT, app=App.MOUTAMADRIS, sid="session", expires_at=NOW + 600
)


def held(body: bytes = b"{}") -> Held:
    return Held(entry(body), key="k", from_s=NOW, until_s=NOW + 1, fresh_until_s=NOW + 1)


def decision(facts: Held, shown: Held) -> Decision:
    return Decision(PRINCIPAL, Relation.SELF, facts=facts, calendar=None, held=shown)


def test_a_decision_keeps_no_entry_in_memory() -> None:
    facts, shown = held(b"facts"), held(b"shown")
    made = decision(facts, shown)
    assert (made.facts(), made.held(), made.calendar) == (facts, shown, None)
    del shown
    assert made.held() is None
    assert made.facts() is facts


def test_a_decision_is_found_under_its_session_path_and_query_alone() -> None:
    decisions, one = Decisions(), held()
    made = decision(one, one)
    decisions.keep("session", "/v1/me", b"a=1", made)
    assert decisions.get(("session", "/v1/me", b"a=1")) is made
    for other in (("other", "/v1/me", b"a=1"), ("session", "/v1/you", b"a=1"), ("session", "/v1/me", b"")):
        assert decisions.get(other) is None


def test_the_oldest_decision_makes_room_and_one_made_anew_takes_none() -> None:
    decisions, one = Decisions(max_entries=3), held()
    for name in ("a", "b", "c", "a", "d"):
        decisions.keep(name, "/", b"", decision(one, one))
    assert len(decisions) == 3
    assert [name for name in "abcd" if decisions.get((name, "/", b""))] == ["b", "c", "d"]


def test_a_decision_for_a_long_target_is_not_kept() -> None:
    decisions, one = Decisions(), held()
    decisions.keep("a", "/" * TARGET_CHARS_MAX, b"", decision(one, one))
    decisions.keep("b", "/" * TARGET_CHARS_MAX, b"x", decision(one, one))
    assert len(decisions) == 1
