"""Histories of a country that keeps every promise, drawn by Hypothesis: what a checker must let pass.

Every operation takes effect at one instant between its beginning and its end, in the order in which they were drawn.
"""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from tests.failover.history import History, Kind, Operation, Outcome

CELL, BOARD = "cell/a", "board/b"
SITES = ("rabat", "marrakech")
TICK_S = 0.01


class Drawn(msgspec.Struct, frozen=True):
    """One operation as drawn: `before` and `behind` are the ticks from its beginning to its effect, and on to its end."""

    cell: bool
    append: bool
    outcome: Outcome
    effect: bool
    labelled: bool
    site: int
    before: int
    behind: int
    rise: bool
    again: bool
    """An append's: the oldest one of unknown outcome is repeated under its key instead."""


_DRAWN = st.builds(
    Drawn,
    cell=st.booleans(),
    append=st.booleans(),
    outcome=st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN]),
    effect=st.booleans(),
    labelled=st.booleans(),
    site=st.integers(0, 1),
    before=st.integers(1, 400),
    behind=st.integers(1, 400),
    rise=st.sampled_from([False] * 9 + [True]),
    again=st.booleans(),
)


class Country:
    """A cell, a board and an epoch that never break."""

    def __init__(self) -> None:
        self.history = History()
        self.epoch = 1
        self.held: dict[str, list[str]] = {CELL: ["13.25"], BOARD: []}
        self._count = 0
        self._unknown: dict[str, list[Operation]] = {CELL: [], BOARD: []}

    def does(self, drawn: Drawn, *, at: float) -> None:
        self.epoch += drawn.rise
        entity = CELL if drawn.cell else BOARD
        span = {"began": at - drawn.before * TICK_S, "ended": at + drawn.behind * TICK_S}
        where = {"site": SITES[drawn.site], "epoch": self.epoch, "process": self._count % 4, "entity": entity}
        if drawn.append:
            self._append(drawn, entity, {**span, **where})
        else:
            self._read(drawn, entity, {**span, **where})

    def _append(self, drawn: Drawn, entity: str, facts: dict[str, object]) -> None:
        if drawn.again and self._unknown[entity]:
            self._again(self._unknown[entity].pop(0), facts)
            return
        self._count += 1
        held = self.held[entity]
        value = f"{entity}/{self._count}"
        version = len(held) if drawn.cell else None
        done = drawn.outcome is Outcome.OK or (drawn.outcome is Outcome.UNKNOWN and drawn.effect)
        if done:
            held.append(value)
        noted = self.history.note(
            **facts,
            kind=Kind.APPEND,
            outcome=drawn.outcome,
            key=f"key-{self._count}",
            value=value,
            version=version,
            answer=f"{version} {value}" if drawn.outcome is Outcome.OK else "",
        )
        if drawn.outcome is Outcome.UNKNOWN:
            self._unknown[entity].append(noted)

    def _again(self, one: Operation, facts: dict[str, object]) -> None:
        """The stored answer when it was done; else it is done now, unless its version has gone to another."""
        held = self.held[one.entity]
        done = one.value in held
        if not done and one.version in {None, len(held)}:
            held.append(one.value)
            done = True
        self.history.note(
            **facts,
            kind=Kind.APPEND,
            outcome=Outcome.OK if done else Outcome.FAILED,
            key=one.key,
            value=one.value,
            version=one.version,
            answer=f"{one.version} {one.value}" if done else "rejected",
        )

    def _read(self, drawn: Drawn, entity: str, facts: dict[str, object]) -> None:
        held = self.held[entity]
        if drawn.labelled:  # as old as it likes, as long as it says so
            held = held[: max(1, len(held) // 2)] if drawn.cell else held[: len(held) // 2]
        self.history.note(
            **facts,
            **shown(held, cell=drawn.cell),
            kind=Kind.READ,
            outcome=Outcome.OK,
            mode="read-only" if drawn.labelled else "normal",
        )

    def ends(self, *, at: float) -> None:
        for entity, cell in ((CELL, True), (BOARD, False)):
            self.history.note(
                process=0,
                kind=Kind.FINAL,
                entity=entity,
                began=at,
                ended=at,
                outcome=Outcome.OK,
                **shown(self.held[entity], cell=cell),
            )


def shown(held: list[str], *, cell: bool) -> dict[str, object]:
    """What a read tells of an entity that holds these values."""
    return {"seen": (held[-1],), "version": len(held) - 1} if cell else {"seen": tuple(held)}


def _play(drawn: list[Drawn]) -> list[Operation]:
    country = Country()
    for number, one in enumerate(drawn):
        country.does(one, at=10.0 + number)
    country.ends(at=1_000.0)
    return country.history.operations


honest_histories = st.lists(_DRAWN, min_size=1, max_size=40).map(_play)
