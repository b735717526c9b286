"""A caching proxy: the state machine of this package between an ASGI server and origins.

Invariant: who asks for what is on its way to the store waits for that, unless it is of no use to him; what a client
leaves behind ends, at the latest after `ALONE_S_MAX`; no origin takes the room of all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from cache.http import engine, hop, varying
from cache.http.age import Manner
from cache.http.carrying import Carrier, Passing
from cache.http.client import Client, Receive, Send
from cache.http.engine import Answer, Forward
from cache.http.fetching import Fetcher
from cache.http.filling import Broken, Budget, Failed, Fill
from cache.http.messages import Request
from cache.http.shelf import Away, Held, Shelf

# How long a request waits for others' answers before it asks for itself, and for how many of them.
WAIT_S_MAX = 30.0
JOINS_MAX = 3
FORWARDS_MAX = 512
# Of them with content, whose senders decide how long they take.
CONTENT_FORWARDS_MAX = 256
# How long a download goes on that the store alone still wants.
ALONE_S_MAX = 60.0
LOOKS_MAX = 3
_UNANSWERED = frozenset({502, 504})

_log = logging.getLogger(__name__)


async def send_empty(status: int, cache_status: str, client: Client) -> None:
    """Say nothing but the status."""
    await client.whole(engine.empty(status), cache_status, b"")


# Answers where neither an origin nor the store does: 502, 503 (busy) or 504, and what Cache-Status says.
Failing = Callable[[int, str, Client], Awaitable[None]]


class CachingProxy:
    """Answers requests whose targets are whole URIs of any origins; each is asked at most so much at once."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        manner: Manner,
        fetcher: Fetcher,
        forwards_per_origin_max: int = FORWARDS_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shelf = shelf
        self._manner = manner
        self._fetcher = fetcher
        self._clock = clock
        self._carrier = Carrier(shelf, manner=manner, fetcher=fetcher, clock=clock)
        self._per_origin_max = forwards_per_origin_max
        self._waiting = Budget()
        self._lent = Budget()
        self._fills: dict[str, tuple[Request, Fill[Answer | Passing]]] = {}
        self._refreshing: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._at: Counter[str] = Counter()
        self._with_content = 0

    async def respond(
        self, request: Request, receive: Receive, send: Send, *, failing: Failing = send_empty
    ) -> None:
        """Answer a request. Raises `Broken` when the body ends too soon: the client is to be broken off."""
        client = Client(receive, send, sends_content=request.has_content)
        try:
            await self._answer(hop.received(request), client, failing)
        except Broken:
            if not client.left:
                raise

    async def aclose(self) -> None:
        """Give up what is on its way and let go of connections and shelf."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._fetcher.aclose()
        await self._shelf.aclose()

    async def _answer(self, request: Request, client: Client, failing: Failing) -> None:
        decision, held = await self._look(request)
        for _ in range(LOOKS_MAX):
            if isinstance(decision, Forward):
                decision, held = await self._joined(decision, held)
            if isinstance(decision, Forward):
                break
            if decision.refresh is not None:
                self._refresh(decision.refresh, held)
            try:
                if await self._answered(request.target, decision, client, failing):
                    return
            except Away:
                decision = engine.plainly(request)
                break
            decision, held = await self._look(request)  # its body was gone, and now its head is
        else:
            decision = engine.plainly(request)
        await self._forwarded(decision, held, client, failing)

    async def _look(self, request: Request) -> tuple[Answer | Forward, Held]:
        held = await self._shelf.held(request.target)
        return engine.look(request, held.stored, self._clock(), self._manner), held

    async def _joined(self, forward: Forward, held: Held) -> tuple[Answer | Forward, Held]:
        """What became of the request while others asked for the same; as before where nothing did."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + WAIT_S_MAX
        for _ in range(JOINS_MAX):
            found = self._fills.get(forward.asked.target) if forward.shareable else None
            if found is None:
                break
            theirs, other = found
            if not await other.useful_within(ends_at - loop.time()):
                break
            decision, held = await self._look(forward.asked)
            if isinstance(decision, Forward) and _concerns(other.failed, theirs, decision.asked):
                decision = engine.fail(decision, self._clock(), self._manner)
            if isinstance(decision, Answer):
                told = f"{self._manner.name}; fwd={forward.reason}; collapsed"
                return msgspec.structs.replace(decision, cache_status=told), held
            forward = decision
        return forward, held

    async def _answered(self, target: str, answer: Answer, client: Client, failing: Failing) -> bool:
        """Send an answer; no when the stored body that it wants is gone. Raises `Away`, `Broken`."""
        if answer.stored is None and answer.response.status in _UNANSWERED:
            await failing(answer.response.status, answer.cache_status, client)
            return True
        body = await self._carrier.body(target, answer)
        if body is None:
            return False
        lent = len(body) if self._shelf.copies else 0
        if lent and self._lent.spent:
            await failing(503, f"{self._manner.name}; detail=busy", client)
            return True
        self._lent.used += lent
        try:
            await client.whole(answer.response, answer.cache_status, body)
        finally:
            self._lent.used -= lent
        return True

    async def _forwarded(self, forward: Forward, held: Held, client: Client, failing: Failing) -> None:
        if self._busy(forward):
            await failing(503, f"{self._manner.name}; fwd={forward.reason}; detail=busy", client)
            return
        fill = self._begin(forward, held, client.content() if forward.asked.has_content else None)
        watch = asyncio.create_task(_leave_with(client, fill))
        try:
            first: set[asyncio.Future[Any]] = {watch, fill.head}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if client.left:
                # It has gone, or sent what is no content: servers tell both alike.
                if forward.asked.has_content:
                    await send_empty(400, "", client)
                return
            head = await asyncio.shield(fill.head)
            if isinstance(head, Answer):
                await self._answered_late(forward.asked.target, head, client, failing)
                return
            await client.start(head.response, head.cache_status)
            async for chunk in fill.body.chunks():
                await client.piece(chunk, more=True)
            await client.piece(b"", more=False)
        finally:
            watch.cancel()
            fill.body.leave()

    async def _answered_late(self, target: str, answer: Answer, client: Client, failing: Failing) -> None:
        """Send what an origin's answer came to."""
        with contextlib.suppress(Away):
            if await self._answered(target, answer, client, failing):
                return
        await failing(502, answer.cache_status, client)

    def _refresh(self, forward: Forward, held: Held) -> None:
        """Ask behind the client's back, unless somebody does already (RFC 5861 §3)."""
        target = forward.asked.target
        if target in self._fills or target in self._refreshing or self._busy(forward):
            return
        self._refreshing.add(target)
        self._begin(forward, held, None, ended=lambda: self._refreshing.discard(target)).body.leave()

    def _busy(self, forward: Forward) -> bool:
        """Whether too much is under way already."""
        return (
            len(self._running) >= FORWARDS_MAX
            or self._at[_origin(forward)] >= self._per_origin_max
            or (forward.asked.has_content and self._with_content >= CONTENT_FORWARDS_MAX)
        )

    def _begin(
        self,
        forward: Forward,
        held: Held,
        content: AsyncIterator[bytes] | None,
        *,
        ended: Callable[[], None] = lambda: None,
    ) -> Fill[Answer | Passing]:
        target = forward.asked.target

        def alone() -> None:
            end = asyncio.get_running_loop().call_later(ALONE_S_MAX, task.cancel)
            task.add_done_callback(lambda _: end.cancel())

        # Those it concerns who wait already share a failure; who comes later asks for himself, whatever made it fail.
        fill: Fill[Answer | Passing] = Fill(
            self._waiting, on_failure=lambda: self._unshare(target, fill), on_left=alone
        )
        if forward.shareable and target not in self._fills:
            self._fills[target] = forward.asked, fill
        task = asyncio.create_task(self._carrier.run(fill, forward, held, content))
        self._running.add(task)
        self._at[_origin(forward)] += 1
        self._with_content += content is not None

        def done(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._at -= Counter((_origin(forward),))
            self._with_content -= content is not None
            self._unshare(target, fill)
            ended()
            self._finish(task, fill, forward)

        task.add_done_callback(done)
        return fill

    def _unshare(self, target: str, fill: Fill[Answer | Passing]) -> None:
        found = self._fills.get(target)
        if found is not None and found[1] is fill:
            del self._fills[target]

    def _finish(self, task: asyncio.Task[None], fill: Fill[Answer | Passing], forward: Forward) -> None:
        """Have nobody wait for what will not come any more."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            fill.give_up_keeping()
            if not isinstance(error, asyncio.CancelledError):
                _log.error("a request to an origin failed in an unforeseen way", exc_info=error)
        if not fill.head.done():
            fill.decide(engine.fail(forward, self._clock(), self._manner), failed=Failed.ALIKE)
        fill.finish(error)


def _concerns(failed: Failed, theirs: Request, own: Request) -> bool:
    """Whether an error that another request came to is this one's as well."""
    return failed is Failed.EVERYBODY or (failed is Failed.ALIKE and varying.alike(theirs, own))


def _origin(forward: Forward) -> str:
    return urlsplit(forward.asked.target).netloc


async def _leave_with(client: Client, fill: Fill[Answer | Passing]) -> None:
    """Tell the fill when the client has gone: what nobody keeps nobody wants any more."""
    with contextlib.suppress(Exception):  # a server that cannot tell says nothing
        await client.gone()
        fill.body.leave()
