"""A teacher enters marks: at most sixty cells at once, a verdict for each.

Invariant: a cell changes only when the teacher saw its present version; writers of one gradebook take turns on its
row, so two batches never interleave. A rejected cell leaves the others standing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Integer, Numeric, Text, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.tables import assignments, controls, dispensations, gradebooks, marks, pupils
from sandbox.datacenter.writes import Occasion, Verdict, json_verdict

_MARK = re.compile(r"(?:[01]?[0-9]\.[0-9]{2}|20\.00)")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(shapes.EntryBatch)

_LOCKED = (
    select(gradebooks.c.locked)
    .select_from(
        gradebooks.join(
            assignments,
            and_(
                assignments.c.class_id == gradebooks.c.class_id, assignments.c.subject == gradebooks.c.subject
            ),
        )
    )
    .where(
        gradebooks.c.class_id == bindparam("class_id"),
        gradebooks.c.subject == bindparam("subject"),
        gradebooks.c.session == bindparam("session"),
        assignments.c.teacher == bindparam("teacher"),
    )
    .with_for_update(key_share=True, of=gradebooks)
)

_PLANNED = (
    select(func.array_agg(controls.c.number))
    .where(
        controls.c.class_id == bindparam("class_id"),
        controls.c.subject == bindparam("subject"),
        controls.c.session == bindparam("session"),
    )
    .scalar_subquery()
)
_VERSIONS = (
    select(func.jsonb_object_agg(marks.c.number, marks.c.version))
    .where(
        marks.c.pupil == pupils.c.id,
        marks.c.subject == bindparam("subject"),
        marks.c.session == bindparam("session"),
    )
    .scalar_subquery()
)
_PRESENT = (
    select(
        pupils.c.id,
        dispensations.c.pupil.is_not(None).label("dispensed"),
        _VERSIONS.label("versions"),
        _PLANNED.label("planned"),
    )
    .select_from(
        pupils.outerjoin(
            dispensations,
            and_(dispensations.c.pupil == pupils.c.id, dispensations.c.subject == bindparam("subject")),
        )
    )
    .where(pupils.c.class_id == bindparam("class_id"))
)


_cells = (
    func.unnest(
        bindparam("pupils", type_=ARRAY(Text)),
        bindparam("numbers", type_=ARRAY(Integer)),
        bindparam("states", type_=ARRAY(Text)),
        bindparam("marks", type_=ARRAY(Numeric)),
        bindparam("versions", type_=ARRAY(Integer)),
    )
    .table_valued("pupil", "number", "state", "mark", "version", name="cells")
    .render_derived()
)
_inserted = insert(marks).from_select(
    ["pupil", "subject", "session", "number", "class_id", "state", "mark", "version", "updated_at"],
    select(
        _cells.c.pupil,
        bindparam("subject", type_=Text),
        bindparam("session", type_=Integer),
        _cells.c.number,
        bindparam("class_id", type_=Text),
        _cells.c.state,
        _cells.c.mark,
        _cells.c.version,
        func.clock_timestamp(),
    ),
)
# The version is compared once more where it is written: programs that know nothing of our locks write marks too.
_CELL = [marks.c.pupil, marks.c.subject, marks.c.session, marks.c.number]
_CONTENT = {name: _inserted.excluded[name] for name in ("class_id", "state", "mark", "version", "updated_at")}
_UPSERT = _inserted.on_conflict_do_update(
    index_elements=_CELL, set_=_CONTENT, where=marks.c.version == _inserted.excluded.version - 1
).returning(marks.c.pupil, marks.c.number)
_REPLAY = _inserted.on_conflict_do_update(
    index_elements=_CELL, set_=_CONTENT, where=marks.c.version < _inserted.excluded.version
).returning(marks.c.pupil, marks.c.number)
_CURRENT = select(marks.c.pupil, marks.c.number, marks.c.version).where(
    marks.c.pupil == func.any(bindparam("pupils", type_=ARRAY(Text))),
    marks.c.subject == bindparam("subject"),
    marks.c.session == bindparam("session"),
)


class Present(msgspec.Struct, frozen=True):
    """A pupil of the class as the records have him now; `versions` by contrôle."""

    dispensed: bool
    versions: dict[int, int]


def parse(body: bytes) -> tuple[shapes.Entry, ...]:
    """The entries of a batch.

    Raises: Refused (`bad-request`).
    """
    try:
        entries = tuple(_decoder.decode(body).entries)
    except msgspec.MsgspecError as error:
        raise Refused(
            "bad-request", "entries: 1 to 60 rows of pupil_id, number, mark, state, version"
        ) from error
    if len({(entry.pupil_id, entry.number) for entry in entries}) < len(entries):
        raise Refused("bad-request", "entries: a cell is named twice")
    return entries


def judge(
    entry: shapes.Entry, *, pupil: Present | None, planned: frozenset[int], predecessors: bool = True
) -> shapes.EntryResult:
    """The verdict on one cell; pure.

    Without `predecessors` an entry is one that was accepted elsewhere, on a version that was never told of and may be
    missing here: then the cell takes the version it had there.
    """

    def rejected(slug: str) -> shapes.EntryResult:
        return shapes.EntryResult(pupil_id=entry.pupil_id, number=entry.number, status="rejected", slug=slug)

    if not _sensible(entry):
        return rejected("mark-invalid")
    if pupil is None:
        return rejected("pupil-not-in-class")
    if entry.number not in planned:
        return rejected("control-unknown")
    if pupil.dispensed and entry.state != "dispensed":
        return rejected("pupil-dispensed")
    current = pupil.versions.get(entry.number, 0)
    # A cell at the highest version can never change again; that there is none is no reason to count beyond it.
    seen = current if predecessors else max(current, entry.version)
    if entry.version != seen or seen >= shapes.VERSION_MAX:
        return _conflict(entry.pupil_id, entry.number, current)
    return shapes.EntryResult(
        pupil_id=entry.pupil_id, number=entry.number, status="accepted", version=seen + 1
    )


def _conflict(pupil_id: str, number: int, current: int) -> shapes.EntryResult:
    return shapes.EntryResult(
        pupil_id=pupil_id, number=number, status="rejected", slug="version-conflict", current=current
    )


def _sensible(entry: shapes.Entry) -> bool:
    if entry.state == "marked":
        return entry.mark is not None and _MARK.fullmatch(entry.mark) is not None
    return entry.state != "pending" and entry.mark is None


async def enter(
    connection: AsyncConnection,
    *,
    teacher: str,
    class_id: str,
    subject: str,
    session: int,
    entries: Sequence[shapes.Entry],
    occasion: Occasion,
) -> Verdict:
    """Write the acceptable cells and say what became of each.

    Raises: Refused (`not-found`, `gradebook-locked`).
    """
    where: dict[str, Any] = {"class_id": class_id, "subject": subject, "session": session}
    locked = (await connection.execute(_LOCKED, {**where, "teacher": teacher})).scalar_one_or_none()
    if locked is None:
        raise Refused("not-found")
    if locked and not occasion.replayed:
        raise Refused("gradebook-locked")
    rows = (await connection.execute(_PRESENT, where)).all()
    planned = frozenset(rows[0].planned or ()) if rows else frozenset()
    present = {
        row.id: Present(
            dispensed=row.dispensed,
            versions={int(number): version for number, version in (row.versions or {}).items()},
        )
        for row in rows
    }
    results = [
        judge(
            entry,
            pupil=present.get(entry.pupil_id),
            planned=planned,
            predecessors=not occasion.without_predecessors,
        )
        for entry in entries
    ]
    accepted = [entry for entry, result in zip(entries, results, strict=True) if result.status == "accepted"]
    lost = (
        await _store(connection, where, accepted, predecessors=not occasion.without_predecessors)
        if accepted
        else {}
    )
    if lost:
        results = [
            result if (key := (result.pupil_id, result.number)) not in lost else _conflict(*key, lost[key])
            for result in results
        ]
    return json_verdict(200, _encoder.encode({"results": results}))


async def _store(
    connection: AsyncConnection,
    where: dict[str, Any],
    accepted: Sequence[shapes.Entry],
    *,
    predecessors: bool,
) -> dict[tuple[str, int], int]:
    """Write the cells; return the present versions of those that somebody else changed meanwhile."""
    written = await connection.execute(
        _UPSERT if predecessors else _REPLAY,
        {
            **where,
            "pupils": [entry.pupil_id for entry in accepted],
            "numbers": [entry.number for entry in accepted],
            "states": [entry.state for entry in accepted],
            "marks": [None if entry.mark is None else Decimal(entry.mark) for entry in accepted],
            "versions": [entry.version + 1 for entry in accepted],
        },
    )
    done = {(row.pupil, row.number) for row in written}
    lost = [entry for entry in accepted if (entry.pupil_id, entry.number) not in done]
    if not lost:
        return {}
    rows = await connection.execute(_CURRENT, {**where, "pupils": [entry.pupil_id for entry in lost]})
    current = {(row.pupil, row.number): row.version for row in rows}
    return {(entry.pupil_id, entry.number): current.get((entry.pupil_id, entry.number), 0) for entry in lost}
