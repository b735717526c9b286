"""Homework set by the teachers, due before and after today, and the pupils' ticks.

Invariant: homework is assigned and due on days when the class has that subject, and only what was assigned can
be ticked.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

import msgspec

from sandbox.population.calendar import CALENDAR, holds_school, instant
from sandbox.population.families import Families
from sandbox.population.identifiers import opaque_id
from sandbox.population.schools import Locality
from sandbox.population.timetables import Lesson

_WEEKS_BACK = 3
_SET_SHARE = 0.45  # of a class's weekly subjects, which set homework in a given week
_DONE_SHARE = 0.2
_DONE_SINCE_DAYS = 7
_ARABIC = frozenset({"AR", "EI", "HG", "PHI", "AMZ", "TRA"})
_ENGLISH = frozenset({"EN"})
_NONE = frozenset({"EPS"})
_TEXTS_AR = (
    "إنجاز التمارين 2 و3 و4 من الصفحة {page}.",
    "تحضير النص الموجود في الصفحة {page} والإجابة عن أسئلة الفهم.",
    "مراجعة الدرس استعدادا للفرض المقبل (الصفحات من {page} فما بعد).",
    "كتابة فقرة من عشرة أسطر حول موضوع الدرس، انطلاقا من الصفحة {page}.",
)
_TEXTS_FR = (
    "Faire les exercices 2, 3 et 4 de la page {page}.",
    "Préparer l'activité de la page {page} et répondre aux questions 1 à 5.",
    "Réviser la leçon en vue du prochain contrôle (à partir de la page {page}).",
    "Terminer au propre l'exercice de synthèse commencé en classe, page {page}.",
)
_TEXTS_EN = (
    "Read the text on page {page} and answer the comprehension questions.",
    "Write a paragraph of ten lines on the topic of page {page}.",
    "Learn the vocabulary of the unit that begins on page {page}.",
)


class Homework(msgspec.Struct, frozen=True):
    """One piece of homework, set in a lesson."""

    id: str
    lesson: Lesson
    body: str
    assigned_on: date
    due_on: date


def homework_of(locality: Locality, lessons: tuple[Lesson, ...]) -> tuple[Homework, ...]:
    """Three weeks of homework up to yesterday, due one or two weeks later."""
    rng = locality.rng("homework")
    pieces: list[Homework] = []
    met: set[tuple[str, str, int]] = set()
    monday = CALENDAR.today - timedelta(days=CALENDAR.today.isoweekday() - 1)
    for back in range(_WEEKS_BACK):
        for lesson in lessons:
            key = (lesson.room.id, lesson.subject, back)
            assigned_on = monday + timedelta(days=lesson.day - 1 - 7 * back)
            if key in met or assigned_on >= CALENDAR.today or not holds_school(assigned_on):
                continue
            met.add(key)
            if lesson.subject in _NONE or rng.random() >= _SET_SHARE:
                continue
            due_on = assigned_on + timedelta(days=7 if rng.random() < 0.7 else 14)
            pieces.append(
                Homework(
                    id=opaque_id(rng),
                    lesson=lesson,
                    body=_text(rng, lesson.subject),
                    assigned_on=assigned_on,
                    due_on=due_on,
                )
            )
    return tuple(pieces)


def _text(rng: Random, subject: str) -> str:
    texts = _TEXTS_AR if subject in _ARABIC else _TEXTS_EN if subject in _ENGLISH else _TEXTS_FR
    return texts[int(rng.random() * len(texts))].format(page=10 + int(rng.random() * 120))


def homework_row(homework: Homework) -> tuple[object, ...]:
    """A row of `homework`."""
    lesson = homework.lesson
    return (
        homework.id,
        lesson.room.id,
        lesson.subject,
        lesson.teacher.id,
        homework.body,
        homework.assigned_on,
        homework.due_on,
        instant(homework.assigned_on, lesson.end_at),
    )


def homework_done_rows(
    locality: Locality, families: Families, pieces: tuple[Homework, ...]
) -> Iterator[tuple[object, ...]]:
    """Rows of `homework_done`: ticks on what was due in the last days or still is."""
    rng = locality.rng("homework done")
    lists = families.by_class()
    since = CALENDAR.today - timedelta(days=_DONE_SINCE_DAYS)
    for homework in pieces:
        if homework.due_on >= since:
            for pupil in lists[homework.lesson.room.position]:
                if rng.random() < _DONE_SHARE:
                    yield (pupil.id, homework.id)
