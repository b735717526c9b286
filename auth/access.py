"""May they: the one table that says which role reaches what, and by which fact.

Invariant: nobody gets in without a fact. A role that is not in a rule's row is told so (403); a role that is,
but without the fact, hears the same `not-found` as for a thing that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from auth.principal import Facts, Principal, Relation, Role
from auth.refusals import NotFound, RoleNotAllowed, TokenMissing


class Rule(StrEnum):
    """Who may use a route; every route declares one."""

    OPEN = "open"
    ANY_PRINCIPAL = "any-principal"
    PUPIL_FAMILY = "pupil-family"
    PUPIL_ALL = "pupil-all"
    TEACHER_SELF = "teacher-self"
    CLASS_TAUGHT = "class-taught"
    CLASS_SUBJECT_TAUGHT = "class-subject-taught"


Params = Mapping[str, str]
Check = Callable[[Principal, Facts | None, Params], Relation | None]


def _signed_in(_principal: Principal, _facts: Facts | None, _params: Params) -> None:
    """Being signed in is enough."""


def _himself(principal: Principal, facts: Facts | None, params: Params) -> Relation:
    """`pupil_id` is the caller."""
    if _named(params, "pupil_id") != principal.subject:
        raise NotFound
    return _related(principal, facts, params, Relation.SELF)


def _own_child(principal: Principal, facts: Facts | None, params: Params) -> Relation:
    """`pupil_id` is in the caller's active guardianship."""
    return _related(principal, facts, params, Relation.CHILD)


def _taught_pupil(principal: Principal, facts: Facts | None, params: Params) -> Relation:
    """`pupil_id` sits in a class the caller teaches this year."""
    return _related(principal, facts, params, Relation.TAUGHT)


def _taught_class(principal: Principal, facts: Facts | None, params: Params) -> None:
    """The caller teaches something in `class_id`."""
    _subjects_taught(principal, facts, params)


def _taught_subject(principal: Principal, facts: Facts | None, params: Params) -> None:
    """The caller teaches `subject` in `class_id`."""
    if _named(params, "subject") not in _subjects_taught(principal, facts, params):
        raise NotFound


RULES: dict[Rule, dict[Role, Check]] = {
    Rule.OPEN: {Role.STUDENT: _signed_in, Role.PARENT: _signed_in, Role.TEACHER: _signed_in},
    Rule.ANY_PRINCIPAL: {Role.STUDENT: _signed_in, Role.PARENT: _signed_in, Role.TEACHER: _signed_in},
    Rule.PUPIL_FAMILY: {Role.STUDENT: _himself, Role.PARENT: _own_child},
    Rule.PUPIL_ALL: {Role.STUDENT: _himself, Role.PARENT: _own_child, Role.TEACHER: _taught_pupil},
    Rule.TEACHER_SELF: {Role.TEACHER: _signed_in},
    Rule.CLASS_TAUGHT: {Role.TEACHER: _taught_class},
    Rule.CLASS_SUBJECT_TAUGHT: {Role.TEACHER: _taught_subject},
}

_WITHOUT_FACTS = frozenset({Rule.OPEN, Rule.ANY_PRINCIPAL, Rule.TEACHER_SELF})


def needs_facts(rule: Rule) -> bool:
    """Whether `allow` must be given facts for this rule; without them it lets nobody in."""
    return rule not in _WITHOUT_FACTS


def allow(principal: Principal | None, facts: Facts | None, rule: Rule, params: Params) -> Relation | None:
    """The caller's relation to the pupil the rule is about (None where it is about no pupil), or a refusal.

    `params` may name `pupil_id`, `class_id`, `subject`. Raises TokenMissing, RoleNotAllowed, NotFound.
    """
    if principal is None:
        if rule is Rule.OPEN:
            return None
        raise TokenMissing
    check = RULES[rule].get(principal.role)
    if check is None:
        raise RoleNotAllowed
    return check(principal, facts, params)


def admit_role(principal: Principal, rule: Rule) -> None:
    """Raise RoleNotAllowed where no fact could help, so that none need be fetched."""
    if principal.role not in RULES[rule]:
        raise RoleNotAllowed


def _related(principal: Principal, facts: Facts | None, params: Params, relation: Relation) -> Relation:
    if facts is None or facts.subject != principal.subject:
        raise NotFound
    fact = facts.pupils.get(_named(params, "pupil_id"))
    if fact is None or fact.relation is not relation:
        raise NotFound
    return relation


def _subjects_taught(principal: Principal, facts: Facts | None, params: Params) -> tuple[str, ...]:
    if facts is None or facts.subject != principal.subject:
        raise NotFound
    subjects = facts.classes.get(_named(params, "class_id"))
    if not subjects:
        raise NotFound
    return subjects


def _named(params: Params, name: str) -> str:
    """A parameter that is there: a route that declares a rule and forgets to name whom it is about is closed."""
    value = params.get(name)
    if not value:
        raise NotFound
    return value
