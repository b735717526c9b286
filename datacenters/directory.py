"""What a gateway worker believes about who is active, kept from the record in etcd and never from observation.

Invariants: the highest epoch ever seen never falls and a record below it is refused; when etcd falls silent the
last record stands, so routing goes on unchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

import msgspec
import structlog

from datacenters import etcd_keys, record
from datacenters.etcd import Etcd, KeyValue
from datacenters.feeds import POLL_S, PrefixFeed
from datacenters.record import TAKEOVER_PHASES, Phase, Protection, Record
from datacenters.sites import Sites, with_datacenter

ETCD_SILENT_MAX_S = 3.0
# A datacenter may know of moves that etcd does not, after a snapshot was put back; not of one a day for 27 years.
EPOCHS_AHEAD_MAX = 10_000

_log = structlog.get_logger()


class Mode(StrEnum):
    """How the whole stands, as `Massar-Mode` and `/v1/status` say it (survival is the cache's to add)."""

    NORMAL = "normal"
    READ_ONLY = "read-only"
    SWITCHING = "switching"
    DEGRADED = "degraded"
    UNPROTECTED = "unprotected"


WRITING_MODES = frozenset({Mode.NORMAL, Mode.UNPROTECTED})


class Directory:
    """Follows the record; reading an attribute never waits.

    `sites` are all sites by name, `site` is this gateway's own.
    """

    def __init__(
        self,
        etcd: Etcd,
        *,
        site: str,
        sites: Sites,
        poll_s: float = POLL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._datacenters = tuple(sorted(with_datacenter(sites), key=lambda name: name != site))
        self._record: Record | None = None
        self._epoch = 0
        self._refused = False
        self.serial = 0
        """Changes with the record and the epoch: equal serials mean that only silence may have changed the mode."""
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[Record], None]] = []
        self._feed = PrefixFeed(
            etcd,
            etcd_keys.CONTROL,
            exact=True,
            on_reset=self._reset,
            on_put=self._adopt,
            on_delete=self._gone,
            poll_s=poll_s,
            lag_grace_s=0.0,
            monotonic=monotonic,
        )

    @property
    def record(self) -> Record | None:
        """The newest record seen, or None when etcd was never reached."""
        return self._record

    @property
    def epoch(self) -> int:
        """The highest epoch seen, in the record or on a datacenter's answer; 0 when none was."""
        return self._epoch

    @property
    def epoch_max(self) -> int:
        """The highest epoch that a datacenter is believed to know; without a record, counted from the first."""
        return (self._record.epoch if self._record else 0) + EPOCHS_AHEAD_MAX

    @property
    def behind(self) -> bool:
        """Whether an answer named a higher epoch than the record at hand."""
        return self._record is None or self._record.epoch < self._epoch

    @property
    def active(self) -> str | None:
        """The declared active site; while a move is under way still the old one."""
        return self._record.active if self._record else None

    @property
    def standby(self) -> str | None:
        """The first datacenter that is not the declared active one."""
        return next((name for name in self._datacenters if name != self.active), None)

    @property
    def mode(self) -> Mode:
        """What the record and etcd's silence say; a forwarder's answer may say more about one read."""
        if self._refused or self.etcd_silent_s() > ETCD_SILENT_MAX_S:
            return Mode.DEGRADED
        if self._record is None or self._record.phase is Phase.READ_ONLY:
            return Mode.READ_ONLY
        if self.behind or self._record.serving is None:
            return Mode.SWITCHING
        protected = self._record.protection is Protection.JOURNAL
        return Mode.NORMAL if protected else Mode.UNPROTECTED

    @property
    def takes_writes(self) -> bool:
        """Whether a site is declared that takes writes, as far as this worker has heard."""
        return self.mode in WRITING_MODES

    @property
    def switching_over(self) -> bool:
        """Whether a planned switchover is under way: who waits a moment will be served."""
        return self._record is not None and self._record.planned and self._record.serving is None

    def read_order(self) -> tuple[str, ...]:
        """The datacenters in the order a read tries them: the declared truth first."""
        if self._record is None:
            return self._datacenters
        promoted = self._record.target if self._record.phase in TAKEOVER_PHASES else None
        first = promoted or self._record.active
        return tuple(sorted(self._datacenters, key=lambda name: name != first))

    def etcd_silent_s(self) -> float:
        """Seconds since etcd's majority last answered."""
        return self._feed.silent_for_s()

    async def start(self, *, within_s: float = 2.0) -> bool:
        """Begin to follow; True when etcd answered within `within_s`."""
        return await self._feed.start(within_s=within_s)

    async def stop(self) -> None:
        """End; the last record stays."""
        await self._feed.stop()

    async def refresh(self, *, within_s: float) -> bool:
        """Read the record again now; True when etcd answered in time."""
        return await self._feed.refresh(within_s=within_s)

    async def serving(self, *, epoch: int = 0, within_s: float) -> bool:
        """Wait until the record at hand, of `epoch` or later, names a site that takes writes; False when it does not."""
        try:
            async with asyncio.timeout(within_s):
                while self._record is None or self._record.serving is None or self._record.epoch < epoch:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def observe_epoch(self, epoch: int) -> None:
        """Note an epoch that a datacenter named; a higher one makes the record be read again at once."""
        if epoch > self._epoch:
            self._epoch = epoch
            self.serial += 1
            self._feed.poke()

    def on_change(self, listener: Callable[[Record], None]) -> None:
        """Call `listener` with every record that differs from the one before; it must not block."""
        self._listeners.append(listener)

    def _reset(self, items: tuple[KeyValue, ...]) -> None:
        for item in items:
            self._adopt(item)

    def _adopt(self, item: KeyValue) -> None:
        try:
            found = record.decode(item.value)
        except msgspec.MsgspecError as error:
            _log.error("record unreadable, the last one stands", reason=str(error), revision=item.revision)
            return
        self.serial += 1
        self._refused = found.epoch < self._epoch
        if self._refused:
            _log.error("record of a lower epoch refused", epoch=found.epoch, highest=self._epoch)
            return
        self._epoch = found.epoch
        if found == self._record:
            return
        self._record = found
        self._changed.set()
        _log.info("record", epoch=found.epoch, phase=found.phase, active=found.active, target=found.target)
        for listener in self._listeners:
            listener(found)

    def _gone(self, _name: str) -> None:
        _log.error("the record is gone from etcd, the last one stands")
