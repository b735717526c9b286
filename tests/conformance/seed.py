"""A small hand-made school, so that every figure of the contract can be checked by hand. Every name is synthetic.

Twelve pupils of one class, two of another school's; mathematics is published, French is not, Arabic is locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Table, insert
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sandbox.datacenter import tables


def ident(name: str) -> str:
    """An id in the wire's form that a reader can still recognise."""
    return name.ljust(16, "a")


LOADED_AT = datetime(2026, 9, 1, 8, 0, 0, tzinfo=UTC)
MARKED_AT = datetime(2026, 11, 10, 17, 30, 0, tzinfo=UTC)
CLASS = ident("classone")
EMPTY_CLASS = ident("classempty")
OTHER_CLASS = ident("classother")
SCHOOL = "01234A"
OTHER_SCHOOL = "05678B"
TEACHER = ident("teachermath")
FRENCH_TEACHER = ident("teacherfrench")
OTHER_TEACHER = ident("teacherother")
IDLE_TEACHER = ident("teacheridle")
PUPILS = tuple(ident(f"pupil{letter}") for letter in "bcdefghijklm")
PUPIL, CLASSMATE = PUPILS[0], PUPILS[1]
DISPENSED = PUPILS[11]
STRANGER = ident("pupilstranger")
NEWCOMER = ident("pupilnewcomer")
MOTHER = ident("mother")
FATHER = ident("father")
FORMER_GUARDIAN = ident("formerguardian")
NOBODY = ident("nobody")
HOMEWORK = ident("homeworkone")
LATER_HOMEWORK = ident("homeworktwo")
WEEK = "2026-W47"
TODAY = date(2026, 11, 18)  # a Wednesday
MONDAY = date(2026, 11, 16)

_SUBJECTS = {"AR": "العربية", "FR": "الفرنسية", "MATH": "الرياضيات", "SPORT": "التربية البدنية"}


def _people(ids: Sequence[str], **more: Any) -> list[dict[str, Any]]:
    return [{"id": one, "name_ar": "اسم مصطنع", "name_fr": f"Synthétique {one[:9]}", **more} for one in ids]


def _marks() -> list[dict[str, Any]]:
    """Mathematics: pupil b has 14.50 and was absent once, c has 10.00 twice, l is dispensed, the others 12.00 once."""
    row = {"subject": "MATH", "session": 1, "class_id": CLASS, "version": 1, "updated_at": MARKED_AT}
    marked = [
        {**row, "pupil": one, "number": 1, "state": "marked", "mark": Decimal(12)} for one in PUPILS[2:11]
    ]
    return [
        {**row, "pupil": PUPIL, "number": 1, "state": "marked", "mark": Decimal("14.50"), "version": 3},
        {**row, "pupil": PUPIL, "number": 2, "state": "absent", "mark": None},
        {**row, "pupil": CLASSMATE, "number": 1, "state": "marked", "mark": Decimal("10.00")},
        {**row, "pupil": CLASSMATE, "number": 2, "state": "marked", "mark": Decimal("10.00")},
        {**row, "pupil": DISPENSED, "number": 1, "state": "dispensed", "mark": None},
        *marked,
        # French is being marked, and nobody may know yet.
        {**row, "pupil": PUPIL, "subject": "FR", "number": 1, "state": "marked", "mark": Decimal("9.75"),
         "updated_at": datetime(2026, 11, 17, 9, 0, 0, tzinfo=UTC)},
        # Arabic: nine marks are too few for a class average.
        *({**row, "pupil": one, "subject": "AR", "number": 1, "state": "marked", "mark": Decimal("11.25")}
          for one in PUPILS[:9]),
    ]  # fmt: skip


