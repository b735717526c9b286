"""What a director does with its own site's PostgreSQL, because the record says so: one loop for each duty.

Invariant: every change starts from the record as etcd's majority has it at that moment; whatever a duty ends in, the
next round begins again from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from datacenters import control, etcd_keys, record
from datacenters.control import Held
from datacenters.etcd import Etcd
from datacenters.fence import Fence, Row, Step, step
from datacenters.protecting import Journaled, Protecting
from datacenters.pruning import Pruning
from datacenters.record import Record, Refusal
from datacenters.replay import Replay
from datacenters.switchover import Switchover
from datacenters.taking_over import NotYet, Takeover
from datacenters.verdict import FenceRow, Observation
from datacenters.word import Word

PROTECT_EVERY_TICKS = 4
NOT_YET_S = 0.02


class Say(Protocol):
    """Log a sentence when it means something else than the last one on the same subject."""

    def __call__(self, subject: str, meaning: str, sentence: str, /) -> None:
        """Say it."""
        ...


class Duty(NamedTuple):
    """Work that is done every tick for ever, and as soon as `wake` is set; `on_failure` puts right what it left."""

    work: Callable[[], Awaitable[None]]
    name: str
    on_failure: Callable[[], None] = lambda: None
    wake: asyncio.Event | None = None


class Acting:
    """The duties of the director of `site`, whose PostgreSQL is at `dsn` (the witness has none).

    `write(held, after, asked_at)` changes the record; `observations` are the fresh ones by site.
    """

    def __init__(
        self,
        dsn: str | None,
        *,
        etcd: Etcd,
        word: Word,
        site: str,
        by: str,
        replay: Replay | None,
        write: Callable[[Held, Record, float], Awaitable[bool]],
        observations: Callable[[], dict[str, Observation]],
        say: Say,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._etcd = etcd
        self._word = word
        self._site = site
        self._by = by
        self._write = write
        self._observations = observations
        self._say = say
        self._clock = clock
        self._monotonic = monotonic
        self._dsn = dsn
        self._rounds = 0
        self.fence_row: FenceRow | None = None
        """The own fence as it was last seen, the replicated row on a standby."""
        self._replay = replay
        self._switchover = Switchover(dsn, site=site, by=by, clock=clock, monotonic=monotonic)
        self._protecting = Protecting(site)
        # Freezing and renewing the same row must not overtake each other.
        self._at_the_fence = asyncio.Lock()
        self._fence = Fence(dsn) if dsn else None
        self._pruning = Pruning(etcd, dsn, site=site) if dsn else None
        self._takeover = Takeover(dsn, site=site, by=by, replay=replay, clock=clock) if dsn else None

    def duties(self) -> tuple[Duty, ...]:
        """What is to be repeated."""
        give_up = Duty(self._give_up_what_drags_on, "switchover")
        if self._fence is None or self._pruning is None:
            return (give_up,)
        return (
            give_up,
            Duty(self._keep_fence, "fence", self._fence.drop, wake=self._word.bell),
            Duty(self._freeze_when_asked, "freeze"),
            Duty(self._take_over_when_named, "take over"),
            Duty(self._prune, "prune", self._pruning.drop),
            Duty(self._protect, "protect"),
            Duty(self._retry_what_was_parked, "retry"),
        )

    async def take_bearings(self) -> None:
        """Know the own fence's epoch before any word is heard.

        Raises: OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError.
        """
        if self._fence is not None:
            async with self._at_the_fence:
                await self._look_at(self._fence)

    def rewound(self) -> None:
        """Hear that etcd was put back to an older state: records of the journal may be missing in it."""
        self._protecting.rewound()

    def drop(self) -> None:
        """Forget every connection: the director ends."""
        self._switchover.drop()
        for part in (self._fence, self._pruning):
            if part is not None:
                part.drop()

    async def _take_over_when_named(self) -> None:
        if self._takeover is None or not await self._asked(self._takeover.named):
            return
        while True:
            asked_at = self._monotonic()
            held = await self._read_again(asked_at)
            if held is None or not self._takeover.named(held.record):
                return
            try:
                after = await self._takeover.step(held.record, word_age_s=self._word.age_s)
            except NotYet as reason:
                self._say("take-over", "not yet", f"not yet: {reason}")
                await asyncio.sleep(NOT_YET_S)
                continue
            if not await self._change(held, after, asked_at=asked_at, subject="take-over"):
                return

    async def _freeze_when_asked(self) -> None:
        if not await self._asked(self._switchover.freezes):
            return
        asked_at = self._monotonic()
        held = await self._read_again(asked_at)
        if held is None or not self._switchover.freezes(held.record):
            return
        async with self._at_the_fence:
            after = await self._switchover.freeze(held.record)
        await self._change(held, after, asked_at=asked_at, subject="freeze")

    async def _give_up_what_drags_on(self) -> None:
        held, asked_at = self._word.held, self._monotonic()
        after = self._switchover.overdue(held.record if held else None)
        if held is not None and after is not None:
            await self._change(held, after, asked_at=asked_at, subject="switchover")

    async def _prune(self) -> None:
        if self._pruning is not None:
            await self._pruning.step(self._word.record)

    async def _protect(self) -> None:
        held, asked_at = self._word.held, self._monotonic()
        self._rounds += 1
        if held is None or held.record.serving != self._site or self._rounds % PROTECT_EVERY_TICKS:
            return
        journaled = Journaled(
            records=await self._etcd.count(etcd_keys.JOURNAL), bytes=await self._etcd.bytes_in_use()
        )
        asked = self._protecting.next(held.record, journaled, self._observations())
        if asked is not None:
            protection, reason = asked
            after = record.protect(
                held.record, protection=protection, reason=reason, now=self._clock(), by=self._by
            )
            await self._change(held, after, asked_at=asked_at, subject="protection")

    async def _retry_what_was_parked(self) -> None:
        declared = self._word.record
        if self._replay is None or declared is None or declared.serving != self._site:
            return
        if not await self._etcd.count(etcd_keys.RETRIED):
            return
        report = await self._replay.retry(epoch=declared.epoch)
        told = f"{report.done} done, {report.repeated} were there, {report.parked} parked again"
        self._say("retry", told, f"parked records were judged once more: {told}")

    async def _keep_fence(self) -> None:
        if self._fence is None:
            return
        async with self._at_the_fence:
            await self._fence_step(self._fence)

    async def _fence_step(self, fence: Fence) -> None:
        row = await self._look_at(fence)
        declared, word_age_s = self._word.record, self._word.age_s()
        todo = step(declared, word_age_s=word_age_s, site=self._site, row=row)
        if declared is None or todo is Step.NOTHING:
            return
        if todo is Step.RENEW:
            await fence.renew(epoch=declared.epoch, site=self._site, heard_at=row.heard_at(word_age_s))
            return
        if todo is Step.RAISE:
            await fence.raise_to(epoch=declared.epoch, site=self._site, heard_at=row.heard_at(word_age_s))
            self._say("fence", f"raise {declared.epoch}", f"fence raised to epoch {declared.epoch}")
            return
        other = declared.target or declared.active
        await fence.close_at(epoch=declared.epoch, site=other)
        self._say(
            "fence", f"close {declared.epoch}", f"fence closed: epoch {declared.epoch} belongs to {other}"
        )

    async def _look_at(self, fence: Fence) -> Row:
        row = await fence.look()
        if row.site is not None:
            self.fence_row = FenceRow(epoch=row.epoch, site=row.site)
            self._word.know(row.epoch)
        return row

    async def _asked(self, concerns: Callable[[Record | None], bool]) -> bool:
        """Wait for a record other than the last one, unless the present one still asks for something."""
        if not concerns(self._word.record):
            await self._word.changed()
        return concerns(self._word.record)

    async def _read_again(self, asked_at: float) -> Held | None:
        held = await control.read(self._etcd)
        return held if self._word.hear(held, asked_at=asked_at) else None

    async def _change(self, held: Held, after: Record | Refusal, *, asked_at: float, subject: str) -> bool:
        if isinstance(after, Refusal):
            self._say(subject, f"refused {after.reason}", f"{subject}: {after.reason}")
            return False
        if not await self._write(held, after, asked_at):
            return False
        self._say(
            subject, f"{after.epoch} {after.phase}", f"{after.phase} at epoch {after.epoch}: {after.reason}"
        )
        return True
