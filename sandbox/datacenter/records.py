"""The way to PostgreSQL: two small pools, and what its troubles mean to a caller.

Invariant: reads and writes never wait for each other's connections; every wait ends; a connection that died with
its server is replaced at its next use, so a promoted or restarted PostgreSQL is served without a restart here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sandbox.datacenter.problems import Refused
from sandbox.datacenter.settings import Settings
from sandbox.datacenter.tables import asyncpg_url

_READ_ONLY_TRANSACTION = "25006"
_LOCK_TIMEOUT = "55P03"
_VALUE_REFUSED = "22"  # the class of data exceptions: what was sent is no value there
# Serialization, deadlock, cancelled by a timeout or by recovery, too many connections, shutdown: come back later.
_PASSING = ("40", "53", "57", "08", "25P0", _LOCK_TIMEOUT)


class Records:
    """The two pools of one process."""

    def __init__(self, settings: Settings) -> None:
        self._reading = _engine(settings, application="massar-datacenter-reads").execution_options(
            isolation_level="AUTOCOMMIT"
        )
        self._writing = _engine(settings, application="massar-datacenter-writes")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement is a snapshot of its own.

        Raises: Refused.
        """
        with troubles():
            async with self._reading.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A connection inside a transaction, rolled back unless the caller commits it.

        Raises: Refused.
        """
        with troubles():
            async with self._writing.connect() as connection:
                yield connection

    async def close(self) -> None:
        """End all connections."""
        await self._reading.dispose()
        await self._writing.dispose()


def _engine(settings: Settings, *, application: str) -> AsyncEngine:
    def milliseconds(seconds: float) -> str:
        return str(int(seconds * 1000))

    return create_async_engine(
        asyncpg_url(settings.records_dsn),
        pool_size=settings.connections_max,
        max_overflow=0,
        pool_timeout=settings.connection_wait_s,
        pool_pre_ping=True,
        connect_args={
            "timeout": settings.connect_timeout_s,
            # Longer than the server's own limit: it is for a server that does not answer at all.
            "command_timeout": settings.statement_timeout_s * 1.5,
            "server_settings": {
                "application_name": application,
                "statement_timeout": milliseconds(settings.statement_timeout_s),
                "lock_timeout": milliseconds(settings.statement_timeout_s * 0.9),
                "transaction_timeout": milliseconds(settings.transaction_timeout_s),
            },
        },
    )


class troubles:  # noqa: N801 - reads as a word in `with troubles():`
    """Turns what PostgreSQL, the pool or the network raise into the `Refused` a caller may see."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        refused = refusal(error) if error is not None else None
        if refused is not None:
            raise refused from error


def refusal(error: BaseException) -> Refused | None:
    """What `error` means to a caller; None when it is not PostgreSQL's trouble."""
    if isinstance(error, exc.TimeoutError):  # no free connection in time
        return Refused("overloaded")
    if isinstance(error, (OSError, asyncpg.InterfaceError)):  # TimeoutError is an OSError
        return Refused("records-unavailable")
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return Refused("records-unavailable")
    state = sqlstate(error)
    if state == _READ_ONLY_TRANSACTION:
        return Refused("read-only")
    if state.startswith(_VALUE_REFUSED):
        return Refused("bad-request")
    return Refused("records-unavailable") if state.startswith(_PASSING) else None


def sqlstate(error: BaseException | None) -> str:
    """PostgreSQL's own code for the error; empty when it has none."""
    told = error.orig if isinstance(error, exc.DBAPIError) else error
    return str(getattr(told, "sqlstate", None) or "")
