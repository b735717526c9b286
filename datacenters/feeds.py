"""Following keys in etcd and telling others: what denials, purges and the record itself travel on.

Invariant: what the callbacks saw is always a listing followed by changes in order; a watch that lies silent for
longer than a poll is replaced, so nothing is missed for more than about a second while etcd answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from datacenters import etcd_keys
from datacenters.etcd import Compacted, Etcd, EtcdRefused, EtcdUnavailable, KeyValue, Listing, Put

POLL_S = 1.0
LAG_GRACE_S = 0.25
# After a longer silence everything is listed again: what came and ended meanwhile stands in no answer to a poll.
SILENCE_MAX_S = 5.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 1.0
PURGE_TTL_S = 60
# A soft purge is listed to who starts later, for as long as an entry from before it might count as fresh (class R).
SOFT_PURGE_TTL_S = 6 * 86_400
SOFT_PURGES_MAX = 256
LEASE_SHARED_S = 20
LEASE_STEP_S = 60
LEASES_MAX = 32
PURGE_TAGS_MAX = 64

_log = structlog.get_logger()


class Purge(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tags whose cached entries are no longer right, and where the write that says so stands.

    `softened_at`: Unix seconds; the entries stored until then are not wrong, only to be asked about again. None: a hard
    purge, and so a worker takes it that does not know the field. `by`: the operator who ordered it; empty: a write did.
    """

    tags: tuple[str, ...]
    epoch: int
    position: str
    softened_at: float | None = None
    by: str = ""


class _Behind(Exception):
    """The watch did not bring what a poll saw, or may have missed what none could see."""


_encoder = msgspec.json.Encoder()
_purge_decoder = msgspec.json.Decoder(Purge)


def encode_purge(tags: Sequence[str], *, epoch: int, position: str) -> bytes:
    """The value below `purges/` that outdates these tags (1 to 64 of them).

    Raises: ValueError.
    """
    if not 1 <= len(tags) <= PURGE_TAGS_MAX:
        raise ValueError(f"a purge carries 1 to {PURGE_TAGS_MAX} tags")
    return _encoder.encode(Purge(tags=tuple(tags), epoch=epoch, position=position))


def decode_purge(raw: bytes) -> Purge:
    """The purge in a value below `purges/`.

    Raises: msgspec.MsgspecError.
    """
    return _purge_decoder.decode(raw)


def purge_key(purge: Purge) -> str:
    """Where a purge is to lie. A soft one that is ordered again takes the place of its older self."""
    if purge.softened_at is None:
        return etcd_keys.PURGES + uuid.uuid4().hex
    digest = hashlib.blake2b("\n".join(sorted(purge.tags)).encode(), digest_size=16)
    return etcd_keys.SOFT_PURGES + digest.hexdigest()


