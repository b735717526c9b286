"""Only the own site's director replays, and then it says when and how the write came out."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacenters.assertion import ActingRole
from sandbox.datacenter.admission import Admitted
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.replaying import DECIDED_AT, VERDICT, Replay, read_replay
from sandbox.datacenter.writes import Recorded

DIRECTOR = Admitted(subject="t", role=ActingRole.TEACHER, epoch=7, replays=True)
GATEWAY = Admitted(subject="t", role=ActingRole.TEACHER, epoch=7, replays=False)
DIGEST = hashlib.sha256(b"body").digest()
TEXT = base64.urlsafe_b64encode(DIGEST).decode().rstrip("=")
SAID = {DECIDED_AT: "1790000000.25", VERDICT: f"200 {TEXT}"}


def test_a_gateways_write_is_no_replay() -> None:
    assert read_replay(GATEWAY, {}) is None


@pytest.mark.parametrize("names", [(DECIDED_AT,), (VERDICT,), (DECIDED_AT, VERDICT)])
def test_a_gateway_may_not_say_that_it_replays(names: tuple[str, ...]) -> None:
    with pytest.raises(Refused, match="bad-request"):
        read_replay(GATEWAY, {name: SAID[name] for name in names})


def test_a_director_says_when_it_was_decided_and_how_it_came_out() -> None:
    assert read_replay(DIRECTOR, SAID) == Replay(
        decided_at=datetime(2026, 9, 21, 14, 13, 20, 250_000, UTC),
        recorded=Recorded(status=200, digest=DIGEST),
    )


@given(st.binary(min_size=32, max_size=32), st.integers(100, 499), st.integers(0, 10**11 - 1))
def test_whatever_a_gateway_recorded_is_read_back(digest: bytes, status: int, at: int) -> None:
    text = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    replay = read_replay(DIRECTOR, {DECIDED_AT: str(at), VERDICT: f"{status} {text}"})
    assert replay is not None
    assert replay.recorded == Recorded(status=status, digest=digest)
    assert replay.decided_at.timestamp() == at
    assert replay.accepted is (status < 400)


@pytest.mark.parametrize(
    "changed",
    [
        {DECIDED_AT: None},
        {VERDICT: None},
        {DECIDED_AT: ""},
        {DECIDED_AT: "-1"},
        {DECIDED_AT: "nan"},
        {DECIDED_AT: "1e9"},
        {DECIDED_AT: "1" * 12},
        {DECIDED_AT: "١٧٩٠٠٠٠٠٠٠"},
        {DECIDED_AT: " 1790000000"},
        {VERDICT: ""},
        {VERDICT: "200"},
        {VERDICT: TEXT},
        {VERDICT: f"200  {TEXT}"},
        {VERDICT: f"500 {TEXT}"},
        {VERDICT: f"099 {TEXT}"},
        {VERDICT: f"200 {TEXT}="},
        {VERDICT: f"200 {TEXT[:-1]}"},
        {VERDICT: f"200 {TEXT[:-1]}+"},
        {VERDICT: f"200 {TEXT}\n"},
    ],
)
def test_a_director_that_does_not_say_both_is_refused(changed: dict[str, str | None]) -> None:
    headers = {name: text for name, text in {**SAID, **changed}.items() if text is not None}
    with pytest.raises(Refused, match="bad-request"):
        read_replay(DIRECTOR, headers)
