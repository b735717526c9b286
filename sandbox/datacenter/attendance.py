"""A teacher calls the roll: who is present, absent or late at one lesson.

Invariant: there is at most one absence per pupil and lesson; of two observations the later one stands, in whatever
order they arrive, as long as there is a row that remembers the first, and whoever sent the other is told. Nobody saw
a lesson before its day or after now. Those who call the roll of one lesson take turns on its row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone
from typing import Annotated, Any

import msgspec
from sqlalchemy import Date, DateTime, Text, Time, and_, bindparam, delete, exists, false, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.tables import absences, calendar, lessons, pupils
from sandbox.datacenter.writes import Occasion, Verdict, json_verdict

AHEAD_MAX = timedelta(minutes=5)
# Morocco's clock all year but Ramadan, when its day begins an hour after this one: that refuses nobody.
LOCAL = timezone(timedelta(hours=1))
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_KINDS = {"absent": "absence", "late": "late"}
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(shapes.PresenceBatch)

_his = lessons.alias("his")
_LESSON = (
    select(lessons.c.end_at)
    .select_from(lessons.join(calendar, true()))
    .where(
        lessons.c.class_id == bindparam("class_id"),
        lessons.c.day == bindparam("day"),
        lessons.c.start_at == bindparam("start_at"),
        bindparam("held_on", type_=calendar.c.today.type).between(calendar.c.first_day, calendar.c.last_day),
        exists().where(and_(_his.c.class_id == lessons.c.class_id, _his.c.teacher == bindparam("teacher"))),
    )
    .with_for_update(key_share=True, of=lessons)
)
_IN_CLASS = select(pupils.c.id).where(
    pupils.c.class_id == bindparam("class_id"),
    pupils.c.id == func.any(bindparam("pupils", type_=ARRAY(Text))),
)
_AT_LESSON = (
    absences.c.held_on == bindparam("held_on", type_=Date),
    absences.c.start_at == bindparam("start_at", type_=Time),
)
_gone = (
    func.unnest(
        bindparam("pupils", type_=ARRAY(Text)), bindparam("moments", type_=ARRAY(DateTime(timezone=True)))
    )
    .table_valued("pupil", "observed_at", name="gone")
    .render_derived()
)
_GONE = delete(absences).where(
    absences.c.pupil == _gone.c.pupil, absences.c.observed_at <= _gone.c.observed_at, *_AT_LESSON
)
_STANDING = select(absences.c.pupil).where(
    absences.c.pupil == func.any(bindparam("pupils", type_=ARRAY(Text))), *_AT_LESSON
)
_seen = (
    func.unnest(
        bindparam("ids", type_=ARRAY(Text)),
        bindparam("pupils", type_=ARRAY(Text)),
        bindparam("kinds", type_=ARRAY(Text)),
        bindparam("moments", type_=ARRAY(DateTime(timezone=True))),
    )
    .table_valued("id", "pupil", "kind", "observed_at", name="seen")
    .render_derived()
)
_inserted = insert(absences).from_select(
    [
        "id",
        "pupil",
        "kind",
        "observed_at",
        "class_id",
        "held_on",
        "start_at",
        "end_at",
        "justified",
        "updated_at",
    ],
    select(
        _seen.c.id,
        _seen.c.pupil,
        _seen.c.kind,
        _seen.c.observed_at,
        bindparam("class_id", type_=Text),
        bindparam("held_on", type_=Date),
        bindparam("start_at", type_=Time),
        bindparam("end_at", type_=Time),
        false(),
        func.clock_timestamp(),
    ),
)
_SEEN = _inserted.on_conflict_do_update(
    constraint="one_absence_a_lesson",
    set_={
        name: _inserted.excluded[name] for name in ("class_id", "end_at", "kind", "observed_at", "updated_at")
    },
    where=absences.c.observed_at <= _inserted.excluded.observed_at,
).returning(absences.c.pupil)


class Sighting(msgspec.Struct, frozen=True):
    """A row that may be written: of a pupil of the class, at an instant when the lesson can have been seen."""

    pupil_id: str
    state: str
    moment: datetime


def parse(body: bytes) -> tuple[shapes.Presence, ...]:
    """The rows of a roll call.

    Raises: Refused (`bad-request`).
    """
    try:
        entries = tuple(_decoder.decode(body).entries)
    except msgspec.MsgspecError as error:
        raise Refused("bad-request", "entries: 1 to 60 rows of pupil_id, state, observed_at") from error
    if len({entry.pupil_id for entry in entries}) < len(entries):
        raise Refused("bad-request", "entries: a pupil is named twice")
    return entries


def observed(said: str, *, held_on: date, now: datetime) -> datetime | None:
    """The instant that `said` names; None when nobody can have seen a lesson of that day then; pure."""
    day_begins = datetime.combine(held_on, time.min, tzinfo=LOCAL)
    if day_begins > now or _RFC3339.fullmatch(said) is None:
        return None
    try:
        moment = msgspec.convert(said, _Instant)
    except msgspec.ValidationError:
        return None
    return moment if day_begins <= moment <= now + AHEAD_MAX else None


async def call_roll(
    connection: AsyncConnection,
    *,
    teacher: str,
    class_id: str,
    held_on: date,
    start_at: time,
    entries: Sequence[shapes.Presence],
    occasion: Occasion,
) -> Verdict:
    """Write what was seen at the lesson of `class_id` that starts then, and say what became of each row.

    Raises: Refused (`not-found`): no such lesson, or the teacher has none with this class.
    """
    lesson = {"class_id": class_id, "start_at": start_at, "held_on": held_on}
    asked = {**lesson, "day": held_on.isoweekday(), "teacher": teacher}
    end_at = (await connection.execute(_LESSON, asked)).scalar_one_or_none()
    if end_at is None:
        raise Refused("not-found")
    named = {"class_id": class_id, "pupils": [entry.pupil_id for entry in entries]}
    present = set((await connection.execute(_IN_CLASS, named)).scalars())
    slugs: dict[str, str] = {}
    sightings = []
    for entry in entries:
        moment = observed(entry.observed_at, held_on=held_on, now=occasion.now)
        if moment is None:
            slugs[entry.pupil_id] = "observation-invalid"
        elif entry.pupil_id not in present:
            slugs[entry.pupil_id] = "pupil-not-in-class"
        else:
            sightings.append(Sighting(pupil_id=entry.pupil_id, state=entry.state, moment=moment))
    for pupil in await _superseded(connection, {**lesson, "end_at": end_at}, sightings, occasion):
        slugs[pupil] = "observation-superseded"
    results = [
        shapes.PresenceResult(pupil_id=entry.pupil_id, status="rejected", slug=slugs[entry.pupil_id])
        if entry.pupil_id in slugs
        else shapes.PresenceResult(pupil_id=entry.pupil_id, status="accepted")
        for entry in entries
    ]
    return json_verdict(200, _encoder.encode({"results": results}))


async def _superseded(
    connection: AsyncConnection, lesson: dict[str, Any], sightings: Sequence[Sighting], occasion: Occasion
) -> set[str]:
    """Write the sightings; return the pupils of whom a newer one stands."""
    seen = [one for one in sightings if one.state in _KINDS]
    gone = [one for one in sightings if one.state not in _KINDS]
    superseded: set[str] = set()
    if seen:
        asked = {
            **lesson,
            "ids": [occasion.new_id(one.pupil_id) for one in seen],
            "kinds": [_KINDS[one.state] for one in seen],
            **_columns(seen),
        }
        superseded |= {one.pupil_id for one in seen} - set((await connection.execute(_SEEN, asked)).scalars())
    if gone:
        at = {"held_on": lesson["held_on"], "start_at": lesson["start_at"], **_columns(gone)}
        await connection.execute(_GONE, at)
        superseded |= set((await connection.execute(_STANDING, at)).scalars())
    return superseded


def _columns(sightings: Sequence[Sighting]) -> dict[str, Any]:
    return {
        "pupils": [one.pupil_id for one in sightings],
        "moments": [one.moment for one in sightings],
    }
