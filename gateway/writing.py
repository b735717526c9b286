"""Forwarded writes: to the active datacenter under the declared epoch, then the purge, then the answer.

Invariant: a write is answered only after every cache entry it outdates is outdated in this site, so whoever reads
through the same worker afterwards sees it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec
import structlog

from cache.store import Cache
from datacenters import position
from datacenters.attempts import Answer
from datacenters.etcd import EtcdRefused, EtcdUnavailable
from datacenters.feeds import Publisher
from datacenters.forwarding import Forwarder
from datacenters.position import NOWHERE, Position
from datacenters.unanswered import OutcomeUnknown
from routes.endpoint import Caller, Written
from routes.problems import PROBLEMS

_log = structlog.get_logger()


class DatacenterRefused(Exception):
    """A datacenter's refusal of a write, by its slug alone."""

    slug: ClassVar[str] = "internal"

    def __init__(self, slug: str, retry_after_s: float | None) -> None:
        super().__init__(slug)
        self.slug = slug  # type: ignore[misc]  # an instance tells which of the known refusals it is
        self.retry_after_s = retry_after_s


class _Problem(msgspec.Struct):
    slug: str = "internal"


_problem = msgspec.json.Decoder(_Problem)
# What a datacenter may say to a write and a caller may hear; anything else is our own fault.
PASSED_ON = frozenset({
    "not-found",
    "bad-request",
    "gradebook-locked",
    "idempotency-key-reused",
    "idempotency-key-in-progress",
    "idempotency-key-expired",
    "read-only",
    "overloaded",
})  # fmt: skip
RETRY_AFTER_S = 2.0
# By then a datacenter has ended a transaction that a lost answer left open.
UNKNOWN_SETTLES_S = 15.0
LATER_MAX = 1024


class ForwardedWrites:
    """Writes for the handlers: forwarded, purged, answered."""

    def __init__(
        self,
        forwarder: Forwarder,
        publisher: Publisher,
        cache: Cache,
        *,
        unknown_settles_s: float = UNKNOWN_SETTLES_S,
    ) -> None:
        self._forwarder = forwarder
        self._publisher = publisher
        self._cache = cache
        self._unknown_settles_s = unknown_settles_s
        self._later: set[asyncio.Task[None]] = set()

    async def write(
        self, caller: Caller, method: str, target: str, body: bytes, *, key: str, tags: tuple[str, ...]
    ) -> Written:
        """Forward one write and purge `tags` before returning.

        Raises: DatacenterRefused and the forwarder's errors (ReadOnly, Switching, OutcomeUnknown, Overloaded).
        """
        try:
            answer = await self._forwarder.write(
                method,
                target,
                body,
                idempotency_key=key,
                subject=caller.principal.subject,
                role=caller.principal.role.value,
            )
        except OutcomeUnknown:
            # It may have been done, or still be: what it would outdate is outdated now and once it must have ended.
            await self._purge(tags, epoch=0, at=NOWHERE)
            self._purge_later(tags)
            raise
        if answer.status >= 300:
            raise _refused(answer)
        await self._purge(tags, epoch=answer.epoch, at=answer.position)
        return Written(
            status=answer.status,
            body=answer.body,
            replayed=answer.headers.get("massar-replayed") == "1",
            position=position.render(answer.position),
            location=answer.headers.get("location"),
        )

    async def aclose(self) -> None:
        """Give up the purges that were to follow."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    def _purge_later(self, tags: tuple[str, ...]) -> None:
        async def purge() -> None:
            await asyncio.sleep(self._unknown_settles_s)
            await self._purge(tags, epoch=0, at=NOWHERE)

        if len(self._later) < LATER_MAX:
            task = asyncio.get_running_loop().create_task(purge())
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def _purge(self, tags: tuple[str, ...], *, epoch: int, at: Position) -> None:
        revision: int | None
        try:
            revision = await self._publisher.publish_purge(tags, epoch=epoch, position=position.render(at))
        except (EtcdUnavailable, EtcdRefused):
            # Elsewhere the entries end by their own freshness; here and in tier 2 the purge still holds.
            _log.warning("purge not published", tags=len(tags))
            revision = None
        await self._cache.purge(tags, revision)


def _refused(answer: Answer) -> DatacenterRefused:
    try:
        slug = _problem.decode(answer.body).slug
    except msgspec.DecodeError:
        slug = "internal"
    if slug not in PASSED_ON:
        _log.error(
            "datacenter refused a write", status=answer.status, slug=slug if slug in PROBLEMS else "unknown"
        )
        slug = "internal"
    waiting_helps = PROBLEMS[slug].status == 503 or slug == "idempotency-key-in-progress"
    return DatacenterRefused(slug, RETRY_AFTER_S if waiting_helps else None)
