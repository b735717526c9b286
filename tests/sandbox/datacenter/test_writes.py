from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter.fence import Guard
from sandbox.datacenter.problems import Refused
from sandbox.datacenter.records import Records
from sandbox.datacenter.settings import Settings
from sandbox.datacenter.writes import Request, Verdict, decide, json_verdict, key_of
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
