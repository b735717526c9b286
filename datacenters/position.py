"""Where a datacenter's history stands: (timeline, LSN), totally ordered; pure.

Invariant: the text form is `{timeline}-{lsn}`, both decimal and no more than PostgreSQL has, and survives a round trip.
"""

from __future__ import annotations

import re

Position = tuple[int, int]

NOWHERE: Position = (0, 0)
TIMELINE_MAX = 2**32 - 1
LSN_MAX = 2**64 - 1
_TEXT = re.compile(r"([0-9]{1,10})-([0-9]{1,20})")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse(text: str) -> Position:
    """The position in `text`.

    Raises: ValueError.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a position: {text[:40]!r}")
    timeline, lsn = int(match[1]), int(match[2])
    if timeline > TIMELINE_MAX or lsn > LSN_MAX:
        raise ValueError(f"not a position of PostgreSQL: {text!r}")
    return timeline, lsn


def render(position: Position) -> str:
    """The position as it travels in headers and records."""
    return f"{position[0]}-{position[1]}"


def shows(held: Position, needed: Position, *, switch: Position | None, settled: bool) -> bool:
    """Whether what stands at `held` shows a write that was answered with the position `needed`.

    `switch`: how far the timeline that ended last counts in the one that goes on. A write beyond it was done again on
    the new timeline, under a position nobody was told: only what is `settled`, asked of the active datacenter after the
    activation that ended the replay, is sure to show it.
    """
    if needed == NOWHERE:
        return True
    if held < needed:
        return False
    taken_over = switch is not None and switch[0] == needed[0] and needed <= switch
    if held[0] > needed[0]:
        return settled or taken_over
    return taken_over or switch is None or switch[0] != needed[0]


def lsn_from_postgres(text: str) -> int:
    """PostgreSQL's `0/3000148` as a number.

    Raises: ValueError.
    """
    match = _LSN.fullmatch(text)
    if match is None:
        raise ValueError(f"not an LSN: {text[:40]!r}")
    return (int(match[1], 16) << 32) | int(match[2], 16)
