"""What a handler declares about itself once: the edge, the guard and the OpenAPI documents all read it here.

Invariant: a route's rule, freshness and source stand in its declaration and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any, ClassVar, NamedTuple, Protocol
from urllib.parse import parse_qsl

import msgspec

from auth.access import Rule
from auth.principal import Facts, Principal, Relation
from auth.refusals import NotFound
from cache.coding import Coded
from cache.policy import Policy
from datacenters.position import NOWHERE, Position
from routes.problems import ProblemDetails

QUERY_PARAMETERS_MAX = 16
# In the ASGI scope: how a read was come by, for the access log.
OUTCOME_KEY = "massar.outcome"
_WEEK = re.compile(r"\A(20\d{2})-W(0[1-9]|[1-4]\d|5[0-3])\Z", re.ASCII)
_YEAR = re.compile(r"\A20\d{2}\Z", re.ASCII)
_SLOT = re.compile(r"\A([01]\d|2[0-3])[0-5]\d\Z", re.ASCII)
_SUBJECT = re.compile(r"\A[A-Za-z0-9_-]{1,32}\Z")
_OPAQUE = re.compile(r"\A[a-z2-7]{1,64}\Z")


class BadRequest(Exception):
    """The request is not of the documented form; `pointer` names the part at fault."""

    slug: ClassVar[str] = "bad-request"

    def __init__(self, pointer: str | None = None) -> None:
        super().__init__(pointer)
        self.pointer = pointer


class Calendar(msgspec.Struct, frozen=True):
    """The school calendar as the active datacenter states it; `week` is ISO (2026-W47)."""

    year: int
    session: int
    week: str
    today: str
    first_day: str
    last_day: str
    as_of: str


class QueryParameter(msgspec.Struct, frozen=True):
    """One documented query parameter; `default` reads the calendar when the caller leaves it out."""

    name: str
    kind: str
    description: str
    example: str
    default: Callable[[Calendar], str] | None = None

    def accept(self, value: str) -> str:
        """Return the canonical text of `value`.

        Raises: BadRequest.
        """
        if _ACCEPTED[self.kind](value):
            return value
        raise BadRequest(f"?{self.name}")


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_opaque(value: str) -> bool:
    return _OPAQUE.match(value) is not None


def _is_week(value: str) -> bool:
    found = _WEEK.match(value)
    if found is None:
        return False
    try:
        date.fromisocalendar(int(found[1]), int(found[2]), 1)
    except ValueError:
        return False
    return True


_ACCEPTED: dict[str, Callable[[str], bool]] = {
    "week": _is_week,
    "year": lambda value: _YEAR.match(value) is not None,
    "session": lambda value: value in {"1", "2"},
    "date": _is_date,
    "id": _is_opaque,
}


_PATH_PARAMETERS: dict[str, Callable[[str], bool]] = {
    "date": _is_date,
    "session": lambda value: value in {"1", "2"},
    "slot": lambda value: _SLOT.match(value) is not None,
    "subject": lambda value: _SUBJECT.match(value) is not None,
}


def path_names_something(path: Mapping[str, str]) -> bool:
    """Whether every path parameter has the form its name asks for; what has not, names nothing (404)."""
    for name, value in path.items():  # noqa: SIM110 - a generator costs every warm hit as much again
        if not _PATH_PARAMETERS.get(name, _is_opaque)(value):
            return False
    return True


class Source(NamedTuple):
    """Where a cached read comes from: its resource name and view (the key), the datacenter's path, its tags."""

    resource: str
    view: str
    target: str
    tags: tuple[str, ...]


class CachedRead(msgspec.Struct, frozen=True):
    """A read answered from (resource, view): `source` maps the resolved parameters to it.

    `shared`: about no single person, so it goes on when sign-outs cannot be heard, and the tiers keep it longest. `part`: only ever a part of what is
    put together, so that nobody is sent its content codings.
    """

    freshness: Policy
    source: Callable[[Mapping[str, str]], Source]
    answer: type[msgspec.Struct]
    shared: bool = False
    part: bool = False
    schema: int = 1


class Endpoint(msgspec.Struct, frozen=True):
    """Everything one route declares: who may, what it takes, what it answers."""

    method: str
    path: str
    rule: Rule
    summary: str
    tag: str
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    read: CachedRead | None = None
    conditional: bool = False
    query: tuple[QueryParameter, ...] = ()
    body: type[msgspec.Struct] | None = None
    idempotent: bool = False
    with_facts: bool = False
    problems: tuple[str, ...] = ()
    example: Any = None
    body_example: Any = None

    @property
    def reads(self) -> bool:
        """Whether it answers what was read through the cache: one entry, or several put together."""
        return self.read is not None or self.conditional


