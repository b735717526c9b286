"""Judging a history: what was lost, done twice, acknowledged out of its epoch, shown old without saying so.

Invariant: a finding is a contradiction in what was told, whatever the system is built like; nothing unknown is ever
taken for done or refused.
Source: docs/failover-proof.md.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from tests.failover.history import Kind, Operation, Outcome

ELSEWHERE_S = 2.0


class Wrong(StrEnum):
    """What a finding says; the first four are what a schedule counts."""

    LOST = "lost"
    DOUBLED = "doubled"
    SPLIT = "split"
    FALSE_MOVE = "false move"
    ANSWER = "another answer for the same key"
    INVENTED = "shown though never or certainly not done"
    ORDER = "out of order"
    STALE = "stale without a label"
    UNREAD = "own write not read"
    EPOCH = "epoch"
    AUDIT = "audit"
    STUCK = "writes did not go on"
    CAME_TO_NOTHING = "an order came to nothing"
    DISTURBED = "a planned switchover was felt"


class Finding(msgspec.Struct, frozen=True):
    """One contradiction; `operations` are indices into the history, `subject` the key or epoch it is about."""

    wrong: Wrong
    subject: str
    sentence: str
    operations: tuple[int, ...] = ()


class Judged:
    """One entity's operations, sorted for the checks."""

    def __init__(self, entity: str, operations: Sequence[Operation]) -> None:
        self.entity = entity
        self.appends = [one for one in operations if one.kind is Kind.APPEND]
        self.reads = sorted(
            (one for one in operations if one.kind is Kind.READ and one.outcome is Outcome.OK),
            key=lambda one: one.began,
        )
        self.final = next((one for one in operations if one.kind is Kind.FINAL), None)
        self.by_value = defaultdict[str, list[Operation]](list)
        for one in self.appends:
            self.by_value[one.value].append(one)
        # Each key once, at the first answer that acknowledged it.
        first: dict[str, Operation] = {}
        for one in sorted(self.appends, key=lambda one: one.ended):
            if one.outcome is Outcome.OK:
                first.setdefault(one.key, one)
        self.done = list(first.values())
        # Any attempt may have been the one that took effect, so a write begins with the first of its key.
        self.began: dict[str, float] = {}
        for one in self.appends:
            self.began[one.key] = min(one.began, self.began.get(one.key, one.began))

    @property
    def shown(self) -> list[Operation]:
        """Every read, the final one included."""
        return [*self.reads, *([self.final] if self.final else [])]

    def has(self, read: Operation, append: Operation) -> bool:
        """Whether the read shows the append, or on a cell what came after it."""
        seen = self.version(read)
        if append.version is None or seen is None:
            return append.value in read.seen
        return seen > append.version or (seen == append.version and append.value in read.seen)

    def version(self, read: Operation) -> int | None:
        """The version of a cell that a read shows, also where only the value was told."""
        if read.version is not None or not read.seen:
            return read.version
        return max(
            (one.version for one in self.by_value[read.seen[0]] if one.version is not None), default=None
        )


def check(operations: Sequence[Operation], *, elsewhere_s: float = ELSEWHERE_S) -> list[Finding]:
    """Every contradiction in the history; a site may be `elsewhere_s` behind what another one acknowledged."""
    by_entity = defaultdict[str, list[Operation]](list)
    for one in operations:
        if one.entity:
            by_entity[one.entity].append(one)
    found: list[Finding] = []
    for entity, own in by_entity.items():
        judged = Judged(entity, own)
        found += [
            *_lost(judged),
            *_doubled(judged),
            *_answers(judged),
            *_invented(judged),
            *_out_of_order(judged),
            *_stale(judged, elsewhere_s),
            *_went_back(judged, elsewhere_s),
            *_unread(judged),
        ]
    return [*found, *_split(operations)]


def _lost(judged: Judged) -> Iterator[Finding]:
    if judged.final is None:
        return
    for one in judged.done:
        if not judged.has(judged.final, one):
            sentence = f"{_named(one)} was acknowledged at epoch {one.epoch} and is not there at the end"
            yield Finding(Wrong.LOST, one.key, sentence, (one.index, judged.final.index))
    holders: dict[int, Operation] = {}
    for one in judged.done:
        if one.version is None:
            continue
        other = holders.setdefault(one.version, one)
        if other is not one:
            sentence = f"{_named(one)} and {_named(other)} were both acknowledged as the same version"
            yield Finding(Wrong.LOST, other.key, sentence, (other.index, one.index))


