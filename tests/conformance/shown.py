"""hishel, another pure RFC 9111 machine, and what it is shown of a scene.

Invariant: what is shown is a value; nothing here knows what the engine says.
"""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import hishel
import msgspec
import pytest
from hishel._core import _spec
from hishel._utils import parse_date

from cache.http.fields import Fields, rendered_date
from cache.http.messages import Request, Response
from tests.conformance.scenes import Validation, Verdict

OPTIONS = hishel.CacheOptions(shared=True)
SECONDS_MAX = 2**31  # RFC 9111 §1.2.2
LIFETIMES = ("s-maxage", "max-age")


class Shown(msgspec.Struct, frozen=True):
    """What hishel is shown; `updated`: the validation that `told` went through, `before`: what it was then."""

    first: Request
    told: Response
    told_at: float
    later: Request
    at: float
    updated: Validation | None = None
    before: Response | None = None

    @property
    def said(self) -> dict[str, list[str]]:
        """The response's directives with all their arguments."""
        return directives(self.told.fields)

    @property
    def asked(self) -> dict[str, list[str]]:
        """The later request's directives with all their arguments."""
        return directives(self.later.fields)

    @property
    def made_at(self) -> int | None:
        """What its Date says."""
        return parse_date(self.told.fields.get("date") or "")

    @property
    def explicit(self) -> bool:
        """Whether the response says for how long it is fresh."""
        return bool(self.said.keys() & set(LIFETIMES)) or "expires" in self.told.fields

    @property
    def guessed(self) -> bool:
        """Whether it says no more than when it was changed."""
        return not self.explicit and "last-modified" in self.told.fields

    @property
    def tenth_s(self) -> int:
        """The tenth of the time for which it had not been changed, in whole seconds that are begun."""
        changed = parse_date(self.told.fields.get("last-modified") or "") or 0
        return max(0, -((changed - (self.made_at or 0)) // 10))

    @property
    def age_s(self) -> int:
        """How old it is; its Date must have been read before."""
        return int(self.at) - (self.made_at or 0)

    @property
    def left_s(self) -> int:
        """For how long it is fresh; its Date and its lifetime must have been read before."""
        for name in LIFETIMES:
            if (lifetime := seconds(self.said, name)) is not None:
                return lifetime - self.age_s
        expires = parse_date(self.told.fields.get("expires") or "") or 0
        return max(0, expires - (self.made_at or 0)) - self.age_s

    def saying(self, *more: str, without: Container[str] = ()) -> Shown:
        """With these directives in the response."""
        return self.telling(_saying(self.told.fields, more, without))

    def asking(self, *more: str) -> Shown:
        """With these directives in the later request."""
        fields = _saying(self.later.fields, more, ())
        return msgspec.structs.replace(self, later=msgspec.structs.replace(self.later, fields=fields))

    def telling(self, fields: Fields) -> Shown:
        """With these fields in the response."""
        return msgspec.structs.replace(self, told=Response(self.told.status, fields))

    def made(self, at: float) -> Shown:
        """With another Date, and an Expires that leaves its lifetime as it was."""
        fields = self.told.fields.replaced(date=rendered_date(at))
        expires = parse_date(self.told.fields.get("expires") or "")
        if expires is not None and self.made_at is not None:
            fields = fields.replaced(expires=rendered_date(expires + at - self.made_at))
        return self.telling(fields)


def directives(of: Fields) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in _members(of):
        name, _, argument = one.partition("=")
        found.setdefault(name, []).append(argument)
    return found


def seconds(of: dict[str, list[str]], name: str) -> int | None:
    """The number that a directive says; nothing of two different ones is believed."""
    if name not in of:
        return None
    said = set(of[name])
    return min(int(said.pop()), SECONDS_MAX) if len(said) == 1 and said != {""} else 0


def _members(of: Fields) -> list[str]:
    return list(filter(None, (of.get("cache-control") or "").split(", ")))


def _saying(of: Fields, more: tuple[str, ...], without: Container[str]) -> Fields:
    kept = [one for one in _members(of) if one.partition("=")[0] not in without]
    both = ", ".join((*kept, *more))
    return of.replaced(cache_control=both) if both else of.without({"cache-control"})


# hishel


@contextmanager
def _their_clock(now: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spec, "time", SimpleNamespace(time=lambda: now))
        yield


def entry_of(first: hishel.Request, told: hishel.Response) -> hishel.Entry:
    return hishel.Entry(uuid.UUID(int=1), first, told)


def request_of(asked: Request) -> hishel.Request:
    return hishel.Request(asked.method, asked.target, _headers_of(asked.fields))


def response_of(told: Response) -> hishel.Response:
    return hishel.Response(told.status, _headers_of(told.fields))


def _headers_of(of: Fields) -> hishel.Headers:
    return hishel.Headers(dict(of.lines))


def updated(stored: Response, first: Request, asked: Request, not_modified: Response) -> Response:
    """What hishel makes of a stored response by a 304."""
    again = request_of(asked)
    entries = [entry_of(request_of(first), response_of(stored))]
    state = hishel.NeedRevalidation(OPTIONS, again, again, entries).next(response_of(not_modified))
    assert isinstance(state, hishel.NeedToBeUpdated)
    return Response(stored.status, Fields(tuple(state.updating_entries[0].response.headers.items())))


def keeps(one: Shown) -> bool:
    """Whether hishel has it stored; after a validation it had."""
    if one.updated is not None:
        return True
    with _their_clock(one.told_at):
        miss = hishel.IdleClient(OPTIONS).next(request_of(one.first), [])
        assert isinstance(miss, hishel.CacheMiss)
        return isinstance(miss.next(response_of(one.told)), hishel.StoreAndUse)


def finds(one: Shown) -> Verdict:
    """What hishel makes of the later request when it has that stored."""
    stored = entry_of(request_of(one.first), response_of(one.told))
    with _their_clock(one.at):
        decision = hishel.IdleClient(OPTIONS).next(request_of(one.later), [stored])
    if isinstance(decision, hishel.FromCache):
        return Verdict.SERVED
    conditional = isinstance(decision, hishel.NeedRevalidation) and {
        "if-none-match",
        "if-modified-since",
    } & set(decision.request.headers)
    return Verdict.VALIDATED if conditional else Verdict.FORWARDED


def theirs(one: Shown) -> Verdict:
    """What hishel makes of it."""
    return finds(one) if keeps(one) else Verdict.NOT_STORED
