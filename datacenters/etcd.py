"""A small client of etcd's JSON gateway (3.4 and later): what the record, the feeds and the leases need, no more.

Invariant: every call ends within `timeout_s` per endpoint, each endpoint tried at most once; a transaction that may
have been applied is never sent twice, unless its sender says that this does no harm.
Source: etcd.io/docs dev-guide/api_grpc_gateway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar

import httpx
import msgspec

from datacenters import etcd_wire as wire
from datacenters.transport import FAILURES, PLAIN, AnswerTooLarge, ask, direct_transport, never_connected

TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 0.3
RETURN_HOME_AFTER_S = 5.0
CONNECTIONS_MAX = 32
LINE_BYTES_MAX = 64 * 1024 * 1024
# More than a member keeps within a quota of 256 MiB, as JSON writes it.
ANSWER_BYTES_MAX = 512 * 1024 * 1024
RANGE_KEYS_MAX = 200_000
_LEASE_GONE = 5  # gRPC NOT_FOUND

_JSON = {"content-type": "application/json"}

T = TypeVar("T")


class EtcdUnavailable(Exception):
    """No endpoint gave an answer; `maybe_applied` when a change (if one was asked for) may have happened all the same."""

    slug: ClassVar[str] = "etcd-unavailable"

    def __init__(self, message: str, *, maybe_applied: bool = False) -> None:
        super().__init__(message)
        self.maybe_applied = maybe_applied


class EtcdRefused(Exception):
    """etcd answered that the request itself is wrong (a lease that is gone, a malformed key)."""

    slug: ClassVar[str] = "etcd-refused"

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code

    @property
    def lease_gone(self) -> bool:
        """Whether a lease named in the request has expired."""
        return self.code == _LEASE_GONE


class Compacted(Exception):
    """The watch asked for history that etcd no longer has: read the present, then watch from there."""

    slug: ClassVar[str] = "etcd-compacted"


class KeyValue(msgspec.Struct, frozen=True):
    """One key as it is; `revision` is etcd's at its last change, `lease` 0 when it lives for ever."""

    key: str
    value: bytes
    revision: int
    lease: int = 0


class Listing(msgspec.Struct, frozen=True):
    """The keys a range read found, and the revision it was read at."""

    revision: int
    items: tuple[KeyValue, ...]


class Transaction(msgspec.Struct, frozen=True):
    """Whether the comparison held, the revision after, and when it did not, what was asked to be read instead."""

    succeeded: bool
    revision: int
    found: dict[str, bytes] = {}


class Put(msgspec.Struct, frozen=True):
    """A key to write inside a transaction."""

    key: str
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True):
    """A key to remove inside a transaction, or all keys from it up to, not including, `end`."""

    key: str
    end: str | None = None


class Change(msgspec.Struct, frozen=True):
    """One key written or, when `deleted`, gone (its value is then empty)."""

    item: KeyValue
    deleted: bool


