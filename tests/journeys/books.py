"""A gradebook to write in, its cells, and what is asked of every write."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import msgspec

from tests.journeys.people import People

ELSEWHERE_MAX_S = 2.0  # a second is promised; the rest is for a busy machine


class Book(msgspec.Struct, frozen=True):
    """An open, published gradebook of session 1 with a pupil who is dispensed from its subject."""

    teacher: str
    class_id: str
    subject: str
    dispensed: str
    colleague: str
    colleagues_subject: str

    @property
    def path(self) -> str:
        """Where it is read."""
        return f"/v1/gradebooks/{self.class_id}/{self.subject}/1"

    @property
    def entries(self) -> str:
        """Where marks are entered."""
        return f"{self.path}/entries"


class Cell(msgspec.Struct, frozen=True):
    """One mark of one pupil with a guardian, as it stands."""

    pupil: str
    guardian: str
    number: int
    version: int

    def entry(self, mark: str | None = "13.25", **changed: Any) -> dict[str, Any]:
        """What enters a mark here."""
        entry = {
            "pupil_id": self.pupil,
            "number": self.number,
            "mark": mark,
            "state": "marked",
            "version": self.version,
        }
        return {**entry, **changed}


async def find_book(records: asyncpg.Connection, people: People) -> Book:
    """A gradebook that is not of the sample teacher's class."""
    row = await records.fetchrow(
        """
        SELECT assignments.teacher, assignments.class_id, assignments.subject, pupils.id AS dispensed,
               colleagues.teacher AS colleague, colleagues.subject AS colleagues_subject
        FROM assignments
        JOIN gradebooks ON gradebooks.class_id = assignments.class_id AND gradebooks.subject = assignments.subject
          AND gradebooks.session = 1 AND published AND NOT locked
        JOIN dispensations ON dispensations.subject = assignments.subject
        JOIN pupils ON pupils.id = dispensations.pupil AND pupils.class_id = assignments.class_id
        JOIN assignments AS colleagues ON colleagues.class_id = assignments.class_id
          AND colleagues.teacher <> assignments.teacher AND colleagues.subject = 'MATH'
        WHERE assignments.class_id <> $1 ORDER BY pupils.id LIMIT 1
        """,
        people.teacher.class_id,
    )
    assert row is not None
    return Book(**dict(row))


async def find_cells(records: asyncpg.Connection, book: Book) -> Iterator[Cell]:
    """Cells of the first contrôle, each of another pupil."""
    rows = await records.fetch(
        """
        SELECT pupils.id AS pupil, min(guardian) AS guardian, 1 AS number,
               coalesce((SELECT version FROM marks WHERE marks.pupil = pupils.id AND marks.subject = $2
                         AND marks.session = 1 AND marks.number = 1), 0) AS version
        FROM pupils JOIN guardianships ON guardianships.pupil = pupils.id AND status = 'active'
        WHERE class_id = $1 AND NOT EXISTS (
            SELECT FROM dispensations WHERE dispensations.pupil = pupils.id AND dispensations.subject = $2)
        GROUP BY pupils.id ORDER BY pupils.id
        """,
        book.class_id,
        book.subject,
    )
    return (Cell(**dict(row)) for row in rows)


def new_key() -> str:
    return secrets.token_hex(8)


def batch(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"entries": list(entries)}


def slugs(answer: httpx.Response) -> list[str]:
    """Per row, `accepted` or why it was rejected."""
    assert answer.status_code == 200, answer.text
    return [row["problem"]["slug"] if "problem" in row else row["status"] for row in answer.json()["results"]]


def tell(what: str, seconds: dict[str, float]) -> None:
    """Print how long every worker took, and hold the slowest to its bound."""
    print(f"{what}: every worker of both sites within {max(seconds.values()) * 1000:.0f} ms")
    assert max(seconds.values()) < ELSEWHERE_MAX_S, seconds
