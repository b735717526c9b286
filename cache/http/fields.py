"""Header fields and the values in them that caching needs: lists, directives, dates, ages, entity tags.

Invariant: pure, and never raises on what a peer sent; what cannot be understood reads as the value that makes a
response less reusable. Sources: RFC 9110 §5, §8.8; RFC 9111 §1.2, §5; RFC 9213 §2.1.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate

import msgspec

# A cache that cannot represent a larger number takes it for this one (RFC 9111 §1.2.2).
DELTA_SECONDS_MAX = 2**31
_PART = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*"?)+')
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_MEMBER = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')
_DIRECTIVE = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s",]*)))?$""")
_FIRST_WORD = re.compile(r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
# What makes a response more reusable has to be said in a way that can be read.
_PERMISSIVE = frozenset({"public", "must-understand", "immutable"})
_QUOTED_PAIR = re.compile(r"\\(.)")
# A dictionary of structured fields (RFC 8941 §3.2), whose members are bare items or inner lists with parameters.
_KEY = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BARE = rf"(?:-?\d{{1,12}}\.\d{{1,3}}|-?\d{{1,15}}|{_STRING}|[A-Za-z*][!#$%&'*+.^_`|~\w:/-]*|:[A-Za-z0-9+/=]*:|\?[01])"
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE})?)*"
_INNER_LIST = rf"\( *(?:{_BARE}{_PARAMETERS}(?: +|(?=\))))*\)"
_ITEM = re.compile(rf"({_KEY})(?:=({_BARE}|{_INNER_LIST}))?{_PARAMETERS}", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_OF_FIELD_NAMES = frozenset({"no-cache", "private"})
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_TIME = r"(\d{2}):(\d{2}):(\d{2})"
_IMF_FIXDATE = re.compile(rf"[A-Z][a-z]{{2}}, (\d{{2}}) ([A-Z][a-z]{{2}}) (\d{{4}}) {_TIME} GMT")
_RFC850_DATE = re.compile(rf"[A-Z][a-z]{{5,8}}, (\d{{2}})-([A-Z][a-z]{{2}})-(\d{{2}}) {_TIME} GMT")
_ASCTIME_DATE = re.compile(rf"[A-Z][a-z]{{2}} ([A-Z][a-z]{{2}}) ([ \d]\d) {_TIME} (\d{{4}})")
_HALF_CENTURY = 50


class Fields(msgspec.Struct, frozen=True):
    """Field lines in the order they came; names are lower-case."""

    lines: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        """The value of every line of this name."""
        return [value for found, value in self.lines if found == name]

    def get(self, name: str) -> str | None:
        """The combined value of this name, None when there is no such line (RFC 9110 §5.3; RFC 9113 §8.2.3)."""
        values = self.all(name)
        return ("; " if name == "cookie" else ", ").join(values) if values else None

    def __contains__(self, name: object) -> bool:
        return any(found == name for found, _ in self.lines)

    def without(self, names: Iterable[str]) -> Fields:
        """These fields but for those names."""
        gone = frozenset(names)
        return Fields(tuple(line for line in self.lines if line[0] not in gone))

    def replaced(self, **values: str) -> Fields:
        """These fields with one line for each keyword (`_` stands for `-`) in place of all of that name."""
        given = {name.replace("_", "-"): value for name, value in values.items()}
        return Fields((*self.without(given).lines, *given.items()))


def fields(lines: Iterable[tuple[str, str]]) -> Fields:
    """Fields with their names made lower-case."""
    return Fields(tuple((name.lower(), value.strip(" \t")) for name, value in lines))


def members(value: str | None) -> Iterator[str]:
    """The members of a list, empty ones left out; a comma in a quoted string parts nothing (RFC 9110 §5.6.1)."""
    for found in _MEMBER.findall(value or ""):
        if member := found.strip(" \t"):
            yield member


def weighted(value: str | None) -> list[tuple[float, str]]:
    """Each member's weight and itself, lower-case but for its parameters' values (RFC 9110 §5.6.6, §12.4.2).

    What is no weight is a parameter like any other.
    """
    found = []
    for member in members(value):
        what, _, parameters = member.partition(";")
        weight: float | None = None
        kept = [what.strip(" \t").lower()]
        for parameter in _PART.findall(parameters):
            name, equals, value = parameter.strip(" \t").partition("=")
            if weight is None and name.lower() == "q" and _WEIGHT.fullmatch(value):
                weight = float(value)
            else:
                kept.append(name.lower() + equals + value)
        found.append((1.0 if weight is None else weight, ";".join(kept)))
    return found


def trimmed(value: str) -> str:
    """The value without whitespace around its commas; empty members stay, for who does not know that it is a list."""
    return _MEMBER.sub(lambda found: found[0].strip(" \t"), value)


def tokens(value: str | None) -> frozenset[str]:
    """The members of a list of names, lower-case."""
    return frozenset(member.lower() for member in members(value))


class Directives(msgspec.Struct, frozen=True):
    """The directives of a Cache-Control field: lower-case name to its arguments, None for one without."""

    found: Mapping[str, tuple[str | None, ...]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.found

    def seconds(self, name: str) -> int | None:
        """The delta-seconds of a directive; None without it, 0 when it is no number or says two things.

        Source: RFC 9111 §4.2.1: a response with invalid freshness information is best taken for stale.
        """
        if name not in self.found:
            return None
        first, *others = self.found[name]
        if any(other != first for other in others):
            return 0
        return delta_seconds(first) or 0

    def wished_seconds(self, name: str) -> float:
        """The delta-seconds that a request wishes at least; without end when it is no number or says two things."""
        first, *others = self.found[name]
        told = delta_seconds(first)
        return math.inf if told is None or any(other != first for other in others) else told

    def names(self, name: str) -> frozenset[str] | None:
        """The field names that a qualified directive lists; None when it stands without any (RFC 9111 §5.2.2.4)."""
        arguments = self.found.get(name, ())
        if not arguments or any(argument is None for argument in arguments):
            return None
        return frozenset(token for argument in arguments for token in tokens(argument))

    def unqualified(self, name: str) -> bool:
        """Whether the directive stands for the whole response."""
        return name in self.found and not self.names(name)


def directives(value: str | None) -> Directives:
    """What a Cache-Control field says; a member that is no directive says nothing (RFC 9111 §5.2)."""
    found: dict[str, tuple[str | None, ...]] = {}
    for name, argument in _named(value):
        found[name] = (*found.get(name, ()), argument)
    return Directives(found)


def _named(value: str | None) -> Iterator[tuple[str, str | None]]:
    for member in members(value):
        if parts := _DIRECTIVE.fullmatch(member):
            name, quoted, plain = parts.groups()
            yield name.lower(), _QUOTED_PAIR.sub(r"\1", quoted) if quoted is not None else plain
            continue
        # A quote that nobody closed hides no directive behind it, nor do words that belong to none.
        for piece in member.split(","):
            word = _FIRST_WORD.match(piece)
            if word is not None and word[1].lower() not in _PERMISSIVE:
                alone = piece.strip(" \t") == word[1]
                yield word[1].lower(), None if alone else ""  # there is one, and nobody can read it


def targeted_directives(value: str | None) -> Directives | None:
    """What a targeted field says; None when it is empty or no dictionary, and so as if it were not there.

    Source: RFC 9213 §2.1. A value of another type than the directive's own reads as one that nobody can read.
    """
    found: dict[str, tuple[str | None, ...]] = {}
    text, at = (value or "").strip(" "), 0
    while item := _ITEM.match(text, at):
        name, argument = item.groups()
        found.pop(name, None)  # the last one counts
        if argument != "?0":
            found[name] = (_mapped(name, argument),)
        if item.end() == len(text):
            return Directives(found)
        comma = _COMMA.match(text, item.end())
        if comma is None:
            return None
        at = comma.end()
    return None


def _mapped(name: str, argument: str | None) -> str | None:
    if name in _OF_FIELD_NAMES:
        quoted = argument is not None and argument.startswith('"')
        return _QUOTED_PAIR.sub(r"\1", argument[1:-1]) if argument is not None and quoted else None
    return None if argument == "?1" else argument


def delta_seconds(text: str | None) -> int | None:
    """A non-negative whole number of seconds, at most `DELTA_SECONDS_MAX`; None when it is none."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    digits = text.lstrip("0") or "0"  # of too many digits, zeros too, int() would raise
    return min(int(digits), DELTA_SECONDS_MAX) if len(digits) <= 10 else DELTA_SECONDS_MAX


def http_date(text: str | None, now: float) -> int | None:
    """Unix seconds of a date in any of its three forms; None when it is none (RFC 9110 §5.6.7).

    `now` (Unix seconds) decides which century a year of two digits is in.
    """
    if text is None:
        return None
    if found := _IMF_FIXDATE.fullmatch(text):
        day, month, year, *clock = found.groups()
    elif found := _RFC850_DATE.fullmatch(text):
        day, month, short, *clock = found.groups()
        this_year = datetime.fromtimestamp(now, UTC).year
        whole = this_year - this_year % 100 + int(short)
        year = str(whole - 100 if whole > this_year + _HALF_CENTURY else whole)
    elif found := _ASCTIME_DATE.fullmatch(text):
        month, day, *clock, year = found.groups()
    else:
        return None
    hour, minute, second = map(int, clock)
    if month not in _MONTHS or hour > 23 or minute > 59 or second > 60:
        return None
    try:
        there_is = datetime(int(year), _MONTHS[month], int(day), tzinfo=UTC)
    except ValueError:  # no such day, or no such year
        return None
    return calendar.timegm((there_is.year, there_is.month, there_is.day, hour, minute, second))


def rendered_date(unix_s: float) -> str:
    """The preferred form of a date."""
    return formatdate(unix_s, usegmt=True)


def entity_tags(value: str | None) -> tuple[str, ...]:
    """The entity tags of a list, as written; `*` alone stays itself (RFC 9110 §8.8.3, §13.1.2)."""
    if value is not None and value.strip() == "*":
        return ("*",)
    return tuple(_TAG.findall(value or ""))


def weakly_equal(one: str, other: str) -> bool:
    """Whether two tags match by weak comparison (RFC 9110 §8.8.3.2)."""
    return one.removeprefix("W/") == other.removeprefix("W/")


def strongly_equal(one: str, other: str) -> bool:
    """Whether two tags match by strong comparison."""
    return one == other and not one.startswith("W/")
