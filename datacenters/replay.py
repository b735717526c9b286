"""Doing again at the promoted site what the journal holds: in order, with the recorded verdicts, once.

Invariants: a record leaves its place in the journal only for a new place at the site's own position, or, when it comes
out otherwise than it was acknowledged, for the parked ones, together with all that follow it under its ordering key;
both in a transaction that compares the epoch. Whatever is interrupted may begin again: a write that is there already
is found by its key.
Source: docs/decisions/0008.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from datacenters import etcd_keys
from datacenters.etcd import Delete, Etcd, EtcdUnavailable, KeyValue, Put
from datacenters.feeds import Publisher
from datacenters.journal import JournalRecord, Kind, opened, sealed
from datacenters.journal_seal import JournalSeal, SealBroken
from datacenters.position import Position, render

PARALLEL_MAX = 8
PAGE_KEYS = 256
MOVES_PER_TRANSACTION = 30  # two operations each, and the purges; etcd takes 128

_log = structlog.get_logger()


class ReplayFailed(Exception):
    """The write path gave no verdict; beginning again is safe."""


class Mismatch(Exception):
    """The write path gives another verdict than the recorded one; nothing was written."""


class Done(msgspec.Struct, frozen=True):
    """A record that stands at this site now: from which position on, in which order, and whether it did before."""

    at: Position
    order: int
    repeated: bool


class Replayer(Protocol):
    """One kind's write path."""

    async def replay(self, record: JournalRecord, *, epoch: int) -> Done:
        """Do the write with its recorded key, verdict and time.

        Raises: Mismatch, ReplayFailed.
        """
        ...


class Report(msgspec.Struct, frozen=True):
    """What became of the journal: done now, found done already, put aside for a human."""

    done: int
    repeated: int
    parked: int


class _Found(msgspec.Struct, frozen=True):
    key: str
    value: bytes
    record: JournalRecord
    timeline: int


class _Chain(msgspec.Struct):
    """The records of one ordering key, in order; `parked` when the first of them or an earlier one mismatched."""

    found: list[_Found]
    parked: bool = False


