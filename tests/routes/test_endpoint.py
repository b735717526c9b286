"""What endpoints declare: queries are checked, defaults come from the calendar, paths name something or nothing."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.access import Rule
from auth.principal import App, Principal, Role
from auth.refusals import NotFound
from gateway.router import endpoints
from routes.absences import ABSENCES
from routes.endpoint import (
    QUERY_PARAMETERS_MAX,
    BadRequest,
    Calendar,
    Endpoint,
    QueryParameter,
    parse_query,
    path_names_something,
    resolve,
)
from routes.grades import GRADES
from routes.timetables import TIMETABLE
from tests.gateway.contract import CALENDAR
from tests.gateway.people import CLASS, FACTS, PARENT, PUPIL
from tests.gateway.world import World

KNOWN = msgspec.convert(CALENDAR, Calendar)
CALLER = Principal(PARENT, Role.PARENT, App.WALIYE, "sid", 0.0)

WRONG = {
    "week": [
        "",
        "47",
        "2026-47",
        "2026-W00",
        "2026-W54",
        "2025-W53",
        "2026-w47",
        "2026-W7",
        "2026-W47\n",
        " 2026-W47",
        "1926-W10",
        "0000-W01",
        "９９２６-W47",
        "٢٠٢٦-W47",
        "2026-W٤٧",
        "2026-W47;drop",
    ],
    "year": ["", "26", "1999", "2100x", "20२६", "2026 ", "+2026"],
    "session": ["", "0", "3", "01", "1.0", "١", "1,2"],
    "date": [
        "",
        "2026-02-30",
        "20261118",
        "2026-W47-3",
        "2026-11-18T00:00:00",
        "18/11/2026",
        "2026-1-1",
        "२०२६-११-१८",
    ],
    "id": ["", "a b", "PUPIL", "../x", "a" * 65, "0189", "é", "a\x00"],
}


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in WRONG.items() for value in values]
)
def test_a_value_of_another_form_is_refused_by_its_name(kind: str, value: str) -> None:
    with pytest.raises(BadRequest) as refused:
        QueryParameter("x", kind, "", "").accept(value)
    assert refused.value.pointer == "?x"


@pytest.mark.parametrize("value", ["2026-W47", "2026-W53", "2020-W53", "2026-W01", "2099-W52"])
def test_weeks_that_exist_are_accepted(value: str) -> None:
    assert QueryParameter("week", "week", "", "").accept(value) == value


def test_only_documented_parameters_count() -> None:
    assert parse_query(GRADES, b"year=2026&utm=x&session=2&utm=y") == {"year": "2026", "session": "2"}
    assert parse_query(GRADES, b"") == {}
    assert parse_query(GRADES, b"&&") == {}
    assert parse_query(GRADES, b"y%65ar=%32026") == {"year": "2026"}


@pytest.mark.parametrize(
    "query",
    [
        b"year=2026&year=2026",
        b"year=2026&y%65ar=2025",
        b"year",
        b"year=",
        b"year=%ff",
        b"other=%ff",
        b"year=\xff",
        "year=٢٠٢٦".encode(),
        b"&".join([b"x=1"] * (QUERY_PARAMETERS_MAX + 1)),
    ],
)
def test_a_query_that_cannot_be_told_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_query(GRADES, query)


@given(query=st.binary(max_size=60))
def test_any_query_at_all_is_parsed_or_a_bad_request(query: bytes) -> None:
    for endpoint in (GRADES, ABSENCES, TIMETABLE):
        try:
            given_values = parse_query(endpoint, query)
        except BadRequest:
            continue
        assert set(given_values) <= {parameter.name for parameter in endpoint.query}
        assert all(value.isascii() for value in given_values.values())


def resolved(endpoint: Endpoint, query: dict[str, str], calendar: Calendar | None) -> dict[str, str] | None:
    return resolve(
        endpoint,
        path={"pupil_id": PUPIL},
        query=query,
        calendar=calendar,
        principal=CALLER,
        facts=FACTS[PARENT],
    )


def test_what_is_left_out_comes_from_the_calendar() -> None:
    assert resolved(GRADES, {"session": "2"}, KNOWN) == {
        "pupil_id": PUPIL,
        "class_id": CLASS,
        "role": "parent",
        "subject_id": PARENT,
        "year": "2026",
        "session": "2",
    }


def test_without_a_calendar_nothing_that_it_bounds_can_be_answered() -> None:
    assert resolved(GRADES, {"session": "2"}, None) is None
    assert resolved(ABSENCES, {"from": "2026-11-18"}, None) is None


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("0001-01-01", "2026-09-02"),
        ("2026-09-01", "2026-09-02"),
        ("2026-09-02", "2026-09-02"),
        ("2026-11-18", "2026-11-18"),
        ("2027-06-30", "2027-06-30"),
        ("9999-12-31", "2027-06-30"),
    ],
)
def test_a_day_is_one_of_the_school_year(asked: str, meant: str) -> None:
    found = resolved(ABSENCES, {"from": asked}, KNOWN)
    assert found is not None
    assert found["from"] == meant


def test_a_week_of_another_school_year_is_not_found() -> None:
    for week in ("2026-W47", "2027-W20"):
        assert (resolved(TIMETABLE, {"week": week}, KNOWN) or {})["week"] == week
    for week in ("2025-W50", "2028-W01"):
        with pytest.raises(NotFound):
            resolved(TIMETABLE, {"week": week}, KNOWN)


def test_a_query_never_speaks_for_the_path_or_the_caller() -> None:
    forged = parse_query(GRADES, urlencode({"pupil_id": "x", "role": "teacher", "subject_id": "x"}).encode())
    assert forged == {}


@given(
    name=st.sampled_from(["pupil_id", "class_id", "id", "subject", "session", "date", "slot", "anything"]),
    value=st.text(max_size=20),
)
def test_a_path_part_that_names_something_is_safe_to_pass_on(name: str, value: str) -> None:
    if path_names_something({name: value}):
        assert quote(value, safe="") == value
        assert 0 < len(value) <= 64


def test_every_endpoint_declares_what_its_rule_needs() -> None:
    needed = {
        Rule.PUPIL_FAMILY: "{pupil_id}",
        Rule.PUPIL_ALL: "{pupil_id}",
        Rule.CLASS_TAUGHT: "{class_id}",
        Rule.CLASS_SUBJECT_TAUGHT: "{subject}",
    }
    for endpoint in endpoints():
        assert needed.get(endpoint.rule, "") in endpoint.path
        assert endpoint.idempotent == (endpoint.method != "GET" and not endpoint.path.startswith("/v1/auth"))


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (f"/v1/pupils/{PUPIL}/timetable?week=2026-W54", "week"),
        (f"/v1/pupils/{PUPIL}/timetable?week=%D9%A2%D9%A0%D9%A2%D9%A6-W47", "week"),
        (f"/v1/pupils/{PUPIL}/grades?session=3", "session"),
        (f"/v1/pupils/{PUPIL}/grades?year=1999&session=1", "year"),
        (f"/v1/pupils/{PUPIL}/grades?year=2026&year=2026", "year"),
        (f"/v1/pupils/{PUPIL}/absences?from=2026-02-30", "from"),
        (f"/v1/pupils/{PUPIL}/homework?from=today", "from"),
        ("/v1/announcements?since=2026", "since"),
        ("/v1/home?pupil_id=PUPIL", "pupil_id"),
    ],
)
async def test_a_bad_query_is_a_bad_request_that_names_its_parameter(
    shared: World, target: str, name: str
) -> None:
    answer = await shared.get(target, PUPIL)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")
    assert answer.json()["pointer"] == f"?{name}"
    assert not [seen for seen in shared.rabat.seen if "relations" not in seen.target]


async def test_a_bad_query_of_a_stranger_is_a_strangers(shared: World) -> None:
    target = f"/v1/pupils/{PUPIL}/grades?session=3"
    assert (await shared.get(target)).status_code == 401
    assert (await shared.get(target, "pupilccccccccccc")).status_code == 404
