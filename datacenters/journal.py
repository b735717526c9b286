"""The write journal: one sealed record in etcd per write that is acknowledged, until the standby has the write.

Invariant: `keep` returns only when the record is in etcd's quorum and the epoch was still the write's in the very
transaction that put it there; a claim raises that epoch, so after a claim nothing of the old epoch is ever kept.
What the record outdates in caches is told in the same transaction.
Source: docs/decisions/0008.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar

import msgspec

from datacenters import control, etcd_keys, position
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable, Put, Transaction
from datacenters.feeds import PURGE_TAGS_MAX, Publisher
from datacenters.journal_seal import JournalSeal, SealBroken
from datacenters.position import Position

RECORD_BYTES_MAX = 256 * 1024
# Beside the body a record holds names, ids and tags; what asks for more than this is refused before it is sent.
RECORD_OVERHEAD_MAX = 16 * 1024
BODY_BYTES_MAX = RECORD_BYTES_MAX - RECORD_OVERHEAD_MAX
OPERATIONS_PER_TRANSACTION = 120  # etcd takes 128 in one
BYTES_PER_TRANSACTION = 1024 * 1024  # and 1.5 MiB
TRANSACTIONS_MAX = 2
TRIES_MAX = 3
WAITING_MAX = 2048
KEEP_WITHIN_S = 3.0


class Kind(StrEnum):
    """Whose write path replays a record: the datacenter's, or the gateway's own for its accounts."""

    DATACENTER = "datacenter"
    ACCOUNTS = "accounts"


class JournalRecord(msgspec.Struct, frozen=True):
    """One acknowledged write: all that is needed to do it again elsewhere, and to know that it came out the same.

    `order` grows with every write of one `ordering_key` on one timeline; `status` and `digest` (SHA-256 of the body)
    are the verdict that was given; `decided_at` is Unix seconds.
    """

    kind: Kind
    subject: str
    role: str
    method: str
    target: str
    body: bytes
    key: str
    ordering_key: str
    status: int
    digest: bytes
    decided_at: float
    order: int
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        """What tells this write from every other: it belongs to one principal, resource and key."""
        scope = f"{self.kind}\n{self.subject}\n{self.method}\n{self.target}\n{self.key}"
        return hashlib.sha256(scope.encode()).hexdigest()[:32]


class EpochMoved(Exception):
    """The write cannot be acknowledged: etcd's epoch is `epoch`; the same key goes to the new active.

    If a member kept the record without saying so before the epoch moved, the replay has it, under the same key.
    """

    slug: ClassVar[str] = "switching"

    def __init__(self, epoch: int) -> None:
        super().__init__(f"etcd stands at epoch {epoch}")
        self.epoch = epoch


class JournalFull(Exception):
    """`WAITING_MAX` records wait for etcd; nothing was kept."""

    slug: ClassVar[str] = "overloaded"


class RecordTooLarge(Exception):
    """The write does not fit into a record of `RECORD_BYTES_MAX`; nothing was kept."""

    slug: ClassVar[str] = "body-too-large"


class Kept(msgspec.Struct, frozen=True):
    """The record stands: etcd's revision, and whether it is in the journal or writes are unprotected now."""

    revision: int
    protected: bool


class _Waiting(msgspec.Struct, eq=False):
    epoch: int
    key: str
    value: bytes
    tags: tuple[str, ...]
    at: Position
    puts: tuple[Put, ...]
    kept: asyncio.Future[Kept]

    @property
    def operations(self) -> int:
        """How much of a transaction it takes at most."""
        return 1 + len(self.puts) + math.ceil(len(self.tags) / PURGE_TAGS_MAX)

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.value) + sum(len(put.value) for put in self.puts) + sum(map(len, self.tags))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(JournalRecord)


def sealed(record: JournalRecord, seal: JournalSeal) -> bytes:
    """The record as it lies in etcd.

    Raises: RecordTooLarge.
    """
    value = seal.seal(_encoder.encode(record), record.name.encode())
    if len(value) > RECORD_BYTES_MAX:
        raise RecordTooLarge(f"{len(value)} bytes")
    return value


def opened(value: bytes, name: str, seal: JournalSeal) -> JournalRecord:
    """The record that was sealed under this name.

    Raises: SealBroken, msgspec.MsgspecError.
    """
    record = _decoder.decode(seal.open(value, name.encode()))
    if record.name != name:
        raise SealBroken("a record under another one's name")
    return record


