"""Warm answers made ready: headers and bytes of an entry, once per content coding, kept with the entry.

Invariant: what is kept says nothing of a caller or an instant; the edge adds those.
"""

from __future__ import annotations

from typing import NamedTuple

from cache.coding import CODINGS, IDENTITY, choose, coded_etag
from cache.entries import Entry
from cache.memory import Held
from gateway.scope import Message
from routes.answers import JSON, PERSONAL, VARY

# Shared by all that is made ready, so that they cost nothing there.
_ALWAYS = ((b"cache-control", PERSONAL.encode()), (b"vary", VARY.encode()))
_TYPE = (b"content-type", JSON.encode())
_CODED: dict[str, tuple[tuple[bytes, bytes], ...]] = {
    IDENTITY: (_TYPE,),
    **{coding: (_TYPE, (b"content-encoding", coding.encode())) for coding in CODINGS},
}
EMPTY: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Prepared(NamedTuple):
    """The unchanging part of a warm answer; lives in its entry's slot."""

    full: list[tuple[bytes, bytes]]
    """Headers of 200."""
    unchanged: list[tuple[bytes, bytes]]
    """Headers of 304."""
    body: Message
    etag: str


def prepare(held: Held, accept_encoding: bytes | None) -> Prepared:
    """The entry's answer in the coding that suits the caller, made when it is first asked for."""
    by_coding = held.prepared
    if not isinstance(by_coding, dict):
        by_coding = held.prepared = dict.fromkeys((*(name for name, _ in held.entry.coded), IDENTITY))
    coding = choose(by_coding, accept_encoding)
    prepared: Prepared | None = by_coding[coding]
    if prepared is None:
        prepared = by_coding[coding] = _made(held.entry, coding)
    return prepared


def prepare_entry(entry: Entry, accept_encoding: bytes | None) -> Prepared:
    """As `prepare`, for an entry that no tier of this process holds."""
    return _made(entry, choose([name for name, _ in entry.coded], accept_encoding))


def _made(entry: Entry, coding: str) -> Prepared:
    """All of a warm answer that does not change between requests, for 200 and for 304."""
    content = next((coded for name, coded in entry.coded if name == coding), entry.body)
    etag = coded_etag(entry.etag, coding)
    shared = [(b"etag", etag), *_ALWAYS]
    if entry.last_modified is not None:
        shared.append((b"last-modified", entry.last_modified.encode()))
    full = [(b"content-length", str(len(content)).encode()), *_CODED[coding], *shared]
    body: Message = {"type": "http.response.body", "body": content, "more_body": False}
    return Prepared(full, shared, body, etag.decode("ascii"))
