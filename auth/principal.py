"""Who is calling, and what stands between them and a pupil: plain values every other module may hold.

Invariant: nothing here does I/O or knows the time.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class App(StrEnum):
    """One of the three mobile apps; the `aud` of its tokens."""

    MOUTAMADRIS = "moutamadris"
    WALIYE = "waliye"
    MOUDARIS = "moudaris"


class Role(StrEnum):
    """What a principal is to the school system."""

    STUDENT = "student"
    PARENT = "parent"
    TEACHER = "teacher"


APP_OF_ROLE = {Role.STUDENT: App.MOUTAMADRIS, Role.PARENT: App.WALIYE, Role.TEACHER: App.MOUDARIS}


class Relation(StrEnum):
    """What a subject is to a pupil, as the school records say it."""

    SELF = "self"
    CHILD = "child"
    TAUGHT = "taught"


class Name(msgspec.Struct, frozen=True):
    """A display name in both scripts."""

    ar: str
    fr: str


class Principal(msgspec.Struct, frozen=True):
    """A verified caller: made from an access token, valid until `expires_at` (Unix seconds)."""

    subject: str
    role: Role
    app: App
    sid: str
    expires_at: float


class PupilFact(msgspec.Struct, frozen=True):
    """One pupil the subject stands in a relation to."""

    relation: Relation
    class_id: str
    school: str


class Facts(msgspec.Struct, frozen=True):
    """All relations of one subject at one generation.

    `pupils` maps pupil id to relation; `classes` maps class id to the subject codes taught there
    (empty for students and parents).
    """

    subject: str
    generation: int
    pupils: dict[str, PupilFact] = {}
    classes: dict[str, tuple[str, ...]] = {}
