"""A teacher assigns homework to a class.

Invariant: the homework is of a subject that this teacher teaches there, and is due within the school year, not
before it is assigned.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import and_, bindparam, insert, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.tables import assignments, calendar, homework, subjects
from sandbox.datacenter.writes import Occasion, Verdict, json_verdict

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(shapes.NewHomework)

_TAUGHT = (
    select(
        subjects.c.code,
        subjects.c.name_ar,
        subjects.c.name_fr,
        calendar.c.today,
        calendar.c.last_day,
    )
    .select_from(assignments.join(subjects, subjects.c.code == assignments.c.subject).join(calendar, true()))
    .where(
        and_(
            assignments.c.class_id == bindparam("class_id"),
            assignments.c.subject == bindparam("subject"),
            assignments.c.teacher == bindparam("teacher"),
        )
    )
)
_ASSIGN = insert(homework)


def parse(body: bytes) -> shapes.NewHomework:
    """What is to be assigned.

    Raises: Refused (`bad-request`).
    """
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Refused("bad-request", "subject, text (1 to 4000 characters), due_on (a date)") from error


async def assign(
    connection: AsyncConnection,
    *,
    teacher: str,
    class_id: str,
    asked: shapes.NewHomework,
    occasion: Occasion,
) -> Verdict:
    """Write the homework and answer it with its address.

    Raises: Refused (`not-found`, `bad-request`).
    """
    taught = (
        await connection.execute(
            _TAUGHT, {"class_id": class_id, "subject": asked.subject, "teacher": teacher}
        )
    ).one_or_none()
    if taught is None:
        raise Refused("not-found")
    if not occasion.replayed and not taught.today <= asked.due_on <= taught.last_day:
        raise Refused("bad-request", "due_on: from today to the last day of the school year")
    given = shapes.Homework(
        id=occasion.new_id(),
        subject=shapes.Subject(code=taught.code, ar=taught.name_ar, fr=taught.name_fr),
        text=asked.text,
        assigned_on=taught.today,
        due_on=asked.due_on,
    )
    await connection.execute(
        _ASSIGN,
        {
            "id": given.id,
            "class_id": class_id,
            "subject": asked.subject,
            "teacher": teacher,
            "body": asked.text,
            "assigned_on": given.assigned_on,
            "due_on": given.due_on,
        },
    )
    return json_verdict(
        201, _encoder.encode(given), {"Location": f"/v1/classes/{class_id}/homework/{given.id}"}
    )
