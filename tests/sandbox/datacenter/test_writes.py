from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter.fence import Guard
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.records import Records
from sandbox.datacenter.settings import Settings
from sandbox.datacenter.writes import Occasion, Recorded, Request, Verdict, decide, json_verdict, key_of
from tests.conformance.ground import EPOCH, HEARD, SITE

GUARD = Guard(site=SITE, heard_within_s=1.5)


@pytest.fixture
async def records(settings: Settings) -> AsyncIterator[Records]:
    made = Records(settings)
    async with made.writing() as connection:
        await connection.execute(text(HEARD))
        await connection.commit()
    yield made
    await made.close()


def request(**changed: object) -> Request:
    return msgspec.structs.replace(
        Request(
            principal="t", route="PUT /x", key=secrets.token_hex(8), target="/x", body=b"{}", epoch=EPOCH
        ),
        **changed,
    )


class Counted:
    """An effect that leaves a row each time it is done."""

    def __init__(self, answer: Verdict | Refused | Exception) -> None:
        self.answer = answer
        self.subject = secrets.token_hex(8)

    async def __call__(self, connection: AsyncConnection) -> Verdict:
        await connection.execute(
            text(
                "INSERT INTO generations AS g VALUES (:s, 1) ON CONFLICT (subject) DO UPDATE SET generation = g.generation + 1"
            ),
            {"s": self.subject},
        )
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def times(self, records: Records) -> int:
        async with records.reading() as connection:
            found = await connection.execute(
                text("SELECT generation FROM generations WHERE subject = :s"), {"s": self.subject}
            )
            return int(found.scalar_one_or_none() or 0)


async def test_an_effect_is_done_once_and_its_answer_repeated(records: Records) -> None:
    effect, asked = Counted(json_verdict(201, b'{"a":1}', {"Location": "/y"})), request()
    first = await decide(records, asked, effect, guard=GUARD)
    second = await decide(records, asked, effect, guard=GUARD)
    assert (first.replayed, second.replayed) == (False, True)
    assert msgspec.structs.replace(second, replayed=False) == first
    assert await effect.times(records) == 1


async def test_a_refusal_below_500_is_remembered_and_its_writes_undone(records: Records) -> None:
    effect, asked = Counted(Refused("gradebook-locked")), request()
    first = await decide(records, asked, effect, guard=GUARD)
    second = await decide(records, asked, Counted(json_verdict(200, b"{}")), guard=GUARD)
    assert (first.status, second.status, second.body, second.replayed) == (409, 409, first.body, True)
    assert first.headers["Content-Type"] == "application/problem+json"
    assert await effect.times(records) == 0


@pytest.mark.parametrize("trouble", [Refused("records-unavailable"), RuntimeError("a mistake")])
async def test_a_trouble_leaves_nothing_behind(records: Records, trouble: Exception) -> None:
    effect, asked = Counted(trouble), request()
    with pytest.raises(type(trouble)):
        await decide(records, asked, effect, guard=GUARD)
    assert await effect.times(records) == 0
    effect.answer = json_verdict(200, b"{}")
    assert not (await decide(records, asked, effect, guard=GUARD)).replayed
    assert await effect.times(records) == 1


async def test_another_payload_or_resource_under_the_same_key_is_refused(records: Records) -> None:
    effect, asked = Counted(json_verdict(200, b"{}")), request()
    await decide(records, asked, effect, guard=GUARD)
    for other in (request(key=asked.key, body=b"{ }"), request(key=asked.key, target="/z")):
        with pytest.raises(Refused, match="idempotency-key-reused"):
            await decide(records, other, effect, guard=GUARD)
    for other in (request(key=asked.key, principal="u"), request(key=asked.key, route="PUT /z")):
        assert not (await decide(records, other, effect, guard=GUARD)).replayed
    assert await effect.times(records) == 3


