"""The one way from a gateway to the datacenters: whom to ask, how often, how long, and what may be said afterwards.

Invariant: a write whose bytes may have left is never sent again from here; it ends as a verdict or as
`OutcomeUnknown`. Only a connection never made, or a datacenter's own word that nothing was done, allows another try.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyqwest import Transport

from datacenters import position
from datacenters.assertion import NOBODY, ActingRole
from datacenters.attempts import IN_FLIGHT_MAX, Answer, Attempts, Failed, Full, Outcome, Outgoing, StaleEpoch
from datacenters.directory import WRITING_MODES, Directory, Mode
from datacenters.sites import Sites
from datacenters.unanswered import DatacentersUnavailable, OutcomeUnknown, Overloaded, ReadOnly, Switching
from datacenters.users_met import OnUser, nobody_listens

READ_TOTAL_S = 2.0
READ_KEPT_FOR_STANDBY_S = 0.6
WRITE_TOTAL_S = 5.0
REFRESH_S = 0.5
RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = 5


class Forwarder:
    """Forwards to the datacenter that `directory` names, in the name of the gateway of `site`.

    `on_outcome(datacenter, outcome)` hears of every request that was made, `on_user(datacenter, well)` of every user
    once a window and kind (datacenters/users_met.py); `jitter` gives numbers in [0, 1).
    """

    def __init__(
        self,
        directory: Directory,
        *,
        sites: Sites,
        site: str,
        assertion_key: Ed25519PrivateKey,
        on_outcome: Callable[[str, Outcome], None] = lambda _datacenter, _outcome: None,
        on_user: OnUser = nobody_listens,
        transport: Transport | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._jitter = jitter
        self._attempts = Attempts(
            sites=sites,
            site=site,
            assertion_key=assertion_key,
            on_outcome=on_outcome,
            on_user=on_user,
            transport=transport,
            in_flight_max=in_flight_max,
            clock=clock,
            monotonic=monotonic,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._attempts.aclose()

    async def read(
        self,
        target: str,
        *,
        subject: str = NOBODY,
        role: str = ActingRole.GATEWAY,
        if_none_match: str | None = None,
    ) -> Answer:
        """The answer below 500 to `GET target`: the active datacenter's, or the standby's when need be.

        Raises: DatacentersUnavailable, Overloaded.
        """
        headers = {"if-none-match": if_none_match} if if_none_match else {}
        asked = Outgoing(method="GET", target=target, body=b"", headers=headers, subject=subject, role=role)
        try:
            return await self._read(asked)
        except StaleEpoch as stale:
            self._directory.observe_epoch(stale.epoch)
        await self._directory.refresh(within_s=REFRESH_S)
        try:
            return await self._read(asked)
        except StaleEpoch as stale:
            self._directory.observe_epoch(stale.epoch)
            raise DatacentersUnavailable(
                str(stale), retry_after_s=self._retry_after_s(), datacenters_away=False
            ) from stale

    async def write(
        self, method: str, target: str, body: bytes, *, idempotency_key: str, subject: str, role: str
    ) -> Answer:
        """The active datacenter's verdict below 500 on a write, with the epoch that it was asked under.

        That is no acknowledgement yet: whether the epoch still stands, only the journal knows.
        Raises: ReadOnly, Switching, Overloaded (nothing was written), OutcomeUnknown (it may have been).
        """
        asked = Outgoing(
            method=method,
            target=target,
            body=body,
            headers={"idempotency-key": idempotency_key, "content-type": "application/json"},
            subject=subject,
            role=role,
        )
        deadline = self._monotonic() + WRITE_TOTAL_S
        if self._directory.behind:
            await self._directory.refresh(within_s=REFRESH_S)
        try:
            return await self._write(asked, deadline=deadline, may_skip=True)
        except Failed as first:
            if not first.nothing_done:
                raise self._unknown(first) from first
        await self._directory.refresh(within_s=REFRESH_S)
        try:
            return await self._write(asked, deadline=deadline, may_skip=False)
        except Failed as second:
            if not second.nothing_done:
                raise self._unknown(second) from second
            raise self._no_writes(str(second)) from second

    async def _read(self, asked: Outgoing) -> Answer:
        deadline = self._monotonic() + READ_TOTAL_S
        active = self._directory.active
        left_to_try = [name for name in self._directory.read_order() if not self._attempts.skipping(name)]
        failures: list[Failed] = []
        while left_to_try:
            datacenter = left_to_try.pop(0)
            kept_s = READ_KEPT_FOR_STANDBY_S if left_to_try else 0.0
            within_s = max(0.0, deadline - self._monotonic() - kept_s)
            try:
                answer = await self._send(datacenter, asked, epoch=self._directory.epoch, within_s=within_s)
            except StaleEpoch:
                raise
            except Failed as failure:
                failures.append(failure)
                continue
            if self._left_behind(answer):
                failures.append(Failed(f"{datacenter} was left behind", nothing_done=True, away=True))
                continue
            # Who became active while it was asked answers as such, unless it still answered as the standby it was.
            serves = datacenter == active or (
                datacenter == self._directory.active and answer.data_age_s is None
            )
            return msgspec.structs.replace(answer, from_standby=not serves)
        raise DatacentersUnavailable(
            "; ".join(map(str, failures)) or "every datacenter failed a moment ago",
            retry_after_s=self._retry_after_s(),
            datacenters_away=all(failure.away for failure in failures),
        )

    async def _write(self, asked: Outgoing, *, deadline: float, may_skip: bool) -> Answer:
        serving, epoch = self._writable()
        if may_skip and self._attempts.skipping(serving):
            raise Failed(f"{serving} failed a moment ago", nothing_done=True, away=True)
        within_s = max(0.0, deadline - self._monotonic())
        answer = await self._send(serving, asked, epoch=epoch, within_s=within_s)
        # The epoch it was asked under: the one that the datacenter names may be a later one, heard meanwhile.
        return msgspec.structs.replace(answer, epoch=epoch)

    async def _send(self, datacenter: str, asked: Outgoing, *, epoch: int, within_s: float) -> Answer:
        try:
            answer = await self._attempts.send(datacenter, asked, epoch=epoch, within_s=within_s)
        except StaleEpoch as stale:
            self._directory.observe_epoch(stale.epoch)
            raise
        except Full as full:
            raise Overloaded(str(full), retry_after_s=self._retry_after_s()) from full
        self._directory.observe_epoch(answer.epoch)
        return answer

    def _writable(self) -> tuple[str, int]:
        record = self._directory.record
        if self._directory.mode not in WRITING_MODES or record is None or record.serving is None:
            raise self._no_writes(f"mode {self._directory.mode}")
        return record.serving, record.epoch

    def _left_behind(self, answer: Answer) -> bool:
        """Whether this is an old primary that came back with a history of its own (a standby tells its age)."""
        record = self._directory.record
        if record is None or record.switch_position is None or answer.data_age_s is not None:
            return False
        ended_timeline, _ = position.parse(record.switch_position)
        return 0 < answer.position[0] <= ended_timeline

    def _no_writes(self, reason: str) -> ReadOnly | Switching:
        kind = Switching if self._directory.mode is Mode.SWITCHING else ReadOnly
        return kind(reason, retry_after_s=self._retry_after_s())

    def _unknown(self, failure: Failed) -> OutcomeUnknown:
        return OutcomeUnknown(str(failure), retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> float:
        # Whole seconds, as the Retry-After header has them; spread, so that phones do not come back as one.
        return float(RETRY_AFTER_MIN_S + int(self._jitter() * (RETRY_AFTER_MAX_S - RETRY_AFTER_MIN_S + 1)))
