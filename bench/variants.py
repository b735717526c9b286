"""What the edge is compared with: the same gateway without it, and the bare server under both.

Invariant: each variant is served with exactly the options of `gateway.serve`; only what answers differs.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import msgspec
from granian import Granian

from cache.asking import Ask
from cache.store import Cache
from datacenters.journal import Journal, JournalRecord, Kept
from gateway import asgi, serve
from gateway.decisions import Decision, Decisions
from gateway.hot_routes import HotRoutes
from gateway.scope import Message, Receive, Scope, Send
from routes.endpoint import CachedRead, Source
from routes.timetables import TIMETABLE

# Of the sandbox's school year, and not the current one.
CHANGING_WEEK = "2026-W48"
FLOOR_BODY_VARIABLE = "BENCH_FLOOR_BODY_BYTES"
_FLOOR_HEADERS = [
    (b"content-type", b"application/json"),
    (b"etag", b'"AAAAAAAAAAAAAAAAAAAAAAAA"'),
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Accept-Encoding, Authorization"),
    (b"last-modified", b"Tue, 01 Sep 2026 08:00:00 GMT"),
    (b"massar-request-id", b"000000000000-00000"),
    (b"massar-epoch", b"1"),
    (b"massar-mode", b"normal"),
    (b"cache-status", b"massar; hit; detail=memory"),
    (b"age", b"1"),
]


def without_edge() -> Any:
    """The gateway with no route answered before the router: guard, handler and cache do all of it."""
    edge = asgi.build()
    edge._hot_routes = HotRoutes(())  # noqa: SLF001 - the one difference that is measured
    return edge


def without_journal() -> Any:
    """The gateway that acknowledges on the datacenter's commit alone: no record, no purge in etcd."""

    async def keep(_journal: Journal, _record: JournalRecord, **_facts: Any) -> Kept:
        return Kept(revision=1, protected=False)

    Journal.keep = keep  # type: ignore[method-assign, assignment]  # the one difference that is measured
    return asgi.build()


def never_twice() -> Any:
    """The gateway for which every timetable is a key of its own: each read is a whole miss, with its fill."""
    number = itertools.count()
    _key_timetables(lambda _params: str(next(number)))
    _decide_anew(lambda path, _query: path.endswith("/timetable"))
    return asgi.build()


def one_week_changing() -> Any:
    """The gateway for which the timetables of CHANGING_WEEK are keys of their own each time; every other read is as it is."""
    number = itertools.count()
    _key_timetables(lambda params: str(next(number)) if params["week"] == CHANGING_WEEK else None)
    _decide_anew(lambda _path, query: CHANGING_WEEK.encode() in query)
    return asgi.build()


def from_valkey() -> Any:
    """The gateway whose tier 1 keeps no timetable, each a pupil's own: those reads are hits of tier 2, hardly any shared."""
    keep = Cache._keep  # noqa: SLF001 - the one difference that is measured

    def forget(cache: Cache, ask: Ask, *facts: Any) -> None:
        if not any(tag.startswith("timetable:") for tag in ask.tags):
            keep(cache, ask, *facts)

    Cache._keep = forget  # type: ignore[method-assign, assignment]  # noqa: SLF001  # the one difference that is measured
    _key_timetables(lambda params: params["pupil_id"])
    return asgi.build()


def _key_timetables(by: Callable[[Mapping[str, str]], str | None]) -> None:
    """Let `by` tell one key of a timetable from another; None: as it is."""
    read = TIMETABLE.read
    assert isinstance(read, CachedRead)
    source_of = read.source

    def source(params: Mapping[str, str]) -> Source:
        asked, apart = source_of(params), by(params)
        return asked if apart is None else asked._replace(resource=f"{asked.resource}/{apart}")

    msgspec.structs.force_setattr(read, "source", source)


def _decide_anew(concerned: Callable[[str, bytes], bool]) -> None:
    """Have nothing remembered that was decided for these paths and queries: it names the entry of an earlier key."""
    keep = Decisions.keep

    def forget(decisions: Decisions, session: str, path: str, query: bytes, decision: Decision) -> None:
        if not concerned(path, query):
            keep(decisions, session, path, query, decision)

    Decisions.keep = forget  # type: ignore[method-assign, assignment]  # what is measured is a miss


def floor() -> Any:
    """Two ready messages, nothing checked: what the server itself costs."""
    body = floor_body(int(os.environ[FLOOR_BODY_VARIABLE]))
    start: Message = {
        "type": "http.response.start",
        "status": 200,
        "headers": [*_FLOOR_HEADERS, (b"content-length", b"%d" % len(body))],
    }
    rest: Message = {"type": "http.response.body", "body": body, "more_body": False}

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send(start)
            await send(rest)

    return answer


def floor_body(size_bytes: int) -> bytes:
    """What the floor answers with."""
    return b"x" * size_bytes


def _serve(variant: str) -> None:
    def aimed_here(_target: str, **options: Any) -> Any:
        return Granian(f"bench.variants:{variant}", **options)

    with mock.patch("granian.Granian", aimed_here):
        serve.run_part("workers", os.environ)


if __name__ == "__main__":
    _serve(sys.argv[1])
