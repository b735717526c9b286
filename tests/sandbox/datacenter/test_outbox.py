from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from datacenters.notices import SignedNotice
from sandbox.datacenter.outbox import ATTEMPTS_MAX, QUEUE_MAX, TAKEN_MAX, Listener
from sandbox.datacenter.settings import NOTICE_URLS_MAX
from tests.sandbox.datacenter.conftest import Told
from tests.waiting import eventually


class Gateway:
    """A transport that answers as told and remembers what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[bytes] = []
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.content)
        status = self.statuses.pop(0) if self.statuses else 204
        if status == 0:
            raise httpx.ConnectError("away")
        return httpx.Response(status)


def sign(tags: Sequence[str]) -> SignedNotice:
    if "too long" in tags:
        raise ValueError("beyond the bounds")
    return SignedNotice(body=",".join(tags).encode(), signature="s")


def listener(gateway: Gateway, told: Told) -> Listener:
    return Listener("http://gateway", client=gateway.client, sign=sign, log=told.log)


async def deliver(one: Listener, *batches: Sequence[str]) -> None:
    running = asyncio.create_task(one.run())
    await asyncio.gather(*(one.offer(tags) for tags in batches))
    running.cancel()


async def test_a_notice_is_repeated_until_it_is_taken(told: Told) -> None:
    gateway = Gateway(0, 500)
    await deliver(listener(gateway, told), ["a"])
    assert gateway.bodies == [b"a"] * 3
    assert told.events == []


async def test_a_listener_that_is_away_is_given_up_and_then_asked_once_a_notice(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.datacenter.outbox.PAUSES_S", (0, 0, 0))
    gateway = Gateway(*[0] * (ATTEMPTS_MAX + 1))
    await deliver(listener(gateway, told), ["a"], ["b"], ["c"])
    assert gateway.bodies == [b"a"] * ATTEMPTS_MAX + [b"b", b"c"]
    assert [event["event"] for event in told.events] == ["notice-given-up"] * 2


async def test_what_cannot_be_signed_is_given_up_alone(told: Told) -> None:
    gateway = Gateway()
    await deliver(listener(gateway, told), ["too long"], ["a"])
    assert gateway.bodies == [b"a"]


async def test_a_full_queue_gives_up_the_newest(told: Told) -> None:
    one = listener(Gateway(), told)
    offered = [one.offer([str(number)]) for number in range(QUEUE_MAX + 1)]
    assert [future.done() for future in offered] == [False] * QUEUE_MAX + [True]
    running = asyncio.create_task(one.run())
    await eventually(lambda: all(future.done() for future in offered), within_s=2)
    running.cancel()


def test_listeners_that_are_away_never_fill_what_may_be_taken() -> None:
    assert (QUEUE_MAX + 1) * NOTICE_URLS_MAX < TAKEN_MAX
