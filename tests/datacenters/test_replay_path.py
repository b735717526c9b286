"""A director's replay into its own datacenter: signed in its own name, judged by the answer's proof."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters.replay import Done, Mismatch, ReplayFailed
from datacenters.replay_path import DatacenterPath
from tests.datacenters.origin import CUT, CUT_IN_BODY, Origin, Reply, origins, problem, verified
from tests.datacenters.test_replay import record
from tests.datacenters.worlds import NOW

KEY = Ed25519PrivateKey.generate()
TARGET = "/v1/gradebooks/a/MATH/1/entries"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with origins("marrakech") as (started,):
        yield started


@pytest.fixture
async def path(origin: Origin) -> AsyncIterator[DatacenterPath]:
    made = DatacenterPath(origin.url, site="marrakech", key=KEY, clock=lambda: NOW)
    yield made
    await made.aclose()


async def test_the_recorded_write_is_sent_with_key_time_and_verdict_in_the_directors_name(
    origin: Origin, path: DatacenterPath
) -> None:
    origin.reply(Reply(headers={"Massar-Order": "77", "Massar-Position": "2-900"}))
    given = msgspec.structs.replace(
        record("key-1", ordering_key=TARGET), body=b'{"x":1}', decided_at=NOW - 3.25
    )
    assert await path.replay(given, epoch=5) == Done(at=(2, 900), order=77, repeated=False)
    (seen,) = origin.seen
    assert (seen.method, seen.target, seen.body) == ("PUT", TARGET, b'{"x":1}')
    assert seen.headers["idempotency-key"] == "key-1"
    assert float(seen.headers["massar-replay"]) == pytest.approx(NOW - 3.25)
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"{}").digest()).rstrip(b"=").decode()
    assert seen.headers["massar-replay-verdict"] == f"200 {digest}"
    claims = verified(origin, seen, {"director:marrakech": KEY.public_key()}, now=NOW)
    assert (claims.iss, claims.sub, claims.role, claims.epoch) == (
        "director:marrakech",
        "teacher",
        "teacher",
        5,
    )


async def test_a_write_that_was_there_is_told_as_repeated(origin: Origin, path: DatacenterPath) -> None:
    origin.reply(Reply(headers={"Massar-Order": "7", "Massar-Position": "2-9", "Massar-Replayed": "1"}))
    assert (await path.replay(record("k"), epoch=1)).repeated


@pytest.mark.parametrize(
    ("status", "slug"),
    [
        (409, "replay-mismatch"),
        (422, "idempotency-key-reused"),
        (404, "not-found"),
        (400, "bad-request"),
        (409, "idempotency-key-expired"),
    ],
)
async def test_another_verdict_is_a_mismatch(
    origin: Origin, path: DatacenterPath, status: int, slug: str
) -> None:
    origin.reply(problem(status, slug))
    with pytest.raises(Mismatch, match=slug):
        await path.replay(record("k"), epoch=1)


@pytest.mark.parametrize(
    "reply",
    [
        problem(409, "stale-epoch"),
        problem(409, "idempotency-key-in-progress"),
        problem(401, "assertion-invalid"),
        problem(503, "read-only"),
        problem(504, "outcome-unknown"),
        problem(500, "internal"),
        CUT,
        CUT_IN_BODY,
        Reply(headers={"Massar-Position": "2-9"}),
        Reply(headers={"Massar-Order": "9", "Massar-Position": "nowhere"}),
    ],
)
async def test_no_verdict_is_a_failure_that_may_be_tried_again(
    origin: Origin, path: DatacenterPath, reply: Reply
) -> None:
    origin.reply(reply)
    with pytest.raises(ReplayFailed):
        await path.replay(record("k"), epoch=1)


async def test_nobody_listening_is_a_failure() -> None:
    path = DatacenterPath("http://127.0.0.1:9", site="marrakech", key=KEY)
    with pytest.raises(ReplayFailed):
        await path.replay(record("k"), epoch=1)
    await path.aclose()
