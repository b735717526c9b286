"""The sample people: who a newcomer to the sandbox signs in as, chosen so that every rule can be shown with them.

Invariant: student, classmate and the teacher's class are one class of the first locality; the parents are of the
first family there; the stranger goes to a school of another locality where there is one, else of another cycle.
"""

from __future__ import annotations

import msgspec

from sandbox.population.accounts import (
    PARENT,
    STUDENT,
    TEACHER,
    Credential,
    parent_login,
    student_login,
    teacher_login,
)
from sandbox.population.calendar import CALENDAR
from sandbox.population.families import Families, Guardian, Pupil
from sandbox.population.schools import Locality
from sandbox.population.teachers import Assignment

SAMPLE_SUBJECT = "MATH"


class Neighbourhood(msgspec.Struct, frozen=True):
    """A locality with its people."""

    locality: Locality
    families: Families
    assignments: tuple[Assignment, ...]


def choose(here: Neighbourhood, there: Neighbourhood) -> dict[str, dict[str, object]]:
    """The ready file's `accounts`, by part played."""
    room = here.locality.sample_class
    student = here.families.pupils[0]
    family = {pupil.id for guardian in _guardians_of(here, student) for pupil in _active(guardian)}
    classmate = next(p for p in here.families.pupils if p.room.id == room.id and p.id not in family)
    school = here.locality.school_of[room.position].gresa
    schools = there.locality.school_of
    strangers = (p for p in reversed(there.families.pupils) if schools[p.room.position].gresa != school)
    parent, other_parent = _guardians_of(here, student)
    separated = next(g for g in here.families.guardians if any(link.revoked for link in g.links))
    lost = next(link.pupil for link in separated.links if link.revoked)
    return {
        "student": _pupil(student),
        "classmate": _pupil(classmate),
        "stranger_student": _pupil(next(p for p in strangers if p.id not in family)),
        "parent": _guardian(parent, first=student),
        "other_parent": _guardian(other_parent, first=student),
        "revoked_parent": {**_guardian(separated), "revoked": lost.id},
        "teacher": _teacher(here, room.id),
    }


def _guardians_of(place: Neighbourhood, pupil: Pupil) -> list[Guardian]:
    return [g for g in place.families.guardians if any(p.id == pupil.id for p in _active(g))]


def _active(guardian: Guardian) -> list[Pupil]:
    return [link.pupil for link in guardian.links if not link.revoked]


def _pupil(pupil: Pupil) -> dict[str, object]:
    account = _account(STUDENT, subject=pupil.id, login=student_login(pupil))
    return {**account, "pupil_id": pupil.id, "class_id": pupil.room.id}


def _guardian(guardian: Guardian, first: Pupil | None = None) -> dict[str, object]:
    children = [pupil.id for pupil in _active(guardian)]
    children.sort(key=lambda child: first is None or child != first.id)
    account = _account(PARENT, subject=guardian.id, login=parent_login(guardian))
    return {**account, "children": children}


def _teacher(place: Neighbourhood, class_id: str) -> dict[str, object]:
    teacher = next(
        line.teacher
        for line in place.assignments
        if line.room.id == class_id and line.taught.subject.code == SAMPLE_SUBJECT
    )
    account = _account(TEACHER, subject=teacher.id, login=teacher_login(teacher))
    return {**account, "class_id": class_id, "subject": SAMPLE_SUBJECT, "session": CALENDAR.session}


def _account(credential: Credential, *, subject: str, login: str) -> dict[str, object]:
    return {"app": credential.app, "login": login, "password": credential.password, "id": subject}
