"""What is asked of every server: the same things in the same order."""

from __future__ import annotations

import pytest

from bench.peers import http2, plot, setups
from bench.peers.people import Pupil
from bench.peers.scenarios import (
    MASSAR,
    MASSAR_MISS,
    MASSAR_MIX,
    MASSAR_VALKEY,
    SCENARIOS,
    Lane,
    Scenario,
    raw,
    requests,
)

TOKENS = [(Pupil(name, f"/v1/pupils/{name}/timetable"), f"token-of-{name}") for name in "abcdefgh"]
ETAGS = {pupil.path: b'"%s"' % pupil.subject.encode() for pupil, _ in TOKENS}
OURS = {MASSAR, MASSAR_VALKEY, MASSAR_MISS, MASSAR_MIX, setups.MASSAR_H2}
TITLE_PX = 7.5
each = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))


@each
def test_ours_comes_first_and_every_lane_is_a_server_of_its_own_kind(scenario: Scenario) -> None:
    names = [lane.name for lane in scenario.lanes]
    assert len(set(names)) == len(names) > 1
    assert scenario.lanes[0].server in OURS
    assert {lane.server for lane in scenario.lanes} <= OURS | setups.SETUPS.keys()


@each
def test_an_aim_is_never_for_ourselves_alone(scenario: Scenario) -> None:
    assert scenario.lanes[0].aim is None


@each
def test_a_title_fits_the_drawing(scenario: Scenario) -> None:
    assert len(scenario.title) * TITLE_PX <= plot.WIDTH - 2 * plot.MARGIN


@each
def test_all_of_a_scenario_speak_the_same_protocol(scenario: Scenario) -> None:
    over_tls = {lane.server in setups.OVER_TLS for lane in scenario.lanes}
    assert over_tls == {scenario.name == "h2"}


def test_a_title_says_how_many_ask_at_once_over_http2() -> None:
    scenario = SCENARIOS["h2"]
    assert scenario.connections is not None
    each_with = http2.CONNECTIONS_EACH
    assert f"{scenario.connections // each_with} at once with {each_with} connections each" in scenario.title


def test_all_lanes_get_the_same_requests_in_the_same_order() -> None:
    one, other = (requests(Lane(name, name), TOKENS, {}) for name in ("massar", "nginx"))
    assert one == other
    assert sorted(one) == sorted(raw(pupil.path, token) for pupil, token in TOKENS)
    assert one != [raw(pupil.path, token) for pupil, token in TOKENS], (
        "neighbours are not asked after each other"
    )


def test_a_conditional_lane_sends_the_servers_own_tags() -> None:
    wanted = requests(Lane("nginx", "nginx", conditional=True), TOKENS, ETAGS)
    assert all(b"\r\nif-none-match: " + ETAGS[pupil.path] in b"".join(wanted) for pupil, _ in TOKENS)
    assert Lane("nginx", "nginx", conditional=True).status == 304


def test_a_request_is_whole_and_carries_its_token() -> None:
    assert raw("/v1/me", "abc").startswith(b"GET /v1/me HTTP/1.1\r\nhost: ")
    assert b"\r\nauthorization: Bearer abc\r\n" in raw("/v1/me", "abc")
    assert raw("/v1/me", "abc", etag=b'"x"').endswith(b'\r\nif-none-match: "x"\r\n\r\n')


def test_the_aims_of_a_warm_read_hold_for_however_many_people() -> None:
    aims = {lane.server: lane.aim for lane in SCENARIOS["warm"].lanes}
    assert all(lane.aim == aims[lane.server] for lane in SCENARIOS["many-tokens"].lanes)
    assert aims[setups.NGINX] == 1.0
