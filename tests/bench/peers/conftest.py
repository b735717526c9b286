"""The comparison's own origin, served on loopback inside the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from bench.peers.origin import Connection, answer

BODIES = {"/v1/pupils/a/timetable": b'{"week":"2026-W47"}', "/v1/pupils/b/timetable": b'{"week":"2026-W48"}'}


class Serve(Protocol):
    """Serves `bodies` for the block; gives the port."""

    def __call__(
        self, bodies: dict[str, bytes] = ..., *, delay_s: float = ...
    ) -> AbstractAsyncContextManager[int]: ...


@pytest.fixture
def origin() -> Serve:
    @asynccontextmanager
    async def serve(bodies: dict[str, bytes] = BODIES, *, delay_s: float = 0.0) -> AsyncIterator[int]:
        answers = {path.encode(): answer(body, stored=not delay_s) for path, body in bodies.items()}
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(answers, delay_s), "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    return serve