def _doubled(judged: Judged) -> Iterator[Finding]:
    told: set[str] = set()
    for read in judged.shown:
        for value, times in Counter(read.seen).items():
            if times > 1 and value not in told and judged.by_value[value]:
                told.add(value)
                one = judged.by_value[value][0]
                yield Finding(
                    Wrong.DOUBLED, one.key, f"{_named(one)} is there {times} times", (one.index, read.index)
                )


def _answers(judged: Judged) -> Iterator[Finding]:
    first: dict[str, Operation] = {}
    for one in judged.appends:
        if not one.answer:
            continue
        other = first.setdefault(one.key, one)
        if other.answer != one.answer:
            twice = other.outcome is one.outcome is Outcome.OK
            yield Finding(
                Wrong.DOUBLED if twice else Wrong.ANSWER,
                one.key,
                f"{_named(one)} was answered {other.answer!r}, then {one.answer!r}",
                (other.index, one.index),
            )


def _invented(judged: Judged) -> Iterator[Finding]:
    refused = {
        value: attempts
        for value, attempts in judged.by_value.items()
        if all(one.outcome is Outcome.FAILED for one in attempts)
    }
    for read in judged.shown:
        for value in read.seen:
            if value in refused and (at := judged.version(read)) in {None, refused[value][0].version}:
                one = refused[value][0]
                sentence = f"{_named(one)} was refused every time and is shown (version {at})"
                yield Finding(Wrong.INVENTED, one.key, sentence, (one.index, read.index))
            elif read.version is None and not judged.by_value[value] and value.startswith(judged.entity):
                yield Finding(Wrong.INVENTED, value, f"{value} is shown and nobody wrote it", (read.index,))


def _out_of_order(judged: Judged) -> Iterator[Finding]:
    """Real time: what was acknowledged before another began comes before it, wherever both could be seen."""
    for read in judged.shown:
        shown = [judged.by_value[value][0] for value in set(read.seen) if judged.by_value[value]]
        latest = max(shown, key=lambda one: judged.began[one.key], default=None)
        if latest is None:
            continue
        for one in judged.done:
            if one.ended < judged.began[latest.key] and not judged.has(read, one):
                sentence = (
                    f"{_named(latest)} is shown without {_named(one)}, which was acknowledged before it began"
                )
                yield Finding(Wrong.ORDER, one.key, sentence, (one.index, latest.index, read.index))
                break
    versions = [one for one in judged.done if one.version is not None]  # by their ends
    highest: Operation | None = None
    ended = 0
    for one in sorted(versions, key=lambda one: judged.began[one.key]):
        while ended < len(versions) and versions[ended].ended < judged.began[one.key]:
            if highest is None or (versions[ended].version or 0) > (highest.version or 0):
                highest = versions[ended]
            ended += 1
        if highest is not None and (one.version or 0) < (highest.version or 0):
            sentence = (
                f"{_named(one)} has a lower version than {_named(highest)}, acknowledged before it began"
            )
            yield Finding(Wrong.ORDER, one.key, sentence, (highest.index, one.index))


def _stale(judged: Judged, elsewhere_s: float) -> Iterator[Finding]:
    for read in judged.reads:
        if read.labelled:
            continue
        for one in judged.done:
            known_at = one.ended + (0.0 if one.site == read.site else elsewhere_s)
            if known_at < read.began and not judged.has(read, one):
                sentence = (
                    f"{_named(one)}, acknowledged {read.began - one.ended:.3f} s before at {one.site}, is not shown"
                    f" at {read.site}, and the answer says nothing of its age"
                )
                yield Finding(Wrong.STALE, one.key, sentence, (one.index, read.index))
                break


