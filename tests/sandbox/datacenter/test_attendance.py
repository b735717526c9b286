from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import shapes
from sandbox.datacenter.attendance import AHEAD_MAX, LOCAL, call_roll, observed, parse
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.writes import Occasion
from tests.conformance import seed

AT = datetime(2026, 11, 16, 8, 35, tzinfo=UTC)


NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
DAY_BEGINS = datetime(2026, 11, 15, 23, 0, tzinfo=UTC)


def row(pupil: str, state: str = "late", at: str | datetime = AT) -> shapes.Presence:
    return msgspec.convert(
        {"pupil_id": pupil, "state": state, "observed_at": at if isinstance(at, str) else at.isoformat()},
        shapes.Presence,
    )


async def roll(
    connection: AsyncConnection,
    *entries: shapes.Presence,
    held_on: date = seed.MONDAY,
    start_at: time = time(8, 30),
    now: datetime = NOW,
) -> list[str]:
    """The verdicts: `accepted`, or why not."""
    said = await call_roll(
        connection,
        teacher=seed.TEACHER,
        class_id=seed.CLASS,
        held_on=held_on,
        start_at=start_at,
        entries=entries,
        occasion=Occasion(scope="t", now=now),
    )
    results = msgspec.json.decode(said.body)["results"]
    assert [one["pupil_id"] for one in results] == [entry.pupil_id for entry in entries]
    return [one.get("slug", one["status"]) for one in results]


async def absences(connection: AsyncConnection, pupil: str) -> list[tuple[object, ...]]:
    rows = await connection.execute(
        text(
            "SELECT kind, justified, reason, end_at, observed_at FROM absences WHERE pupil = :p AND held_on = :d"
        ),
        {"p": pupil, "d": seed.MONDAY},
    )
    return [tuple(row) for row in rows]


async def test_an_absence_lasts_as_long_as_the_lesson(connection: AsyncConnection) -> None:
    await roll(connection, row(seed.CLASSMATE))
    assert await absences(connection, seed.CLASSMATE) == [("late", False, None, time(10, 30), AT)]


async def test_a_new_observation_leaves_what_the_school_has_judged(connection: AsyncConnection) -> None:
    await roll(connection, row(seed.PUPIL))
    assert await absences(connection, seed.PUPIL) == [("late", True, "Motif synthétique", time(10, 30), AT)]


async def test_an_observation_older_than_the_row_changes_nothing_and_is_told_so(
    connection: AsyncConnection,
) -> None:
    assert await roll(connection, row(seed.CLASSMATE, "late", AT)) == ["accepted"]
    older = AT - timedelta(microseconds=1)
    for state in ("absent", "late", "present"):
        assert await roll(connection, row(seed.CLASSMATE, state, older)) == ["observation-superseded"]
        assert await absences(connection, seed.CLASSMATE) == [("late", False, None, time(10, 30), AT)]


@pytest.mark.parametrize(("state", "left"), [("absent", ["absence"]), ("late", ["late"]), ("present", [])])
async def test_an_observation_of_the_same_instant_is_taken(
    connection: AsyncConnection, state: str, left: list[str]
) -> None:
    await roll(connection, row(seed.CLASSMATE, "late", AT))
    assert await roll(connection, row(seed.CLASSMATE, state, AT)) == ["accepted"]
    assert [one[0] for one in await absences(connection, seed.CLASSMATE)] == left


async def test_present_without_an_absence_is_taken(connection: AsyncConnection) -> None:
    assert await roll(connection, row(seed.CLASSMATE, "present", DAY_BEGINS)) == ["accepted"]


async def test_every_row_is_judged_by_itself(connection: AsyncConnection) -> None:
    for pupil in (seed.PUPILS[2], seed.PUPILS[3]):
        await roll(connection, row(pupil, "absent", AT))
    assert await roll(
        connection,
        row(seed.PUPILS[2], "late", AT - timedelta(minutes=1)),
        row(seed.PUPILS[3], "present", AT - timedelta(minutes=1)),
        row(seed.PUPILS[4], "late", "9999-12-31T23:59:59-12:00"),
        row(seed.STRANGER, "late", AT),
        row(seed.STRANGER[:-1] + "b", "present", "nonsense"),
        row(seed.PUPILS[5], "present", AT),
        row(seed.PUPILS[6], "late", AT + timedelta(hours=1, microseconds=1)),
    ) == [
        "observation-superseded",
        "observation-superseded",
        "observation-invalid",
        "pupil-not-in-class",
        "observation-invalid",
        "accepted",
        "accepted",
    ]
    assert [one[0] for one in await absences(connection, seed.PUPILS[2])] == ["absence"]
    assert [one[0] for one in await absences(connection, seed.PUPILS[3])] == ["absence"]
    assert await absences(connection, seed.PUPILS[4]) == []
    assert await absences(connection, seed.PUPILS[6]) == [
        ("late", False, None, time(10, 30), AT + timedelta(hours=1, microseconds=1))
    ]


