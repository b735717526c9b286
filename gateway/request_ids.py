"""Ids of requests: unique in the whole house, cheap, and about nobody."""

from __future__ import annotations

import itertools
import secrets

_PREFIX_BYTES = 6


class RequestIds:
    """A worker's ids: drawn once for the process, then counted."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(_PREFIX_BYTES).encode() + b"-"
        self._number = itertools.count(1)

    def next(self) -> bytes:
        """The next id, as `Massar-Request-Id` says it."""
        return self._prefix + b"%x" % next(self._number)