class PrefixFeed:
    """Calls back with everything under `prefix` (or the one key, when `exact`), then with each change.

    `on_reset` gets the whole listing and may be called again at any time; key names come without the prefix,
    revisions are etcd's. The callbacks are plain functions and must not block.
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        *,
        on_reset: Callable[[tuple[KeyValue, ...]], None],
        on_put: Callable[[KeyValue], None],
        on_delete: Callable[[str], None],
        exact: bool = False,
        poll_s: float = POLL_S,
        lag_grace_s: float = LAG_GRACE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._on_reset = on_reset
        self._on_put = on_put
        self._on_delete = on_delete
        self._exact = exact
        self._poll_s = poll_s
        self._lag_grace_s = lag_grace_s
        self._monotonic = monotonic
        self._created_at = monotonic()
        self._heard_at: float | None = None
        self.listed_revision = 0
        """etcd's revision at the newest listing."""
        self.unheard_s = 0.0
        """How long before the newest listing nothing was heard: what lived shorter may have been missed."""
        self._revision = 0
        self._task: asyncio.Task[None] | None = None
        self._listed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._refreshed: asyncio.Future[bool] | None = None

    async def start(self, *, within_s: float = 2.0) -> bool:
        """Begin to follow; True when the first listing arrived within `within_s` (it goes on trying otherwise)."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"feed {self._prefix}")
        try:
            async with asyncio.timeout(within_s):
                await self._listed.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End; no callback comes afterwards."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._answer_refresh(heard=False)

    def silent_for_s(self) -> float:
        """Seconds since which not all that a majority of etcd knew has been applied here."""
        return self._monotonic() - (self._created_at if self._heard_at is None else self._heard_at)

    async def refresh(self, *, within_s: float) -> bool:
        """Ask etcd now; True when its answer has been applied before this returns. Concurrent callers share one ask."""
        if self._refreshed is None:
            self._refreshed = asyncio.get_running_loop().create_future()
        asked = self._refreshed
        self._wanted.set()
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(asked)
        except TimeoutError:
            return False

    def poke(self) -> None:
        """Ask etcd soon, without waiting."""
        self._wanted.set()

    async def _run(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while True:
            began = self._monotonic()
            try:
                await self._follow()
            except _Behind:
                continue
            except (EtcdUnavailable, EtcdRefused, Compacted) as error:
                _log.info("feed begins again", prefix=self._prefix, reason=str(error) or type(error).__name__)
            except Exception:  # noqa: BLE001 - whatever a callback raises
                # A consumer that cannot read one value must not end the feed for every later one.
                _log.exception("feed failed", prefix=self._prefix)
            backoff_s = BACKOFF_MIN_S if self._heard_since(began) else min(BACKOFF_MAX_S, backoff_s * 2)
            await asyncio.sleep(backoff_s)

    def _heard_since(self, moment: float) -> bool:
        return self._heard_at is not None and self._heard_at >= moment

    async def _follow(self) -> None:
        asked, self._refreshed = self._refreshed, None
        self._wanted.clear()
        try:
            asked_at, listing = await self._ask(newer_than=0)
            self.listed_revision = listing.revision
            self.unheard_s = 0.0 if self._heard_at is None else asked_at - self._heard_at
            self._on_reset(tuple(self._named(item) for item in listing.items))
            self._heard_at = asked_at
        except BaseException:
            _answer(asked, heard=False)
            raise
        self._revision = listing.revision
        self._listed.set()
        _answer(asked, heard=True)
        watching = asyncio.create_task(self._watch(listing.revision + 1))
        polling = asyncio.create_task(self._poll())
        try:
            done, _ = await asyncio.wait({watching, polling}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            watching.cancel()
            polling.cancel()
            await asyncio.gather(watching, polling, return_exceptions=True)

    async def _watch(self, from_revision: int) -> None:
        async with self._etcd.watch(
            self._prefix, prefix=not self._exact, from_revision=from_revision
        ) as stream:
            async for changes in stream:
                for change in changes:
                    if change.deleted:
                        self._on_delete(change.item.key.removeprefix(self._prefix))
                    else:
                        self._on_put(self._named(change.item))
                    self._revision = max(self._revision, change.item.revision)

    async def _poll(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            poked = self._wanted.is_set()
            self._wanted.clear()
            asked, self._refreshed = self._refreshed, None
            try:
                asked_at, newer = await self._ask(newer_than=self._revision)
            except (EtcdUnavailable, EtcdRefused):
                _answer(asked, heard=False)
                await asyncio.sleep(BACKOFF_MIN_S)
                if poked:  # what was wanted at once is not left to the next poll
                    self._wanted.set()
                continue
            except BaseException:
                _answer(asked, heard=False)
                raise
            newest = max((item.revision for item in newer.items), default=0)
            if newest > self._revision and not asked:
                await asyncio.sleep(self._lag_grace_s)
            silent = self._heard_at is None or asked_at - self._heard_at > SILENCE_MAX_S
            if silent or newest > self._revision or newer.revision < self._revision:
                self._owe(asked)
                raise _Behind
            self._heard_at = asked_at
            _answer(asked, heard=True)

    async def _ask(self, *, newer_than: int) -> tuple[float, Listing]:
        """A listing and when it was asked for: what it proves was true then, not when it arrived."""
        asked_at = self._monotonic()
        return asked_at, await self._etcd.range(self._prefix, prefix=not self._exact, newer_than=newer_than)

    def _owe(self, asked: asyncio.Future[bool] | None) -> None:
        """The listing that follows at once will answer those who asked."""
        if asked is None:
            return
        if self._refreshed is None:
            self._refreshed = asked
        else:
            self._refreshed.add_done_callback(
                lambda done: _answer(asked, heard=not done.cancelled() and done.result())
            )

    def _named(self, item: KeyValue) -> KeyValue:
        return msgspec.structs.replace(item, key=item.key.removeprefix(self._prefix))

    def _answer_refresh(self, *, heard: bool) -> None:
        asked, self._refreshed = self._refreshed, None
        _answer(asked, heard=heard)


def _answer(asked: asyncio.Future[bool] | None, *, heard: bool) -> None:
    if asked is not None and not asked.done():
        asked.set_result(heard)


class Publisher:
    """Tells every site something for a while: each key lives under a lease that many keys share.

    A lease is granted for the asked time plus `LEASE_SHARED_S` and used for new keys during the latter only,
    so every key lives at least as long as asked.
    """

    def __init__(
        self,
        etcd: Etcd,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._etcd = etcd
        self._clock = clock
        self._monotonic = monotonic
        self._leases: dict[int, tuple[int, float]] = {}
        self._granting = asyncio.Lock()

    async def publish_purge(self, tags: Sequence[str], *, epoch: int, position: str) -> int:
        """Tell every site that the entries under `tags` (at most 64) are no longer right; returns etcd's revision.

        Raises: EtcdUnavailable, ValueError.
        """
        value = encode_purge(tags, epoch=epoch, position=position)
        return await self._put(etcd_keys.PURGES + uuid.uuid4().hex, value, ttl_s=PURGE_TTL_S)

    async def order_purge(self, purge: Purge) -> int:
        """Tell every site of an operator's purge, hard or soft; returns etcd's revision.

        Raises: EtcdUnavailable.
        """
        ttl_s = PURGE_TTL_S if purge.softened_at is None else SOFT_PURGE_TTL_S
        return await self._put(purge_key(purge), _encoder.encode(purge), ttl_s=ttl_s)

    async def purges(self, tags: Iterable[str], *, epoch: int, position: str) -> list[Put]:
        """The same to be put in a transaction of the caller's, for any number of tags.

        Raises: EtcdUnavailable.
        """
        named = sorted(tags)
        lease = await self.lease(PURGE_TTL_S) if named else 0
        return [
            Put(
                etcd_keys.PURGES + uuid.uuid4().hex,
                encode_purge(named[first : first + PURGE_TAGS_MAX], epoch=epoch, position=position),
                lease=lease,
            )
            for first in range(0, len(named), PURGE_TAGS_MAX)
        ]

    async def denial(self, key: str, *, ttl_s: float) -> Put:
        """What denies `key` (a `sid`) on every worker of every site for `ttl_s`, to be put in a transaction.

        The value is the Unix time until which it holds.
        Raises: EtcdUnavailable.
        """
        until = str(math.ceil(self._clock() + ttl_s)).encode()
        return Put(etcd_keys.DENIALS + key, until, lease=await self.lease(ttl_s))

    async def _put(self, key: str, value: bytes, *, ttl_s: float) -> int:
        try:
            return await self._etcd.put(key, value, lease=await self.lease(ttl_s))
        except EtcdRefused as error:
            if not error.lease_gone:
                raise
        # etcd was restored or stood still for longer than the lease: one new lease, one more try.
        self.forget_leases()
        return await self._etcd.put(key, value, lease=await self.lease(ttl_s))

    def forget_leases(self) -> None:
        """Grant new leases from now on: etcd does not know one of them any more."""
        self._leases.clear()

    async def lease(self, ttl_s: float) -> int:
        """A lease under which a key lives for `ttl_s` at least.

        Raises: EtcdUnavailable.
        """
        step = math.ceil(ttl_s / LEASE_STEP_S) * LEASE_STEP_S
        async with self._granting:
            return await self._shared_lease(step)

    async def _shared_lease(self, ttl_s: int) -> int:
        lease, granted_at = self._leases.get(ttl_s, (0, 0.0))
        now = self._monotonic()
        if not lease or now - granted_at >= LEASE_SHARED_S:
            lease = await self._etcd.grant(ttl_s + LEASE_SHARED_S)
            if len(self._leases) >= LEASES_MAX:
                del self._leases[next(iter(self._leases))]
            self._leases[ttl_s] = (lease, now)
        return lease
