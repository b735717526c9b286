"""The guard: a cached read that the edge's table does not know is judged behind the router all the same."""

from __future__ import annotations

import pytest

from gateway.hot_routes import HotRoutes
from tests.gateway.people import CLASSMATE, PUPIL
from tests.gateway.world import World

GRADES = f"/v1/pupils/{PUPIL}/grades"
ROUTE = "/v1/pupils/{pupil_id}/grades"


@pytest.fixture(autouse=True)
def without_the_table(shared: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path is another spelling to the edge."""
    monkeypatch.setattr(shared.app, "_hot_routes", HotRoutes(()))


async def test_the_guard_lets_in_whom_the_edge_would(shared: World) -> None:
    assert (await shared.get(GRADES, PUPIL)).status_code == 200
    assert (await shared.get(GRADES, CLASSMATE)).status_code == 404


async def test_what_the_guard_decides_is_told_by_the_route_it_was_about(shared: World) -> None:
    await shared.get(GRADES, PUPIL)
    line = shared.app._access_log._lines[-1]
    for word in (f'"route":"{ROUTE}"', '"role":"student"', '"rule":"pupil-family"', '"relation":"self"'):
        assert word.encode() in line


async def test_what_is_open_asks_for_nobody(shared: World) -> None:
    assert (await shared.get("/v1/status")).status_code == 200
