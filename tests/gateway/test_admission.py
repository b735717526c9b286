"""Who may use an endpoint: the same door for every handler, and for cached reads before the router and behind it."""

from __future__ import annotations

import pytest

from auth.access import Rule
from auth.principal import Role
from gateway.hot_routes import HotRoutes
from gateway.router import endpoints
from routes.endpoint import Endpoint
from tests.gateway.conftest import MakeWorld
from tests.gateway.people import (
    CLASSMATE,
    FACTS,
    FILLED,
    OTHER_CLASS,
    OTHER_PARENT,
    PARENT,
    PUPIL,
    ROLES,
    STRANGER,
    TEACHER,
)
from tests.gateway.world import World

CLOSED = [endpoint for endpoint in endpoints() if endpoint.rule is not Rule.OPEN]


@pytest.fixture(params=["before the router", "behind the router"], autouse=True)
def way(request: pytest.FixtureRequest, shared: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which way cached reads go."""
    given: str = request.param
    if given == "behind the router":
        monkeypatch.setattr(shared.app, "_hot_routes", HotRoutes(()))
    return given


def target(endpoint: Endpoint, **changes: str) -> str:
    return endpoint.path.format(**{**FILLED, **changes})


@pytest.mark.parametrize("endpoint", CLOSED, ids=lambda one: f"{one.method} {one.path}")
async def test_nothing_is_done_for_who_shows_no_token(shared: World, endpoint: Endpoint) -> None:
    answer = await shared.ask(endpoint.method, target(endpoint))
    assert (answer.status_code, answer.json()["slug"]) == (401, "token-missing")
    assert answer.headers["www-authenticate"] == 'Bearer realm="massar"'
    assert shared.rabat.seen == []


@pytest.mark.parametrize("endpoint", CLOSED, ids=lambda one: f"{one.method} {one.path}")
async def test_two_authorizations_are_none(shared: World, endpoint: Endpoint) -> None:
    good = ("authorization", shared.authorization(PUPIL))
    answer = await shared.ask(endpoint.method, target(endpoint), headers=[good, good])
    assert (answer.status_code, answer.json()["slug"]) == (401, "token-invalid")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("endpoint", CLOSED, ids=lambda one: f"{one.method} {one.path}")
@pytest.mark.parametrize("role", Role)
async def test_a_role_that_has_no_use_of_a_route_is_told_before_anybody_is_asked(
    shared: World, endpoint: Endpoint, role: Role
) -> None:
    from auth.access import RULES

    if role in RULES[endpoint.rule]:
        return
    who = next(subject for subject, known in ROLES.items() if known is role)
    answer = await shared.ask(endpoint.method, target(endpoint), who=who)
    assert (answer.status_code, answer.json()["slug"]) == (403, "role-not-allowed")
    assert not shared.rabat.count("/relations")


OF_A_PUPIL = [endpoint for endpoint in CLOSED if "{pupil_id}" in endpoint.path]
OF_A_CLASS = [endpoint for endpoint in CLOSED if "{class_id}" in endpoint.path]


@pytest.mark.parametrize("endpoint", OF_A_PUPIL, ids=lambda one: one.path)
@pytest.mark.parametrize(
    ("who", "pupil"),
    [
        (CLASSMATE, PUPIL),
        (STRANGER, PUPIL),
        (OTHER_PARENT, STRANGER),
        (PARENT, CLASSMATE),
        (PARENT, "pupilzzzzzzzzzzz"),
        (TEACHER, STRANGER),
        (PUPIL, "me"),
        (PUPIL, "0189"),
        (PUPIL, "PUPIL"),
        (PUPIL, "a" * 65),
    ],
)
async def test_a_pupil_who_is_not_ones_own_does_not_exist(
    shared: World, endpoint: Endpoint, who: str, pupil: str
) -> None:
    answer = await shared.get(target(endpoint, pupil_id=pupil), who)
    if answer.status_code == 403:
        assert who == TEACHER
        assert endpoint.rule is Rule.PUPIL_FAMILY
        return
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


@pytest.mark.parametrize("endpoint", OF_A_CLASS, ids=lambda one: f"{one.method} {one.path}")
async def test_a_class_that_one_does_not_teach_does_not_exist(
    shared: World, endpoint: Endpoint, fresh_key: str
) -> None:
    for changes in ({"class_id": OTHER_CLASS}, {"class_id": "classzzzzzzzzzzz"}, {"class_id": "CLASS"}):
        answer = await shared.ask(
            endpoint.method,
            target(endpoint, **changes),
            who=TEACHER,
            headers={"idempotency-key": fresh_key},
            json=endpoint.body_example,
        )
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found"), changes
    assert not shared.rabat.count(OTHER_CLASS)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "PHYS"},
        {"subject": "MATH.."},
        {"subject": "M" * 33},
        {"session": "3"},
        {"session": "01"},
        {"session": "١"},
    ],
)
async def test_a_gradebook_that_one_does_not_keep_does_not_exist(
    shared: World, changes: dict[str, str]
) -> None:
    for endpoint in OF_A_CLASS:
        if "{session}" not in endpoint.path:
            continue
        answer = await shared.ask(endpoint.method, target(endpoint, **changes), who=TEACHER)
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


@pytest.mark.parametrize(
    "changes",
    [
        {"date": "2026-02-30"},
        {"date": "20261118"},
        {"date": "2026-11-18T00:00"},
        {"slot": "830"},
        {"slot": "2460"},
        {"slot": "٠٨٣٠"},
        {"slot": "08:30"},
    ],
)
async def test_a_lesson_at_no_time_does_not_exist(
    shared: World, changes: dict[str, str], fresh_key: str
) -> None:
    (attendance,) = [endpoint for endpoint in OF_A_CLASS if "{slot}" in endpoint.path]
    answer = await shared.ask(
        "PUT",
        target(attendance, **changes),
        who=TEACHER,
        headers={"idempotency-key": fresh_key},
        json=attendance.body_example,
    )
    assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
    assert not shared.rabat.count("/attendance/")


async def test_who_is_not_there_and_who_is_not_ones_own_read_the_same(shared: World) -> None:
    (grades,) = [endpoint for endpoint in OF_A_PUPIL if endpoint.path.endswith("/grades")]
    answers = [
        await shared.get(target(grades, pupil_id=pupil), PARENT) for pupil in (CLASSMATE, "pupilzzzzzzzzzzz")
    ]
    first, second = ({**answer.json(), "instance": ""} for answer in answers)
    assert first == second
    unlike = {"massar-request-id", "content-length"}
    headers = [{k: v for k, v in answer.headers.items() if k not in unlike} for answer in answers]
    assert headers[0] == headers[1]


async def test_a_subject_that_nobody_knows_is_related_to_nobody(shared: World) -> None:
    for pupil in (PUPIL, "nobodyaaaaaaaaaa"):
        authorization = shared.authorization("nobodyaaaaaaaaaa", role=Role.PARENT)
        answer = await shared.ask(
            "GET", f"/v1/pupils/{pupil}/timetable", headers={"authorization": authorization}
        )
        assert answer.status_code == 404


async def test_the_rate_is_kept_for_requests_that_never_reach_the_cache(make_world: MakeWorld) -> None:
    world = await make_world(rate_per_s=1, rate_burst=1)
    statuses = [(await world.get(f"/v1/pupils/{CLASSMATE}/grades", PUPIL)).status_code for _ in range(3)]
    assert statuses == [404, 429, 429]


def test_the_people_of_these_tests_are_what_they_seem() -> None:
    assert set(FACTS) == set(ROLES)
