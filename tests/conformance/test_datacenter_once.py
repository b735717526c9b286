"""Once per key, and all or nothing: repeated, concurrent and interrupted writes."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import pytest

from tests.conformance import seed
from tests.conformance.acting import (
    EXERCISE,
    HOMEWORK,
    blocked,
    call_roll,
    cell,
    enter,
    homework_count,
    version,
)
from tests.conformance.ground import Ground
from tests.waiting import eventually

# --- once per key ------------------------------------------------------------------------------------------------


async def test_the_same_key_and_payload_get_the_same_bytes_and_one_effect(own: Ground) -> None:
    wanted = {**EXERCISE, "text": "Once"}
    first = await own.write("POST", HOMEWORK, wanted, key='"quoted key"')
    second = await own.write("POST", HOMEWORK, wanted, key="quoted key")
    assert (second.status_code, second.content, second.headers["location"]) == (
        201,
        first.content,
        first.headers["location"],
    )
    assert ("massar-replayed" in first.headers, second.headers["massar-replayed"]) == (False, "1")
    assert await homework_count(own, "Once") == 1


async def test_the_same_key_with_another_payload_or_path_is_refused(own: Ground) -> None:
    await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Reused"}, key="reused")
    answer = await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Reused otherwise"}, key="reused")
    assert (answer.status_code, answer.json()["slug"]) == (422, "idempotency-key-reused")
    answer = await own.write(
        "POST", f"/v1/classes/{seed.OTHER_CLASS}/homework", {**EXERCISE, "text": "Reused"}, key="reused"
    )
    assert answer.status_code == 422
    assert await homework_count(own, "Reused otherwise") == 0


async def test_a_key_belongs_to_its_principal_and_route(own: Ground) -> None:
    mine = await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Mine"}, key="shared")
    his = await own.write(
        "POST",
        HOMEWORK,
        {**EXERCISE, "subject": "FR", "text": "His"},
        key="shared",
        subject=seed.FRENCH_TEACHER,
    )
    other_route = await call_roll(own, seed.PUPILS[7], "present")
    assert [one.status_code for one in (mine, his, other_route)] == [201, 201, 200]


async def test_many_at_once_with_one_key_have_one_effect(own: Ground) -> None:
    wanted = {**EXERCISE, "text": "At once"}
    answers = await asyncio.gather(
        *(own.write("POST", HOMEWORK, wanted, key="at once", heard=n == 0) for n in range(12))
    )
    done = [one for one in answers if one.status_code == 201]
    assert {one.status_code for one in answers} <= {201, 409}
    assert sum("massar-replayed" not in one.headers for one in done) == 1
    assert len({one.content for one in done}) == 1
    assert await homework_count(own, "At once") == 1


async def test_while_the_first_is_being_decided_the_second_is_in_progress(own: Ground) -> None:
    pupil = seed.PUPILS[10]
    wanted = cell(pupil, version=await version(own, pupil))
    connection = await asyncpg.connect(own.dsn, ssl=False)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "SELECT 1 FROM gradebooks WHERE class_id = $1 AND subject = 'MATH' FOR UPDATE", seed.CLASS
        )
        first = asyncio.create_task(enter(own, wanted, key="slow"))
        await eventually(lambda: blocked(own), within_s=2)
        second = await enter(own, wanted, key="slow")
        assert (second.status_code, second.json()["slug"]) == (409, "idempotency-key-in-progress")
        await transaction.rollback()
    finally:
        await connection.close()
    assert (await first).json()["results"][0]["status"] == "accepted"
    assert (await enter(own, wanted, key="slow")).content == (await first).content


async def test_after_thirty_days_the_key_is_expired(own: Ground) -> None:
    await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Long ago"}, key="old")
    await own.sql(
        "UPDATE idempotency SET decided_at = decided_at - interval '30 days 1 hour' WHERE key = 'old'"
    )
    answer = await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Long ago"}, key="old")
    assert (answer.status_code, answer.json()["slug"]) == (409, "idempotency-key-expired")
    assert await homework_count(own, "Long ago") == 1


@pytest.mark.parametrize(
    ("key", "slug"),
    [(None, "required"), ("", "required"), ('""', "required"), ("k" * 129, None), ("caf\u00e9", None)],
)
async def test_a_key_is_required_and_bounded(own: Ground, key: str | None, slug: str | None) -> None:
    await own.hear()
    body = msgspec.json.encode(EXERCISE)
    token = own.assertion("POST", HOMEWORK, body, subject=seed.TEACHER, role="teacher")
    headers = {b"massar-epoch": str(own.epoch).encode(), b"massar-assertion": token.encode()}
    if key is not None:
        headers[b"idempotency-key"] = key.encode("latin-1")
    answer = await own.client.post(HOMEWORK, content=body, headers=headers)
    own.contract.check(answer)
    assert (answer.status_code, answer.json()["slug"]) == (
        400,
        f"idempotency-key-{slug}" if slug else "bad-request",
    )


# --- all or nothing ----------------------------------------------------------------------------------------------


async def test_an_effect_whose_answer_cannot_be_stored_is_undone(own: Ground) -> None:
    connection = await asyncpg.connect(own.dsn, ssl=False)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE idempotency IN EXCLUSIVE MODE")
        answer = await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Undone"}, key="undone")
        assert (answer.status_code, answer.json()["slug"]) == (503, "records-unavailable")
        await transaction.rollback()
    finally:
        await connection.close()
    assert await homework_count(own, "Undone") == 0
    again = await own.write("POST", HOMEWORK, {**EXERCISE, "text": "Undone"}, key="undone")
    assert (again.status_code, "massar-replayed" in again.headers) == (201, False)


SLOW_COMMIT = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.body = 'Slow commit' THEN PERFORM pg_advisory_xact_lock(4242); END IF;
    RETURN NULL;
END $$
"""


async def test_a_commit_that_fails_is_unavailable_and_one_whose_answer_is_lost_is_unknown(
    own: Ground,
) -> None:
    await own.sql(SLOW_COMMIT)
    await own.sql(
        "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON homework"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit()"
    )
    wanted = {**EXERCISE, "text": "Slow commit"}
    connection = await asyncpg.connect(own.dsn, ssl=False)
    try:
        await connection.execute("SELECT pg_advisory_lock(4242)")
        refused = await own.write("POST", HOMEWORK, wanted, key="slow commit")
        assert (refused.status_code, refused.json()["slug"]) == (503, "records-unavailable")
        lost = asyncio.create_task(own.write("POST", HOMEWORK, wanted, key="slow commit"))
        await eventually(lambda: blocked(own), within_s=2)
        await own.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'massar-datacenter-writes' AND wait_event_type = 'Lock'"
        )
        answer = await lost
        assert (answer.status_code, answer.json()["slug"]) == (504, "outcome-unknown")
    finally:
        await connection.close()
    again = await own.write("POST", HOMEWORK, wanted, key="slow commit")
    assert again.status_code == 201
    assert await homework_count(own, "Slow commit") == 1
