"""How things stand for a reader of this worker: the epoch and mode that every answer tells, and what can still be heard.

Invariant: what is remembered of it ends no later than the instant at which a silence would change it, and at once with
every change of the record, of the epoch or of whether datacenters answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from datacenters.directory import ETCD_SILENT_MAX_S, WRITING_MODES, Directory, Mode

# After a read that no datacenter answered this worker calls the mode survival for so long.
AWAY_REMEMBERED_S = 5.0
# Without a word from etcd for longer, what another site wrote may be missing here, and answers say so.
PURGES_SILENT_MAX_S = 2.0


class Now(NamedTuple):
    """How things stand, until something is heard or `until` (monotonic seconds) is reached."""

    mode: str
    epoch: int
    headers: tuple[tuple[bytes, bytes], tuple[bytes, bytes]]
    """What every answer says of it."""
    hears_denials: bool
    """Whether sign-outs are heard well enough to show personal records."""
    hears_purges: bool
    """Whether every purge until a moment ago has been applied here."""
    serial: int
    until: float


class Standing:
    """Looks at the declared state and at the silences, seldom: `now` costs a comparison where nothing has changed."""

    def __init__(
        self,
        directory: Directory,
        *,
        denials_silent_for_s: Callable[[], float],
        purges_silent_for_s: Callable[[], float],
        denial_silence_max_s: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._denials_silent_for_s = denials_silent_for_s
        self._purges_silent_for_s = purges_silent_for_s
        self._denial_silence_max_s = denial_silence_max_s
        self._clock = clock
        self._monotonic = monotonic
        self._away_at = -math.inf
        self._known: Now | None = None

    @property
    def mode(self) -> str:
        """The mode as this worker meets it: survival while no datacenter answers, else what is declared.

        Degraded as soon as purges may have been missed: what is in the cache may be older than it looks.
        """
        return self.now().mode

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """`Massar-Epoch` and `Massar-Mode`."""
        return self.now().headers

    def now(self) -> Now:
        """How things stand at this instant."""
        known = self._known
        if known is not None and known.serial == self._directory.serial and self._monotonic() < known.until:
            return known
        self._known = known = self._look()
        return known

    def note_answered(self) -> None:
        """A datacenter answered a read."""
        if self._away_at != -math.inf:
            self._away_at, self._known = -math.inf, None

    def note_away(self) -> None:
        """No datacenter answered a read, of this worker or of one that asked for it."""
        self._away_at, self._known = self._clock(), None

    def _look(self) -> Now:
        serial, at = self._directory.serial, self._monotonic()
        denials_s = self._denial_silence_max_s - self._denials_silent_for_s()
        purges_s = PURGES_SILENT_MAX_S - self._purges_silent_for_s()
        etcd_s = ETCD_SILENT_MAX_S - self._directory.etcd_silent_s()
        mode = self._directory.mode
        if mode in WRITING_MODES and purges_s < 0:
            mode = Mode.DEGRADED
        away = 0 <= self._clock() - self._away_at < AWAY_REMEMBERED_S
        word = "survival" if away else mode.value
        # What is silent already may be heard at any moment, and what is away is forgotten by another clock.
        soonest_s = -math.inf if away else min(denials_s, purges_s, etcd_s)
        epoch = self._directory.epoch
        return Now(
            mode=word,
            epoch=epoch,
            headers=((b"massar-epoch", b"%d" % epoch), (b"massar-mode", word.encode())),
            hears_denials=denials_s >= 0,
            hears_purges=purges_s >= 0,
            serial=serial,
            until=at + soonest_s,
        )