def _went_back(judged: Judged, elsewhere_s: float) -> Iterator[Finding]:
    """What was acknowledged and a worker has shown, it shows to later readers of the same resource, or says it is old.

    Until a write is acknowledged nothing is outdated by it, so that one answer may show it and the next may not; between
    resources, workers and sites an acknowledged one is what `_stale` looks for.
    A site that says that it cannot hear the active one (a label) may hear of a write through one reader's own request and
    learn `elsewhere_s` later only that it had missed what outdates it.
    """
    acknowledged = {one.value: one.ended for one in judged.done}

    def shown_from(read: Operation) -> float:
        return read.ended + (elsewhere_s if read.labelled else 0.0)

    by_worker: defaultdict[tuple[str, str, str], list[Operation]] = defaultdict(list)
    for read in judged.reads:
        by_worker[read.site, read.worker, read.resource].append(read)
    for reads in by_worker.values():
        arriving = sorted(reads, key=shown_from, reverse=True)
        known: dict[str, Operation] = {}
        for read in (one for one in reads if not one.labelled):
            while arriving and shown_from(arriving[-1]) < read.began:
                earlier = arriving.pop()
                known |= dict.fromkeys((value for value in earlier.seen if judged.by_value[value]), earlier)
            gone = (
                earlier
                for value, earlier in known.items()
                if acknowledged.get(value, math.inf) < read.began
                and not judged.has(read, judged.by_value[value][0])
            )
            if (before := next(gone, None)) is not None:
                sentence = f"a read at {read.site} shows less of {judged.entity} than one before it"
                yield Finding(Wrong.STALE, judged.entity, sentence, (before.index, read.index))


def _unread(judged: Judged) -> Iterator[Finding]:
    by_key = {one.key: one for one in judged.done}
    for read in judged.reads:
        for key in read.after:
            if key in by_key and not judged.has(read, by_key[key]):
                sentence = (
                    f"a read at {read.site} that named its position does not show {_named(by_key[key])}"
                )
                yield Finding(Wrong.UNREAD, key, sentence, (by_key[key].index, read.index))


def _split(operations: Sequence[Operation]) -> Iterator[Finding]:
    """An acknowledgement that began after another had ended stands at that one's epoch or a higher one."""
    done = sorted(
        (one for one in operations if one.kind is Kind.APPEND and one.outcome is Outcome.OK),
        key=lambda one: one.ended,
    )
    ends = [one.ended for one in done]
    highest: list[Operation] = []
    for one in done:
        highest.append(one if not highest or one.epoch > highest[-1].epoch else highest[-1])
    for one in done:
        before = bisect.bisect_left(ends, one.began) - 1
        if before >= 0 and one.epoch < highest[before].epoch:
            other = highest[before]
            sentence = (
                f"{_named(one)} was acknowledged at epoch {one.epoch} at {one.site} though it began"
                f" {one.began - other.ended:.3f} s after an acknowledgement at epoch {other.epoch}"
            )
            yield Finding(Wrong.SPLIT, one.key, sentence, (other.index, one.index))


def _named(one: Operation) -> str:
    version = "" if one.version is None else f" v{one.version}"
    return f"{one.entity}{version} = {one.value!r}"


class Step(msgspec.Struct, frozen=True):
    """One operation on the register: it held `epoch`, or (`claims`) rose to it from the one below."""

    began: float
    ended: float
    epoch: int
    claims: bool
    operation: int = -1


def linearizable(steps: Sequence[Step], *, initial: int = 1) -> bool:
    """Whether some order of the steps, each at an instant of its own span, is one register's (Wing and Gong).

    Of all who saw one epoch only the first to end and the last to begin bind; with those the search stays small.
    """
    kept: set[Step] = {step for step in steps if step.claims}
    for epoch in {step.epoch for step in steps if not step.claims}:
        seers = [step for step in steps if not step.claims and step.epoch == epoch]
        kept |= {min(seers, key=lambda step: step.ended), max(seers, key=lambda step: step.began)}
    order = sorted(kept, key=lambda step: (step.began, step.ended))
    dead_ends: set[tuple[int, int]] = set()
    everything = (1 << len(order)) - 1
    open_states = [(0, initial)]
    while open_states:
        taken, epoch = open_states.pop()
        # A claim whose end nobody saw may never have happened; all others must find their place.
        if all(taken >> at & 1 or (step.claims and step.ended == math.inf) for at, step in enumerate(order)):
            return True
        if (taken, epoch) in dead_ends or taken == everything:
            continue
        dead_ends.add((taken, epoch))
        first_end = min(step.ended for at, step in enumerate(order) if not taken >> at & 1)
        for at, step in enumerate(order):
            if taken >> at & 1 or step.began > first_end:
                continue
            if step.epoch == (epoch + 1 if step.claims else epoch):
                open_states.append((taken | 1 << at, step.epoch))
    return False
