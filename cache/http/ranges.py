"""Byte ranges: what a request asks for, what a stored response can give (RFC 9110 §14, RFC 9111 §3.3, §3.4).

Invariant: pure; a Range that is not understood, or names more than one range, is as if it were not there.
"""

from __future__ import annotations

import re

import msgspec

from cache.http.fields import Fields, http_date, strongly_equal
from cache.http.messages import Response, Span, Stored

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", re.IGNORECASE)
DIGITS_MAX = 18
_PARTIAL = 206


class Wanted(msgspec.Struct, frozen=True):
    """One range: from `first` to `last` (None: to the end), or the last `suffix` bytes."""

    first: int = 0
    last: int | None = None
    suffix: int | None = None

    def within(self, whole: int) -> Span | None:
        """The bytes it names of a representation of so many; None when it names none (416)."""
        if self.suffix is not None:
            return Span(max(0, whole - self.suffix), whole - 1, whole) if self.suffix and whole else None
        if self.first >= whole:
            return None
        last = whole - 1 if self.last is None else min(self.last, whole - 1)
        return Span(self.first, last, whole)


def wanted(of: Fields) -> Wanted | None:
    """The single byte range of a request's Range; None when there is none that this cache answers by itself."""
    found = _RANGE.fullmatch((of.get("range") or "").strip())
    if found is None or any(len(digits) > DIGITS_MAX for digits in found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return Wanted(suffix=int(last)) if last else None
    if last and int(last) < int(first):
        return None
    return Wanted(first=int(first), last=int(last) if last else None)


def content_span(of: Fields) -> Span | None:
    """What Content-Range says is enclosed; None when it cannot be relied on."""
    found = _CONTENT_RANGE.fullmatch((of.get("content-range") or "").strip())
    if found is None or any(len(digits) > DIGITS_MAX for digits in found.groups()):
        return None
    first, last, whole = map(int, found.groups())
    return Span(first, last, whole) if first <= last < whole else None


def may_be_parted(request: Fields, stored: Stored) -> bool:
    """Whether If-Range, where there is one, names this very representation (RFC 9110 §13.1.5)."""
    condition = request.get("if-range")
    if condition is None:
        return True
    if condition.startswith('"'):
        return strongly_equal(condition, stored.fields.get("etag") or "")
    asked, changed, dated = (
        http_date(value, stored.received_at)
        for value in (condition, stored.fields.get("last-modified"), stored.fields.get("date"))
    )
    # Of what changed in the very second of its Date there may be two (§8.8.2.2).
    return asked is not None and asked == changed and dated is not None and dated > asked


def held(stored: Stored, want: Wanted) -> Span | None:
    """The wanted bytes if all of them are held."""
    whole = stored.span.whole if stored.span else stored.length
    span = want.within(whole)
    if span is None or stored.span is None:
        return span
    inside = stored.span.first <= span.first and span.last <= stored.span.last
    return span if inside else None


def continues(part: Stored, response: Response) -> bool:
    """Whether the response's bytes are the rest of the same representation (RFC 9111 §3.4)."""
    span = content_span(response.fields) if response.status == _PARTIAL else None
    if span is None or part.span is None:
        return False
    same = part.fields.get("etag") == response.fields.get("etag") and span.whole == part.span.whole
    return same and span.first == part.span.last + 1 and span.last == span.whole - 1
