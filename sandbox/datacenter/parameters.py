"""What a path or a query may say.

Invariant: a path that can name nothing is `not-found`, a query that cannot be understood is `bad-request`; nothing
is guessed, ignored or repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, time
from typing import Any
from urllib.parse import parse_qsl

from sandbox.datacenter.problems import Refused

QUERY_FIELDS_MAX = 8

_ID = re.compile(r"[a-z2-7]{16}")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SLOT = re.compile(r"([0-2][0-9])([0-5][0-9])")
_YEAR = re.compile(r"[0-9]{4}")
_NONCE = re.compile(r"[A-Za-z0-9_.~-]{1,128}")

Parse = Callable[[str], Any]


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError("another form")
    return match


def opaque_id(text: str) -> str:
    """An opaque id."""
    return _matched(_ID, text)[0]


def code(text: str) -> str:
    """A subject's code."""
    return _matched(_CODE, text)[0]


def session(text: str) -> int:
    """A session of the school year: 1 or 2."""
    if text not in {"1", "2"}:
        raise ValueError("another form")
    return int(text)


def day(text: str) -> date:
    """A date, `2026-11-18`."""
    return date.fromisoformat(_matched(_DATE, text)[0])


def slot(text: str) -> time:
    """A lesson's start, `0830`."""
    match = _matched(_SLOT, text)
    return time(int(match[1]), int(match[2]))


def week(text: str) -> str:
    """An ISO week that exists, `2026-W47`."""
    match = _matched(_WEEK, text)
    date.fromisocalendar(int(match[1]), int(match[2]), 1)
    return text


def year(text: str) -> int:
    """A school year by its first calendar year."""
    return int(_matched(_YEAR, text)[0])


def nonce(text: str) -> str:
    """What a prober wants to read back."""
    return _matched(_NONCE, text)[0]


PATH: Mapping[str, Parse] = {
    "class_id": opaque_id,
    "pupil_id": opaque_id,
    "teacher_id": opaque_id,
    "subject": code,
    "session": session,
    "date": day,
    "slot": slot,
}


def read_path(found: Mapping[str, str], *, people: bool = False) -> dict[str, Any]:
    """The path's parameters, understood; under `/v1/people` a `subject` is a person.

    Raises: Refused (`not-found`).
    """
    try:
        return {
            name: opaque_id(text) if people and name == "subject" else PATH[name](text)
            for name, text in found.items()
        }
    except ValueError as error:
        raise Refused("not-found") from error


def read_query(
    query: str, *, required: Mapping[str, Parse], optional: Mapping[str, Parse] | None = None
) -> dict[str, Any]:
    """The query's parameters, understood; an optional one that is absent is None.

    Raises: Refused (`bad-request`).
    """
    known = {**required, **(optional or {})}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=QUERY_FIELDS_MAX
        )
        said = dict(pairs)
        if len(said) < len(pairs) or not said.keys() <= known.keys() or not required.keys() <= said.keys():
            raise ValueError("missing, unknown or repeated")
        understood = {name: known[name](text) for name, text in said.items()}
    except ValueError as error:
        names = ", ".join(sorted(known)) or "none"
        raise Refused("bad-request", f"query parameters here, each at most once: {names}") from error
    return {**dict.fromkeys(known), **understood}


def one_of(*views: str) -> Parse:
    """A view out of those declared for a read."""

    def parse(text: str) -> str:
        if text not in views:
            raise ValueError("another view")
        return text

    return parse
