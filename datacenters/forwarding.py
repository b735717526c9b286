"""The one way from a gateway to the datacenters: whom to ask, how often, how long, and what may be said afterwards.

Invariants: a write is sent at most twice, both times under its key, and in between the record is read again; once its
bytes may have left, it ends as a verdict or as `OutcomeUnknown`, whatever the second try met. A read is repeated and
hedged within one budget (docs/decisions/0010-how-requests-are-repeated.md).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyqwest import Transport

from datacenters import in_flight
from datacenters.assertion import NOBODY, ActingRole
from datacenters.attempts import Answer, Attempts, Failed, Outcome, Outgoing, StaleEpoch, slug_of
from datacenters.directory import WRITING_MODES, Directory, Mode
from datacenters.forwarding_events import ForwardingEvents
from datacenters.hedged import first_answer
from datacenters.in_flight import Priority
from datacenters.lane import Full
from datacenters.position import NOWHERE, Position, parse, shows
from datacenters.retrying import Repeat, RetryBudget, may_repeat
from datacenters.sites import Sites
from datacenters.unanswered import (
    DatacentersUnavailable,
    ForwardingFailed,
    OutcomeUnknown,
    Overloaded,
    PositionNotReached,
    ReadOnly,
    Switching,
)
from datacenters.users_met import OnUser, nobody_listens

READ_TOTAL_S = 2.0
READ_KEPT_FOR_STANDBY_S = 0.6
# With less time left another try at the same place would only be cut off.
REPEAT_LEFT_MIN_S = 0.2
WRITE_TOTAL_S = 5.0
REFRESH_S = 0.5
RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = 5
_IN_PROGRESS = "idempotency-key-in-progress"


class _NotShown(Failed):
    """An answer from before the write that the caller wants to see."""


class _KeptBack(Failed):
    """Not sent, because the datacenter failed a moment ago."""


class Forwarder:
    """Forwards to the datacenter that `directory` names, in the name of the gateway of `site`.

    `on_outcome(datacenter, outcome)` hears of every request that was made, `on_user(datacenter, well)` of every user
    once a window and kind (datacenters/users_met.py), `events` of what is repeated, hedged and shed; `jitter` gives
    numbers in [0, 1).
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
        events: ForwardingEvents | None = None,
        transport: Transport | None = None,
        in_flight_max: int = in_flight.CEILING,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._jitter = jitter
        self._events = events or ForwardingEvents()
        self._budget = RetryBudget()
        self._attempts = Attempts(
            sites=sites,
            site=site,
            assertion_key=assertion_key,
            on_outcome=on_outcome,
            on_user=on_user,
            events=self._events,
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
        priority: Priority = Priority.READ,
        not_before: Position = NOWHERE,
    ) -> Answer:
        """The answer below 500 to `GET target`: the active datacenter's, or the standby's when need be.

        It shows the write that was answered with the position `not_before`.
        Raises: DatacentersUnavailable, PositionNotReached, Overloaded.
        """
        headers = {"if-none-match": if_none_match} if if_none_match else {}
        asked = Outgoing(method="GET", target=target, body=b"", headers=headers, subject=subject, role=role)
        self._budget.note_request(self._monotonic())
        known = self._directory.record
        try:
            return await self._read(asked, priority, not_before)
        except PositionNotReached:
            # How far the old timeline counts may have become known after one datacenter was asked and before the other.
            if self._directory.record == known:
                raise
        except StaleEpoch as stale:
            self._directory.observe_epoch(stale.epoch)
            await self._directory.refresh(within_s=REFRESH_S)
        try:
            return await self._read(asked, priority, not_before)
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
        self._budget.note_request(self._monotonic())
        if self._directory.behind:
            await self._directory.refresh(within_s=REFRESH_S)
        try:
            return await self._write(asked, deadline=deadline)
        except Failed as failure:
            first = failure
        read_again = await self._directory.refresh(within_s=REFRESH_S)
        if may_repeat(method, keyed=True, nothing_done=first.nothing_done, repeats=0) is not Repeat.FREE:
            return await self._write_again(asked, first, deadline=deadline, read_again=read_again)
        try:
            return await self._write(asked, deadline=deadline, after=first)
        except Failed as second:
            if not second.nothing_done:
                raise self._unknown(second) from second
            raise self._no_writes(str(second)) from second

    async def _read(self, asked: Outgoing, priority: Priority, not_before: Position) -> Answer:
        deadline = self._monotonic() + READ_TOTAL_S
        active = self._directory.active
        left_to_try = list(self._directory.read_order())
        failures: list[Failed] = []
        turns: Counter[str] = Counter()
        while left_to_try and (not failures or self._may_repeat_read(failures)):
            datacenter = left_to_try[0]
            if not self._attempts.lane(datacenter).begin_read():
                left_to_try.pop(0)
                continue
            kept_for_others_s = READ_KEPT_FOR_STANDBY_S if self._any_admits(left_to_try[1:]) else 0.0
            ends_at = deadline - kept_for_others_s
            self._note_turn(datacenter, turns, failures)
            # Asked before the read is sent: a replay may end while the answer is under way.
            settled = self._settled(datacenter)
            try:
                answer = await self._hedged(datacenter, asked, ends_at=ends_at, priority=priority)
            except StaleEpoch:
                raise
            except Failed as failure:
                failures.append(failure)
            else:
                if self._left_behind(answer):
                    failures.append(Failed(f"{datacenter} was left behind", nothing_done=True, away=True))
                elif self._shows(answer, not_before, settled=settled):
                    # Who became active while it was asked answers as such, unless it still was the standby.
                    serves = datacenter in {active, self._directory.active} and answer.data_age_s is None
                    return msgspec.structs.replace(answer, from_standby=not serves)
                else:
                    failures.append(
                        _NotShown(f"{datacenter} does not show it", nothing_done=True, away=False)
                    )
            if settled and isinstance(failures[-1], _NotShown):
                break  # no standby is ahead of the active datacenter
            if turns[datacenter] > 1 or not self._worth_repeating(failures[-1], ends_at):
                left_to_try.pop(0)
        raise self._unread(failures)

    def _may_repeat_read(self, failures: list[Failed]) -> bool:
        last, repeats = failures[-1], len(failures) - 1
        asked = may_repeat("GET", keyed=False, nothing_done=last.nothing_done, repeats=repeats)
        return asked is not Repeat.NEVER

    def _any_admits(self, datacenters: list[str]) -> bool:
        return any(self._attempts.lane(name).admits_reads() for name in datacenters)

    def _worth_repeating(self, failure: Failed, ends_at: float) -> bool:
        """Whether the same datacenter is asked once more; what then happens is counted already."""
        now = self._monotonic()
        return failure.in_passing and ends_at - now >= REPEAT_LEFT_MIN_S and self._budget.take(now)

    def _note_turn(self, datacenter: str, turns: Counter[str], failures: list[Failed]) -> None:
        turns[datacenter] += 1
        if turns[datacenter] > 1:
            self._events.repeated(datacenter, "retry")
        elif failures:
            # The other datacenter is not the one that struggles: its turn is counted, and never refused.
            self._budget.spend(self._monotonic())
            self._events.repeated(datacenter, "failover")

    async def _hedged(
        self, datacenter: str, asked: Outgoing, *, ends_at: float, priority: Priority
    ) -> Answer:
        lane, epoch = self._attempts.lane(datacenter), self._directory.epoch

        def send(priority: Priority) -> Coroutine[Any, Any, Answer]:
            within_s = max(0.0, ends_at - self._monotonic())
            return self._send(datacenter, asked, epoch=epoch, within_s=within_s, priority=priority)

        def may_hedge() -> bool:
            if (
                epoch != self._directory.epoch
                or not lane.may_hedge()
                or not self._budget.take(self._monotonic())
            ):
                return False
            self._events.hedged(datacenter, won=False)
            return True

        if ends_at - self._monotonic() <= lane.hedge_after_s:
            return await send(priority)
        return await first_answer(
            lambda: send(priority),
            lambda: send(Priority.HEDGE),
            after_s=lane.hedge_after_s,
            may_hedge=may_hedge,
            on_won=lambda: self._events.hedged(datacenter, won=True),
            final=StaleEpoch,
        )

    async def _write(self, asked: Outgoing, *, deadline: float, after: Failed | None = None) -> Answer:
        serving, epoch = self._writable()
        was_sent = after is not None and not isinstance(after, _KeptBack)
        if not was_sent and self._attempts.lane(serving).keeps_back_writes():
            raise _KeptBack(f"{serving} failed a moment ago", nothing_done=True, away=True)
        if was_sent:
            self._events.repeated(serving, "retry")
        within_s = max(0.0, deadline - self._monotonic())
        answer = await self._send(serving, asked, epoch=epoch, within_s=within_s, priority=Priority.WRITE)
        # The epoch it was asked under: the one that the datacenter names may be a later one, heard meanwhile.
        return msgspec.structs.replace(answer, epoch=epoch)

    async def _write_again(
        self, asked: Outgoing, first: Failed, *, deadline: float, read_again: bool
    ) -> Answer:
        """The verdict of a second try under the same key, after a first one that may have been done.

        Whatever keeps the second try from a verdict says nothing of the first: then the outcome is unknown.
        """
        now = self._monotonic()
        if not read_again or deadline - now < REPEAT_LEFT_MIN_S or not self._budget.take(now):
            raise self._unknown(first) from first
        try:
            answer = await self._write(asked, deadline=deadline, after=first)
        except (Failed, ForwardingFailed) as second:
            raise self._unknown(first) from second
        if answer.status == 409 and slug_of(answer.body) == _IN_PROGRESS:
            raise self._unknown(first) from first
        return answer

    async def _send(
        self, datacenter: str, asked: Outgoing, *, epoch: int, within_s: float, priority: Priority
    ) -> Answer:
        try:
            answer = await self._attempts.send(
                datacenter,
                asked,
                epoch=epoch,
                epoch_max=self._directory.epoch_max,
                within_s=within_s,
                priority=priority,
            )
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

    def _unread(self, failures: list[Failed]) -> PositionNotReached | DatacentersUnavailable:
        reasons = "; ".join(map(str, failures)) or "every datacenter failed a moment ago"
        if any(isinstance(failure, _NotShown) for failure in failures):
            return PositionNotReached(reasons, retry_after_s=self._retry_after_s())
        return DatacentersUnavailable(
            reasons,
            retry_after_s=self._retry_after_s(),
            datacenters_away=all(failure.away for failure in failures),
        )

    def _settled(self, datacenter: str) -> bool:
        """Whether this is the active datacenter by the newest record (the target of a move is not, until it has ended)."""
        return datacenter == self._directory.active and not self._directory.behind

    def _shows(self, answer: Answer, not_before: Position, *, settled: bool) -> bool:
        # Who names a later epoch than the record's, or an age of its data, is not the active one that we took it for.
        settled = settled and not self._directory.behind and answer.data_age_s is None
        return shows(answer.position, not_before, switch=self._switch(), settled=settled)

    def _switch(self) -> Position | None:
        record = self._directory.record
        return None if record is None or record.switch_position is None else parse(record.switch_position)

    def _left_behind(self, answer: Answer) -> bool:
        """Whether this is an old primary that came back with a history of its own (a standby tells its age)."""
        switch = self._switch()
        if switch is None or answer.data_age_s is not None:
            return False
        if self._directory.switching_over:
            return False  # it was sealed just where the other one goes on: until that one serves, it shows the same
        ended_timeline, _ = switch
        return 0 < answer.position[0] <= ended_timeline

    def _no_writes(self, reason: str) -> ReadOnly | Switching:
        kind = Switching if self._directory.mode is Mode.SWITCHING else ReadOnly
        return kind(reason, retry_after_s=self._retry_after_s())

    def _unknown(self, failure: Failed) -> OutcomeUnknown:
        return OutcomeUnknown(str(failure), retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> float:
        # Whole seconds, as the Retry-After header has them; spread, so that phones do not come back as one.
        return float(RETRY_AFTER_MIN_S + int(self._jitter() * (RETRY_AFTER_MAX_S - RETRY_AFTER_MIN_S + 1)))