class Journal:
    """A worker's way into the journal: what waits together goes in one transaction."""

    def __init__(self, etcd: Etcd, publisher: Publisher, seal: JournalSeal) -> None:
        self._etcd = etcd
        self._publisher = publisher
        self._seal = seal
        self._protected = True
        self._waiting: deque[_Waiting] = deque()
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether so much waits for etcd that no further write should be sent to a datacenter."""
        return len(self._waiting) >= WAITING_MAX

    async def keep(
        self, record: JournalRecord, *, epoch: int, at: Position, puts: tuple[Put, ...] = ()
    ) -> Kept:
        """Keep the record of a write that a datacenter committed by position `at` under `epoch`, and `puts` with it.

        Raises: JournalFull, RecordTooLarge (nothing was kept), EpochMoved, EtcdUnavailable (it may have been).
        """
        if self.full:
            raise JournalFull
        loop = asyncio.get_running_loop()
        waiting = _Waiting(
            epoch=epoch,
            key=etcd_keys.journal(at, record.name),
            value=sealed(record, self._seal),
            tags=record.tags,
            at=at,
            puts=puts,
            kept=loop.create_future(),
        )
        self._waiting.append(waiting)
        if len(self._writing) < TRANSACTIONS_MAX:
            writing = loop.create_task(self._write_waiting())
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
        try:
            async with asyncio.timeout(KEEP_WITHIN_S):
                return await waiting.kept
        except TimeoutError as error:
            raise EtcdUnavailable(f"no answer within {KEEP_WITHIN_S} s", maybe_applied=True) from error

    async def aclose(self) -> None:
        """Give up what still waits."""
        for writing in self._writing:
            writing.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
        _tell(self._waiting, EtcdUnavailable("the worker ends"))
        self._waiting.clear()

    async def _write_waiting(self) -> None:
        try:
            while batch := self._batch():
                try:
                    await self._write(batch)
                except Exception as error:  # noqa: BLE001 - each of those who wait must hear of it
                    _tell(batch, error)
                except asyncio.CancelledError:
                    _tell(batch, EtcdUnavailable("the worker ends", maybe_applied=True))
                    raise
        finally:
            # Now, not when the loop comes to it: who asks in between must not count on this one.
            self._writing -= {asyncio.current_task()}

    def _batch(self) -> list[_Waiting]:
        """The next ones of one epoch, those left out whose caller has gone."""
        batch: list[_Waiting] = []
        operations = size = 0
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.kept.done():
                self._waiting.popleft()
                continue
            operations += waiting.operations
            size += waiting.size
            over = operations > OPERATIONS_PER_TRANSACTION or size > BYTES_PER_TRANSACTION
            if batch and (over or waiting.epoch != batch[0].epoch):
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        for _ in range(TRIES_MAX):
            # The other transaction under way may change it meanwhile: what is put and what is compared must agree.
            protected = self._protected
            try:
                done = await self._transact(batch, protected=protected)
            except EtcdRefused as error:
                if not error.lease_gone:
                    raise EtcdUnavailable(f"etcd refuses the journal: {error}") from error
                self._publisher.forget_leases()  # etcd was restored, or stood still for longer than the lease
                continue
            if done.succeeded:
                _tell(batch, Kept(revision=done.revision, protected=protected))
                return
            epoch = _whole(done.found.get(etcd_keys.EPOCH))
            if epoch != batch[0].epoch:
                _tell(batch, EpochMoved(epoch))
                return
            self._protected = done.found.get(etcd_keys.PROTECTION) != control.UNPROTECTED
        raise EtcdUnavailable("etcd changes faster than the journal can follow")

    async def _transact(self, batch: list[_Waiting], *, protected: bool) -> Transaction:
        puts = [put for waiting in batch for put in waiting.puts]
        if protected:
            puts += [Put(waiting.key, waiting.value) for waiting in batch]
        tags = {tag for waiting in batch for tag in waiting.tags}
        at = position.render(max(waiting.at for waiting in batch))
        puts += await self._publisher.purges(tags, epoch=batch[0].epoch, position=at)
        # Putting the same records again changes nothing, and a claim in between stops the second try.
        return await self._etcd.transact(
            unchanged={
                etcd_keys.EPOCH: str(batch[0].epoch).encode(),
                etcd_keys.PROTECTION: control.PROTECTED if protected else control.UNPROTECTED,
            },
            # etcd takes a key once: two answers to one write may stand at one position.
            puts=tuple({put.key: put for put in puts}.values()),
            else_read=(etcd_keys.EPOCH, etcd_keys.PROTECTION),
            repeatable=True,
        )


def _tell(waited: Iterable[_Waiting], outcome: Kept | Exception) -> None:
    for waiting in waited:
        if waiting.kept.done():
            continue
        if isinstance(outcome, Kept):
            waiting.kept.set_result(outcome)
        else:
            waiting.kept.set_exception(outcome)


def _whole(raw: bytes | None) -> int:
    return int(raw) if raw and raw.isdigit() else 0
