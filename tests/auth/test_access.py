"""The access table, cell by cell: every rule, every role, every relation, as explicit expectations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.access import RULES, Rule, admit_role, allow, needs_facts
from auth.principal import APP_OF_ROLE, Facts, Principal, PupilFact, Relation, Role
from auth.refusals import NotFound, Refusal, RoleNotAllowed, TokenMissing

PUPIL = "pupilaaaaaaaaaaa"
CLASSMATE = "classmateaaaaaaa"
CHILD = "childaaaaaaaaaaa"
REVOKED = "revokedaaaaaaaaa"
TAUGHT = "taughtaaaaaaaaaa"
STRANGER = "strangeraaaaaaaa"
CLASS = "classaaaaaaaaaaa"
OTHER_CLASS = "otherclassaaaaaa"
SCHOOL = "01234A"


def principal(role: Role) -> Principal:
    """A signed-in caller of each role; the student is PUPIL."""
    subject = PUPIL if role is Role.STUDENT else f"{role.value}aaaaaaaaa"[:16]
    return Principal(subject=subject, role=role, app=APP_OF_ROLE[role], sid="s" * 16, expires_at=1e12)


def fact(relation: Relation) -> PupilFact:
    """One relation, in the class of all these people."""
    return PupilFact(relation=relation, class_id=CLASS, school=SCHOOL)


FACTS = {
    Role.STUDENT: Facts(subject=PUPIL, generation=1, pupils={PUPIL: fact(Relation.SELF)}),
    # The revoked child is simply not among the facts.
    Role.PARENT: Facts(
        subject=principal(Role.PARENT).subject, generation=1, pupils={CHILD: fact(Relation.CHILD)}
    ),
    Role.TEACHER: Facts(
        subject=principal(Role.TEACHER).subject,
        generation=1,
        pupils={TAUGHT: fact(Relation.TAUGHT)},
        classes={CLASS: ("MATH", "PC")},
    ),
}

OK: None = None
SELF, OWN, TAUGHT_RELATION = Relation.SELF, Relation.CHILD, Relation.TAUGHT
HIDDEN, FORBIDDEN = NotFound, RoleNotAllowed
S, P, T = Role.STUDENT, Role.PARENT, Role.TEACHER

Expected = Relation | type[Refusal] | None

# Which pupil is asked for: the student himself, the parent's child, a child whose guardianship was revoked, a classmate
# of the student, a pupil the teacher teaches, and somebody with nothing to do with any of them (so: not taught either).
PUPIL_MATRIX: dict[Rule, dict[Role, dict[str, Expected]]] = {
    Rule.PUPIL_FAMILY: {
        S: {PUPIL: SELF, CHILD: HIDDEN, REVOKED: HIDDEN, CLASSMATE: HIDDEN, TAUGHT: HIDDEN, STRANGER: HIDDEN},
        P: {PUPIL: HIDDEN, CHILD: OWN, REVOKED: HIDDEN, CLASSMATE: HIDDEN, TAUGHT: HIDDEN, STRANGER: HIDDEN},
        T: dict.fromkeys((PUPIL, CHILD, REVOKED, CLASSMATE, TAUGHT, STRANGER), FORBIDDEN),
    },
    Rule.PUPIL_ALL: {
        S: {PUPIL: SELF, CHILD: HIDDEN, REVOKED: HIDDEN, CLASSMATE: HIDDEN, TAUGHT: HIDDEN, STRANGER: HIDDEN},
        P: {PUPIL: HIDDEN, CHILD: OWN, REVOKED: HIDDEN, CLASSMATE: HIDDEN, TAUGHT: HIDDEN, STRANGER: HIDDEN},
        T: {
            PUPIL: HIDDEN,
            CHILD: HIDDEN,
            REVOKED: HIDDEN,
            CLASSMATE: HIDDEN,
            TAUGHT: TAUGHT_RELATION,
            STRANGER: HIDDEN,
        },
    },
}

# Which class and subject:
CLASS_MATRIX: dict[Rule, dict[Role, dict[tuple[str, str], Expected]]] = {
    Rule.CLASS_TAUGHT: {
        S: {(CLASS, "MATH"): FORBIDDEN, (OTHER_CLASS, "MATH"): FORBIDDEN},
        P: {(CLASS, "MATH"): FORBIDDEN, (OTHER_CLASS, "MATH"): FORBIDDEN},
        T: {(CLASS, "MATH"): OK, (CLASS, "SVT"): OK, (OTHER_CLASS, "MATH"): HIDDEN},
    },
    Rule.CLASS_SUBJECT_TAUGHT: {
        S: {(CLASS, "MATH"): FORBIDDEN, (OTHER_CLASS, "MATH"): FORBIDDEN},
        P: {(CLASS, "MATH"): FORBIDDEN, (OTHER_CLASS, "MATH"): FORBIDDEN},
        T: {(CLASS, "MATH"): OK, (CLASS, "PC"): OK, (CLASS, "SVT"): HIDDEN, (OTHER_CLASS, "MATH"): HIDDEN},
    },
}

WITHOUT_FACTS: dict[Rule, dict[Role, Expected]] = {
    Rule.OPEN: {S: OK, P: OK, T: OK},
    Rule.ANY_PRINCIPAL: {S: OK, P: OK, T: OK},
    Rule.TEACHER_SELF: {S: FORBIDDEN, P: FORBIDDEN, T: OK},
}


def outcome(role: Role, facts: Facts | None, rule: Rule, params: dict[str, str]) -> Expected:
    """What the table answers, refusals as their class."""
    try:
        return allow(principal(role), facts, rule, params)
    except Refusal as refusal:
        return type(refusal)


def test_the_matrices_name_every_rule_and_every_role() -> None:
    assert {*PUPIL_MATRIX, *CLASS_MATRIX, *WITHOUT_FACTS} == set(Rule) == set(RULES)
    rows = [
        *map(set, PUPIL_MATRIX.values()),
        *map(set, CLASS_MATRIX.values()),
        *map(set, WITHOUT_FACTS.values()),
    ]
    assert all(row == set(Role) for row in rows)


@pytest.mark.parametrize(
    ("rule", "role", "pupil_id", "expected"),
    [
        (rule, role, pupil_id, expected)
        for rule, row in PUPIL_MATRIX.items()
        for role, cells in row.items()
        for pupil_id, expected in cells.items()
    ],
)
def test_a_pupil_is_reached_by_these_alone(rule: Rule, role: Role, pupil_id: str, expected: Expected) -> None:
    assert outcome(role, FACTS[role], rule, {"pupil_id": pupil_id}) is expected


@pytest.mark.parametrize(
    ("rule", "role", "params", "expected"),
    [
        (rule, role, {"class_id": class_id, "subject": subject}, expected)
        for rule, row in CLASS_MATRIX.items()
        for role, cells in row.items()
        for (class_id, subject), expected in cells.items()
    ],
)
def test_a_class_is_reached_by_its_teachers_alone(
    rule: Rule, role: Role, params: dict[str, str], expected: Expected
) -> None:
    assert outcome(role, FACTS[role], rule, params) is expected


@pytest.mark.parametrize(
    ("rule", "role", "expected"),
    [(rule, role, expected) for rule, row in WITHOUT_FACTS.items() for role, expected in row.items()],
)
def test_these_rules_ask_for_the_role_alone(rule: Rule, role: Role, expected: Expected) -> None:
    assert not needs_facts(rule)
    assert outcome(role, None, rule, {}) is expected


@pytest.mark.parametrize("rule", list(Rule))
def test_without_a_token_only_what_is_open_is_open(rule: Rule) -> None:
    if rule is Rule.OPEN:
        assert allow(None, None, rule, {}) is None
    else:
        with pytest.raises(TokenMissing):
            allow(None, None, rule, {"pupil_id": PUPIL, "class_id": CLASS, "subject": "MATH"})


@pytest.mark.parametrize("rule", [rule for rule in Rule if needs_facts(rule)])
@pytest.mark.parametrize("role", list(Role))
def test_without_facts_or_with_somebody_elses_nobody_gets_in(rule: Rule, role: Role) -> None:
    expected = NotFound if role in RULES[rule] else RoleNotAllowed
    anybody = {person: fact(relation) for person in (PUPIL, CHILD, TAUGHT) for relation in Relation}
    elses = Facts(subject="somebodyelseaaaa", generation=1, pupils=anybody, classes={CLASS: ("MATH",)})
    for pupil_id in (PUPIL, CHILD, TAUGHT):
        params = {"pupil_id": pupil_id, "class_id": CLASS, "subject": "MATH"}
        assert outcome(role, None, rule, params) is expected
        assert outcome(role, elses, rule, params) is expected


@pytest.mark.parametrize("rule", [rule for rule in Rule if needs_facts(rule)])
def test_a_route_that_forgot_its_parameters_lets_nobody_in(rule: Rule) -> None:
    for role in RULES[rule]:
        assert outcome(role, FACTS[role], rule, {}) is NotFound


def test_a_fact_about_nothing_opens_nothing() -> None:
    facts = Facts(
        subject=principal(Role.TEACHER).subject,
        generation=1,
        pupils={"": fact(Relation.TAUGHT)},
        classes={"": ("MATH", ""), CLASS: ("",)},
    )
    nameless: list[dict[str, str]] = [{}, {"pupil_id": "", "class_id": "", "subject": ""}]
    for rule in (Rule.PUPIL_ALL, Rule.CLASS_TAUGHT, Rule.CLASS_SUBJECT_TAUGHT):
        for params in nameless:
            assert outcome(Role.TEACHER, facts, rule, params) is NotFound
    assert (
        outcome(Role.TEACHER, facts, Rule.CLASS_SUBJECT_TAUGHT, {"class_id": CLASS, "subject": ""})
        is NotFound
    )


def test_a_relation_of_another_role_does_not_help() -> None:
    wrong = {
        Role.STUDENT: (Relation.CHILD, Relation.TAUGHT),
        Role.PARENT: (Relation.SELF, Relation.TAUGHT),
        Role.TEACHER: (Relation.SELF, Relation.CHILD),
    }
    for role, relations in wrong.items():
        for relation in relations:
            facts = Facts(subject=principal(role).subject, generation=1, pupils={PUPIL: fact(relation)})
            assert outcome(role, facts, Rule.PUPIL_ALL, {"pupil_id": PUPIL}) is NotFound


def test_a_student_is_nobody_but_himself_whatever_the_facts_say() -> None:
    facts = Facts(subject=PUPIL, generation=1, pupils={CLASSMATE: fact(Relation.SELF)})
    assert outcome(Role.STUDENT, facts, Rule.PUPIL_FAMILY, {"pupil_id": CLASSMATE}) is NotFound


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("role", list(Role))
def test_a_role_that_no_fact_could_help_is_told_before_facts_are_fetched(rule: Rule, role: Role) -> None:
    if role in RULES[rule]:
        admit_role(principal(role), rule)
    else:
        with pytest.raises(RoleNotAllowed):
            admit_role(principal(role), rule)


ids = st.sampled_from([PUPIL, CLASSMATE, CHILD, REVOKED, TAUGHT, STRANGER, ""])
classes = st.sampled_from([CLASS, OTHER_CLASS, ""])
subjects = st.sampled_from(["MATH", "PC", "SVT", ""])
any_facts = st.builds(
    Facts,
    subject=st.sampled_from([principal(role).subject for role in Role]),
    generation=st.just(1),
    pupils=st.dictionaries(ids, st.sampled_from(list(Relation)).map(fact)),
    classes=st.dictionaries(classes, st.lists(subjects).map(tuple)),
)


@given(
    role=st.sampled_from(list(Role)),
    facts=st.none() | any_facts,
    rule=st.sampled_from([rule for rule in Rule if needs_facts(rule)]),
    params=st.fixed_dictionaries({}, optional={"pupil_id": ids, "class_id": classes, "subject": subjects}),
)
def test_nobody_gets_in_without_a_fact(
    role: Role, facts: Facts | None, rule: Rule, params: dict[str, str]
) -> None:
    got = outcome(role, facts, rule, params)
    if isinstance(got, type):
        return
    assert facts is not None
    assert facts.subject == principal(role).subject
    if rule in (Rule.PUPIL_FAMILY, Rule.PUPIL_ALL):
        held = facts.pupils[params["pupil_id"]]
        assert held.relation is got
        assert got is {Role.STUDENT: SELF, Role.PARENT: OWN, Role.TEACHER: TAUGHT_RELATION}[role]
        assert not (rule is Rule.PUPIL_FAMILY and role is Role.TEACHER)
    else:
        assert role is Role.TEACHER
        assert facts.classes[params["class_id"]]
        assert rule is Rule.CLASS_TAUGHT or params["subject"] in facts.classes[params["class_id"]]
