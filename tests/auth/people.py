"""Who signs in, in the tests of auth: accounts with a cheap password hash, and a clock that is set by hand."""

from __future__ import annotations

from argon2 import PasswordHasher, Type
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.accounts import AccountRow, Status, at
from auth.opaque_id import new_id
from auth.principal import APP_OF_ROLE, App, Role

ISSUER = "https://massar.example"
PASSWORD = "correct horse"
START = 1_800_000_000.0

# What a verification costs is written in the hash: these cost next to nothing, so that hundreds can be tried.
CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.ID).hash(PASSWORD)


class Clock:
    """Unix seconds that move only when a test moves them."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


async def add_account(
    engine: AsyncEngine,
    login: str = "r130000001@taalim.ma",
    *,
    role: Role = Role.STUDENT,
    app: App | None = None,
    status: Status = Status.ACTIVE,
    password_hash: str = CHEAP_HASH,
    subject: str | None = None,
) -> str:
    """Write an account and return its subject."""
    subject = subject or new_id()
    async with engine.begin() as connection:
        await connection.execute(
            insert(AccountRow).values(
                id=new_id(),
                app=(app or APP_OF_ROLE[role]).value,
                login=login,
                role=role.value,
                subject=subject,
                name_ar="سلمى",
                name_fr="Salma",
                password_hash=password_hash,
                status=status.value,
                created_at=at(START),
            )
        )
    return subject


async def somebody_waits(engine: AsyncEngine) -> bool:
    """Whether a transaction in this database waits for another one's lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with engine.connect() as connection:
        return bool((await connection.execute(waiting)).scalar_one())
