"""The gateway's accounts of the synthetic people: one per pupil (Moutamadris), guardian (Waliye), teacher (Moudaris).

Invariant: all accounts of a role share one password and its precomputed argon2id hash, printed here because
nothing real stands behind it; a login appears once per app.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

import msgspec

from sandbox.population.families import Families, Guardian, Pupil
from sandbox.population.identifiers import opaque_id
from sandbox.population.names import FullName
from sandbox.population.schools import Locality
from sandbox.population.teachers import Assignment, Teacher, teachers_of


class Credential(msgspec.Struct, frozen=True):
    """What every account of a role has: app, password and its hash."""

    app: str
    role: str
    password: str
    password_hash: str


STUDENT = Credential(
    "moutamadris",
    "student",
    "massar-student-2026",
    "$argon2id$v=19$m=65536,t=3,p=1$f0yp65CUg01iCeVHWwRAIA$6FIISRCwCGrsfNxUqRFAxjKmwpMK0nBvBbs6YAWyjuY",
)
PARENT = Credential(
    "waliye",
    "parent",
    "massar-parent-2026",
    "$argon2id$v=19$m=65536,t=3,p=1$ta4uoag1x7CmNVGKZgesww$+GXPgfBcU5SaMXEenqgLStSZdY0VyKo6/3zeIRP31K4",
)
TEACHER = Credential(
    "moudaris",
    "teacher",
    "massar-teacher-2026",
    "$argon2id$v=19$m=65536,t=3,p=1$bWythuPjMmyFsjzWl6eo+Q$1xxA6v9C1wNv6RcGhfjSJrek7YMH/uVXmu625BgsbtI",
)
_CREATED_AT = datetime(2026, 9, 1, 9, 0, tzinfo=UTC)


def student_login(pupil: Pupil) -> str:
    """The Massar code in lower case, at taalim.ma."""
    return f"{pupil.massar_code.lower()}@taalim.ma"


def parent_login(guardian: Guardian) -> str:
    """The name and the guardian's number, at a domain kept for examples (RFC 2606)."""
    return f"{guardian.name.login}{guardian.number}@famille.example"


def teacher_login(teacher: Teacher) -> str:
    """`prenom.nom` and the teacher's number, at taalim.ma."""
    return f"{teacher.name.login}{teacher.number}@taalim.ma"


def account_rows(
    locality: Locality, families: Families, assignments: tuple[Assignment, ...]
) -> Iterator[tuple[object, ...]]:
    """Rows of `accounts`: the locality's teachers, pupils and guardians."""
    rng = locality.rng("accounts")
    for teacher in teachers_of(assignments):
        yield _row(rng, TEACHER, subject=teacher.id, login=teacher_login(teacher), name=teacher.name)
    for pupil in families.pupils:
        yield _row(rng, STUDENT, subject=pupil.id, login=student_login(pupil), name=pupil.name)
    for guardian in families.guardians:
        yield _row(rng, PARENT, subject=guardian.id, login=parent_login(guardian), name=guardian.name)


def _row(
    rng: Random, credential: Credential, *, subject: str, login: str, name: FullName
) -> tuple[object, ...]:
    return (
        opaque_id(rng),
        credential.app,
        login,
        credential.role,
        subject,
        name.ar,
        name.fr,
        credential.password_hash,
        "active",
        _CREATED_AT,
    )
