"""Which stored response a request selects (RFC 9111 §4.1).

Invariant: pure; a field value is normalised only in ways that its own definition calls equal, and what is not
understood is compared as it came, whitespace around commas aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cache.http.fields import Fields, http_date, members, tokens, trimmed, weighted
from cache.http.messages import HOP_BY_HOP, Request, Stored

ANYTHING = "*"
_WEIGHTED = frozenset({"accept", "accept-language", "accept-encoding", "accept-charset"})
_LANGUAGE = "accept-language"


def selecting_values(vary: Fields, request: Fields) -> tuple[tuple[str, str | None], ...] | None:
    """The request's normalised values of the fields that Vary names; None when no later request can match."""
    names = tokens(vary.get("vary"))
    if ANYTHING in names:
        return None
    return tuple((name, normalised(name, request.get(name))) for name in sorted(names))


def normalised(name: str, value: str | None) -> str | None:
    """A value in one form of all that mean the same."""
    if value is None:
        return None
    if name in _WEIGHTED:
        return ",".join(f"{weight:g} {member}" for weight, member in sorted(weighted(value), reverse=True))
    return trimmed(value)


def selects(stored: Stored, request: Fields) -> bool:
    """Whether the request's own values are the ones that this response was selected by."""
    return all(
        normalised(name, presented) == value or _wished_language(name, presented, stored.fields)
        for name, value, presented in ((name, value, request.get(name)) for name, value in stored.selecting)
    )


def newest_first(stored: Iterable[Stored]) -> list[Stored]:
    """In order of preference where several match: by Date, and of one second the last to come."""
    return sorted(stored, key=lambda one: (_dated(one), one.received_at), reverse=True)


def matching(stored: Sequence[Stored], request: Request) -> list[Stored]:
    """Those of one target that the request selects, the preferred one first.

    One that varies goes before one that does not: a default answer often forgets to say that it does (§4.1).
    """
    selected = newest_first(one for one in stored if selects(one, request.fields))
    return sorted(selected, key=lambda one: not one.selecting)


def alike(one: Request, other: Request) -> bool:
    """Whether an origin sees no difference between two requests for one target."""
    return one.method == other.method and _seen(one) == _seen(other)


def _seen(request: Request) -> list[tuple[str, str]]:
    """Lines of one name in their order; that of the names says nothing (RFC 9110 §5.3)."""
    return sorted([line for line in request.fields.lines if line[0] not in HOP_BY_HOP], key=_name)


def _name(line: tuple[str, str]) -> str:
    return line[0]


def _dated(stored: Stored) -> float:
    date = http_date(stored.fields.get("date"), stored.received_at)
    return stored.received_at if date is None else float(date)


def _wished_language(name: str, value: str | None, stored: Fields) -> bool:
    """Whether it is in the one language that the request wants most: no selection could come out better."""
    languages = list(members(stored.get("content-language")))
    if name != _LANGUAGE or len(languages) != 1 or value is None:
        return False
    wanted = sorted(weighted(value), reverse=True)
    best = [language for weight, language in wanted if weight > 0 and weight == wanted[0][0]]
    return best == [languages[0].lower()]