def _places_and_people() -> list[tuple[Table, list[dict[str, Any]]]]:
    at = {"updated_at": LOADED_AT}
    return [
        (tables.regions, [{"code": "01", "name_ar": "جهة", "name_fr": "Région Une"},
                          {"code": "02", "name_ar": "جهة", "name_fr": "Région Deux"}]),
        (tables.provinces, [{"code": "02", "region": "01", "name_ar": "إقليم", "name_fr": "Province Une"},
                            {"code": "21", "region": "02", "name_ar": "إقليم", "name_fr": "Province Deux"}]),
        (tables.schools, [{"gresa": SCHOOL, "name_ar": "مدرسة", "name_fr": "École Une", "province": "02", "cycle": "college"},
                          {"gresa": OTHER_SCHOOL, "name_ar": "مدرسة", "name_fr": "École Deux", "province": "21", "cycle": "college"}]),
        (tables.levels, [{"code": "2APIC", "cycle": "college", "name_ar": "الثانية", "name_fr": "2e collège", "rank": 8}]),
        (tables.subjects, [{"code": code, "name_ar": ar, "name_fr": f"Matière {code}"} for code, ar in _SUBJECTS.items()]),
        (tables.level_subjects, [
            {"level": "2APIC", "subject": "MATH", "coefficient": Decimal(3), "hours": Decimal(5), "controls": 2, "control_weight": Decimal(1)},
            {"level": "2APIC", "subject": "AR", "coefficient": Decimal("2.5"), "hours": Decimal(4), "controls": 1, "control_weight": Decimal("0.75")},
            {"level": "2APIC", "subject": "FR", "coefficient": Decimal(2), "hours": Decimal(4), "controls": 2, "control_weight": Decimal("0.80")},
            {"level": "2APIC", "subject": "SPORT", "coefficient": Decimal(1), "hours": Decimal(2), "controls": 1, "control_weight": Decimal("0.75")},
        ]),
        (tables.calendar, [{"id": 1, "year": 2026, "session": 1, "week": WEEK, "today": TODAY,
                            "first_day": date(2026, 9, 7), "last_day": date(2027, 6, 30), **at}]),
        (tables.teachers, [{**row, "ppr": f"T{number:07d}", "school": SCHOOL} for number, row in
                           enumerate(_people([TEACHER, FRENCH_TEACHER, OTHER_TEACHER, IDLE_TEACHER]))]),
        (tables.classes, [{"id": CLASS, "school": SCHOOL, "level": "2APIC", "name": "2APIC-1"},
                          {"id": EMPTY_CLASS, "school": SCHOOL, "level": "2APIC", "name": "2APIC-2"},
                          {"id": OTHER_CLASS, "school": OTHER_SCHOOL, "level": "2APIC", "name": "2APIC-3"}]),
        (tables.assignments, [
            {"teacher": TEACHER, "class_id": CLASS, "subject": "MATH", "hours": Decimal(5)},
            {"teacher": TEACHER, "class_id": CLASS, "subject": "AR", "hours": Decimal("4.5")},
            {"teacher": FRENCH_TEACHER, "class_id": CLASS, "subject": "FR", "hours": Decimal(4)},
            {"teacher": OTHER_TEACHER, "class_id": OTHER_CLASS, "subject": "MATH", "hours": Decimal(5)},
        ]),
        (tables.pupils, [{**row, "massar_code": f"T{number:09d}", "class_id": CLASS, "number": number + 1, "birth_date": date(2013, 3, 3)}
                         for number, row in enumerate(_people(PUPILS))]
         + [{**row, "massar_code": f"T{number:09d}", "class_id": OTHER_CLASS, "number": number, "birth_date": date(2013, 4, 4)}
            for number, row in enumerate(_people([STRANGER, NEWCOMER]), start=51)]),
        (tables.dispensations, [{"pupil": DISPENSED, "subject": "MATH"}]),
        (tables.guardians, _people([MOTHER, FATHER, FORMER_GUARDIAN], phone=None)),
        (tables.guardianships, [
            {"guardian": MOTHER, "pupil": PUPIL, "kind": "mother", "status": "active", **at},
            {"guardian": MOTHER, "pupil": STRANGER, "kind": "mother", "status": "active", **at},
            {"guardian": FATHER, "pupil": PUPIL, "kind": "father", "status": "active", **at},
            {"guardian": FORMER_GUARDIAN, "pupil": PUPIL, "kind": "guardian", "status": "revoked", **at},
        ]),
        (tables.lessons, [
            {"class_id": CLASS, "day": 1, "start_at": time(8, 30), "end_at": time(10, 30), "subject": "MATH", "teacher": TEACHER, "room": "B12"},
            {"class_id": CLASS, "day": 1, "start_at": time(10, 30), "end_at": time(12, 30), "subject": "FR", "teacher": FRENCH_TEACHER, "room": "B12"},
            {"class_id": CLASS, "day": 3, "start_at": time(8, 30), "end_at": time(10, 30), "subject": "AR", "teacher": TEACHER, "room": "B12"},
        ]),
        (tables.lesson_changes, [
            {"class_id": CLASS, "week": WEEK, "day": 1, "start_at": time(8, 30), "kind": "moved", "room": "A01"},
            {"class_id": CLASS, "week": WEEK, "day": 3, "start_at": time(8, 30), "kind": "cancelled", "room": None},
        ]),
    ]  # fmt: skip


