"""One JSON line per event on standard output.

Invariant: a line holds route templates, statuses, slugs, epochs and durations, never an id, a name, a code, a mark
or an error's text.
"""

from __future__ import annotations

import sys

import structlog


def json_log(*, site: str) -> structlog.typing.FilteringBoundLogger:
    """A log that names its site in every line."""
    log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stdout),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        context_class=dict,
        part="datacenter",
        site=site,
    )
    return log
