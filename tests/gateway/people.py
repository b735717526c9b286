"""Who and what the tests of routes and gateway know: ids, and what each is to whom."""

from __future__ import annotations

from auth.principal import Facts, PupilFact, Relation, Role

PUPIL = "pupilaaaaaaaaaaa"
CLASSMATE = "pupilbbbbbbbbbbb"
STRANGER = "pupilccccccccccc"
PARENT = "parentaaaaaaaaaa"
OTHER_PARENT = "parentbbbbbbbbbb"
TEACHER = "teacheraaaaaaaaa"
CLASS = "classaaaaaaaaaaa"
OTHER_CLASS = "classbbbbbbbbbbb"
SCHOOL = "01234A"
MATH = "MATH"

# A value for every path parameter.
FILLED = {
    "pupil_id": PUPIL,
    "class_id": CLASS,
    "subject": MATH,
    "session": "1",
    "date": "2026-11-18",
    "slot": "0830",
    "id": "s2b7c4d5e6f3g2h7",
}

ROLES = {
    PUPIL: Role.STUDENT,
    CLASSMATE: Role.STUDENT,
    STRANGER: Role.STUDENT,
    PARENT: Role.PARENT,
    OTHER_PARENT: Role.PARENT,
    TEACHER: Role.TEACHER,
}


def _fact(relation: Relation, class_id: str = CLASS) -> PupilFact:
    return PupilFact(relation=relation, class_id=class_id, school=SCHOOL)


FACTS = {
    facts.subject: facts
    for facts in (
        Facts(PUPIL, 1, {PUPIL: _fact(Relation.SELF)}),
        Facts(CLASSMATE, 1, {CLASSMATE: _fact(Relation.SELF)}),
        Facts(STRANGER, 1, {STRANGER: _fact(Relation.SELF, OTHER_CLASS)}),
        Facts(PARENT, 1, {PUPIL: _fact(Relation.CHILD), STRANGER: _fact(Relation.CHILD, OTHER_CLASS)}),
        Facts(OTHER_PARENT, 1, {PUPIL: _fact(Relation.CHILD)}),
        Facts(
            TEACHER,
            1,
            {PUPIL: _fact(Relation.TAUGHT), CLASSMATE: _fact(Relation.TAUGHT)},
            {CLASS: (MATH,)},
        ),
    )
}

SUBJECT = {"code": MATH, "ar": "الرياضيات", "fr": "Mathématiques"}
NAME = {"ar": "سلمى", "fr": "Salma"}
AS_OF = "2026-11-17T16:05:00Z"
