"""After how long a read is worth asking a second time: a datacenter's own recent latencies say it; pure.

Invariant: the wait is within [`HEDGE_AFTER_MIN_S`, `HEDGE_AFTER_MAX_S`], and the longest of them until enough is known.
"""

from __future__ import annotations

from collections import deque

QUANTILE = 0.95
SAMPLES_MAX = 256
SAMPLES_MIN = 20
# The quantile is looked up again after so many new samples, not at every read.
SAMPLES_PER_LOOK = 16
HEDGE_AFTER_MIN_S = 0.03
HEDGE_AFTER_MAX_S = 0.5


class ReadLatencies:
    """The last `SAMPLES_MAX` latencies of reads at one datacenter, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._since_look = 0
        self._after_s = HEDGE_AFTER_MAX_S

    @property
    def hedge_after_s(self) -> float:
        """How long to wait for an answer before a second one is asked for."""
        return self._after_s

    def note(self, seconds: float) -> None:
        """Take in how long an answer took."""
        self._samples.append(seconds)
        self._since_look += 1
        if len(self._samples) >= SAMPLES_MIN and self._since_look >= SAMPLES_PER_LOOK:
            self._since_look = 0
            found = sorted(self._samples)[int(QUANTILE * len(self._samples))]
            self._after_s = min(max(found, HEDGE_AFTER_MIN_S), HEDGE_AFTER_MAX_S)

    def note_unanswered(self, seconds: float) -> None:
        """Take in that nothing had come after `seconds` when the asker left.

        What was left early says nothing; what was left late was slow, and not counting it would make the slow look fast.
        """
        if seconds >= self._after_s:
            self.note(seconds)
