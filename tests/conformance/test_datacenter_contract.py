"""The reads of openapi/datacenter.yaml, on a hand-made school: every answer is checked against the document."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from sandbox.datacenter.contract import READS, WRITES
from tests.conformance import seed
from tests.conformance.ground import Contract, Ground

TIMETABLE = f"/v1/classes/{seed.CLASS}/timetable?view=class&week={seed.WEEK}"
GRADES = f"/v1/pupils/{seed.PUPIL}/grades?view=family&year=2026&session=1"
EVERY_READ = (
    "/v1/calendar?view=public",
    TIMETABLE,
    f"/v1/classes/{seed.CLASS}/homework?view=class&from=2026-11-01",
    f"/v1/classes/{seed.CLASS}/announcements?view=class",
    f"/v1/classes/{seed.CLASS}/pupils?view=teacher",
    GRADES,
    f"/v1/pupils/{seed.PUPIL}/absences?view=family&from=2026-09-01",
    f"/v1/pupils/{seed.PUPIL}/absences?view=teacher&from=2026-09-01",
    f"/v1/pupils/{seed.PUPIL}/homework-done?view=family",
    f"/v1/teachers/{seed.TEACHER}/assignments?view=teacher",
    f"/v1/gradebooks/{seed.CLASS}/MATH/1?view=teacher",
    f"/v1/people/{seed.PUPIL}/profile?view=self",
    f"/v1/people/{seed.MOTHER}/profile?view=self",
    f"/v1/people/{seed.TEACHER}/profile?view=self",
    f"/v1/people/{seed.MOTHER}/relations?view=gateway",
    f"/v1/people/{seed.TEACHER}/relations?view=gateway",
)


async def read(ground: Ground, target: str) -> dict[str, Any]:
    answer = await ground.get(target)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_document_is_valid_openapi(contract: Contract) -> None:
    validate(contract.document)


def test_the_document_and_the_sandbox_have_the_same_operations(contract: Contract) -> None:
    described = {
        (method.upper(), path)
        for path, item in contract.document["paths"].items()
        for method in item
        if method in {"get", "put", "post", "delete", "patch", "head", "options"}
    }
    served = (
        {("GET", one.path) for one in READS}
        | {(one.method, one.path) for one in WRITES}
        | {("GET", "/health")}
    )
    assert described == served


def test_the_document_and_the_sandbox_have_the_same_views_and_parameters(contract: Contract) -> None:
    for one in READS:
        parameters = {
            p["name"]: p
            for p in map(contract.resolve, contract.document["paths"][one.path]["get"]["parameters"])
        }
        view = parameters.pop("view")["schema"]
        assert set(view.get("enum", [view.get("const")])) == set(one.views), one.path
        query = {
            name: spec.get("required", False) for name, spec in parameters.items() if spec["in"] == "query"
        }
        assert query == {**dict.fromkeys(one.required, True), **dict.fromkeys(one.optional, False)}, one.path


@pytest.mark.parametrize("target", EVERY_READ)
async def test_every_read_matches_its_schema_and_repeats_byte_for_byte(
    datacenter: Ground, target: str
) -> None:
    first, second = await datacenter.get(target), await datacenter.get(target)
    assert first.status_code == 200, first.text
    assert (first.content, first.headers["etag"]) == (second.content, second.headers["etag"])
    assert first.headers["massar-epoch"] == str(datacenter.epoch)
    assert "massar-data-age" not in first.headers


@pytest.mark.parametrize("target", EVERY_READ)
async def test_a_known_etag_is_answered_304_without_a_body(datacenter: Ground, target: str) -> None:
    known = (await datacenter.get(target)).headers["etag"]
    for offered in (known, f'"other", W/{known}', "*"):
        again = await datacenter.get(target, headers={"If-None-Match": offered})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == known
    assert (await datacenter.get(target, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_last_modified_is_the_rows_time_and_not_the_requests(datacenter: Ground) -> None:
    assert (await datacenter.get(GRADES)).headers["last-modified"] == "Tue, 10 Nov 2026 17:30:00 GMT"
    assert (await datacenter.get(TIMETABLE)).headers["last-modified"] == "Tue, 01 Sep 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/v1/calendar?view=public", "max-age=60"),
        (f"/v1/people/{seed.MOTHER}/relations?view=gateway", "private, max-age=60"),
        (TIMETABLE, "private, max-age=21600"),
        (GRADES, "private, max-age=900"),
    ],
)
async def test_freshness_is_said_by_cache_control(datacenter: Ground, target: str, said: str) -> None:
    assert (await datacenter.get(target)).headers["cache-control"] == said


async def test_a_timetable_carries_this_weeks_changes_alone(datacenter: Ground) -> None:
    lessons = (await read(datacenter, TIMETABLE))["lessons"]
    assert [(lesson["day"], lesson["start"], lesson["change"]) for lesson in lessons] == [
        (1, "08:30", {"kind": "moved", "room": "A01"}),
        (1, "10:30", None),
        (3, "08:30", {"kind": "cancelled", "room": None}),
    ]
    other = await read(datacenter, f"/v1/classes/{seed.CLASS}/timetable?view=class&week=2026-W48")
    assert [lesson["change"] for lesson in other["lessons"]] == [None, None, None]


async def test_homework_is_by_due_date_from_the_day_asked(datacenter: Ground) -> None:
    body = await read(datacenter, f"/v1/classes/{seed.CLASS}/homework?view=class&from=2026-11-20")
    assert [one["id"] for one in body["homework"]] == [seed.HOMEWORK, seed.LATER_HOMEWORK]
    body = await read(datacenter, f"/v1/classes/{seed.CLASS}/homework?view=class&from=2026-11-21")
    assert [one["id"] for one in body["homework"]] == [seed.LATER_HOMEWORK]


async def test_announcements_come_from_the_nation_down_and_not_from_the_neighbours(
    datacenter: Ground,
) -> None:
    body = await read(datacenter, f"/v1/classes/{seed.CLASS}/announcements?view=class")
    said = [(one["level"], one["valid_from"]) for one in body["announcements"]]
    assert said == [
        ("class", "2026-09-05"),
        ("school", "2026-09-04"),
        ("province", "2026-09-03"),
        ("region", "2026-09-02"),
        ("national", "2026-09-01"),
    ]


async def test_a_roster_is_by_number_with_dispensations(datacenter: Ground) -> None:
    body = await read(datacenter, f"/v1/classes/{seed.CLASS}/pupils?view=teacher")
    assert [pupil["id"] for pupil in body["pupils"]] == list(seed.PUPILS)
    assert [pupil["dispensations"] for pupil in body["pupils"][-2:]] == [[], ["MATH"]]
    assert (await read(datacenter, f"/v1/classes/{seed.EMPTY_CLASS}/pupils?view=teacher"))["pupils"] == []


async def test_grades_are_averaged_as_the_document_says(datacenter: Ground) -> None:
    body = await read(datacenter, GRADES)
    figures = {
        one["code"]: (one["marks"], one["activities"], one["average"], one["class_average"])
        for one in body["subjects"]
    }
    # 14.50 and an absence; the class: 7.25, 10.00 and nine times 12.00, the dispensed pupil not counted
    marks = [
        {"number": 1, "mark": "14.50", "state": "marked"},
        {"number": 2, "mark": None, "state": "absent"},
    ]
    assert figures["MATH"] == (marks, None, "7.25", "11.39")
    # 11.25 x 0.75 + 15.00 x 0.25 = 12.1875; nine marks are too few for a class average
    assert figures["AR"] == ([{"number": 1, "mark": "11.25", "state": "marked"}], "15.00", "12.19", None)
    assert figures["FR"] == ([], None, None, None)
    assert figures["SPORT"] == ([], None, None, None)
    # (3 x 7.25 + 2.5 x 12.19) / 5.5 = 9.4954…
    assert (body["published"], body["average"], body["as_of"]) == (True, "9.50", "2026-11-10T17:30:00Z")


async def test_grades_default_to_the_current_session_and_another_year_has_none(datacenter: Ground) -> None:
    current = await datacenter.get(f"/v1/pupils/{seed.PUPIL}/grades?view=family")
    assert current.content == (await datacenter.get(GRADES)).content
    past = await read(datacenter, f"/v1/pupils/{seed.PUPIL}/grades?view=family&year=2025&session=2")
    assert (past["year"], past["session"], past["subjects"], past["average"]) == (2025, 2, [], None)
    second = await read(datacenter, f"/v1/pupils/{seed.PUPIL}/grades?view=family&session=2")
    assert second["published"] is False
    assert {one["average"] for one in second["subjects"]} == {None}


async def test_the_reason_of_an_absence_is_for_the_family(datacenter: Ground) -> None:
    path = f"/v1/pupils/{seed.PUPIL}/absences"
    family = (await read(datacenter, f"{path}?view=family&from=2026-10-01"))["absences"]
    teacher = (await read(datacenter, f"{path}?view=teacher&from=2026-10-01"))["absences"]
    assert [one["reason"] for one in family] == [None, "Motif synthétique"]
    assert [one["reason"] for one in teacher] == [None, None]
    assert len((await read(datacenter, f"{path}?view=family&from=2026-10-02"))["absences"]) == 1


async def test_a_teachers_hours_are_summed(datacenter: Ground) -> None:
    body = await read(datacenter, f"/v1/teachers/{seed.TEACHER}/assignments?view=teacher")
    assert (body["year"], body["hours"]) == (2026, 9.5)
    assert [(one["subject"]["code"], one["hours"]) for one in body["assignments"]] == [
        ("AR", 4.5),
        ("MATH", 5),
    ]
    idle = await read(datacenter, f"/v1/teachers/{seed.IDLE_TEACHER}/assignments?view=teacher")
    assert (idle["hours"], idle["assignments"]) == (0, [])


async def test_a_gradebook_shows_every_cell_with_its_version(datacenter: Ground) -> None:
    body = await read(datacenter, f"/v1/gradebooks/{seed.CLASS}/MATH/1?view=teacher")
    assert body["controls"] == [{"number": 1, "date": "2026-10-05"}, {"number": 2, "date": "2026-11-09"}]
    rows = {row["pupil_id"]: row["marks"] for row in body["rows"]}
    assert list(rows) == list(seed.PUPILS)
    assert rows[seed.PUPIL] == [
        {"number": 1, "mark": "14.50", "state": "marked", "version": 3},
        {"number": 2, "mark": None, "state": "absent", "version": 1},
    ]
    assert rows[seed.PUPILS[2]][1] == {"number": 2, "mark": None, "state": "pending", "version": 0}


async def test_relations_are_what_access_is_decided_by(datacenter: Ground) -> None:
    async def relations(subject: str) -> dict[str, Any]:
        return await read(datacenter, f"/v1/people/{subject}/relations?view=gateway")

    here = {"class_id": seed.CLASS, "school": seed.SCHOOL}
    assert (await relations(seed.PUPIL))["pupils"] == {seed.PUPIL: {"relation": "self", **here}}
    assert (await relations(seed.MOTHER))["pupils"] == {
        seed.PUPIL: {"relation": "child", **here},
        seed.STRANGER: {"relation": "child", "class_id": seed.OTHER_CLASS, "school": seed.OTHER_SCHOOL},
    }
    revoked = await relations(seed.FORMER_GUARDIAN)
    assert (revoked["pupils"], revoked["classes"]) == ({}, {})
    teacher = await relations(seed.TEACHER)
    assert teacher["classes"] == {seed.CLASS: ["AR", "MATH"]}
    assert teacher["pupils"] == {pupil: {"relation": "taught", **here} for pupil in seed.PUPILS}


async def test_a_profile_names_what_relations_number(datacenter: Ground) -> None:
    mother = await read(datacenter, f"/v1/people/{seed.MOTHER}/profile?view=self")
    assert [(one["id"], one["relation"], one["class_name"]) for one in mother["pupils"]] == [
        (seed.PUPIL, "child", "2APIC-1"),
        (seed.STRANGER, "child", "2APIC-3"),
    ]
    teacher = await read(datacenter, f"/v1/people/{seed.TEACHER}/profile?view=self")
    assert [(one["id"], [subject["code"] for subject in one["subjects"]]) for one in teacher["classes"]] == [
        (seed.CLASS, ["AR", "MATH"])
    ]
    former = await read(datacenter, f"/v1/people/{seed.FORMER_GUARDIAN}/profile?view=self")
    assert (former["pupils"], former["classes"]) == ([], [])


def named(target: str, stranger: str) -> str:
    """The same read of something else."""
    return re.sub(r"[a-z2-7]{16}", stranger, target, count=1)


@pytest.mark.parametrize("target", [one for one in EVERY_READ if "calendar" not in one])
@pytest.mark.parametrize(
    "stranger", [seed.NOBODY, "short", "UPPERCASEUPPERCA", "a" * 300, "%00aaaaaaaaaaaaaa", "'--"]
)
async def test_what_is_not_there_and_what_cannot_be_read_the_same(
    datacenter: Ground, target: str, stranger: str
) -> None:
    answer = await datacenter.get(named(target, stranger))
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    assert answer.content == (await datacenter.get(named(target, seed.ident("another")))).content


@pytest.mark.parametrize(
    "path",
    [f"/v1/gradebooks/{seed.CLASS}/{rest}" for rest in ("NONE/1", "MATH/2", "MATH/3", "MATH/x", "M%20H/1")],
)
async def test_a_gradebook_that_is_not_there_is_not_found(datacenter: Ground, path: str) -> None:
    assert (await datacenter.get(f"{path}?view=teacher")).status_code == 404


@pytest.mark.parametrize("target", EVERY_READ)
async def test_a_view_that_is_not_declared_is_refused(datacenter: Ground, target: str) -> None:
    for view in ("view=everything", "view=", "", "view=class&view=class", "other=1&view=class"):
        answer = await datacenter.get(re.sub(r"view=\w+", view, target).replace("?&", "?").rstrip("?"))
        assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request"), view


@pytest.mark.parametrize(
    "target",
    [
        f"/v1/classes/{seed.CLASS}/timetable?view=class",
        f"/v1/classes/{seed.CLASS}/timetable?view=class&week=2026-W54",
        f"/v1/classes/{seed.CLASS}/timetable?view=class&week=2026-47",
        f"/v1/classes/{seed.CLASS}/homework?view=class&from=2026-02-30",
        f"/v1/classes/{seed.CLASS}/homework?view=class&from=20261101",
        f"/v1/pupils/{seed.PUPIL}/absences?view=family",
        f"{GRADES}&session=1",
        f"/v1/pupils/{seed.PUPIL}/grades?view=family&session=3",
        f"/v1/pupils/{seed.PUPIL}/grades?view=family&year=now",
        f"/v1/pupils/{seed.PUPIL}/grades?view=family&year=",
        "/v1/calendar?view=public&more=1",
    ],
)
async def test_a_query_that_cannot_be_understood_is_a_bad_request(datacenter: Ground, target: str) -> None:
    answer = await datacenter.get(target)
    assert (answer.status_code, answer.json()["slug"]) == (400, "bad-request")


async def test_another_path_is_not_found_and_another_method_is_not_allowed(datacenter: Ground) -> None:
    for path in ("/", "/v1", "/v1/other", f"/v1/classes/{seed.CLASS}"):
        answer = await datacenter.client.get(path)
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found"), path
    for path in ("/v1/calendar/", "/v1//calendar", "/v1/c%61lendar"):
        answer = await datacenter.client.get(
            f"{datacenter.url}{path}?view=public",
            headers={
                "Massar-Epoch": str(datacenter.epoch),
                "Massar-Assertion": datacenter.assertion("GET", f"{path}?view=public"),
            },
        )
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found"), path
    answer = await datacenter.client.delete("/v1/calendar")
    assert (answer.status_code, answer.json()["slug"]) == (405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"].startswith("application/problem+json")


async def test_health_repeats_the_nonce_and_needs_no_assertion(datacenter: Ground) -> None:
    answer = await datacenter.client.get("/health?nonce=a1-B2_c3.~")
    datacenter.contract.check(answer)
    body = answer.json()
    assert (body["site"], body["role"], body["nonce"]) == ("rabat", "primary", "a1-B2_c3.~")
    assert (body["epoch"], body["receipt_age_s"], body["lag_s"]) == (datacenter.epoch, None, None)
    assert (await datacenter.client.get("/health")).json()["nonce"] is None
    for bad in ("nonce=", "nonce=a b", "other=1", f"nonce={'a' * 129}"):
        assert (await datacenter.client.get(f"/health?{bad}")).status_code == 400


async def test_a_position_never_falls(datacenter: Ground) -> None:
    seen = [(await datacenter.client.get("/health")).json()["position"] for _ in range(5)]
    positions = [tuple(int(part) for part in text.split("-")) for text in seen]
    assert positions == sorted(positions)
