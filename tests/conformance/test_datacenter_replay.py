"""What was acknowledged at a site that is lost is done again at the other one: the same rows, the same answers, once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from datacenters.assertion import Sender
from datacenters.sender_keys import read_private_key
from sandbox import ports, postgres, postgres_home
from tests.conformance import seed
from tests.conformance.acting import (
    ENTRIES,
    EXERCISE,
    GRADEBOOK,
    HOMEWORK,
    ROLL,
    SEEN_AT,
    cell,
    homework_count,
)
from tests.conformance.ground import EPOCH, SITE, Contract, Ground
from tests.conformance.serving import planted, serving

OTHER_SITE = "marrakech"
LOCKED_ENTRIES = f"/v1/gradebooks/{seed.CLASS}/AR/1/entries"
MARKS = (
    "SELECT pupil, number, state, mark, version FROM marks"
    " WHERE subject = 'MATH' AND number = 2 AND pupil = ANY($1) ORDER BY pupil"
)
ABSENCES = (
    "SELECT id, pupil, held_on, start_at, end_at, kind, justified, observed_at FROM absences"
    " WHERE pupil = ANY($1) ORDER BY id"
)
ASSIGNED = "SELECT id, subject, teacher, body, assigned_on, due_on FROM homework WHERE body = ANY($1)"
REMEMBERED = "SELECT principal, route, digest, status, body, headers FROM idempotency WHERE key = $1"


class Asked(msgspec.Struct, frozen=True):
    """One write as a teacher asked for it."""

    method: str
    path: str
    payload: dict[str, Any]
    key: str
    subject: str = seed.TEACHER

    async def of(self, ground: Ground, **how: Any) -> httpx.Response:
        return await ground.write(
            self.method, self.path, self.payload, key=self.key, subject=self.subject, **how
        )


class Successor:
    """The datacenter that takes over, and what its director and the others say to it."""

    def __init__(self, ground: Ground, keys: Path) -> None:
        self.ground = ground
        self.keys = keys

    def as_director(self, site: str = OTHER_SITE) -> dict[str, Any]:
        key = read_private_key(self.keys / f"director-{site}.pem")
        return {"sender": Sender.DIRECTOR, "site": site, "key": key}

    async def replay(
        self, asked: Asked, status: int, body: bytes, *, decided_at: float | None = None
    ) -> httpx.Response:
        said = verdict(status, body, decided_at=decided_at)
        return await asked.of(self.ground, headers=said, asserted=self.as_director())


def verdict(status: int, body: bytes, *, decided_at: float | None = None) -> dict[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
    return {
        "Massar-Replay": f"{time.time() if decided_at is None else decided_at:.3f}",
        "Massar-Replay-Verdict": f"{status} {digest}",
    }


def entries(key: str, *cells: dict[str, Any], path: str = ENTRIES) -> Asked:
    return Asked("PUT", path, {"entries": list(cells)}, key)


def roll(key: str, *pupils: str, state: str = "absent", at: str = SEEN_AT) -> Asked:
    rows = [{"pupil_id": pupil, "state": state, "observed_at": at} for pupil in pupils]
    return Asked("PUT", ROLL, {"entries": rows}, key)


def exercise(key: str, **changed: Any) -> Asked:
    return Asked("POST", HOMEWORK, {**EXERCISE, "text": key, **changed}, key)


@pytest.fixture(scope="module")
async def successor(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract, site_keys: Path, logs: Path
) -> AsyncIterator[Successor]:
    """The other site, on a PostgreSQL of its own, one epoch later, with the school as `own` had it at first."""
    home = postgres_home.open_home(
        folder=tmp_path_factory.mktemp("successor"), override=os.environ.get("MASSAR_POSTGRES_BIN")
    )
    key = read_private_key(site_keys / f"gateway-{SITE}.pem")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(home.close)
        server = await postgres.start_primary(
            home=home,
            logs=logs,
            site=OTHER_SITE,
            port=ports.free_ports(1)[0],
            passwords=postgres.new_passwords(),
        )
        stack.push_async_callback(postgres.stop, server)
        dsn = await planted(server, "successor", site=OTHER_SITE, epoch=EPOCH + 1)
        url = await stack.enter_async_context(
            serving(dsn=dsn, site=OTHER_SITE, site_keys=site_keys, logs=logs)
        )
        ground = Ground(
            url=url, key=key, contract=contract, dsn=dsn, site=OTHER_SITE, sender=SITE, epoch=EPOCH + 1
        )
        stack.push_async_callback(ground.client.aclose)
        yield Successor(ground, site_keys)


async def remembered(ground: Ground, key: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await ground.sql(REMEMBERED, key)]


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["slug"]


# --- the same again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        pytest.param(
            entries("marks", cell(seed.PUPILS[2]), cell(seed.PUPILS[3], mark=None, state="absent")),
            MARKS,
            id="marks",
        ),
        pytest.param(
            entries("some", cell(seed.PUPILS[4]), cell(seed.STRANGER), cell(seed.PUPILS[5], version=9)),
            MARKS,
            id="some rejected",
        ),
        pytest.param(
            roll("roll", seed.PUPILS[3], seed.PUPILS[5], seed.STRANGER),
            ABSENCES,
            id="absences",
        ),
        pytest.param(exercise("homework"), ASSIGNED, id="homework"),
    ],
)
async def test_a_replay_makes_the_same_rows_ids_included_the_same_answer_and_remembers_it(
    own: Ground, successor: Successor, asked: Asked, rows: str
) -> None:
    touched = [row["pupil_id"] for row in asked.payload.get("entries", [])] or [asked.key]
    before = await successor.ground.sql(rows, touched)
    first = await asked.of(own)
    answer = await successor.replay(asked, first.status_code, first.content)
    assert (answer.status_code, answer.content) == (first.status_code, first.content)
    assert answer.headers.get("location") == first.headers.get("location")
    assert await successor.ground.sql(rows, touched) == await own.sql(rows, touched) != before
    assert await remembered(successor.ground, asked.key) == await remembered(own, asked.key) != []


async def test_who_repeats_a_replayed_write_gets_the_answer_of_the_first_time(
    own: Ground, successor: Successor
) -> None:
    asked = exercise("repeated")
    first = await asked.of(own)
    replayed = await successor.replay(asked, first.status_code, first.content)
    again = await asked.of(successor.ground)
    assert (again.status_code, again.content, again.headers["massar-replayed"]) == (201, first.content, "1")
    assert again.headers["massar-order"] == replayed.headers["massar-order"]
    assert await homework_count(successor.ground, "repeated") == 1


async def test_a_write_replayed_twice_or_at_once_is_done_once(own: Ground, successor: Successor) -> None:
    asked = exercise("twice")
    first = await asked.of(own)
    answers = [await successor.replay(asked, 201, first.content) for _ in range(2)]
    assert [answer.headers.get("massar-replayed") for answer in answers] == [None, "1"]
    assert len({(answer.content, answer.headers["massar-order"]) for answer in answers}) == 1
    together = exercise("together")
    recorded = await together.of(own)
    answers = await asyncio.gather(*(successor.replay(together, 201, recorded.content) for _ in range(6)))
    statuses = {answer.status_code for answer in answers}
    assert 201 in statuses <= {201, 409}
    assert {answer.json()["slug"] for answer in answers if answer.status_code == 409} <= {
        "idempotency-key-in-progress"
    }
    for name in ("twice", "together"):
        assert await homework_count(successor.ground, name) == 1


async def test_what_the_standby_had_received_already_is_not_done_again(
    own: Ground, successor: Successor
) -> None:
    asked = entries("received", cell(seed.PUPILS[6]))
    there = await asked.of(successor.ground)
    answer = await successor.replay(asked, 200, there.content)
    assert (answer.content, answer.headers["massar-replayed"]) == (there.content, "1")
    assert answer.headers["massar-order"] == there.headers["massar-order"]


async def test_writes_of_one_gradebook_replayed_in_their_order_come_out_as_they_did(
    own: Ground, successor: Successor
) -> None:
    touched = [seed.PUPILS[7]]
    turns = [entries(f"turn {n}", cell(seed.PUPILS[7], mark=f"1{n}.00", version=n)) for n in range(5)]
    firsts = [await turn.of(own) for turn in turns]
    assert all(first.json()["results"][0]["status"] == "accepted" for first in firsts)
    in_order = sorted(zip(turns, firsts, strict=True), key=lambda pair: int(pair[1].headers["massar-order"]))
    assert [turn for turn, _ in in_order] == turns
    for turn, first in in_order:
        assert (await successor.replay(turn, 200, first.content)).content == first.content
    assert await successor.ground.sql(MARKS, touched) == await own.sql(MARKS, touched)


async def test_a_mark_built_on_one_that_nobody_was_told_of_keeps_its_version(
    own: Ground, successor: Successor
) -> None:
    """The predecessor was done at the lost site, but never acknowledged: it is in no journal."""
    touched = [seed.CLASSMATE]
    untold = entries("untold", cell(seed.CLASSMATE, mark="08.00", version=1))
    await untold.of(own)
    told = entries("told", cell(seed.CLASSMATE, mark="09.00", version=2))
    first = await told.of(own)
    answer = await successor.replay(told, 200, first.content)
    assert (answer.status_code, answer.content) == (200, first.content)
    assert await successor.ground.sql(MARKS, touched) == await own.sql(MARKS, touched)
    # Its phone repeats it, as it was told to; the cell has gone on, and the verdict says so.
    (late,) = (await untold.of(successor.ground)).json()["results"]
    assert (late["slug"], late["current"]) == ("version-conflict", 3)


# --- otherwise ---------------------------------------------------------------------------------------------------


async def test_what_comes_out_otherwise_is_a_mismatch_and_writes_nothing(
    own: Ground, successor: Successor
) -> None:
    touched = [seed.PUPILS[8]]
    asked = entries("mismatch", cell(seed.PUPILS[8]))
    first = await asked.of(own)
    before = await successor.ground.sql(MARKS, touched)
    for status, body in ((200, first.content + b" "), (201, first.content), (409, first.content)):
        answer = await successor.replay(asked, status, body)
        assert refused(answer) == (409, "replay-mismatch")
        assert "massar-order" not in answer.headers
    assert await successor.ground.sql(MARKS, touched) == before
    assert await remembered(successor.ground, "mismatch") == []
    assert (await successor.replay(asked, 200, first.content)).content == first.content


async def test_a_stored_answer_that_differs_is_a_mismatch_and_stands(successor: Successor) -> None:
    asked = exercise("stands")
    there = await asked.of(successor.ground)
    before = await remembered(successor.ground, "stands")
    assert refused(await successor.replay(asked, 200, b"{}")) == (409, "replay-mismatch")
    assert await remembered(successor.ground, "stands") == before
    assert (await asked.of(successor.ground)).content == there.content


async def test_a_record_whose_cell_was_written_since_is_a_mismatch(own: Ground, successor: Successor) -> None:
    touched = [seed.PUPILS[9]]
    asked = entries("overtaken", cell(seed.PUPILS[9]))
    first = await asked.of(own)
    await entries("overtaking", cell(seed.PUPILS[9], mark="07.00")).of(successor.ground)
    before = await successor.ground.sql(MARKS, touched)
    assert refused(await successor.replay(asked, 200, first.content)) == (409, "replay-mismatch")
    assert await successor.ground.sql(MARKS, touched) == before


async def test_another_payload_under_the_key_is_refused_like_any_other(successor: Successor) -> None:
    there = await exercise("reused").of(successor.ground)
    answer = await successor.replay(
        Asked("POST", HOMEWORK, {**EXERCISE, "text": "Other"}, "reused"), 201, there.content
    )
    assert refused(answer) == (422, "idempotency-key-reused")


# --- as of then --------------------------------------------------------------------------------------------------


async def test_a_gradebook_that_was_locked_since_takes_what_was_accepted_before(
    own: Ground, successor: Successor
) -> None:
    lock = "UPDATE gradebooks SET locked = $1 WHERE subject = 'MATH'"
    asked = entries("locked since", cell(seed.PUPILS[10]))
    first = await asked.of(own)
    await successor.ground.sql(lock, True)
    try:
        now = await entries("locked now", cell(seed.PUPILS[5])).of(successor.ground)
        assert refused(now) == (409, "gradebook-locked")
        answer = await successor.replay(asked, 200, first.content)
        assert (answer.status_code, answer.content) == (200, first.content)
    finally:
        await successor.ground.sql(lock, False)
    body = (await successor.ground.get(f"{GRADEBOOK}?view=teacher")).json()
    (row,) = (row for row in body["rows"] if row["pupil_id"] == seed.PUPILS[10])
    assert {mark["number"]: mark["mark"] for mark in row["marks"]}[2] == "13.25"


async def test_a_due_date_that_is_no_longer_possible_is_not_judged_again(
    own: Ground, successor: Successor
) -> None:
    asked = exercise("due since", due_on="2027-06-01")
    first = await asked.of(own)
    await successor.ground.sql("UPDATE calendar SET last_day = '2027-05-31'")
    try:
        now = await exercise("due now", due_on="2027-06-01").of(successor.ground)
        assert refused(now) == (400, "bad-request")
        answer = await successor.replay(asked, 201, first.content)
        assert (answer.status_code, answer.content) == (201, first.content)
    finally:
        await successor.ground.sql("UPDATE calendar SET last_day = '2027-06-30'")


@pytest.mark.parametrize(
    "asked",
    [
        entries("refused: locked", cell(seed.PUPIL, number=1, version=1), path=LOCKED_ENTRIES),
        exercise("refused: due", due_on="2026-11-01"),
        exercise("refused: not taught", subject="FR"),
    ],
    ids=lambda asked: asked.key,
)
async def test_what_was_refused_is_refused_again_and_remembered(
    own: Ground, successor: Successor, asked: Asked
) -> None:
    first = await asked.of(own)
    assert 400 <= first.status_code < 500
    answer = await successor.replay(asked, first.status_code, first.content)
    assert (answer.status_code, answer.content) == (first.status_code, first.content)
    assert await remembered(successor.ground, asked.key) == await remembered(own, asked.key) != []


async def test_an_observation_is_judged_by_the_clock_of_then(successor: Successor) -> None:
    asked = roll("ahead then", seed.PUPILS[6])
    row = {"pupil_id": seed.PUPILS[6], "status": "rejected", "slug": "observation-invalid"}
    body = msgspec.json.encode({"results": [row]})
    seen_at = datetime.fromisoformat(SEEN_AT).astimezone(UTC).timestamp()
    assert refused(await successor.replay(asked, 200, body)) == (409, "replay-mismatch")
    answer = await successor.replay(asked, 200, body, decided_at=seen_at - 301)
    assert (answer.status_code, answer.content) == (200, body)


# --- who may -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("Massar-Replay",), ("Massar-Replay-Verdict",), ("Massar-Replay", "Massar-Replay-Verdict")]
)
@pytest.mark.parametrize("site", [SITE, OTHER_SITE])
async def test_a_gateway_may_not_replay(successor: Successor, site: str, names: tuple[str, ...]) -> None:
    said = verdict(201, b"")
    answer = await exercise("by a gateway").of(
        successor.ground,
        headers={name: said[name] for name in names},
        asserted={"site": site, "key": read_private_key(successor.keys / f"gateway-{site}.pem")},
    )
    assert refused(answer) == (400, "bad-request")
    assert await homework_count(successor.ground, "by a gateway") == 0
    assert await remembered(successor.ground, "by a gateway") == []


async def test_another_sites_director_is_nobody_here(own: Ground, successor: Successor) -> None:
    asked = exercise("by another director")
    first = await asked.of(own)
    said = verdict(201, first.content)
    foreign = successor.as_director(SITE)
    for pretended in (foreign, {**foreign, "site": OTHER_SITE}, {**successor.as_director(), "site": SITE}):
        answer = await asked.of(successor.ground, headers=said, asserted=pretended)
        assert refused(answer) == (401, "assertion-invalid")
    assert await homework_count(successor.ground, "by another director") == 0


@pytest.mark.parametrize("left_out", ["Massar-Replay", "Massar-Replay-Verdict"])
async def test_a_director_says_when_and_how_it_came_out_or_is_refused(
    successor: Successor, left_out: str
) -> None:
    said = {name: text for name, text in verdict(201, b"").items() if name != left_out}
    answer = await exercise("unsaid").of(successor.ground, headers=said, asserted=successor.as_director())
    assert refused(answer) == (400, "bad-request")
    assert await remembered(successor.ground, "unsaid") == []


async def test_a_replay_of_an_older_epoch_is_stale(own: Ground, successor: Successor) -> None:
    asked = exercise("stale")
    first = await asked.of(own)
    answer = await asked.of(
        successor.ground, epoch=EPOCH, headers=verdict(201, first.content), asserted=successor.as_director()
    )
    assert refused(answer) == (409, "stale-epoch")


# --- order -------------------------------------------------------------------------------------------------------


async def test_those_who_take_turns_on_a_gradebook_are_numbered_in_the_order_of_their_turns(
    own: Ground,
) -> None:
    pupils = seed.PUPILS[2:11]
    answers = await asyncio.gather(
        *(entries(f"order {pupil}", cell(pupil, number=1, version=1)).of(own) for pupil in pupils)
    )
    by_order = sorted(zip(answers, pupils, strict=True), key=lambda one: int(one[0].headers["massar-order"]))
    rows = await own.sql(
        "SELECT pupil FROM marks WHERE subject = 'MATH' AND number = 1 AND pupil = ANY($1) ORDER BY updated_at",
        list(pupils),
    )
    assert [pupil for _, pupil in by_order] == [row["pupil"] for row in rows]
    assert len({answer.headers["massar-order"] for answer in answers}) == len(pupils)


async def test_those_who_call_one_roll_are_numbered_in_the_order_of_their_turns(own: Ground) -> None:
    pupil = seed.PUPILS[8]
    seen_at = [f"2026-11-16T08:4{n}:00Z" for n in range(8)]
    calls = [roll(f"order {at}", pupil, at=at) for at in seen_at]
    answers = await asyncio.gather(*(call.of(own) for call in calls))
    by_order = sorted(zip(answers, seen_at, strict=True), key=lambda one: int(one[0].headers["massar-order"]))
    newest = ""
    for answer, at in by_order:
        (result,) = answer.json()["results"]
        assert (result["status"] == "accepted") == (at > newest)
        newest = max(newest, at)


async def test_an_order_lies_before_the_position_and_a_stored_answer_keeps_its_own(own: Ground) -> None:
    asked = entries("kept order", cell(seed.PUPILS[5]))
    first = await asked.of(own)
    await exercise("in between").of(own)
    again = await asked.of(own)
    assert again.headers["massar-replayed"] == "1"
    assert again.headers["massar-order"] == first.headers["massar-order"]
    assert int(first.headers["massar-order"]) <= int(first.headers["massar-position"].partition("-")[2])
