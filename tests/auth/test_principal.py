"""The plain values: the words that bind, and that nobody can change them under a reader."""

from __future__ import annotations

import pytest

from auth.principal import APP_OF_ROLE, App, Facts, Principal, Role


def test_every_role_has_one_app_and_every_app_one_role() -> None:
    assert set(APP_OF_ROLE) == set(Role)
    assert sorted(APP_OF_ROLE.values()) == sorted(App)


def test_a_principal_cannot_be_changed() -> None:
    principal = Principal(subject="s", role=Role.STUDENT, app=App.MOUTAMADRIS, sid="i", expires_at=1.0)
    with pytest.raises(AttributeError):
        principal.role = Role.TEACHER  # type: ignore[misc]  # the very thing that must not work


def test_facts_start_with_no_relation_at_all() -> None:
    facts = Facts(subject="s", generation=1)
    assert facts.pupils == {}
    assert facts.classes == {}
