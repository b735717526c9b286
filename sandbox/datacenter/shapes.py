"""What goes over the wire in answers and write requests: one Struct per shape of openapi/datacenter.yaml.

Invariant: request Structs refuse unknown fields; marks are text with two decimals; times are RFC 3339 UTC to the
second, so that the same rows always give the same bytes.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

ROWS_MAX = 60
VERSION_MAX = 2_147_483_647  # PostgreSQL's integer
_CENT = Decimal("0.01")
NO_HOURS = Decimal(0)

_NO_NUL = r"^[^\x00]*$"  # PostgreSQL keeps no such character
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=_NO_NUL)]


def instant_text(moment: datetime) -> str:
    """`2026-11-18T07:30:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_text(moment: time) -> str:
    """`08:30`."""
    return moment.strftime("%H:%M")


def mark_text(mark: Decimal | None) -> str | None:
    """`14.50`, or None for none."""
    return None if mark is None else str(mark.quantize(_CENT))


def number(value: Decimal) -> int | float:
    """A coefficient or a count of hours as the JSON number people write: 3, 2.5."""
    return int(value) if value == value.to_integral_value() else float(value)


class Name(msgspec.Struct, frozen=True):
    """A display name in both scripts."""

    ar: str
    fr: str


class Subject(msgspec.Struct, frozen=True):
    """A school subject."""

    code: str
    ar: str
    fr: str


class Calendar(msgspec.Struct, frozen=True):
    """Where the school year stands."""

    year: int
    session: int
    week: str
    today: date
    first_day: date
    last_day: date
    as_of: str


class LessonChange(msgspec.Struct, frozen=True):
    """What is different this week."""

    kind: str
    room: str | None


class Lesson(msgspec.Struct, frozen=True):
    """One lesson of a class's week; day 1 is Monday."""

    day: int
    start: str
    end: str
    subject: Subject
    teacher: Name
    room: str
    change: LessonChange | None


class Timetable(msgspec.Struct, frozen=True):
    """One class, one week."""

    week: str
    class_id: str
    lessons: list[Lesson]
    as_of: str


class Homework(msgspec.Struct, frozen=True):
    """One piece of homework."""

    id: str
    subject: Subject
    text: str
    assigned_on: date
    due_on: date


class HomeworkList(msgspec.Struct, frozen=True):
    """Homework of a class, soonest first."""

    homework: list[Homework]
    as_of: str


class Announcement(msgspec.Struct, frozen=True):
    """Something said to a nation, a region, a province, a school or a class."""

    id: str
    level: str
    title: Name
    body: Name
    valid_from: date
    valid_to: date


class AnnouncementList(msgspec.Struct, frozen=True):
    """What concerns a class, newest first."""

    announcements: list[Announcement]
    as_of: str


class ClassCard(msgspec.Struct, frozen=True):
    """A class as a list shows it."""

    id: str
    name: str
    level: str
    school_gresa: str


class RosterRow(msgspec.Struct, frozen=True):
    """One pupil of a class."""

    id: str
    number: int
    name: Name
    dispensations: list[str]


class Roster(msgspec.Struct, frozen=True):
    """A class and its pupils by number."""

    class_: ClassCard = msgspec.field(name="class")
    pupils: list[RosterRow] = msgspec.field()
    as_of: str = msgspec.field()


class Slot(msgspec.Struct, frozen=True):
    """From when to when."""

    start: str
    end: str


class Absence(msgspec.Struct, frozen=True):
    """One lesson missed, or come late to."""

    id: str
    date: date
    slot: Slot
    kind: str
    justified: bool
    reason: str | None


class AbsenceList(msgspec.Struct, frozen=True):
    """A pupil's absences, oldest first."""

    absences: list[Absence]
    as_of: str


class HomeworkDone(msgspec.Struct, frozen=True):
    """Which homework a pupil has ticked."""

    done: list[str]
    as_of: str


class Assignment(msgspec.Struct, frozen=True):
    """One class and subject of a teacher."""

    class_id: str
    class_name: str
    school_gresa: str
    subject: Subject
    hours: int | float


class AssignmentList(msgspec.Struct, frozen=True):
    """A teacher's service."""

    year: int
    hours: int | float
    assignments: list[Assignment]
    as_of: str


class GradeMark(msgspec.Struct, frozen=True):
    """One contrôle as the family sees it."""

    number: int
    mark: str | None
    state: str


class SubjectGrades(msgspec.Struct, frozen=True):
    """One subject of a pupil's session."""

    code: str
    ar: str
    fr: str
    coefficient: int | float
    marks: list[GradeMark]
    activities: str | None
    average: str | None
    class_average: str | None


class Grades(msgspec.Struct, frozen=True):
    """A pupil's session."""

    year: int
    session: int
    published: bool
    subjects: list[SubjectGrades]
    average: str | None
    as_of: str


class Control(msgspec.Struct, frozen=True):
    """A planned contrôle."""

    number: int
    date: date


class GradebookMark(msgspec.Struct, frozen=True):
    """One cell of a gradebook."""

    number: int
    mark: str | None
    state: str
    version: int


class GradebookRow(msgspec.Struct, frozen=True):
    """One pupil of a gradebook."""

    pupil_id: str
    marks: list[GradebookMark]


class Gradebook(msgspec.Struct, frozen=True):
    """One class, subject and session as its teacher sees it."""

    class_id: str
    subject: str
    session: int
    locked: bool
    deadline: str | None
    controls: list[Control]
    rows: list[GradebookRow]
    as_of: str


class ProfilePupil(msgspec.Struct, frozen=True):
    """A pupil somebody is, or is a guardian of."""

    id: str
    name: Name
    class_id: str
    class_name: str
    level: str
    school_gresa: str
    relation: str


class ProfileClass(msgspec.Struct, frozen=True):
    """A class somebody teaches."""

    id: str
    name: str
    level: str
    school_gresa: str
    subjects: list[Subject]


class Profile(msgspec.Struct, frozen=True):
    """Who a person is, whom and what he is linked to, with names."""

    name: Name
    pupils: list[ProfilePupil]
    classes: list[ProfileClass]
    as_of: str


class RelatedPupil(msgspec.Struct, frozen=True):
    """One relation, as access is decided by it."""

    relation: str
    class_id: str
    school: str


class Relations(msgspec.Struct, frozen=True):
    """All relations of one subject at one generation."""

    subject: str
    generation: int
    pupils: dict[str, RelatedPupil]
    classes: dict[str, list[str]]
    as_of: str


class Health(msgspec.Struct, frozen=True):
    """What a director asks four times a second."""

    site: str
    role: Literal["primary", "standby"]
    epoch: int
    position: str
    receipt_age_s: float | None
    lag_s: float | None
    writable: bool
    nonce: str | None


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell a teacher enters; `version` is the one he saw."""

    pupil_id: Id
    number: Annotated[int, Meta(ge=1, le=99)]
    mark: Annotated[str, Meta(max_length=16)] | None
    state: Literal["marked", "absent", "dispensed", "pending"]
    version: Annotated[int, Meta(ge=0, le=VERSION_MAX)]


class EntryBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a teacher sends at once."""

    entries: Annotated[list[Entry], Meta(min_length=1, max_length=ROWS_MAX)]


class EntryResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict on one cell."""

    pupil_id: str
    number: int
    status: Literal["accepted", "rejected"]
    version: int | UnsetType = UNSET
    slug: str | UnsetType = UNSET
    current: int | UnsetType = UNSET


class Presence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pupil at one lesson; `observed_at` is when the teacher saw it, as his phone has it: any text is a row."""

    pupil_id: Id
    state: Literal["present", "absent", "late"]
    observed_at: Annotated[str, Meta(max_length=64)]


class PresenceBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A roll call."""

    entries: Annotated[list[Presence], Meta(min_length=1, max_length=ROWS_MAX)]


class PresenceResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict on one pupil."""

    pupil_id: str
    status: Literal["accepted", "rejected"]
    slug: str | UnsetType = UNSET


class NewHomework(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a teacher assigns."""

    subject: Annotated[str, Meta(min_length=1, max_length=32, pattern=_NO_NUL)]
    text: Annotated[str, Meta(min_length=1, max_length=4000, pattern=_NO_NUL)]
    due_on: date
