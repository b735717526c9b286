"""Sends what is in the outbox until every write has its verdict: the client that docs/apps.md describes.

Invariants: a write is in the outbox before its first byte is sent and until its verdict was shown; it is always sent as
the same bytes under the same key; of one gradebook, one write at a time, in the order they were made.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sandbox.outbox import Outbox, Waiting
from sandbox.phone import NoAnswer, Phone, Told, resource_of
from sandbox.repeat_rule import Step, Then, after, spread

_encode = msgspec.json.Encoder().encode


class Verdict(msgspec.Struct, frozen=True):
    """How a write ended: DONE (rows may be rejected each), REFUSED as a whole, or ASK the user."""

    write: Waiting
    then: Then
    told: Told


class Sender:
    """The outbox of one signed-in account.

    `on_verdict` shows the user how a write ended; it may be called twice for one write when the phone dies in between.
    """

    def __init__(
        self,
        phone: Phone,
        outbox: Outbox,
        *,
        on_verdict: Callable[[Verdict], None] = lambda _verdict: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._phone = phone
        self._outbox = outbox
        self._on_verdict = on_verdict
        self._sleep = sleep
        self._jitter = jitter
        self._sending: dict[str, asyncio.Task[None]] = {}
        for resource, position in outbox.positions().items():
            phone.note_position(resource, position)

    def write(self, method: str, path: str, payload: Any) -> str:
        """Keep a write and begin to send it; its key. Safe from here on, whatever becomes of the phone."""
        key = secrets.token_hex(16)
        order = resource_of(path)
        self._outbox.add(
            Waiting(key=key, method=method, path=path, body=_encode(payload).decode(), order=order)
        )
        self._begin(order)
        return key

    def resume(self) -> None:
        """Begin to send what an earlier run left behind."""
        for write in self._outbox.waiting():
            self._begin(write.order)

    async def settled(self) -> None:
        """Wait until every write has its verdict."""
        while self._sending:
            await asyncio.gather(*self._sending.values())

    async def aclose(self) -> None:
        """Stop sending; what has no verdict stays in the outbox."""
        tasks = list(self._sending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, order: str) -> None:
        if order in self._sending:
            return
        self._sending[order] = asyncio.create_task(self._send_all(order))

    async def _send_all(self, order: str) -> None:
        try:
            await self._send_each(order)
        finally:
            # With nothing awaited since the outbox was found empty: who adds a write now begins anew.
            del self._sending[order]

    async def _send_each(self, order: str) -> None:
        while write := next((one for one in self._outbox.waiting() if one.order == order), None):
            then, told = await self._decided(write)
            # Shown first: a phone that dies here is answered the same once more.
            self._on_verdict(Verdict(write=write, then=then, told=told))
            position = told.headers.get("massar-position") if then is Then.DONE else None
            self._outbox.end(write.key, position=position)

    async def _decided(self, write: Waiting) -> tuple[Then, Told]:
        """Send one write until there is a verdict."""
        tries = put_off = 0
        while True:
            tries += 1
            site = self._phone.site
            told, step = await self._tried(write, tries, put_off)
            if told is not None and step.then in {Then.DONE, Then.REFUSED, Then.ASK}:
                return step.then, told
            if step.then is Then.SIGN_IN or not self._phone.signed_in.is_set():
                await self._phone.signed_in.wait()
                continue
            put_off = 0 if step.elsewhere or self._phone.site != site else put_off + 1
            if step.elsewhere and told is not None:
                self._phone.leave(told.site)
            await self._sleep(spread(step.wait_s, self._jitter()))

    async def _tried(self, write: Waiting, tries: int, put_off: int) -> tuple[Told | None, Step]:
        try:
            told = await self._phone.send(
                write.method,
                write.path,
                content=write.body.encode(),
                headers={"idempotency-key": write.key},
            )
        except NoAnswer:
            return None, after(None, "", retry_after=None, tries=tries, put_off=put_off)
        retry_after = told.headers.get("retry-after")
        return told, after(told.status, told.slug, retry_after=retry_after, tries=tries, put_off=put_off)
