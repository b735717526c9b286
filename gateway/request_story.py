"""What was decided for one request, told from the access-log lines of the gateways.

Invariant: it tells what a line holds and nothing else: a line names nobody, and so does the story.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

REQUEST_ID = re.compile(r"([0-9a-f]{12})-([0-9a-f]{1,15})")
LINE_BYTES_MAX = 65_536
OTHER_LINES_MAX = 20
# What a line of the standard kind may hold that is worth repeating.
_TOLD = ("event", "level", "error", "at", "reason", "slug")
_CACHE = {
    "hit": "fresh in a tier: no datacenter was needed for it",
    "revalidated": "stale, and the datacenter said that it still holds (304)",
    "miss": "in no tier: asked of a datacenter",
    "collapsed": "in no tier: waited for another request's fetch of the same entry",
    "revalidating": "stale, shown while the datacenter is asked again behind it (stale-while-revalidate)",
    "stale": "stale, shown because the fetch failed",
    "survival": "old, shown because no datacenter answered",
    "composed": "put together from several entries",
    "-": "no cached read",
}
_JOURNAL = {
    "kept": "its record was in the journal before the answer",
    "unprotected": "acknowledged without a journal record: protection was off",
    "moved": "the epoch moved while it was under way",
}


class Line(msgspec.Struct, frozen=True):
    """One request as the gateway wrote it down; `-` is what was not met."""

    request_id: str
    at: float
    route: str
    method: str
    status: int
    cache: str
    ms: float
    role: str = "-"
    relation: str = "-"
    rule: str = "-"
    datacenter: str = "-"
    epoch: int = 0
    journal: str = "-"
    slug: str = "-"


class Story(msgspec.Struct, frozen=True):
    """What the logs hold of one request; `unknown` says why there is no line."""

    request_id: str
    files: tuple[str, ...]
    line: Line | None
    log: str | None
    beside: tuple[dict[str, Any], ...]
    unknown: str | None


class _Worker:
    """What the logs hold of the worker that gave an id: the numbers of its first and last line."""

    def __init__(self, prefix: str) -> None:
        self._mark = f'"request_id":"{prefix}-'.encode()
        self.first: int | None = None
        self.last: int | None = None

    def note(self, raw: bytes) -> None:
        at = raw.find(self._mark)
        if at < 0:
            return
        text = raw[at + len(self._mark) :].split(b'"', 1)[0]
        try:
            number = int(text, 16)
        except ValueError:
            return
        self.first = number if self.first is None else min(self.first, number)
        self.last = number if self.last is None else max(self.last, number)


def tell(request_id: str, files: Iterable[Path]) -> Story:
    """The story of one request.

    Raises: ValueError (no request id has this form), OSError (a file cannot be read).
    """
    form = REQUEST_ID.fullmatch(request_id)
    if form is None:
        raise ValueError(
            f"{request_id[:40]!r} is no request id: those are 12 hex digits, a dash, a hex number"
        )
    mark = f'"{request_id}"'.encode()
    worker = _Worker(form[1])
    read: list[str] = []
    found: Line | None = None
    log: str | None = None
    beside: list[dict[str, Any]] = []
    for path in files:
        read.append(str(path))
        for raw in _lines(path):
            worker.note(raw)
            if mark not in raw:
                continue
            line = _request(raw)
            if line is not None and line.request_id == request_id:
                found, log = line, str(path)
            elif len(beside) < OTHER_LINES_MAX and (other := _other(raw, request_id)):
                beside.append(other)
    unknown = None if found is not None else _unknown(worker, int(form[2], 16), read)
    return Story(request_id, tuple(read), found, log, tuple(beside), unknown)


def text(story: Story) -> str:
    """The story as lines for a terminal."""
    line = story.line
    if line is None:
        return "\n".join([f"{story.request_id}: {story.unknown}", *_beside(story)])
    at = datetime.fromtimestamp(line.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    refused = "" if line.slug == "-" else f" {line.slug} (docs/problems.md#{line.slug})"
    asked = "none was asked" if line.datacenter == "-" else f"{line.datacenter} answered"
    journal = "" if line.journal == "-" else f"\njournal     {_JOURNAL.get(line.journal, line.journal)}"
    return "\n".join([
        f"request     {story.request_id} at {at} UTC: {line.method} {line.route}",
        f"caller      {_caller(line)}",
        f"cache       {line.cache}: {_CACHE.get(line.cache, 'a word of a newer version')}",
        f"datacenter  {asked}; declared at the answer: epoch {line.epoch}{journal}",
        f"answer      {line.status}{refused} after {line.ms:.2f} ms",
        *_beside(story),
        f"log         {story.log}",
    ])  # fmt: skip


def _caller(line: Line) -> str:
    if line.rule == "open":
        return "not asked for: the route is open to everybody"
    if line.rule == "-":
        return "not asked for: the request met no route"
    if line.role == "-":
        return f"not let in: no valid token was shown (rule {line.rule})"
    return f"{line.role}, relation {line.relation}, rule {line.rule}"


def sandbox_logs(folder: Path) -> tuple[Path, ...]:
    """The gateways' logs of a sandbox, the older halves first."""
    logs = folder / "logs"
    return tuple(sorted(logs.glob("*-gateway.log.1")) + sorted(logs.glob("*-gateway.log")))


def _lines(path: Path) -> Iterator[bytes]:
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as packed:
            yield from iter(lambda: packed.readline(LINE_BYTES_MAX), b"")
    else:
        with path.open("rb") as plain:
            yield from iter(lambda: plain.readline(LINE_BYTES_MAX), b"")


def _request(raw: bytes) -> Line | None:
    try:
        return msgspec.json.decode(raw, type=Line)
    except msgspec.MsgspecError:
        return None


def _other(raw: bytes, request_id: str) -> dict[str, Any] | None:
    try:
        held = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        return None
    if held.get("request_id") != request_id:
        return None
    return {name: held[name] for name in _TOLD if name in held}


def _unknown(worker: _Worker, number: int, read: list[str]) -> str:
    if not read:
        return "no log was read: name files by --log, or a sandbox by --dir"
    if worker.first is None or worker.last is None:
        return (
            f"unknown: none of the {len(read)} logs holds a line of the worker that gave this id; "
            "it is another site's, or all of that worker's lines are rotated away"
        )
    if number < worker.first:
        return f"rotated away: these logs hold that worker's requests from number {worker.first:x} on"
    if number > worker.last:
        return (
            f"unknown: that worker's last line is number {worker.last:x}; "
            "the request is still under way, or the worker ended before it wrote"
        )
    return "unknown: that worker wrote lines before and after it, none for it; the caller hung up before the answer"


def _beside(story: Story) -> list[str]:
    return [f"beside      {msgspec.json.encode(other).decode()}" for other in story.beside]
