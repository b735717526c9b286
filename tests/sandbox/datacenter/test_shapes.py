from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from sandbox.datacenter import shapes


def test_an_instant_is_utc_to_the_second() -> None:
    moment = datetime(2026, 11, 18, 8, 30, 15, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert shapes.instant_text(moment) == "2026-11-18T07:30:15Z"
    assert shapes.instant_text(moment.astimezone(UTC)) == "2026-11-18T07:30:15Z"


def test_marks_have_two_decimals_and_hours_only_those_they_need() -> None:
    assert [shapes.mark_text(mark) for mark in (Decimal("14.5"), Decimal(0), None)] == ["14.50", "0.00", None]
    assert [shapes.number(value) for value in (Decimal("3.0"), Decimal("2.5"))] == [3, 2.5]
    assert shapes.clock_text(time(8, 5)) == "08:05"


def test_the_verdict_says_only_what_applies() -> None:
    accepted = shapes.EntryResult(pupil_id="p", number=1, status="accepted", version=1)
    assert msgspec.to_builtins(accepted) == {"pupil_id": "p", "number": 1, "status": "accepted", "version": 1}


def test_a_roster_says_class() -> None:
    card = shapes.ClassCard(id="c", name="n", level="l", school_gresa="s")
    assert list(msgspec.to_builtins(shapes.Roster(class_=card, pupils=[], as_of=""))) == [
        "class",
        "pupils",
        "as_of",
    ]


@pytest.mark.parametrize("kind", [shapes.EntryBatch, shapes.PresenceBatch, shapes.NewHomework])
def test_requests_refuse_unknown_fields(kind: type[msgspec.Struct]) -> None:
    schema = msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        if definition.get("type") == "object":
            assert definition["additionalProperties"] is False
