"""The parts of one call side by side: each bounded, each failing alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from routes.endpoint import Answered, Caller, Part
from routes.problems import PROBLEMS, problem_details, slug_of

PART_WAIT_MAX_S = 4.0

_log = structlog.get_logger()


class HomeParts:
    """Runs parts concurrently and gives each its own status."""

    def __init__(self, *, problem_base_url: str) -> None:
        self._problem_base_url = problem_base_url

    async def gather(
        self, caller: Caller, parts: Mapping[str, Callable[[], Awaitable[Answered]]]
    ) -> dict[str, Part]:
        """Every part with its own status; one that failed carries its problem."""
        done = await asyncio.gather(*(self._one(caller, call) for call in parts.values()))
        return dict(zip(parts, done, strict=True))

    async def _one(self, caller: Caller, call: Callable[[], Awaitable[Answered]]) -> Part:
        try:
            async with asyncio.timeout(PART_WAIT_MAX_S):
                answered = await call()
        except TimeoutError:
            return self._failed(caller, "datacenters-unavailable")
        except Exception as error:  # noqa: BLE001 - one part's failure must not take the others down
            slug = slug_of(error)
            if slug == "internal":
                _log.error("internal error in a part", request_id=caller.request_id, exc_info=error)
            return self._failed(caller, slug)
        return Part(status=200, body=msgspec.Raw(answered.body))

    def _failed(self, caller: Caller, slug: str) -> Part:
        problem = problem_details(
            slug, language=caller.language, base_url=self._problem_base_url, request_id=caller.request_id
        )
        return Part(status=PROBLEMS[slug].status, problem=problem)
