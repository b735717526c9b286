"""Waiting for an event with a deadline, so that no test sleeps for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

POLL_S = 0.01


async def eventually(
    predicate: Callable[[], object | Awaitable[object]], *, within_s: float, what: str = ""
) -> object:
    """Return the first truthy value of `predicate`; fail when none came within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        outcome = predicate()
        value = await outcome if inspect.isawaitable(outcome) else outcome
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"not within {within_s} s: {what or predicate}"
            raise AssertionError(message)
        await asyncio.sleep(POLL_S)
