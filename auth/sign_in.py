"""Signing in, exchanging refresh tokens, and signing out, on the accounts database.

Invariants: whatever is wrong with a sign-in costs one argon2 verification and reads the same. Every decision about
a family is taken with its row locked, so two exchanges at once cannot open two successors. A session that ends,
because somebody wanted it to or to make room for another, is ended in the database first and denied everywhere
before the answer; an interrupted denial stays due and is published by the next try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from auth import sessions as session_rows
from auth.accounts import (
    DEVICE_ID_LENGTH_MAX,
    DEVICE_NAME_LENGTH_MAX,
    PASSWORD_LENGTH_MAX,
    Account,
    find_account,
    is_storable,
    lock_account,
    normalised_login,
    transaction,
)
from auth.denials import DENIAL_MARGIN_S
from auth.opaque_id import is_opaque_id, new_id
from auth.passwords import Passwords
from auth.principal import APP_OF_ROLE, App, Name, Principal
from auth.refusals import (
    CredentialsInvalid,
    NotFound,
    Overloaded,
    RefreshInvalid,
    RefreshReused,
    UnsupportedGrant,
)
from auth.rotation import Exchange, judge
from auth.sessions import SESSIONS_MAX, SessionView
from auth.throttles import Reservation, Throttles
from auth.tokens import Tokens, device_digest

GRANT_PASSWORD = "password"  # noqa: S105 - the name of a grant
Deny = Callable[[AsyncEngine, str, float], Awaitable[None]]
"""Publishes that a session, ended in the given accounts, is denied until a Unix time; returns once that is durable."""


class SignInRequest(msgspec.Struct, frozen=True):
    """What an app sends to sign in; lengths are checked where the request is read, and again harmlessly here."""

    grant: str
    app: App
    login: str
    password: str
    device_id: str
    device_name: str

    def __repr__(self) -> str:
        return f"SignInRequest(grant=…, app={self.app}, …)"


class TokenGrant(msgspec.Struct, frozen=True):
    """A signed-in principal and both of its tokens; lives in seconds."""

    principal: Principal
    name: Name
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int

    def __repr__(self) -> str:
        return f"TokenGrant(principal={self.principal}, …)"


class SignIn:
    """Everything that turns credentials into tokens and back into nothing.

    All of it may raise AccountsUnavailable and Overloaded, and what `deny` raises.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        passwords: Passwords,
        throttles: Throttles,
        deny: Deny,
        clock: Callable[[], float],
        sessions_max: int = SESSIONS_MAX,
    ) -> None:
        self._tokens = tokens
        self._passwords = passwords
        self._throttles = throttles
        self._deny = deny
        self._clock = clock
        self._sessions_max = sessions_max
        self._publishing: set[asyncio.Future[None]] = set()

    async def sign_in(self, engine: AsyncEngine, request: SignInRequest) -> TokenGrant:
        """Open a session. Raises UnsupportedGrant, TooManyAttempts, CredentialsInvalid."""
        if request.grant != GRANT_PASSWORD:
            raise UnsupportedGrant
        now = self._clock()
        login = normalised_login(request.login)
        device_id = _storable(request.device_id, DEVICE_ID_LENGTH_MAX)
        async with transaction(engine) as connection:
            reservation = await self._throttles.reserve(
                connection, app=request.app, login=login or request.login, device_id=device_id, now=now
            )
            account = None if login is None else await find_account(connection, app=request.app, login=login)
        right = await self._is_right(engine, reservation, account, request.password)
        if account is None or not right or not account.usable:
            raise CredentialsInvalid
        sid = new_id()
        now = self._clock()  # the wait for the verification is over: denials count from here
        async with transaction(engine) as connection:
            await self._throttles.give_back(connection, reservation)
            if not await lock_account(connection, account):
                raise CredentialsInvalid
            evicted = await session_rows.make_room(connection, account.id, most=self._sessions_max, now=now)
            await session_rows.insert_session(
                connection,
                sid=sid,
                account_id=account.id,
                device_id=device_id,
                device_name=_storable(request.device_name, DEVICE_NAME_LENGTH_MAX),
                now=now,
                ttl_s=self._tokens.refresh_ttl_s,
            )
        if evicted:
            await self._deny_evicted(engine, evicted, opened=sid, now=now)
        return self._grant(account, sid=sid, sequence=1, device_id=device_id, now=now)

    async def refresh(self, engine: AsyncEngine, refresh_token: str, device_id: str) -> TokenGrant:
        """Exchange a refresh token for new tokens. Raises RefreshInvalid, RefreshReused (the family is dead)."""
        now = self._clock()
        claims = self._tokens.read_refresh(refresh_token, now)
        sid = claims.family
        device_id = _storable(device_id, DEVICE_ID_LENGTH_MAX)
        same_device = device_digest(device_id) == claims.device_digest
        async with transaction(engine) as connection:
            held = await session_rows.lock_family(connection, sid, now=now)
            if held is None:
                raise RefreshInvalid
            exchange = judge(held.family, sequence=claims.sequence, same_device=same_device, now=now)
            sequence = held.family.sequence
            if exchange is Exchange.ROTATE:
                sequence = claims.sequence + 1
                await session_rows.advance(
                    connection, sid, sequence=sequence, now=now, ttl_s=self._tokens.refresh_ttl_s
                )
            elif exchange is Exchange.REUSED:
                await session_rows.end(connection, [sid], now=now)
        if exchange is Exchange.REUSED:
            await self._publish_denials(engine, [sid], now)
            raise RefreshReused
        if exchange is Exchange.REFUSE:
            if held.denial_due:
                await self._publish_denials(engine, [sid], now)
            raise RefreshInvalid
        return self._grant(held.account, sid=sid, sequence=sequence, device_id=device_id, now=now)

    async def sessions(self, engine: AsyncEngine, principal: Principal) -> tuple[SessionView, ...]:
        """The caller's live sessions, the last used first."""
        async with transaction(engine) as connection:
            return await session_rows.live_sessions(connection, principal, now=self._clock())

    async def end_session(self, engine: AsyncEngine, principal: Principal, sid: str) -> str:
        """Sign out one session of the caller; returns its id. Raises NotFound for anybody else's and for none.

        The session that asks is denied even when its row was lost with a site.
        """
        if not is_opaque_id(sid):
            raise NotFound
        now = self._clock()
        async with transaction(engine) as connection:
            ending = await session_rows.lock_own(connection, principal, now=now, sid=sid)
            await session_rows.end(connection, ending, now=now)
        if not ending and sid != principal.sid:
            raise NotFound
        await self._publish_denials(engine, [sid], now)
        return sid

    async def end_all(self, engine: AsyncEngine, principal: Principal) -> list[str]:
        """Sign out all sessions of the caller, the one that asks included; returns their ids.

        Those that ended so lately that a token of theirs may still run are denied once more.
        """
        now = self._clock()
        async with transaction(engine) as connection:
            ending = await session_rows.lock_own(
                connection, principal, now=now, ended_within_s=self._denial_s
            )
            await session_rows.end(connection, ending, now=now)
        sids = sorted({*ending, principal.sid})
        await self._publish_denials(engine, sids, now)
        return sids

    async def _is_right(
        self, engine: AsyncEngine, reservation: Reservation, account: Account | None, password: str
    ) -> bool:
        """Exactly one verification, whatever the account is or is not."""
        too_long = len(password) > PASSWORD_LENGTH_MAX
        stored = None if account is None else account.password_hash
        try:
            right = await self._passwords.verify(stored, "" if too_long else password)
        except Overloaded:  # nobody looked at the password
            async with transaction(engine) as connection:
                await self._throttles.give_back(connection, reservation)
            raise
        return right and not too_long

    @property
    def _denial_s(self) -> float:
        """How long a denial has to hold: no token of the session lives longer after its end."""
        return self._tokens.access_ttl_s + DENIAL_MARGIN_S

    async def _deny_evicted(
        self, engine: AsyncEngine, evicted: Sequence[str], *, opened: str, now: float
    ) -> None:
        """Deny the sessions that made room; when that fails `opened` is ended, as nobody will get its tokens.

        Otherwise every try of a phone would cost the account another of its sessions.
        """
        try:
            await self._publish_denials(engine, evicted, now)
        except Exception:
            async with transaction(engine) as connection:
                await session_rows.end(connection, [opened], now=now)
            raise

    async def _publish_denials(self, engine: AsyncEngine, sids: Sequence[str], now: float) -> None:
        """Deny the sessions; a caller that goes away meanwhile does not stop it."""
        publishing = asyncio.ensure_future(self._deny_all(engine, sids, now))
        self._publishing.add(publishing)
        publishing.add_done_callback(self._publishing.discard)
        await asyncio.shield(publishing)

    async def _deny_all(self, engine: AsyncEngine, sids: Sequence[str], now: float) -> None:
        until = now + self._denial_s
        for sid in sids:
            await self._deny(engine, sid, until)
        async with transaction(engine) as connection:
            await session_rows.note_denied(connection, sids)

    def _grant(self, account: Account, *, sid: str, sequence: int, device_id: str, now: float) -> TokenGrant:
        access_token, expires_in = self._tokens.issue_access(
            subject=account.subject, role=account.role, sid=sid, now=now
        )
        refresh_token, refresh_expires_in = self._tokens.issue_refresh(
            family=sid, sequence=sequence, device_id=device_id, now=now
        )
        return TokenGrant(
            principal=Principal(
                subject=account.subject,
                role=account.role,
                app=APP_OF_ROLE[account.role],
                sid=sid,
                expires_at=float(int(now) + expires_in),
            ),
            name=account.name,
            access_token=access_token,
            expires_in=expires_in,
            refresh_token=refresh_token,
            refresh_expires_in=refresh_expires_in,
        )


def _storable(text: str, length_max: int) -> str:
    """What of a device's own words the database keeps: at most `length_max` characters, all of them storable."""
    shortened = text[:length_max]
    if is_storable(shortened):
        return shortened
    return "".join(character if is_storable(character) else "\ufffd" for character in shortened)
