"""JSON lines on standard error: what happened, under which request id, about nobody.

Invariant: no login, name, code, mark, path with an id, query, header or body is ever written; a route is
written as its template.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import structlog

BUFFER_BYTES_MAX = 65_536
FLUSH_INTERVAL_S = 0.2
FRAMES_MAX = 6
_LINE = b'{"event":"request","at":%.3f,"request_id":"%s",%s'
_WORDS = (
    b'"route":"%s","method":"%s","status":%d,"cache":"%s","ms":%.2f,'
    b'"role":"%s","relation":"%s","rule":"%s","datacenter":"%s","epoch":%d,"journal":"%s","slug":"%s"}\n'
)

# A traceback as text: its frames are indented, the kind of the exception is not.
_FRAME = re.compile(r'^  File "(?:[^"\n]*/)?([^/"\n]+/[^/"\n]+)", line (\d+)', re.MULTILINE)
_RAISED = re.compile(r"^(?!Traceback )([A-Za-z_][\w.]*)(?=:|$)", re.MULTILINE)


def configure(component: str, site: str) -> None:
    """Set up structlog and the standard library's logging as JSON lines on standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception_kind,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(component=component, site=site)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """Lines of the standard library's logging as JSON; only the server's own texts are known to name nobody."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without exception text or arguments of other libraries."""
        line: dict[str, Any] = {"event": "log", "logger": record.name, "level": record.levelname.lower()}
        if record.name.startswith("_granian"):
            # Its own words are the first line; what follows is the traceback of an exception and may quote anything.
            line["event"], _, trace = record.getMessage().partition("\n")
            if trace:
                line["error"] = next(iter(_RAISED.findall(trace)), "unknown")
                line["at"] = [f"{place}:{number}" for place, number in _FRAME.findall(trace)][-FRAMES_MAX:]
        elif record.exc_info is not None and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line)


# What Granian takes as its logging configuration.
SERVER_LOGS: dict[str, Any] = {
    "formatters": {"json": {"()": "gateway.logs.JsonFormatter"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}
    },
    "loggers": {"_granian": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}


def _exception_kind(_logger: Any, _method: str, event: Any) -> Any:
    # An exception's text may quote a row or a claim: its type and place say enough.
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frames = []
        trace = error.__traceback__
        while trace is not None:
            place = "/".join(trace.tb_frame.f_code.co_filename.rsplit("/", 2)[-2:])
            frames.append(f"{place}:{trace.tb_lineno}")
            trace = trace.tb_next
        event["at"] = frames[-6:]
    return event


def words(
    *,
    route: str,
    method: str,
    status: int,
    outcome: str,
    ms: float,
    epoch: int,
    role: str = "-",
    relation: str = "-",
    rule: str = "-",
    datacenter: str = "-",
    journal: str = "-",
    slug: str = "-",
) -> bytes:
    """What a line says besides its instant and id. `route` is the template, `outcome` the cache's word; `-` is what was
    not met.
    """
    return _WORDS % (
        route.encode(),
        method.encode(),
        status,
        outcome.encode(),
        ms,
        role.encode(),
        relation.encode(),
        rule.encode(),
        datacenter.encode(),
        epoch,
        journal.encode(),
        slug.encode(),
    )


class AccessLog:
    """One line per request, written in batches so that a warm hit pays for a format, not for a system call."""

    def __init__(self, clock: Callable[[], float], sink: BinaryIO | None = None) -> None:
        self._clock = clock
        self._sink = sink if sink is not None else sys.stderr.buffer
        self._lines: list[bytes] = []
        self._bytes = 0
        self._flush_at: asyncio.TimerHandle | None = None

    def write(self, request_id: bytes, said: bytes) -> None:
        """Note one answered request; `said` is what `words` made of it."""
        line = _LINE % (self._clock(), request_id, said)
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= BUFFER_BYTES_MAX:
            self.flush()
        elif self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Hand what is buffered to the sink."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        lines, self._lines, self._bytes = self._lines, [], 0
        if lines:
            self._sink.write(b"".join(lines))
            self._sink.flush()