def _work() -> list[tuple[Table, list[dict[str, Any]]]]:
    at = {"updated_at": LOADED_AT}
    return [
        (tables.gradebooks, [
            {"class_id": CLASS, "subject": "MATH", "session": 1, "locked": False, "published": True, "deadline": datetime(2027, 1, 30, 18, 0, tzinfo=UTC), **at},
            {"class_id": CLASS, "subject": "AR", "session": 1, "locked": True, "published": True, "deadline": None, **at},
            {"class_id": CLASS, "subject": "FR", "session": 1, "locked": False, "published": False, "deadline": None, **at},
        ]),
        (tables.controls, [
            {"class_id": CLASS, "subject": "MATH", "session": 1, "number": 1, "held_on": date(2026, 10, 5)},
            {"class_id": CLASS, "subject": "MATH", "session": 1, "number": 2, "held_on": date(2026, 11, 9)},
            {"class_id": CLASS, "subject": "AR", "session": 1, "number": 1, "held_on": date(2026, 10, 6)},
            {"class_id": CLASS, "subject": "FR", "session": 1, "number": 1, "held_on": date(2026, 10, 7)},
        ]),
        (tables.marks, _marks()),
        (tables.activities, [{"pupil": PUPIL, "subject": "AR", "session": 1, "mark": Decimal("15.00")}]),
        (tables.absences, [
            {"id": ident("absenceone"), "pupil": PUPIL, "class_id": CLASS, "held_on": MONDAY, "start_at": time(8, 30), "end_at": time(10, 30),
             "kind": "absence", "justified": True, "reason": "Motif synthétique", "observed_at": MARKED_AT, "updated_at": MARKED_AT},
            {"id": ident("absencetwo"), "pupil": PUPIL, "class_id": CLASS, "held_on": date(2026, 10, 1), "start_at": time(8, 30), "end_at": time(10, 30),
             "kind": "late", "justified": False, "reason": None, "observed_at": LOADED_AT, "updated_at": LOADED_AT},
        ]),
        (tables.homework, [
            {"id": LATER_HOMEWORK, "class_id": CLASS, "subject": "FR", "teacher": FRENCH_TEACHER, "body": "Lire le texte", "assigned_on": TODAY, "due_on": date(2026, 11, 25), **at},
            {"id": HOMEWORK, "class_id": CLASS, "subject": "MATH", "teacher": TEACHER, "body": "Exercice 4", "assigned_on": MONDAY, "due_on": date(2026, 11, 20), "updated_at": MARKED_AT},
        ]),
        (tables.homework_done, [{"pupil": PUPIL, "homework": HOMEWORK}]),
        (tables.announcements, [_announcement(*one) for one in (
            ("national", "", "2026-09-01"), ("region", "01", "2026-09-02"), ("province", "02", "2026-09-03"), ("school", SCHOOL, "2026-09-04"),
            ("class", CLASS, "2026-09-05"), ("region", "02", "2026-09-06"), ("school", OTHER_SCHOOL, "2026-09-07"), ("national", "", "2026-12-24"))]),
    ]  # fmt: skip


def _announcement(level: str, scope: str, valid_from: str) -> dict[str, Any]:
    return {
        "id": ident(f"note{level}{'abcdefghi'[int(valid_from[-1])]}"),
        "level": level,
        "scope": scope,
        "title_ar": "إعلان",
        "title_fr": f"Annonce {level}",
        "body_ar": "نص",
        "body_fr": "Texte synthétique",
        "valid_from": date.fromisoformat(valid_from),
        "valid_to": date(2027, 6, 30),
        "updated_at": LOADED_AT,
    }


async def plant(dsn: str, *, site: str, epoch: int) -> None:
    """Fill an empty school-records database, fence row included."""
    engine = create_async_engine(tables.asyncpg_url(dsn), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("SET LOCAL massar.bulk_load = 'on'")
            for table, rows in (*_places_and_people(), *_work()):
                await connection.execute(insert(table), rows)
            await connection.execute(insert(tables.fence).values(id=1, epoch=epoch, site=site))
    finally:
        await engine.dispose()