class Replay:
    """Replays the whole journal into one site."""

    def __init__(
        self, etcd: Etcd, publisher: Publisher, seal: JournalSeal, replayers: Mapping[Kind, Replayer]
    ) -> None:
        self._etcd = etcd
        self._publisher = publisher
        self._seal = seal
        self._replayers = replayers

    async def run(self, *, epoch: int) -> Report:
        """Replay what is there; nothing enters meanwhile, because the epoch's claim sealed the journal.

        Raises: ReplayFailed, EtcdUnavailable, EtcdRefused.
        """
        chains, unreadable = await self._chains(etcd_keys.JOURNAL)
        waiting = await self._waiting_for_a_human()
        for ordering_key, chain in chains.items():
            chain.parked = ordering(ordering_key) in waiting
        return await self._all(chains.values(), unreadable, epoch=epoch)

    async def retry(self, *, epoch: int) -> Report:
        """Replay what a human has taken out of the parked ones; what mismatches again is parked again.

        Raises: ReplayFailed, EtcdUnavailable, EtcdRefused.
        """
        chains, unreadable = await self._chains(etcd_keys.RETRIED)
        return await self._all(chains.values(), unreadable, epoch=epoch)

    async def _all(self, chains: Iterable[_Chain], unreadable: Sequence[KeyValue], *, epoch: int) -> Report:
        for item in unreadable:
            await self._move_unreadable(item, epoch=epoch)
        gate = asyncio.Semaphore(PARALLEL_MAX)

        async def bounded(chain: _Chain) -> Report:
            async with gate:
                return await self._replay(chain, epoch=epoch)

        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(bounded(chain)) for chain in chains]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        reports = [task.result() for task in running]
        return Report(
            done=sum(report.done for report in reports),
            repeated=sum(report.repeated for report in reports),
            parked=sum(report.parked for report in reports) + len(unreadable),
        )

    async def _chains(self, prefix: str) -> tuple[dict[str, _Chain], list[KeyValue]]:
        found: dict[str, _Chain] = {}
        unreadable: list[KeyValue] = []
        after = prefix
        while items := (await self._etcd.page(prefix, after=after, limit=PAGE_KEYS)).items:
            after = items[-1].key
            for item in items:
                timeline, _, name = item.key.split("/")[-3:]
                try:
                    record = opened(item.value, name, self._seal)
                except (SealBroken, msgspec.MsgspecError):
                    unreadable.append(item)
                    continue
                chain = found.setdefault(record.ordering_key, _Chain([]))
                chain.found.append(_Found(item.key, item.value, record, int(timeline)))
        for chain in found.values():
            chain.found.sort(key=lambda one: (one.timeline, one.record.order))
        return found, unreadable

    async def _waiting_for_a_human(self) -> set[str]:
        names: set[str] = set()
        after = etcd_keys.PARKED
        while items := (await self._etcd.page(etcd_keys.PARKED, after=after, limit=PAGE_KEYS)).items:
            after = items[-1].key
            names |= {item.key.removeprefix(etcd_keys.PARKED).partition("/")[0] for item in items}
        return names

    async def _replay(self, chain: _Chain, *, epoch: int) -> Report:
        moved: list[tuple[_Found, Done]] = []
        parked: list[_Found] = []
        for found in chain.found:
            if chain.parked:
                parked.append(found)
                continue
            try:
                done = await self._replayers[found.record.kind].replay(found.record, epoch=epoch)
            except Mismatch as mismatch:
                _log.error("replay parked", record=found.record.name, reason=str(mismatch))
                chain.parked = True
                parked.append(found)
            else:
                moved.append((found, done))
        for first in range(0, len(moved), MOVES_PER_TRANSACTION):
            await self._move(moved[first : first + MOVES_PER_TRANSACTION], epoch=epoch)
        for first in range(0, len(parked), MOVES_PER_TRANSACTION):
            await self._park(parked[first : first + MOVES_PER_TRANSACTION], epoch=epoch)
        repeated = sum(done.repeated for _, done in moved)
        return Report(done=len(moved) - repeated, repeated=repeated, parked=len(parked))

    async def _move(self, moved: Sequence[tuple[_Found, Done]], *, epoch: int) -> None:
        puts: list[Put] = []
        deletes: list[Delete] = []
        for found, done in moved:
            record = msgspec.structs.replace(found.record, order=done.order)
            key = etcd_keys.journal(done.at, record.name)
            if key != found.key:
                deletes.append(Delete(found.key))
            puts.append(Put(key, sealed(record, self._seal)))
        # Caches may have been filled from this site before the writes were there.
        tags = {tag for found, _ in moved for tag in found.record.tags}
        at = max(done.at for _, done in moved)
        puts += await self._publisher.purges(tags, epoch=epoch, position=render(at))
        await self._transact(puts, deletes, epoch=epoch)

    async def _park(self, parked: Sequence[_Found], *, epoch: int) -> None:
        puts = [
            Put(etcd_keys.parked(ordering(found.record.ordering_key), found.key), found.value)
            for found in parked
        ]
        await self._transact(puts, [Delete(found.key) for found in parked], epoch=epoch)

    async def _move_unreadable(self, item: KeyValue, *, epoch: int) -> None:
        _log.error("journal record unreadable, parked", revision=item.revision)
        put = Put(etcd_keys.parked("unreadable", item.key), item.value)
        await self._transact([put], [Delete(item.key)], epoch=epoch)

    async def _transact(self, puts: list[Put], deletes: list[Delete], *, epoch: int) -> None:
        done = await self._etcd.transact(
            unchanged={etcd_keys.EPOCH: str(epoch).encode()}, puts=puts, deletes=deletes, repeatable=True
        )
        if not done.succeeded:
            raise EtcdUnavailable(f"epoch {epoch} is over")


def ordering(ordering_key: str) -> str:
    """How an ordering key is named among the parked ones: nothing of it can be read there."""
    return hashlib.sha256(ordering_key.encode()).hexdigest()[:32]