class Etcd:
    """Speaks to the members at `urls`, the site's own first; after a failure to another, and home again later."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        timeout_s: float = TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not urls:
            raise ValueError("at least one etcd endpoint is needed")
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._preferred = 0
        self._left_home_at = 0.0
        connect_s = min(connect_timeout_s, timeout_s)
        self._transport = direct_transport(connect_s=connect_s)
        self._watches = httpx.AsyncClient(
            trust_env=False,
            # A watch may be silent for as long as nothing changes.
            timeout=httpx.Timeout(timeout_s, connect=connect_s, read=None),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
        )

    async def aclose(self) -> None:
        """Close every connection; calls afterwards fail."""
        await self._watches.aclose()
        await self._transport.aclose()

    async def read(self, key: str, *, serializable: bool = False) -> KeyValue | None:
        """The key as a majority has it now, or None; `serializable`: as one member last knew it."""
        listing = await self.range(key, serializable=serializable)
        return listing.items[0] if listing.items else None

    async def range(
        self,
        key: str,
        *,
        prefix: bool = False,
        newer_than: int = 0,
        limit: int = RANGE_KEYS_MAX,
        serializable: bool = False,
    ) -> Listing:
        """The key, or keys beginning with it, as a majority has them now; only those changed after `newer_than`.

        A `serializable` read is one member's own word, answered also without a majority, and may be old.
        Raises: EtcdUnavailable.
        """
        asked: dict[str, Any] = {"key": key.encode(), "limit": str(limit)}
        if prefix:
            asked["range_end"] = _end_of(key)
        if newer_than:
            asked["min_mod_revision"] = str(newer_than + 1)
        if serializable:
            asked["serializable"] = True
        found = await self._call("/v3/kv/range", asked, wire.RANGED, repeatable=True)
        return Listing(revision=found.header.revision, items=tuple(_as_key_value(kv) for kv in found.kvs))

    async def page(self, prefix: str, *, after: str, limit: int) -> Listing:
        """The first keys beginning with `prefix` that sort after the key `after`; a bounded part of a long list.

        Raises: EtcdUnavailable.
        """
        asked = {"key": after.encode() + b"\0", "range_end": _end_of(prefix), "limit": str(limit)}
        found = await self._call("/v3/kv/range", asked, wire.RANGED, repeatable=True)
        return Listing(revision=found.header.revision, items=tuple(_as_key_value(kv) for kv in found.kvs))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write the key and return the revision.

        Raises: EtcdUnavailable, EtcdRefused (`lease_gone`).
        """
        asked = {"key": key.encode(), "value": value, "lease": str(lease)}
        written = await self._call("/v3/kv/put", asked, wire.CHANGED, repeatable=True)
        return written.header.revision

    async def delete(self, key: str) -> None:
        """Remove the key; nothing happens when there is none."""
        await self._call("/v3/kv/deleterange", {"key": key.encode()}, wire.CHANGED, repeatable=True)

    async def count(self, prefix: str) -> int:
        """How many keys begin with `prefix`.

        Raises: EtcdUnavailable.
        """
        asked = {"key": prefix.encode(), "range_end": _end_of(prefix), "count_only": True}
        return (await self._call("/v3/kv/range", asked, wire.RANGED, repeatable=True)).count

    async def bytes_in_use(self) -> int:
        """The size of what one member (the own one when it answers) keeps, freed pages not counted.

        Raises: EtcdUnavailable.
        """
        return (await self._call("/v3/maintenance/status", {}, wire.MEMBER, repeatable=True)).db_size_in_use

    async def transact(
        self,
        *,
        unchanged: dict[str, bytes | None],
        puts: Sequence[Put] = (),
        deletes: Sequence[Delete] = (),
        else_read: Sequence[str] = (),
        repeatable: bool = False,
    ) -> Transaction:
        """Do `puts` and `deletes` together if every key of `unchanged` still has that value (None: does not exist).

        If not, the keys of `else_read` are read in the same transaction. Say `repeatable` when doing it twice does no
        harm: then a member that gave no answer is replaced by the next.
        Raises: EtcdUnavailable; with `maybe_applied` the caller reads again and sees what became of it.
        """
        asked = {
            "compare": [_compare(key, value) for key, value in unchanged.items()],
            "success": [*map(_put, puts), *map(_delete, deletes)],
            "failure": [{"requestRange": {"key": key.encode()}} for key in else_read],
        }
        done = await self._call("/v3/kv/txn", asked, wire.CHANGED, repeatable=repeatable)
        found: dict[str, bytes] = {}
        if not done.succeeded:
            for response in done.responses:
                kvs = response.response_range.kvs if response.response_range else []
                found.update({kv.key.decode(): kv.value for kv in kvs})
        return Transaction(succeeded=done.succeeded, revision=done.header.revision, found=found)

    async def grant(self, ttl_s: int) -> int:
        """A new lease of `ttl_s` seconds."""
        granted = await self._call(
            "/v3/lease/grant", {"TTL": str(ttl_s), "ID": "0"}, wire.GRANTED, repeatable=True
        )
        return granted.ID

    async def keep_alive(self, lease: int) -> bool:
        """Renew the lease once; False when it is gone."""
        kept = await self._call("/v3/lease/keepalive", {"ID": str(lease)}, wire.KEPT, repeatable=True)
        return kept.result.TTL > 0

    async def revoke(self, lease: int) -> None:
        """End the lease and every key under it."""
        await self._call("/v3/lease/revoke", {"ID": str(lease)}, wire.CHANGED, repeatable=True)

    @asynccontextmanager
    async def watch(
        self, key: str, *, prefix: bool = False, from_revision: int
    ) -> AsyncIterator[AsyncIterator[tuple[Change, ...]]]:
        """A stream of changes from `from_revision` on; it may fall silent for ever, so the caller polls beside it.

        The stream raises Compacted, or EtcdUnavailable when it ends.
        """
        asked: dict[str, Any] = {"key": key.encode(), "start_revision": str(from_revision)}
        if prefix:
            asked["range_end"] = _end_of(key)
        url = self._urls[self._first_choice()]
        # A member cut off from the leader must end the stream instead of keeping it silently open.
        headers = {"Grpc-Metadata-hasleader": "true", **PLAIN}
        try:
            async with self._watches.stream(
                "POST",
                url + "/v3/watch",
                content=wire.ENCODER.encode({"create_request": asked}),
                headers=headers,
            ) as response:
                if response.status_code != 200:
                    raise EtcdUnavailable(f"watch answered {response.status_code}")
                changes = _changes(response)
                try:
                    yield changes
                finally:
                    await changes.aclose()
        except httpx.HTTPError as error:
            self._step_aside(url)
            raise EtcdUnavailable(f"watch ended: {type(error).__name__}") from error

    async def _call(
        self, path: str, asked: dict[str, Any], decoder: msgspec.json.Decoder[T], *, repeatable: bool
    ) -> T:
        content = wire.ENCODER.encode(asked)
        failure, maybe_applied = "no endpoint", False
        first = self._first_choice()
        for offset in range(len(self._urls)):
            url = self._urls[(first + offset) % len(self._urls)]
            try:
                async with asyncio.timeout(self._timeout_s):
                    response = await ask(
                        self._transport, "POST", url + path, _JSON, content, bytes_max=ANSWER_BYTES_MAX
                    )
            except (*FAILURES, AnswerTooLarge) as error:
                self._step_aside(url)
                failure = f"{url}: {type(error).__name__}"
                maybe_applied |= not never_connected(error)
                if maybe_applied and not repeatable:
                    raise EtcdUnavailable(failure, maybe_applied=True) from error
                continue
            if response.status == 200:
                return decoder.decode(response.content)
            problem = _problem_of(response.content)
            if response.status < 500:
                raise EtcdRefused(problem.message, code=problem.code)
            self._step_aside(url)
            failure, maybe_applied = f"{url}: {problem.message}", True
            if not repeatable:
                break
        raise EtcdUnavailable(failure, maybe_applied=maybe_applied)

    def _first_choice(self) -> int:
        if self._preferred and self._monotonic() - self._left_home_at >= RETURN_HOME_AFTER_S:
            self._preferred = 0
        return self._preferred

    def _step_aside(self, url: str) -> None:
        if self._urls[self._preferred] == url and len(self._urls) > 1:
            self._preferred = (self._preferred + 1) % len(self._urls)
            self._left_home_at = self._monotonic()


