"""Tells every gateway what the school records say has changed, as soon as the change is committed.

Invariant: every outbox row of the fence's epoch is offered to every listener, as long as the fence is this site's and
is kept alive; a site whose time is over, or which cannot know, sends nothing, and rows of an epoch that is over are
never sent, here or where they were replicated to. A listener that is away delays nobody else; attempts, queues and
waits are bounded, and a row given up is marked like a delivered one: gateways re-read relations by themselves within a
minute. Only a primary sends; a promoted standby starts to, without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datacenters import notices
from sandbox.datacenter.settings import Settings
from sandbox.datacenter.triggers import OUTBOX_CHANNEL

ATTEMPTS_MAX = 4
ATTEMPT_TIMEOUT_S = 0.5
PAUSES_S = (0.05, 0.25, 1.0)
QUEUE_MAX = 32  # per listener; over it a notice is given up for that listener alone
TAKEN_MAX = (
    1024  # more than all queues together can hold, so that listeners which are away never stop the others
)
POLL_S = 1.0
RECOVERY_POLL_S = 0.25
RECONNECT_S = 0.25
COMMAND_TIMEOUT_S = 2.0

_OPEN = """
fence.id = 1 AND fence.site = $1 AND abs(extract(epoch FROM clock_timestamp() - fence.heard_at)) <= $2::float8
"""
_WAITING = f"""
SELECT outbox.id, tags FROM outbox JOIN fence ON {_OPEN} AND fence.epoch = outbox.epoch
WHERE delivered_at IS NULL AND NOT (outbox.id = ANY ($3)) ORDER BY outbox.id LIMIT $4
"""  # noqa: S608 - only constants of this module
_GIVE_UP = f"""
UPDATE outbox SET delivered_at = clock_timestamp() FROM fence
WHERE {_OPEN} AND delivered_at IS NULL AND outbox.epoch < fence.epoch
"""  # noqa: S608 - only constants of this module
_SETTLE = "UPDATE outbox SET delivered_at = clock_timestamp() WHERE id = ANY ($1)"


class Listener:
    """One gateway's private listener and the notices that wait for it."""

    def __init__(
        self,
        url: str,
        *,
        client: httpx.AsyncClient,
        sign: Callable[[Sequence[str]], notices.SignedNotice],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._url = url + notices.PATH
        self._client = client
        self._sign = sign
        self._log = log
        self._away = False
        self._waiting: asyncio.Queue[tuple[Sequence[str], asyncio.Future[None]]] = asyncio.Queue(QUEUE_MAX)

    def offer(self, tags: Sequence[str]) -> asyncio.Future[None]:
        """Queue a notice; the future is done once it was delivered or given up."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((tags, settled))
        except asyncio.QueueFull:
            self._log.warning("notice-given-up", reason="queue full")
            settled.set_result(None)
        return settled

    async def run(self) -> None:
        """Deliver what waits, in order, for ever."""
        while True:
            tags, settled = await self._waiting.get()
            self._away = not await self._delivered(tags)
            if self._away:
                self._log.warning("notice-given-up", reason="no answer")
            if not settled.done():
                settled.set_result(None)

    async def _delivered(self, tags: Sequence[str]) -> bool:
        for attempt in range(1 if self._away else ATTEMPTS_MAX):
            if attempt:
                await asyncio.sleep(PAUSES_S[attempt - 1])
            try:
                signed = self._sign(tags)  # anew: a nonce is good for one attempt
            except ValueError:  # beyond the bounds of a notice; not written by our triggers
                return False
            headers = {notices.SIGNATURE_HEADER: signed.signature, "Content-Type": "application/json"}
            try:
                answer = await self._client.post(self._url, content=signed.body, headers=headers)
            except httpx.HTTPError:
                continue
            if answer.status_code == 204:
                return True
        return False


class Outbox:
    """Follows the outbox of the school records and hands its rows to the listeners."""

    def __init__(
        self,
        settings: Settings,
        *,
        key: Ed25519PrivateKey,
        clock: Callable[[], float],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._key = key
        self._clock = clock
        self._log = log
        self._wake = asyncio.Event()
        self._taken: dict[int, asyncio.Future[list[None]]] = {}
        self._guard = (settings.site, settings.guard_s)

    async def run(self) -> None:
        """Send notices for ever; PostgreSQL may come, go and change its role."""
        limits = httpx.Limits(max_connections=len(self._settings.notice_urls) * 2 or 1)
        async with (
            httpx.AsyncClient(timeout=ATTEMPT_TIMEOUT_S, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as tasks,
        ):
            listeners = [
                Listener(url, client=client, sign=self._sign, log=self._log)
                for url in self._settings.notice_urls
            ]
            for listener in listeners:
                tasks.create_task(listener.run())
            while True:
                try:
                    await self._follow(listeners)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    self._log.info("outbox-unreachable", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_S)

    def _sign(self, tags: Sequence[str]) -> notices.SignedNotice:
        return notices.sign_notice(key=self._key, site=self._settings.site, tags=tags, now=self._clock())

    async def _follow(self, listeners: Sequence[Listener]) -> None:
        connection = await asyncpg.connect(
            self._settings.records_dsn,
            timeout=self._settings.connect_timeout_s,
            command_timeout=COMMAND_TIMEOUT_S,
            ssl=False,
            server_settings={"application_name": "massar-datacenter-outbox"},
        )
        try:
            while await connection.fetchval("SELECT pg_is_in_recovery()"):  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(RECOVERY_POLL_S)
            connection.add_termination_listener(lambda *_: self._wake.set())
            await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self._wake.set())
            while True:
                self._wake.clear()
                await self._settle(connection)
                await self._give_up(connection)
                await self._offer(connection, listeners)
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue  # a lost NOTIFY costs one poll
        finally:
            connection.terminate()

    async def _offer(self, connection: asyncpg.Connection, listeners: Sequence[Listener]) -> None:
        room = TAKEN_MAX - len(self._taken)
        if room <= 0:
            return
        for row in await connection.fetch(_WAITING, *self._guard, list(self._taken), room):
            settled = asyncio.gather(*(listener.offer(row["tags"]) for listener in listeners))
            settled.add_done_callback(lambda _: self._wake.set())
            self._taken[row["id"]] = settled

    async def _give_up(self, connection: asyncpg.Connection) -> None:
        """Be done with what an earlier epoch left, once this site's own is under way."""
        left = (await connection.execute(_GIVE_UP, *self._guard)).rsplit(" ", 1)[-1]
        if left != "0":
            self._log.warning("notices-given-up", reason="of an epoch that is over", rows=int(left))

    async def _settle(self, connection: asyncpg.Connection) -> None:
        done = [row_id for row_id, settled in self._taken.items() if settled.done()]
        if done:
            await connection.execute(_SETTLE, done)
            for row_id in done:
                del self._taken[row_id]
