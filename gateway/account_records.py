"""Sign-outs in the write journal: what one leaves there, and how a director does it again after its site was promoted.

Invariant: a session that somebody ended, and was told so, ends at every site that ever takes over; doing it again
changes nothing. Where its row was lost with a site there is nothing to end, and its denial holds anyway.
"""

from __future__ import annotations

import hashlib

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth import sessions
from auth.accounts import transaction
from auth.refusals import AccountsUnavailable, Overloaded
from datacenters.journal import JournalRecord, Kind
from datacenters.position import Position
from datacenters.replay import Done, Mismatch, ReplayFailed

TARGET = "/v1/auth/sessions/"
METHOD = "DELETE"
STATUS = 204
NOBODY = "-"

_STANDS = text("""
SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS lsn,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer AS timeline
""")


class EndedSession(msgspec.Struct, frozen=True):
    """The session `sid` was ended at a Unix time."""

    sid: str
    ended_at: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(EndedSession)


def sign_out_record(ended: EndedSession, *, order: int) -> JournalRecord:
    """What the journal keeps of a session's end."""
    return JournalRecord(
        kind=Kind.ACCOUNTS,
        subject=NOBODY,
        role=NOBODY,
        method=METHOD,
        target=TARGET + ended.sid,
        body=_encoder.encode(ended),
        key=ended.sid,
        ordering_key=TARGET + ended.sid,
        status=STATUS,
        digest=hashlib.sha256(b"").digest(),
        decided_at=ended.ended_at,
        order=order,
        tags=(),
    )


async def stands(connection: AsyncConnection) -> Position:
    """Where the log of the accounts' PostgreSQL stands; what was committed before is at or below it.

    Raises: sqlalchemy.exc.DBAPIError on a standby.
    """
    row = (await connection.execute(_STANDS)).one()
    return row.timeline, row.lsn


class AccountsPath:
    """Replays records of the accounts' kind into the own site's accounts database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def replay(self, record: JournalRecord, *, epoch: int) -> Done:  # noqa: ARG002 - every write path is asked alike
        """End the session as it was ended.

        Raises: Mismatch (no record of ours), ReplayFailed.
        """
        try:
            ended = _decoder.decode(record.body)
        except msgspec.MsgspecError as error:
            raise Mismatch("not a session's end") from error
        try:
            async with transaction(self._engine) as connection:
                await sessions.end(connection, [ended.sid], now=ended.ended_at)
                await sessions.note_denied(connection, [ended.sid])
            async with transaction(self._engine) as connection:
                at = await stands(connection)
        except (AccountsUnavailable, Overloaded) as error:
            raise ReplayFailed(f"the accounts database is away: {type(error).__name__}") from error
        return Done(at=at, order=record.order, repeated=False)
