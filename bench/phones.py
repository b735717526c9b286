"""Phones: each a TLS connection of its own, with what the person behind it knows, asking one thing after the other.

Refresh tokens come from session rows that are written here, since a sign-in for each of them would take an hour's worth of
argon2id; every other token is the gateway's answer or signed with its key.

Invariant: every handshake is a full one of TLS 1.3, and an answer of another status ends the measurement.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec

from auth.keys import SigningKeys
from auth.opaque_id import new_id
from auth.principal import Role
from auth.tokens import Tokens
from bench.client import Unexpected
from bench.peers.certificate import HOST
from bench.peers.people import AUDIENCE, ISSUER
from bench.peers.probing import HEAD_BYTES_MAX, Probed, asked
from sandbox.population.accounts import STUDENT

CONNECT_WAIT_S = 5.0
CLOSE_WAIT_S = 1.0
# How long after the last was due all must be done.
OVERTIME_S = 20.0
_VERSION = "TLSv1.3"


class Person(msgspec.Struct):
    """A pupil who may read `path`; `etag` is that of the last answer."""

    subject: str
    login: str
    device: str
    refresh_token: str
    access_token: str = ""
    etag: bytes = b""

    @property
    def path(self) -> str:
        """The person's own results."""
        return f"/v1/pupils/{self.subject}/grades"


class Phone:
    """One connection; close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes, *, status: int = 200) -> Probed:
        """The answer to one request. Raises: Unexpected, OSError, TimeoutError, IncompleteReadError."""
        answer = await asked(self._reader, self._writer, request)
        if answer.status != status:
            raise Unexpected(f"{answer.status}, not {status}, for {request[:60]!r}: {answer.body[:200]!r}")
        return answer

    async def close(self) -> None:
        """End it in order."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._writer.wait_closed()


def trusting(certificate: Path) -> ssl.SSLContext:
    """What phones believe."""
    return ssl.create_default_context(cafile=str(certificate))


async def connect(port: int, tls: ssl.SSLContext) -> Phone:
    """A new connection to loopback after a full handshake. Raises: Unexpected, OSError, TimeoutError."""
    async with asyncio.timeout(CONNECT_WAIT_S):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=HEAD_BYTES_MAX, ssl=tls, server_hostname=HOST
        )
    secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
    if secured.version() != _VERSION or secured.session_reused:
        writer.close()
        raise Unexpected(f"{secured.version()}, session reused: {secured.session_reused}")
    return Phone(reader, writer)


async def offer(errand: Callable[[int], Awaitable[None]], *, count: int, rate: float) -> float:
    """Begin `count` errands, numbered from 0, each when it is due, and wait for all; the seconds that took.

    Raises: Unexpected, OSError, TimeoutError, IncompleteReadError.
    """
    began = time.monotonic()

    async def run(number: int) -> None:
        await errand(number)

    try:
        async with asyncio.timeout(count / rate + OVERTIME_S), asyncio.TaskGroup() as group:
            for number in range(count):
                if (early := began + number / rate - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                group.create_task(run(number))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return time.monotonic() - began


class Signer:
    """Signs as the gateway whose keys are in a folder does."""

    def __init__(self, keys: Path) -> None:
        self._tokens = Tokens(SigningKeys.load(keys), issuer=ISSUER)

    def access(self, subject: str) -> str:
        """A pupil's access token of a session of its own."""
        token, _ = self._tokens.issue_access(
            subject=subject, role=Role.STUDENT, sid=new_id(), now=time.time()
        )
        return token

    def refresh(self, sid: str, device: str) -> tuple[str, int]:
        """The first refresh token of a session and the seconds it lives."""
        return self._tokens.issue_refresh(family=sid, sequence=1, device_id=device, now=time.time())


async def people(accounts: str, signer: Signer, *, count: int) -> list[Person]:
    """So many pupils with accounts in the database at `accounts`, each with an open session. Raises: Unexpected."""
    connection = await asyncpg.connect(accounts, ssl=False)
    try:
        rows = await connection.fetch(
            "SELECT id, subject, login FROM accounts WHERE app = $1 AND status = 'active' ORDER BY id LIMIT $2",
            AUDIENCE,
            count,
        )
        if len(rows) < count:
            raise Unexpected(f"{len(rows)} accounts, not {count}")
        found, sessions, now = [], [], datetime.now(UTC)
        for number, row in enumerate(rows):
            sid, device = new_id(), f"bench-{number}"
            token, lives_s = signer.refresh(sid, device)
            found.append(Person(row["subject"], row["login"], device, token))
            sessions.append((sid, row["id"], device, now, now + timedelta(seconds=lives_s)))
        await connection.executemany(_OPEN, sessions)
    finally:
        await connection.close()
    return found


_OPEN = """
INSERT INTO sessions (sid, account_id, device_id, device_name, created_at, last_used_at, sequence, expires_at, denial_due)
VALUES ($1, $2, $3, '', $4, $4, 1, $5, false)
"""
_devices = itertools.count()


def sign_in(person: Person) -> bytes:
    """The request by password, on a phone that has never been seen."""
    body = {
        "grant": "password",
        "app": STUDENT.app,
        "login": person.login,
        "password": STUDENT.password,
        "device": {"id": f"bench-new-{next(_devices)}", "name": "bench"},
    }
    return _post("/v1/auth/tokens", body)


def refresh(person: Person) -> bytes:
    """The request by the refresh token that the person holds."""
    return _post(
        "/v1/auth/tokens/refresh", {"refresh_token": person.refresh_token, "device": {"id": person.device}}
    )


class _Granted(msgspec.Struct):
    access_token: str
    refresh_token: str


def granted(answer: Probed) -> tuple[str, str]:
    """The access and the refresh token of an answer."""
    told = msgspec.json.decode(answer.body, type=_Granted)
    return told.access_token, told.refresh_token


def _post(path: str, body: object) -> bytes:
    content = msgspec.json.encode(body)
    lines = (
        f"POST {path} HTTP/1.1",
        f"host: {HOST}",
        "accept: application/json",
        "accept-language: fr",
        "content-type: application/json",
        f"content-length: {len(content)}",
        "user-agent: massar-bench",
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + content