async def test_a_lesson_whose_day_has_not_begun_was_seen_by_nobody(connection: AsyncConnection) -> None:
    night = DAY_BEGINS - timedelta(seconds=1)
    for at in (night, DAY_BEGINS, DAY_BEGINS + timedelta(minutes=1)):
        assert await roll(connection, row(seed.CLASSMATE, "late", at), now=night) == ["observation-invalid"]
    assert await roll(connection, row(seed.CLASSMATE, "late", DAY_BEGINS), now=DAY_BEGINS) == ["accepted"]


def seen(said: str | datetime) -> datetime | None:
    text_ = said if isinstance(said, str) else said.isoformat()
    return observed(text_, held_on=seed.MONDAY, now=NOW)


def test_an_observation_lies_between_the_beginning_of_the_day_and_now_with_five_minutes_to_spare() -> None:
    instant = timedelta(microseconds=1)
    assert seen(DAY_BEGINS - instant) is None
    assert seen(DAY_BEGINS) == DAY_BEGINS
    assert seen("2026-11-16T00:00:00+01:00") == DAY_BEGINS
    assert seen(NOW + AHEAD_MAX) == NOW + timedelta(minutes=5)
    assert seen(NOW + AHEAD_MAX + instant) is None


@pytest.mark.parametrize(
    "said",
    [
        "", "today", "2026-11-16", "2026-11-16T08:35:00", "2026-11-16T08:35Z", "2026-11-16T08:35:00+0100",
        "2026-11-16T08:35:00,5Z", "2026-02-30T08:35:00Z", "2026-11-16T24:00:00Z", "1795000000", "\x00",
        "٢٠٢٦-11-16T08:35:00Z", " 2026-11-16T08:35:00Z", "2026-11-16T08:35:00Z\n", "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.9999999Z", "0001-01-01T00:00:00+14:00",
    ],
)  # fmt: skip
def test_what_is_no_instant_or_one_of_another_age_is_no_observation(said: str) -> None:
    assert seen(said) is None


@given(st.text(max_size=64) | st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](Z|[+-][0-2][0-9]:[0-5][0-9])", fullmatch=True), st.dates())  # fmt: skip
@example("9999-12-31T23:59:59-12:00", date.max)
@example("0001-01-01T00:00:00+14:00", date.min)
def test_any_text_is_judged_and_what_is_taken_is_within_the_bounds(said: str, held_on: date) -> None:
    moment = observed(said, held_on=held_on, now=NOW)
    if moment is not None:
        assert datetime.combine(held_on, time.min, tzinfo=LOCAL) <= moment <= NOW + AHEAD_MAX
        assert held_on <= NOW.astimezone(LOCAL).date()


@pytest.mark.parametrize(
    ("held_on", "start_at"),
    [(date(2026, 11, 15), time(8, 30)), (seed.MONDAY, time(9, 0)), (date(2026, 8, 31), time(8, 30))],
)
async def test_a_lesson_must_be_held_within_the_school_year(
    connection: AsyncConnection, held_on: date, start_at: time
) -> None:
    with pytest.raises(Refused, match="not-found"):
        await roll(connection, held_on=held_on, start_at=start_at)


def test_a_pupil_named_twice_is_a_bad_roll() -> None:
    with pytest.raises(Refused, match="bad-request"):
        parse(msgspec.json.encode({"entries": [row("p"), row("p")]}))
    assert len(parse(msgspec.json.encode({"entries": [row("p")]}))) == 1


def test_any_text_of_64_characters_is_a_row_and_no_longer_one() -> None:
    assert len(parse(msgspec.json.encode({"entries": [row("p", at="x" * 64), row("q", at="")]}))) == 2
    for unread in ("x" * 65, 1_795_000_000, None):
        with pytest.raises(Refused, match="bad-request"):
            parse(
                msgspec.json.encode({"entries": [{"pupil_id": "p", "state": "late", "observed_at": unread}]})
            )