async def _changes(response: httpx.Response) -> AsyncGenerator[tuple[Change, ...]]:
    async for line in _lines(response):
        message = wire.WATCHED.decode(line).result
        if message is None:
            raise EtcdUnavailable(f"watch ended: {line[:200]!r}")
        if message.compact_revision:
            raise Compacted(f"history before {message.compact_revision} is gone")
        if message.canceled:
            raise EtcdUnavailable("watch was cancelled")
        if message.events:
            yield tuple(
                Change(_as_key_value(event.kv), deleted=event.type == "DELETE") for event in message.events
            )
    raise EtcdUnavailable("watch ended")


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    buffer = bytearray()
    async for chunk in response.aiter_raw():
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if line:
                yield line
        if len(buffer) > LINE_BYTES_MAX:
            raise EtcdUnavailable("a watch message beyond every bound")


def _end_of(prefix: str) -> bytes:
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def _put(put: Put) -> dict[str, Any]:
    return {"requestPut": {"key": put.key.encode(), "value": put.value, "lease": str(put.lease)}}


def _delete(delete: Delete) -> dict[str, Any]:
    asked: dict[str, Any] = {"key": delete.key.encode()}
    if delete.end is not None:
        asked["range_end"] = delete.end.encode()
    return {"requestDeleteRange": asked}


def _compare(key: str, value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"key": key.encode(), "target": "VERSION", "result": "EQUAL", "version": "0"}
    return {"key": key.encode(), "target": "VALUE", "result": "EQUAL", "value": value}


def _as_key_value(kv: wire.Kv) -> KeyValue:
    return KeyValue(key=kv.key.decode(), value=kv.value, revision=kv.mod_revision, lease=kv.lease)


def _problem_of(content: bytes) -> wire.Problem:
    try:
        return wire.PROBLEM.decode(content)
    except msgspec.MsgspecError:
        return wire.Problem(message="unreadable answer")
