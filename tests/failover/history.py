"""What a country was asked and what it answered: the one thing a failover is judged by.

Invariant: what nobody can know stays unknown. An append whose answer was lost is neither done nor refused, and no
check may take it for either; a history that outgrew its bound is not judged at all.
Source: jepsen.io (histories of invocations and completions), Elle (VLDB 2020) for appends that tell their own order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

OPERATIONS_MAX = 200_000
# With these modes an answer admits that it may be old; so does any answer that tells its age.
LABELS = frozenset({"read-only", "survival", "switching", "degraded"})


class HistoryFull(Exception):
    """More happened than may be kept; what was kept proves nothing."""


class Kind(StrEnum):
    """APPEND puts a value never used before, READ sees values, FINAL is what the active datacenter held at the end."""

    APPEND = "append"
    READ = "read"
    FINAL = "final"


class Outcome(StrEnum):
    """FAILED: it is certain that this attempt did nothing. UNKNOWN: it may have, or may still."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt; times are seconds of the one monotonic clock of the load.

    An entity is a *cell* (`version` counts its appends, a read shows the last one) or a *board* (no version; a read
    shows all values). A retry is an operation of its own under the same `key`.
    """

    index: int
    process: int
    kind: Kind
    entity: str
    began: float
    ended: float
    outcome: Outcome
    site: str = ""
    worker: str = ""
    """The gateway's process that answered, as the request's id names it."""
    epoch: int = 0
    mode: str = ""
    age_s: float | None = None
    position: str = ""
    key: str = ""
    value: str = ""
    version: int | None = None
    seen: tuple[str, ...] = ()
    resource: str = ""
    """A read's: what was asked for; two resources may tell of one entity, from cache entries of their own."""
    after: tuple[str, ...] = ()
    """A read's: keys of appends that it must show, because it named a position at or beyond theirs."""
    answer: str = ""
    """An append's verdict, such as a granted version or the new thing's id: the same for every repetition."""
    cold: bool = False
    """A read's: no cache could have held the answer."""
    slug: str = ""

    @property
    def labelled(self) -> bool:
        """Whether the answer admitted that it may be old."""
        return self.mode in LABELS or self.age_s is not None


class History:
    """Operations in the order in which they ended."""

    def __init__(self, *, operations_max: int = OPERATIONS_MAX) -> None:
        self._operations_max = operations_max
        self.operations: list[Operation] = []

    def note(self, **facts: Any) -> Operation:
        """Keep one operation under the next index.

        Raises: HistoryFull.
        """
        if len(self.operations) >= self._operations_max:
            raise HistoryFull(f"more than {self._operations_max} operations")
        made = Operation(index=len(self.operations), **facts)
        self.operations.append(made)
        return made

    @property
    def acknowledged(self) -> int:
        """How many different writes were acknowledged."""
        return len({
            one.key for one in self.operations if one.kind is Kind.APPEND and one.outcome is Outcome.OK
        })  # fmt: skip

    @property
    def fresh_work(self) -> float:
        """Which part of the answered reads was cold or came after a write that outdated it."""
        reads = {
            (one.process, one.began): one.cold  # one answer may show several entities
            for one in self.operations
            if one.kind is Kind.READ and one.outcome is Outcome.OK
        }
        return sum(reads.values()) / len(reads) if reads else 0.0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Operation)
_EDN_TYPES = {Outcome.OK: "ok", Outcome.FAILED: "fail", Outcome.UNKNOWN: "info"}


def write(path: Path, operations: Sequence[Operation]) -> None:
    """One JSON object a line."""
    path.write_bytes(_encoder.encode_lines(operations))


def read(path: Path) -> list[Operation]:
    """What `write` wrote.

    Raises: msgspec.MsgspecError.
    """
    return _decoder.decode_lines(path.read_bytes())


def edn(operations: Sequence[Operation], *, cells: bool) -> str:
    """The history as elle-cli reads it: cells as `rw-register`, boards as `set-full`; a line each event, by time.

    A process of ours may work on several entities at once and goes on after an unknown outcome; one of Elle's does
    neither, so each gets a number per entity, and a new one after every unknown outcome.
    """
    lanes: dict[tuple[int, str, int], int] = {}
    unknown: Counter[tuple[int, str]] = Counter()
    events: list[tuple[float, int, str]] = []
    for one in operations:
        if one.kind is Kind.FINAL or not one.entity or (one.version is not None) is not cells:
            continue
        lane = (one.process, one.entity, unknown[one.process, one.entity])
        process = lanes.setdefault(lane, len(lanes))
        unknown[one.process, one.entity] += one.outcome is Outcome.UNKNOWN
        asked, told = _register(one) if cells else _set(one)
        function = ":txn" if cells else ":add" if one.kind is Kind.APPEND else ":read"
        how = _EDN_TYPES[one.outcome]
        for at, kind, value in (
            (one.began, "invoke", asked),
            (one.ended, how, told if one.outcome is Outcome.OK else asked),
        ):
            text = (
                f":type :{kind}, :process {process}, :time {round(at * 1e9)}, :f {function}, :value {value}"
            )
            events.append((at, kind != "invoke", text))
    return "".join(f"{{:index {index}, {text}}}\n" for index, (_, _, text) in enumerate(sorted(events)))


def _register(one: Operation) -> tuple[str, str]:
    name = _text(one.entity)
    if one.kind is Kind.APPEND:
        written = f"[[:w {name} {_text(one.value)}]]"
        return written, written
    return f"[[:r {name} nil]]", f"[[:r {name} {_text(one.seen[0]) if one.seen else 'nil'}]]"


def _set(one: Operation) -> tuple[str, str]:
    if one.kind is Kind.APPEND:
        return _text(one.value), _text(one.value)
    return "nil", f"#{{{' '.join(map(_text, dict.fromkeys(one.seen)))}}}"


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()
