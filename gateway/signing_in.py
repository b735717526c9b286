"""Sign-in, rotation and sign-out for the routes: auth's decisions on the active site's accounts database.

Invariant: accounts are written only while this worker knows which site is active and etcd answers, and wait out a
planned switchover; a sign-out is in the journal and published to every site before it is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from auth import sign_in
from auth.accounts import transaction
from auth.denials import Denials
from auth.principal import Principal
from auth.refusals import AccountsUnavailable
from auth.sign_in import SignIn, TokenGrant
from datacenters.directory import ETCD_SILENT_MAX_S, Directory
from datacenters.etcd import EtcdRefused, EtcdUnavailable
from datacenters.feeds import Publisher
from datacenters.journal import EpochMoved, Journal, JournalFull
from gateway.account_records import EndedSession, sign_out_record, stands
from gateway.holding import Holding
from routes.sessions import SessionCard, SessionDevice, SessionList
from routes.tokens import RefreshRequest, SignInRequest, Tokens, principal_card

RETRY_AFTER_S = 2.0

T = TypeVar("T")


class Deny:
    """Keeps a session's end in the journal and denies it through etcd in one transaction, then hears it here at once."""

    def __init__(
        self,
        publisher: Publisher,
        journal: Journal,
        directory: Directory,
        engines: Mapping[str, AsyncEngine],
        denials: Denials,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._publisher = publisher
        self._journal = journal
        self._directory = directory
        self._engines = engines
        self._denials = denials
        self._clock = clock

    async def __call__(self, engine: AsyncEngine, sid: str, until: float) -> None:
        """Deny `sid`, which was ended in the accounts at `engine`, until a Unix time on every worker of every site.

        Raises: AccountsUnavailable: another site is active by now, or nobody knows; repeating it is right.
        """
        now = self._clock()
        record = self._directory.record
        if record is None or record.serving is None or self._engines.get(record.serving) is not engine:
            raise AccountsUnavailable(retry_after_s=RETRY_AFTER_S)
        try:
            async with transaction(engine) as connection:
                at = await stands(connection)
            denied = await self._publisher.denial(sid, ttl_s=max(1, int(until - now)))
            ended = sign_out_record(EndedSession(sid=sid, ended_at=now), order=at[1])
            await self._journal.keep(ended, epoch=record.epoch, at=at, puts=(denied,))
        except (EtcdUnavailable, EtcdRefused, EpochMoved, JournalFull):
            raise AccountsUnavailable(retry_after_s=RETRY_AFTER_S) from None
        self._denials.deny(sid, until, now)


class SigningIn:
    """What `routes.tokens` and `routes.sessions` need, on whichever site is active."""

    def __init__(
        self,
        sign_in: SignIn,
        engines: Mapping[str, AsyncEngine],
        directory: Directory,
        holding: Holding,
    ) -> None:
        self._sign_in = sign_in
        self._engines = engines
        self._directory = directory
        self._holding = holding

    async def sign_in(self, request: SignInRequest) -> Tokens:
        """Exchange credentials for tokens."""
        asked = sign_in.SignInRequest(
            grant=request.grant,
            app=request.app,
            login=request.login,
            password=request.password,
            device_id=request.device.id,
            device_name=request.device.name,
        )
        return _tokens(await self._at_active(lambda engine: self._sign_in.sign_in(engine, asked)))

    async def refresh(self, request: RefreshRequest) -> Tokens:
        """Exchange a refresh token for its successor."""
        token, device_id = request.refresh_token, request.device.id
        return _tokens(await self._at_active(lambda engine: self._sign_in.refresh(engine, token, device_id)))

    async def of(self, principal: Principal) -> SessionList:
        """The account's live sessions; from the standby's copy when the active site is away."""
        try:
            views = await self._sign_in.sessions(self._readable(self._directory.active), principal)
        except AccountsUnavailable:
            views = await self._sign_in.sessions(self._readable(self._directory.standby), principal)
        return SessionList(
            [
                SessionCard(
                    id=view.sid,
                    device=SessionDevice(id=view.device_id, name=view.device_name),
                    created_at=_instant(view.created_at),
                    last_used_at=_instant(view.last_used_at),
                    current=view.current,
                )
                for view in views
            ]
        )

    async def end(self, principal: Principal, sid: str) -> None:
        """End one session of the account. Raises: NotFound."""
        await self._at_active(lambda engine: self._sign_in.end_session(engine, principal, sid))

    async def end_all(self, principal: Principal) -> None:
        """End every session of the account."""
        await self._at_active(lambda engine: self._sign_in.end_all(engine, principal))

    async def _at_active(self, act: Callable[[AsyncEngine], Awaitable[T]]) -> T:
        """What `act` does on the active site's accounts; a planned switchover is waited for.

        Raises: Switching, AccountsUnavailable, and what `act` raises.
        """
        try:
            return await act(self._writable())
        except AccountsUnavailable:
            if not self._directory.switching_over:
                raise
        # Frozen already, or under it: all of these may be done twice.
        await self._holding.passed()
        return await act(self._writable())

    def _readable(self, site: str | None) -> AsyncEngine:
        if site is None or site not in self._engines:
            raise AccountsUnavailable(retry_after_s=RETRY_AFTER_S)
        return self._engines[site]

    def _writable(self) -> AsyncEngine:
        directory = self._directory
        site = directory.record.serving if directory.record is not None else None
        if site is None or directory.behind or directory.etcd_silent_s() > ETCD_SILENT_MAX_S:
            raise AccountsUnavailable(retry_after_s=RETRY_AFTER_S)
        return self._readable(site)


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _tokens(grant: TokenGrant) -> Tokens:
    principal = grant.principal
    return Tokens(
        access_token=grant.access_token,
        token_type="Bearer",  # noqa: S106 - a scheme, not a secret
        expires_in=grant.expires_in,
        refresh_token=grant.refresh_token,
        refresh_expires_in=grant.refresh_expires_in,
        principal=principal_card(principal.subject, principal.role, principal.app, grant.name),
    )