async def test_scopes_of_different_requests_never_run_together(records: Records) -> None:
    assert (
        request(principal="a", route="b c", key="k").scope
        != request(principal="a b", route="c", key="k").scope
    )


@pytest.mark.parametrize(
    ("header", "key"), [("k", "k"), ('"k"', "k"), (" k ", "k"), ('"', '"'), ("k" * 128, "k" * 128)]
)
def test_a_key_may_be_quoted(header: str, key: str) -> None:
    assert key_of(header) == key


@pytest.mark.parametrize(
    ("header", "slug"),
    [
        (None, "idempotency-key-required"),
        ('""', "idempotency-key-required"),
        ("k" * 129, "bad-request"),
        ("é", "bad-request"),
        ("a\x00b", "bad-request"),
    ],
)
def test_a_key_that_is_none_is_refused(header: str | None, slug: str) -> None:
    with pytest.raises(Refused, match=slug):
        key_of(header)


def recorded(verdict: Verdict) -> Recorded:
    return Recorded(status=verdict.status, digest=hashlib.sha256(verdict.body).digest())


async def test_what_comes_out_as_it_was_recorded_is_done(records: Records) -> None:
    answer = json_verdict(201, b'{"a":1}')
    effect, asked = Counted(answer), request(recorded=recorded(answer))
    first = await decide(records, asked, effect, guard=GUARD)
    second = await decide(records, asked, effect, guard=GUARD)
    assert (first.status, first.replayed, second.replayed, second.order) == (201, False, True, first.order)
    assert await effect.times(records) == 1


@pytest.mark.parametrize("said", [json_verdict(200, b'{"a":1}'), json_verdict(201, b'{"a":2}')])
async def test_what_comes_out_otherwise_leaves_nothing_behind(records: Records, said: Verdict) -> None:
    effect, asked = Counted(json_verdict(201, b'{"a":1}')), request(recorded=recorded(said))
    with pytest.raises(Refused, match="replay-mismatch"):
        await decide(records, asked, effect, guard=GUARD)
    assert await effect.times(records) == 0
    later = await decide(records, msgspec.structs.replace(asked, recorded=None), effect, guard=GUARD)
    assert not later.replayed


async def test_a_stored_answer_other_than_the_recorded_one_is_a_mismatch_and_stands(records: Records) -> None:
    effect, asked = Counted(json_verdict(201, b'{"a":1}')), request()
    first = await decide(records, asked, effect, guard=GUARD)
    with pytest.raises(Refused, match="replay-mismatch"):
        await decide(
            records,
            msgspec.structs.replace(asked, recorded=Recorded(status=200, digest=b"")),
            effect,
            guard=GUARD,
        )
    again = await decide(records, asked, effect, guard=GUARD)
    assert (again.body, again.order, await effect.times(records)) == (first.body, first.order, 1)


async def test_a_later_write_has_a_higher_order(records: Records) -> None:
    verdicts = [
        await decide(records, request(), Counted(json_verdict(200, b"{}")), guard=GUARD) for _ in range(5)
    ]
    orders = [verdict.order for verdict in verdicts]
    assert orders == sorted(set(orders))
    assert orders[0] > 0


@given(st.text(max_size=40), st.lists(st.text("abc", max_size=3), max_size=3))
def test_ids_are_opaque_and_the_same_wherever_the_write_is_done(scope: str, of: list[str]) -> None:
    now = datetime(2026, 11, 18, tzinfo=UTC)
    made = Occasion(scope=scope, now=now).new_id(*of)
    assert re.fullmatch(r"[a-z2-7]{16}", made)
    assert Occasion(scope=scope, now=now + timedelta(days=1), replayed=True).new_id(*of) == made


def test_ids_of_different_writes_and_of_different_parts_differ() -> None:
    now = datetime(2026, 11, 18, tzinfo=UTC)
    made = {Occasion(scope=str(n), now=now).new_id(str(part)) for n in range(50) for part in range(50)}
    assert len(made) == 2500
