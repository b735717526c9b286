"""Carrying out a request to an origin: what comes goes to a fill, and to the shelf where the rules let it.

Invariant: a body is stored only when all of it came; what is too large for the store streams through.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable

import msgspec

from cache.http import engine, hop
from cache.http.age import Manner
from cache.http.client import ClientGone, ClientSlow
from cache.http.engine import Answer, Forward, Outcome
from cache.http.fetching import Fetcher, Reply, Unanswered
from cache.http.fields import Fields
from cache.http.filling import AHEAD_BYTES_MAX, Budget, Failed, Fill
from cache.http.keeping import Keeping
from cache.http.messages import NO_BODY, Response
from cache.http.shelf import Away, Held, Shelf

ASKED_AGAIN_MAX = 2
TOO_SLOW = 408


class Passing(msgspec.Struct, frozen=True):
    """The head of a response that comes from the origin, its body following."""

    response: Response
    cache_status: str


class Carrier:
    """Between origins, fills and the shelf."""

    def __init__(self, shelf: Shelf, *, manner: Manner, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self._shelf = shelf
        self._manner = manner
        self._fetcher = fetcher
        self._clock = clock
        self._gathered = Budget()

    async def run(
        self,
        fill: Fill[Answer | Passing],
        forward: Forward,
        held: Held,
        content: AsyncIterator[bytes] | None,
    ) -> None:
        """Ask the origin, keep what may be kept, and hand everything to the fill."""
        try:
            again: Forward | None = forward
            for _ in range(ASKED_AGAIN_MAX):
                if again is None:
                    return
                forward = again
                again = await self._asked(fill, forward, held, content)
            if again is not None:
                fill.decide(engine.fail(forward, self._clock(), self._manner), failed=Failed.ALIKE)
        except (Unanswered, ClientGone) as error:
            if fill.head.done():
                fill.give_up_keeping()
                fill.finish(error)
            elif isinstance(error, ClientSlow):
                fill.decide(Passing(engine.empty(TOO_SLOW), ""))
            else:
                timed_out = isinstance(error, Unanswered) and error.timed_out
                answer = engine.fail(forward, self._clock(), self._manner, timed_out=timed_out)
                fill.decide(answer, failed=_concerned(error))

    async def body(self, target: str, answer: Answer) -> bytes | None:
        """The bytes of a stored answer; None when they are gone meanwhile, and then their head goes too.

        Raises `Away`.
        """
        if answer.stored is None or not answer.body:
            return b""
        body = await self._shelf.body(target, answer.stored.id)
        if body is None or len(body) != answer.stored.length:
            await self._shelf.drop(target, (answer.stored.id,))
            return None
        if answer.span is None:
            return body
        first = answer.stored.span.first if answer.stored.span else 0
        return body[answer.span.first - first : answer.span.last + 1 - first]

    async def _asked(
        self,
        fill: Fill[Answer | Passing],
        forward: Forward,
        held: Held,
        content: AsyncIterator[bytes] | None,
    ) -> Forward | None:
        """Ask once; what is to be asked after that, if anything. Raises `Unanswered`, `ClientGone`."""
        requested_at = self._clock()
        request = forward.request if self._manner.passes_conditions else engine.unconditional(forward)
        onward = hop.onward(request, via=self._manner.name, with_content=content is not None)
        if isinstance(onward, Response):
            fill.decide(Passing(onward, ""))
            return None
        async with self._fetcher.fetch(onward, content) as reply:
            received_at = self._clock()
            outcome = engine.receive(
                forward,
                hop.arrived(Response(reply.status, reply.fields), received_at),
                requested_at=requested_at,
                received_at=received_at,
                id_=secrets.token_hex(8),
                manner=self._manner,
            )
            held = await self._note(forward.asked.target, outcome, held)
            if outcome.again is not None:
                return outcome.again
            try:
                return await self._carry(fill, forward, outcome, reply, held)
            except Away:
                return engine.plainly(forward.asked)

    async def _carry(
        self, fill: Fill[Answer | Passing], forward: Forward, outcome: Outcome, reply: Reply, held: Held
    ) -> Forward | None:
        """The head to the fill, then the body to the fill and to the shelf; another request where bytes are gone.

        Raises `Away` before it has said anything to the fill.
        """
        target = forward.asked.target
        if outcome.answer is not None:
            if await self.body(target, outcome.answer) is None:
                return engine.plainly(forward.asked)
            fill.decide(outcome.answer, kept=True)
            return None
        response, keep, part = outcome.response, outcome.store, b""
        if outcome.combine is not None:
            found = await self._shelf.body(target, outcome.combine.id)
            if found is None or outcome.combine.span is None:
                return engine.plainly(forward.asked)
            whole = outcome.combine.span.whole
            fields = outcome.combine.fields.replaced(content_length=str(whole))
            response, part = Response(outcome.combine.status, fields), found
            keep = msgspec.structs.replace(outcome.combine, id=secrets.token_hex(8), span=None)
        keeping = None
        if keep is not None:
            keeping = Keeping(
                self._shelf,
                target,
                keep,
                since=held,
                replacing=outcome.drop,
                length=_length(response.fields),
                budget=self._gathered,
            )
            if keeping.hopeless:
                await keeping.decline()
                keeping = None
        fill.decide(
            Passing(response, outcome.cache_status + ("; stored" if keeping else "")),
            kept=keeping is not None,
            failed=Failed.ALIKE if response.status in engine.ERRORS else Failed.NOBODY,
        )
        if forward.asked.method != "HEAD" and response.status not in NO_BODY:
            await self._stream(fill, part, reply, keeping)
        elif keeping is not None and _length(response.fields) in {None, 0}:
            await _store(keeping, fill)
        return None

    async def _stream(
        self, fill: Fill[Answer | Passing], part: bytes, reply: Reply, keeping: Keeping | None
    ) -> None:
        """Carry the body to the client and, as long as it is not too much for it, to the shelf."""
        chunks = aiter(reply.chunks)
        chunk = part or await _next(chunks)
        try:
            while chunk is not None:
                if keeping is not None and not keeping.takes(chunk):
                    await keeping.decline()
                    keeping = None
                    fill.give_up_keeping()
                if keeping is not None and keeping.complete:
                    await _store(keeping, fill)
                ahead_max = self._shelf.body_bytes_max if keeping else AHEAD_BYTES_MAX
                await fill.body.bring(chunk, ahead_max=ahead_max)
                if keeping is None and fill.body.left:
                    return
                chunk = await _next(chunks)
            if keeping is not None:
                await _store(keeping, fill)
        finally:
            if keeping is not None:
                keeping.give_up()

    async def _note(self, target: str, outcome: Outcome, held: Held) -> Held:
        """Freshen, drop and invalidate; what is held of the target from now on."""
        for one in outcome.freshen:
            await self._shelf.freshen(target, one, generation=held.generation)
        if outcome.store is None and outcome.combine is None:  # else they go when the new one is there
            await self._shelf.drop(target, outcome.drop)
        for other in outcome.invalidate:
            await self._shelf.invalidate(other)
        # The answer to an unsafe request is the first that is known after what it changed.
        return await self._shelf.held(target) if target in outcome.invalidate else held


def _concerned(error: Unanswered | ClientGone) -> Failed:
    if isinstance(error, ClientGone):
        return Failed.NOBODY
    return Failed.EVERYBODY if error.unreached else Failed.ALIKE


async def _store(keeping: Keeping, fill: Fill[Answer | Passing]) -> None:
    if not await keeping.store():
        fill.give_up_keeping()


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async for chunk in chunks:
        return chunk
    return None


def _length(of: Fields) -> int | None:
    length = of.get("content-length") or ""
    return int(length[:20]) if length.isascii() and length.isdigit() else None
