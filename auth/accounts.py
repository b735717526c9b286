"""The accounts database: who may sign in, which sessions live, how often somebody guessed wrong.

Invariant: one account per (app, login), logins stored as `normalised_login` gives them; a session is one refresh
token family, and its row is the only judge of which sequence number is next.

Bulk load (COPY) of `accounts` takes the columns in the order of `ACCOUNTS_COPY_COLUMNS`: id and subject are opaque
ids, app and role and status the words of their enums, login normalised, password_hash an encoded argon2id hash
(`auth.passwords.hash_password`), created_at a time with zone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import (
    URL,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Row,
    Text,
    UniqueConstraint,
    make_url,
    select,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from auth.principal import APP_OF_ROLE, App, Name, Role
from auth.refusals import AccountsUnavailable, Overloaded

LOGIN_LENGTH_MAX = 128
PASSWORD_LENGTH_MAX = 256
DEVICE_ID_LENGTH_MAX = 128
DEVICE_NAME_LENGTH_MAX = 128
CONNECTIONS_MAX = 8
CONNECT_TIMEOUT_S = 1.0
STATEMENT_TIMEOUT_S = 3.0
POOL_WAIT_S = 1.0
RETRY_AFTER_S = 2.0
ACCOUNTS_COPY_COLUMNS = (
    "id",
    "app",
    "login",
    "role",
    "subject",
    "name_ar",
    "name_fr",
    "password_hash",
    "status",
    "created_at",
)


class Status(StrEnum):
    """Whether an account may be used."""

    ACTIVE = "active"
    DISABLED = "disabled"


class Base(DeclarativeBase):
    """The accounts database's tables; changed by a revision in auth/migrations alone."""

    type_annotation_map = {str: Text, datetime: DateTime(timezone=True), int: BigInteger, bytes: LargeBinary}  # noqa: RUF012 - SQLAlchemy reads this name as it stands


class AccountRow(Base):
    """One way into one app."""

    __tablename__ = "accounts"
    __table_args__ = (
        UniqueConstraint("app", "login", name="accounts_app_login"),
        Index("accounts_app_subject", "app", "subject"),
        CheckConstraint("app IN ('moutamadris', 'waliye', 'moudaris')", name="accounts_app"),
        CheckConstraint("role IN ('student', 'parent', 'teacher')", name="accounts_role"),
        CheckConstraint("status IN ('active', 'disabled')", name="accounts_status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    app: Mapped[str]
    login: Mapped[str]
    role: Mapped[str]
    subject: Mapped[str]
    name_ar: Mapped[str]
    name_fr: Mapped[str]
    password_hash: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[datetime]


class SessionRow(Base):
    """One device's sign-in: a refresh token family.

    `sequence` is that of the newest refresh token, `exchanged_at` when it replaced its predecessor. `denial_due`
    stays true from the end of a session until its denial was published, so that an interrupted sign-out can be
    finished by repeating it.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index("sessions_account", "account_id"),)

    sid: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    device_id: Mapped[str]
    device_name: Mapped[str]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    sequence: Mapped[int]
    exchanged_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]
    denial_due: Mapped[bool]


class AttemptRow(Base):
    """Sign-ins in one window that failed or are not judged yet; the key is a digest."""

    __tablename__ = "attempts"
    __table_args__ = (Index("attempts_window", "window_started_at"),)

    key: Mapped[bytes] = mapped_column(primary_key=True)
    window_started_at: Mapped[datetime]
    failures: Mapped[int]


class Account(msgspec.Struct, frozen=True):
    """An account as sign-in needs it; `usable` says that it is active and of the app that its role belongs to."""

    id: str
    role: Role
    subject: str
    name: Name
    password_hash: str
    usable: bool

    def __repr__(self) -> str:
        return f"Account(id={self.id!r}, …)"


ACCOUNT_COLUMNS = (
    AccountRow.id,
    AccountRow.app,
    AccountRow.role,
    AccountRow.subject,
    AccountRow.name_ar,
    AccountRow.name_fr,
    AccountRow.password_hash,
    AccountRow.status,
)


def account_of(row: Row[*tuple[Any, ...]]) -> Account:
    """The account in a row that holds at least ACCOUNT_COLUMNS."""
    role = Role(row.role)
    return Account(
        id=row.id,
        role=role,
        subject=row.subject,
        name=Name(ar=row.name_ar, fr=row.name_fr),
        password_hash=row.password_hash,
        usable=row.status == Status.ACTIVE and APP_OF_ROLE[role] == row.app,
    )


async def find_account(connection: AsyncConnection, *, app: App, login: str) -> Account | None:
    """The account with this normalised login in this app."""
    statement = select(*ACCOUNT_COLUMNS).where(AccountRow.app == app.value, AccountRow.login == login)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else account_of(row)


async def lock_account(connection: AsyncConnection, account: Account) -> bool:
    """Hold the account until the transaction ends; false when it has changed since it was read."""
    statement = select(*ACCOUNT_COLUMNS).where(AccountRow.id == account.id).with_for_update(key_share=True)
    row = (await connection.execute(statement)).one_or_none()
    return row is not None and account_of(row) == account


def normalised_login(login: str) -> str | None:
    """The form in which logins are stored and compared; None for what can be nobody's login.

    NFKC, casefolded, without blanks around: a login typed with full-width digits or capitals is the same login.
    """
    if len(login) > LOGIN_LENGTH_MAX or not is_storable(login):
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", login).casefold()).strip()
    return folded if 0 < len(folded) <= LOGIN_LENGTH_MAX else None


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold `text`: no NUL, no half surrogate pairs."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def at(unix_s: float) -> datetime:
    """Unix seconds as the database's time."""
    return datetime.fromtimestamp(unix_s, UTC)


def asyncpg_url(dsn: str) -> URL:
    """A `postgresql://…` DSN as SQLAlchemy's URL for asyncpg."""
    return make_url(dsn).set(drivername="postgresql+asyncpg")


def open_engine(
    dsn: str,
    *,
    connections_max: int = CONNECTIONS_MAX,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    pool_wait_s: float = POOL_WAIT_S,
) -> AsyncEngine:
    """An engine on one site's accounts database with every wait bounded; connects at first use."""
    return create_async_engine(
        asyncpg_url(dsn),
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=pool_wait_s,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={"timeout": connect_timeout_s, "command_timeout": statement_timeout_s},
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction, committed at the end of the block.

    Raises AccountsUnavailable when the database is away, starting, read-only or silent, Overloaded when all
    connections stay busy. What the block itself raises rolls back and passes unchanged.
    """
    try:
        async with engine.begin() as connection:
            yield connection
    except sa_exc.TimeoutError:
        raise Overloaded(retry_after_s=RETRY_AFTER_S) from None
    except (sa_exc.DBAPIError, OSError) as error:
        if not _is_away(error):
            raise
        raise AccountsUnavailable(retry_after_s=RETRY_AFTER_S) from error


# SQLSTATE classes and codes that say "not here, not now": connection exceptions, too many connections,
# shutting down, starting, and a standby's read-only transaction.
_AWAY_CLASSES = ("08", "57P")
_AWAY_CODES = frozenset({"53300", "25006"})


def _is_away(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return True
    if not isinstance(error, sa_exc.DBAPIError):
        return False
    code = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or code.startswith(_AWAY_CLASSES) or code in _AWAY_CODES
