"""The statements on session rows, each inside the caller's transaction.

Invariant: a session that ended never lives again, and whoever changes a family holds its row.
Locks are taken in one order, account before session, so that transactions never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.accounts import ACCOUNT_COLUMNS, Account, AccountRow, SessionRow, account_of, at
from auth.principal import Principal
from auth.rotation import Family

SESSIONS_MAX = 20
ENDING_MAX = 200
"""Most sessions one sign-out ends: the live, then those whose denial is due, then the latest that ended."""
ENDED_KEPT_S = 24 * 3600
"""How long the row of an ended session stays, to finish its denial and to see what happened."""


class SessionView(msgspec.Struct, frozen=True):
    """One live session of the caller; `current` is the one that asks."""

    sid: str
    device_id: str
    device_name: str
    created_at: datetime
    last_used_at: datetime
    current: bool


class HeldFamily(msgspec.Struct, frozen=True):
    """A family whose row is locked, with its account."""

    account: Account
    family: Family
    denial_due: bool


async def insert_session(
    connection: AsyncConnection,
    *,
    sid: str,
    account_id: str,
    device_id: str,
    device_name: str,
    now: float,
    ttl_s: int,
) -> None:
    """Open a family at sequence 1."""
    await connection.execute(
        insert(SessionRow).values(
            sid=sid,
            account_id=account_id,
            device_id=device_id,
            device_name=device_name,
            created_at=at(now),
            last_used_at=at(now),
            sequence=1,
            expires_at=at(now + ttl_s),
            denial_due=False,
        )
    )


async def make_room(connection: AsyncConnection, account_id: str, *, most: int, now: float) -> list[str]:
    """Leave room for one more live session of a locked account: end the longest unused, forget those long over.

    Returns the sessions of the account whose denial is due: those ended here and those an earlier try left.
    """
    of_account = SessionRow.account_id == account_id
    over = or_(SessionRow.expires_at <= at(now), SessionRow.ended_at <= at(now - ENDED_KEPT_S))
    await connection.execute(delete(SessionRow).where(of_account, over))
    surplus = (
        select(SessionRow.sid)
        .where(of_account, SessionRow.ended_at.is_(None))
        .order_by(SessionRow.last_used_at.desc(), SessionRow.sid)
        .offset(most - 1)
    )
    await connection.execute(
        update(SessionRow)
        .where(SessionRow.sid.in_(surplus.scalar_subquery()))
        .values(ended_at=at(now), denial_due=True)
    )
    due = select(SessionRow.sid).where(of_account, SessionRow.denial_due).order_by(SessionRow.sid)
    return list((await connection.execute(due.limit(ENDING_MAX))).scalars())


async def lock_family(connection: AsyncConnection, sid: str, *, now: float) -> HeldFamily | None:
    """The family and its account, its row held until the transaction ends."""
    statement = (
        select(
            *ACCOUNT_COLUMNS,
            SessionRow.sequence,
            SessionRow.exchanged_at,
            SessionRow.ended_at,
            SessionRow.expires_at,
            SessionRow.denial_due,
        )
        .join(AccountRow, AccountRow.id == SessionRow.account_id)
        .where(SessionRow.sid == sid)
        .with_for_update(of=SessionRow)
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    account = account_of(row)
    family = Family(
        sequence=row.sequence,
        exchanged_at=None if row.exchanged_at is None else row.exchanged_at.timestamp(),
        live=row.ended_at is None and row.expires_at > at(now) and account.usable,
    )
    return HeldFamily(account=account, family=family, denial_due=row.denial_due)


async def advance(connection: AsyncConnection, sid: str, *, sequence: int, now: float, ttl_s: int) -> None:
    """Make `sequence` the open one of a locked family, which lives for `ttl_s` from now."""
    await connection.execute(
        update(SessionRow)
        .where(SessionRow.sid == sid)
        .values(sequence=sequence, exchanged_at=at(now), last_used_at=at(now), expires_at=at(now + ttl_s))
    )


async def lock_own(
    connection: AsyncConnection,
    principal: Principal,
    *,
    now: float,
    sid: str | None = None,
    ended_within_s: float = 0.0,
) -> list[str]:
    """The caller's sessions (or the one named) that can be ended, at most ENDING_MAX of them.

    They are the live, the ended but not yet denied, and those that ended less than `ended_within_s` ago.
    """
    accounts = (
        select(AccountRow.id)
        .where(AccountRow.app == principal.app.value, AccountRow.subject == principal.subject)
        .order_by(AccountRow.id)
        .with_for_update(key_share=True)
    )
    account_ids = (await connection.execute(accounts)).scalars().all()
    live = SessionRow.ended_at.is_(None) & (SessionRow.expires_at > at(now))
    recent = SessionRow.ended_at > at(now - ended_within_s)
    endable = SessionRow.account_id.in_(account_ids) & or_(live, SessionRow.denial_due, recent)
    if sid is not None:
        endable &= SessionRow.sid == sid
    first = (
        select(SessionRow.sid)
        .where(endable)
        .order_by(SessionRow.ended_at.is_not(None), SessionRow.denial_due.desc(), SessionRow.ended_at.desc())
        .limit(ENDING_MAX)
    )
    own = (
        select(SessionRow.sid)
        .where(endable, SessionRow.sid.in_(first.scalar_subquery()))
        .order_by(SessionRow.sid)
        .with_for_update()
    )
    return list((await connection.execute(own)).scalars())


async def end(connection: AsyncConnection, sids: Sequence[str], *, now: float) -> None:
    """End locked sessions; their denial is due."""
    await connection.execute(
        update(SessionRow)
        .where(SessionRow.sid.in_(sids))
        .values(ended_at=func.coalesce(SessionRow.ended_at, at(now)), denial_due=True)
    )


async def note_denied(connection: AsyncConnection, sids: Sequence[str]) -> None:
    """The denial of these sessions was published."""
    # Several tries may finish the same denials at once: locked in one order, they do not wait in a circle.
    noted = select(SessionRow.sid).where(SessionRow.sid.in_(sids)).order_by(SessionRow.sid).with_for_update()
    await connection.execute(noted)
    await connection.execute(update(SessionRow).where(SessionRow.sid.in_(sids)).values(denial_due=False))


async def live_sessions(
    connection: AsyncConnection, principal: Principal, *, now: float
) -> tuple[SessionView, ...]:
    """The caller's live sessions, the last used first."""
    statement = (
        select(
            SessionRow.sid,
            SessionRow.device_id,
            SessionRow.device_name,
            SessionRow.created_at,
            SessionRow.last_used_at,
        )
        .join(AccountRow, AccountRow.id == SessionRow.account_id)
        .where(
            AccountRow.app == principal.app.value,
            AccountRow.subject == principal.subject,
            SessionRow.ended_at.is_(None),
            SessionRow.expires_at > at(now),
        )
        .order_by(SessionRow.last_used_at.desc(), SessionRow.sid)
    )
    return tuple(
        SessionView(
            sid=row.sid,
            device_id=row.device_id,
            device_name=row.device_name,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            current=row.sid == principal.sid,
        )
        for row in await connection.execute(statement)
    )
