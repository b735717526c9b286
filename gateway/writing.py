"""Forwarded writes: to the active datacenter under the declared epoch, into the journal, then the answer.

Invariants: a write is answered only when its journal record stands at the epoch it was done under; when the epoch has
moved meanwhile the same key goes to the new active datacenter. And only after every cache entry it outdates is
outdated in this site, so whoever reads through the same worker afterwards sees it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from typing import ClassVar

import msgspec
import structlog

from cache.store import Cache
from datacenters import position
from datacenters.attempts import Answer
from datacenters.directory import Directory
from datacenters.etcd import EtcdRefused, EtcdUnavailable
from datacenters.feeds import Publisher
from datacenters.forwarding import Forwarder
from datacenters.journal import (
    BODY_BYTES_MAX,
    EpochMoved,
    Journal,
    JournalFull,
    JournalRecord,
    Kind,
    RecordTooLarge,
)
from datacenters.position import NOWHERE
from datacenters.unanswered import OutcomeUnknown, Overloaded, ReadOnly, Switching
from gateway import trail
from gateway.holding import Holding, come_back_in_s
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
_ORDER = re.compile(r"[0-9]{1,18}")
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
# The datacenter of the old epoch, of the new one, of one more that was claimed in between; and one that settles.
TRIES_MAX = 4
SETTLES_S = 0.15
MOVED_WITHIN_S = 2.5


class _Asked(msgspec.Struct, frozen=True):
    subject: str
    role: str
    method: str
    target: str
    body: bytes
    key: str
    tags: tuple[str, ...]


class ForwardedWrites:
    """Writes for the handlers: forwarded, kept in the journal, purged, answered."""

    def __init__(
        self,
        forwarder: Forwarder,
        publisher: Publisher,
        journal: Journal,
        directory: Directory,
        holding: Holding,
        cache: Cache,
        *,
        clock: Callable[[], float],
        unknown_settles_s: float = UNKNOWN_SETTLES_S,
    ) -> None:
        self._forwarder = forwarder
        self._publisher = publisher
        self._journal = journal
        self._directory = directory
        self._holding = holding
        self._cache = cache
        self._clock = clock
        self._unknown_settles_s = unknown_settles_s
        self._later: set[asyncio.Task[None]] = set()

    async def write(
        self, caller: Caller, method: str, target: str, body: bytes, *, key: str, tags: tuple[str, ...]
    ) -> Written:
        """Forward one write, keep its record and purge `tags` before returning.

        Raises: DatacenterRefused, RecordTooLarge and the forwarder's errors (ReadOnly, Switching, OutcomeUnknown,
        Overloaded).
        """
        if len(body) > BODY_BYTES_MAX:
            raise RecordTooLarge(f"{len(body)} bytes")
        if self._journal.full:
            raise Overloaded("the journal is full", retry_after_s=come_back_in_s())
        asked = _Asked(caller.principal.subject, caller.principal.role.value, method, target, body, key, tags)
        try:
            async with self._holding.turn(asked.subject):
                answer, revision = await self._acknowledged(asked)
        except OutcomeUnknown:
            # It may have been done, or still be: what it would outdate is outdated now and once it must have ended.
            await self._purge(tags)
            self._purge_later(tags)
            raise
        await self._cache.purge_own(tags, revision)
        return Written(
            status=answer.status,
            body=answer.body,
            replayed=answer.headers.get("massar-replayed") == "1",
            position=position.render(answer.position),
            location=answer.headers.get("location"),
        )

    async def _acknowledged(self, asked: _Asked) -> tuple[Answer, int]:
        """The verdict once its record is kept, and etcd's revision of that."""
        sent = settled = False
        for _ in range(TRIES_MAX):
            try:
                answer = await self._forwarder.write(
                    asked.method,
                    asked.target,
                    asked.body,
                    idempotency_key=asked.key,
                    subject=asked.subject,
                    role=asked.role,
                )
            except (Switching, ReadOnly, Overloaded) as error:
                # This one did nothing. If it froze before this worker heard of the switchover, that is waited for, and
                # so, once, is a datacenter whose fence is not open yet though the record names it.
                if not isinstance(error, Overloaded):
                    if await self._holding.over():
                        continue
                    if not settled and self._directory.takes_writes:
                        settled = True
                        await asyncio.sleep(SETTLES_S)
                        continue
                if not sent:
                    raise
                # But the one before it did, and its record may have been kept without anybody hearing of it.
                raise OutcomeUnknown(str(error), retry_after_s=error.retry_after_s) from error
            sent = True
            if answer.status >= 300:
                raise _refused(answer)
            try:
                return answer, await self._keep(asked, answer)
            except EpochMoved as moved:
                trail.note_journal("moved")
                self._directory.observe_epoch(moved.epoch)
                if not await self._directory.serving(epoch=moved.epoch, within_s=MOVED_WITHIN_S):
                    break
        raise OutcomeUnknown("the active datacenter is changing", retry_after_s=come_back_in_s())

    async def _keep(self, asked: _Asked, answer: Answer) -> int:
        order = answer.headers.get("massar-order", "")
        if answer.position == NOWHERE or not _ORDER.fullmatch(order):
            raise OutcomeUnknown(
                "the datacenter does not say where it stands", retry_after_s=come_back_in_s()
            )
        record = JournalRecord(
            kind=Kind.DATACENTER,
            subject=asked.subject,
            role=asked.role,
            method=asked.method,
            target=asked.target,
            body=asked.body,
            key=asked.key,
            ordering_key=asked.target,
            status=answer.status,
            digest=hashlib.sha256(answer.body).digest(),
            decided_at=self._clock(),
            order=int(order),
            tags=asked.tags,
        )
        try:
            kept = await self._journal.keep(record, epoch=answer.epoch, at=answer.position)
        except (EtcdUnavailable, JournalFull) as error:
            raise OutcomeUnknown(str(error), retry_after_s=come_back_in_s()) from error
        trail.note_journal("kept" if kept.protected else "unprotected")
        return kept.revision

    async def aclose(self) -> None:
        """Give up the purges that were to follow."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    def _purge_later(self, tags: tuple[str, ...]) -> None:
        async def purge() -> None:
            await asyncio.sleep(self._unknown_settles_s)
            await self._purge(tags)

        if len(self._later) < LATER_MAX:
            task = asyncio.get_running_loop().create_task(purge())
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def _purge(self, tags: tuple[str, ...]) -> None:
        """Outdate what a write of unknown outcome may have changed."""
        revision: int | None
        try:
            revision = await self._publisher.publish_purge(tags, epoch=0, position=position.render(NOWHERE))
        except (EtcdUnavailable, EtcdRefused):
            # Elsewhere the entries end by their own freshness; here and in tier 2 the purge still holds.
            _log.warning("purge not published", tags=len(tags))
            revision = None
        await self._cache.purge_own(tags, revision)


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