class Caller(msgspec.Struct, frozen=True):
    """A principal with what the guard has established about this request.

    `not_before`: the position of the write that the caller wants to see in what he reads.
    """

    principal: Principal
    facts: Facts | None
    relation: Relation | None
    language: str
    request_id: str
    not_before: Position = NOWHERE


class Answered(msgspec.Struct, frozen=True):
    """The bytes of one read and how they were come by.

    `age_s` is the entry's age, `data_age_s` is set when the bytes may be older than the class allows, `outcome` is
    the cache's word for the access log, `coded` holds the bytes in other content codings.
    """

    body: bytes
    etag: bytes
    cache_status: str
    age_s: float
    mode: str
    last_modified: str | None = None
    data_age_s: float | None = None
    outcome: str = "-"
    coded: Coded = ()


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a composed answer: its own status, and its body or its problem."""

    status: int
    body: msgspec.Raw | None = None
    problem: ProblemDetails | None = None


class Written(msgspec.Struct, frozen=True):
    """A datacenter's answer to a write, before the gateway rewrites its rows."""

    status: int
    body: bytes
    replayed: bool
    position: str
    location: str | None = None


class Reads(Protocol):
    """Cached reads by endpoint; implemented in the gateway package, where the leaves are joined."""

    async def calendar(self) -> Calendar:
        """The current school calendar."""
        ...

    async def read(self, read: CachedRead, params: Mapping[str, str]) -> Answered:
        """Answer `read` from cache or datacenter."""
        ...


class Home(Protocol):
    """Runs the parts of one call side by side; implemented in the gateway package."""

    async def gather(
        self, caller: Caller, parts: Mapping[str, Callable[[], Awaitable[Answered]]]
    ) -> dict[str, Part]:
        """Every part with its own status; one that failed carries its problem."""
        ...


class Writes(Protocol):
    """Forwarded writes; implemented in the gateway package."""

    async def write(
        self, caller: Caller, method: str, target: str, body: bytes, *, key: str, tags: tuple[str, ...]
    ) -> Written:
        """Forward one write and purge `tags` before returning."""
        ...


def parse_query(endpoint: Endpoint, query_string: bytes) -> dict[str, str]:
    """The documented parameters present in `query_string`, checked; others are ignored.

    Raises: BadRequest for a bad or repeated value, or more parameters than QUERY_PARAMETERS_MAX.
    """
    if not query_string or not endpoint.query:
        return {}
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_PARAMETERS_MAX,
        )
    except ValueError:
        raise BadRequest("?") from None
    given: dict[str, str] = {}
    for parameter in endpoint.query:
        values = [value for name, value in pairs if name == parameter.name]
        if len(values) > 1:
            raise BadRequest(f"?{parameter.name}")
        if values:
            given[parameter.name] = parameter.accept(values[0])
    return given


def resolve(
    endpoint: Endpoint,
    *,
    path: Mapping[str, str],
    query: Mapping[str, str],
    calendar: Calendar | None,
    principal: Principal,
    facts: Facts | None,
) -> dict[str, str] | None:
    """All parameters a source may need, or None when one needs the calendar and there is none yet."""
    params = {**path, **query, "role": principal.role, "subject_id": principal.subject}
    pupil = path.get("pupil_id")
    if pupil is not None and facts is not None:
        params["class_id"] = facts.pupils[pupil].class_id
    for parameter in endpoint.query:
        if parameter.default is None:
            continue
        if calendar is None:
            return None
        asked = params.get(parameter.name)
        params[parameter.name] = (
            parameter.default(calendar) if asked is None else _of_this_year(parameter, asked, calendar)
        )
    return params


def _of_this_year(parameter: QueryParameter, asked: str, calendar: Calendar) -> str:
    """What is asked, within the school year: a caller cannot make more keys than the year has days and weeks.

    Raises: NotFound for a week of another year.
    """
    if parameter.kind == "date":
        return min(max(asked, calendar.first_day), calendar.last_day)
    if parameter.kind == "week" and asked[:4] not in {calendar.first_day[:4], calendar.last_day[:4]}:
        raise NotFound
    return asked
