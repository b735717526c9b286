"""How often somebody may guess: counted per account and device, and per account in all, never per address.

Invariant: an attempt is counted before its password is looked at, in one transaction that two concurrent attempts
cannot pass together; only the attempt that turns out right is given back. So guesses in flight never exceed what
is left. Unknown logins are counted like known ones, so a refusal does not tell which is which.

A window starts with its first attempt and lasts `window_s`; with it the count starts anew. The counts live in the
accounts database, where both sites see the same ones.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts import AttemptRow, at
from auth.principal import App
from auth.refusals import TooManyAttempts

PER_DEVICE_MAX = 10
PER_ACCOUNT_MAX = 50
WINDOW_S = 15 * 60
SWEEP_MAX = 8


class Reservation(msgspec.Struct, frozen=True):
    """One counted attempt: each key with the start of the window it was counted in."""

    counted: tuple[tuple[bytes, datetime], ...]


class Throttles:
    """Reserves attempts and gives them back, inside the caller's transaction."""

    def __init__(
        self,
        *,
        per_device_max: int = PER_DEVICE_MAX,
        per_account_max: int = PER_ACCOUNT_MAX,
        window_s: float = WINDOW_S,
    ) -> None:
        self._per_device_max = per_device_max
        self._per_account_max = per_account_max
        self._window_s = window_s

    async def reserve(
        self, connection: AsyncConnection, *, app: App, login: str, device_id: str, now: float
    ) -> Reservation:
        """Count one attempt on both keys. Raises TooManyAttempts, whose transaction must not be committed."""
        # The device's key, then the account's, then what nobody waits for: attempts wait for each other in one order.
        device = await self._count(
            connection, attempt_key(app, login, device_id), most=self._per_device_max, now=now
        )
        account = await self._count(connection, attempt_key(app, login), most=self._per_account_max, now=now)
        await self._sweep(connection, now)
        return Reservation(counted=(device, account))

    async def give_back(self, connection: AsyncConnection, reservation: Reservation) -> None:
        """Uncount an attempt that was right, or that was never looked at."""
        for key, window_started_at in reservation.counted:
            await connection.execute(
                update(AttemptRow)
                .where(
                    AttemptRow.key == key,
                    AttemptRow.window_started_at == window_started_at,
                    AttemptRow.failures > 0,
                )
                .values(failures=AttemptRow.failures - 1)
            )

    async def _count(
        self, connection: AsyncConnection, key: bytes, *, most: int, now: float
    ) -> tuple[bytes, datetime]:
        over = AttemptRow.window_started_at <= at(now) - timedelta(seconds=self._window_s)
        counted = (
            insert(AttemptRow)
            .values(key=key, window_started_at=at(now), failures=1)
            .on_conflict_do_update(
                index_elements=[AttemptRow.key],
                set_={
                    "failures": case((over, 1), else_=AttemptRow.failures + 1),
                    "window_started_at": case((over, at(now)), else_=AttemptRow.window_started_at),
                },
                where=over | (AttemptRow.failures < most),
            )
            .returning(AttemptRow.window_started_at)
        )
        window_started_at = (await connection.execute(counted)).scalar_one_or_none()
        if window_started_at is None:
            raise TooManyAttempts(retry_after_s=await self._wait_s(connection, key, now))
        return key, window_started_at

    async def _wait_s(self, connection: AsyncConnection, key: bytes, now: float) -> float:
        started_at = select(AttemptRow.window_started_at).where(AttemptRow.key == key)
        started = (await connection.execute(started_at)).scalar_one_or_none()
        left_s = self._window_s if started is None else started.timestamp() + self._window_s - now
        return min(max(left_s, 1.0), self._window_s)

    async def _sweep(self, connection: AsyncConnection, now: float) -> None:
        """Forget a few windows that are over: more than one attempt can add, so the table cannot grow for good."""
        over = AttemptRow.window_started_at <= at(now) - timedelta(seconds=self._window_s)
        some = select(AttemptRow.key).where(over).limit(SWEEP_MAX).with_for_update(skip_locked=True)
        await connection.execute(delete(AttemptRow).where(AttemptRow.key.in_(some.scalar_subquery())))


def attempt_key(app: App, login: str, device_id: str | None = None) -> bytes:
    """The digest under which attempts are counted; each part carries its length, so that no two share one."""
    digest = hashlib.sha256(b"massar attempt\x00")
    for part in (app.value, login, *([] if device_id is None else [device_id])):
        octets = part.encode("utf-8", "surrogatepass")
        digest.update(len(octets).to_bytes(4, "big") + octets)
    return digest.digest()
