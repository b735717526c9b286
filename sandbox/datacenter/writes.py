"""How a write is done once: effect, dedup row and fence check in one transaction.

Invariant: whatever is answered below 500 was committed together with the row that will answer the same request
again, byte for byte; whatever is not committed left nothing behind. The one thing nobody can know, a commit whose
answer was lost, is called `outcome-unknown`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec
from sqlalchemy import bindparam, exc, func, insert, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sandbox.datacenter import fence
from sandbox.datacenter.problems import PROBLEM_MEDIA_TYPE, Refused, problem_body
from sandbox.datacenter.records import Records
from sandbox.datacenter.tables import idempotency

KEPT_DAYS = 30
KEY_CHARS_MAX = 128
ID_BYTES = 10
JSON_MEDIA_TYPE = "application/json"


class Verdict(msgspec.Struct, frozen=True):
    """An answer to a write, as stored and as sent; `order` is the place of its transaction in the log."""

    status: int
    body: bytes
    headers: dict[str, str]
    replayed: bool = False
    order: int = 0


class Recorded(msgspec.Struct, frozen=True):
    """What a replayed write was answered the first time: status and SHA-256 of the body."""

    status: int
    digest: bytes

    def is_of(self, verdict: Verdict) -> bool:
        """Whether `verdict` is the same answer."""
        return (self.status, self.digest) == (verdict.status, hashlib.sha256(verdict.body).digest())


class Request(msgspec.Struct, frozen=True):
    """What makes a write the same write: who, which route, which key, which payload."""

    principal: str
    route: str
    key: str
    target: str
    body: bytes
    epoch: int
    recorded: Recorded | None = None

    @property
    def digest(self) -> bytes:
        """The payload, the resource it is meant for included: a key belongs to one route, not to one path."""
        return hashlib.sha256(self.target.encode() + b"\n" + self.body).digest()

    @property
    def scope(self) -> str:
        """What only one request at a time may work on."""
        return f"{self.principal}\n{self.route}\n{self.key}"


class Occasion(msgspec.Struct, frozen=True):
    """When a write is judged, and what makes it unique: the same occasion has the same effect anywhere.

    `replayed` when it was accepted at `now` by a datacenter that is gone: a deadline that has passed since is not
    judged again. `without_predecessors` when a write of which nobody was told may be missing here, and with it the
    version that this one was built on.
    """

    scope: str
    now: datetime
    replayed: bool = False
    without_predecessors: bool = False

    def new_id(self, *of: str) -> str:
        """An opaque id (16 characters of a-z and 2-7) for what this write makes, different for each `of`."""
        digest = hashlib.sha256("\n".join((self.scope, *of)).encode()).digest()
        return base64.b32encode(digest[:ID_BYTES]).decode().lower()


Effect = Callable[[AsyncConnection], Awaitable[Verdict]]

_STORED = select(
    idempotency.c.digest,
    idempotency.c.status,
    idempotency.c.body,
    idempotency.c.headers,
    idempotency.c.order_lsn,
    (
        idempotency.c.decided_at < func.clock_timestamp() - literal_column(f"interval '{KEPT_DAYS} days'")
    ).label("expired"),
).where(
    idempotency.c.principal == bindparam("principal"),
    idempotency.c.route == bindparam("route"),
    idempotency.c.key == bindparam("key"),
)
_STORE = insert(idempotency).returning(idempotency.c.order_lsn)


def key_of(header: str | None) -> str:
    """The idempotency key in a header, quoted or bare.

    Raises: Refused (`idempotency-key-required`, `bad-request`).
    """
    key = (header or "").strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key:
        raise Refused("idempotency-key-required")
    if len(key) > KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        raise Refused("bad-request", "Idempotency-Key: at most 128 printable ASCII characters")
    return key


async def decide(records: Records, request: Request, *effects: Effect, guard: fence.Guard) -> Verdict:
    """The answer to `request`: the stored one, or that of the effect, now stored.

    A replayed request may have several effects: the first that comes out as recorded is the one.

    Raises: Refused; then nothing was written, unless it is `outcome-unknown`. A replayed request that comes out
    otherwise than it was recorded is refused with `replay-mismatch`.
    """
    async with records.writing() as connection:
        if not await fence.check(connection, guard, epoch=request.epoch, scope=request.scope):
            raise Refused("idempotency-key-in-progress")
        # In a statement of its own: its snapshot is younger than the lock that the check just took.
        verdict = await _stored(connection, request)
        stored = verdict is not None
        if verdict is None:
            verdict = await _first_as_recorded(connection, effects, request.recorded)
        elif request.recorded is not None and not request.recorded.is_of(verdict):
            raise Refused("replay-mismatch")
        if stored:
            return verdict
        order = await connection.execute(
            _STORE,
            {
                "principal": request.principal,
                "route": request.route,
                "key": request.key,
                "digest": request.digest,
                "status": verdict.status,
                "body": verdict.body,
                "headers": verdict.headers,
            },
        )
        verdict = msgspec.structs.replace(verdict, order=order.scalar_one())
        await _commit(connection)
        return verdict


async def _stored(connection: AsyncConnection, request: Request) -> Verdict | None:
    row = (
        await connection.execute(
            _STORED, {"principal": request.principal, "route": request.route, "key": request.key}
        )
    ).one_or_none()
    if row is None:
        return None
    if row.expired:
        raise Refused("idempotency-key-expired")
    if row.digest != request.digest:
        raise Refused("idempotency-key-reused")
    return Verdict(status=row.status, body=row.body, headers=row.headers, replayed=True, order=row.order_lsn)


async def _first_as_recorded(
    connection: AsyncConnection, effects: Sequence[Effect], recorded: Recorded | None
) -> Verdict:
    for effect in effects:
        verdict = await _judged(connection, effect, recorded)
        if recorded is None or recorded.is_of(verdict):
            return verdict
    raise Refused("replay-mismatch")


async def _judged(connection: AsyncConnection, effect: Effect, recorded: Recorded | None) -> Verdict:
    """What `effect` says; of a refusal, and of what was recorded otherwise, the writes are undone."""
    savepoint = await connection.begin_nested()
    try:
        verdict = await effect(connection)
    except Refused as refused:
        if refused.status >= 500:
            raise
        await savepoint.rollback()
        return Verdict(
            status=refused.status,
            body=problem_body(refused.slug, refused.detail),
            headers={**refused.headers, "Content-Type": PROBLEM_MEDIA_TYPE},
        )
    if recorded is None or recorded.is_of(verdict):
        await savepoint.commit()
    else:
        await savepoint.rollback()
    return verdict


async def _commit(connection: AsyncConnection) -> None:
    try:
        await connection.commit()
    except asyncio.CancelledError as error:  # the deadline came while PostgreSQL was at it
        raise Refused("outcome-unknown") from error
    except (OSError, exc.DBAPIError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        if isinstance(error, exc.DBAPIError) and not error.connection_invalidated:
            raise  # PostgreSQL answered: it is rolled back
        raise Refused("outcome-unknown") from error


def json_verdict(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Verdict:
    """A JSON answer."""
    return Verdict(status=status, body=body, headers={"Content-Type": JSON_MEDIA_TYPE, **(headers or {})})
