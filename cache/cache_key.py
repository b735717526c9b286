"""The name of a cached answer: which resource, in which view; never who asked.

Invariant: two different resources, views or schemas never share a text, and a name written outside this
process shows nothing of it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

SEALED_NAME_BYTES = 20
_WORD = re.compile(r"[a-z][a-z0-9-]*")


class CacheKey(msgspec.Struct, frozen=True):
    """A resource (path and query), the view it is shown in, and the schema version of that view's Struct.

    The view holds only `[a-z0-9-]`, so the first two separators of `text` are always this class's own.
    """

    resource: str
    view: str
    schema: int = 1

    def __post_init__(self) -> None:
        view = self.view
        plain = view.isascii() and view.isalpha() and view.islower()  # nearly all, and three times as fast
        if not plain and not _WORD.fullmatch(view):
            raise ValueError(f"a view is a declared lower-case word, not {view!r}")
        if self.schema < 0:
            raise ValueError("a schema version is not negative")

    @property
    def text(self) -> str:
        """The canonical text: what tier 1 is indexed by and what a seal is bound to."""
        return key_text(self.resource, self.view, self.schema)

    def sealed_name(self, secret: bytes) -> bytes:
        """The name to use where others may look: a keyed digest, `SEALED_NAME_BYTES` long."""
        return sealed_name(secret, "entry", self.text)


def key_text(resource: str, view: str, schema: int = 1) -> str:
    """`CacheKey.text` of a view that is known to be a declared word: for who makes no `CacheKey` of it."""
    return f"{view}:{schema}:{resource}"


def resource(*parts: str, query: Mapping[str, str | int] | None = None) -> str:
    """Write path parts and query so that no two different ones can be confused.

    The result is a request target as well (`/v1/pupils/…/grades?session=1&year=2026`): every byte outside the
    unreserved set is percent-encoded, parts are never empty, query names are sorted.
    """
    path = "".join(["/" + _escaped(part) for part in parts])
    if not query:
        return path
    names = sorted(query)
    return path + "?" + "&".join([f"{_escaped(name)}={_quoted(str(query[name]))}" for name in names])


def sealed_name(secret: bytes, kind: str, text: str) -> bytes:
    """A keyed digest of `text`, different for every `kind`, so that an entry is never read as a generation."""
    return hmac.digest(secret, f"{kind}\0{text}".encode(), "sha256")[:SEALED_NAME_BYTES]


def _escaped(part: str) -> str:
    if part in {"", ".", ".."}:
        raise ValueError("a part of a resource is neither empty nor a dot segment")
    return _quoted(part)


def _quoted(text: str) -> str:
    if text.isascii() and text.isalnum():  # ids and fixed words: nearly all of them
        return text
    return quote(text, safe="")
