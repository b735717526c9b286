"""A gateway that only forwards, with httpx and its default transport, behind a bare ASGI function."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from bench.peers.checker import ORIGIN

Send = Callable[[dict[str, Any]], Awaitable[None]]


def build() -> Any:
    """The ASGI application; the origin is named by the environment variable `ORIGIN`."""
    origin = httpx.AsyncClient(base_url=os.environ[ORIGIN])

    async def answer(scope: dict[str, Any], _receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        got = await origin.get(scope["path"], headers={"accept": "application/json"})
        headers = [
            (b"content-type", got.headers["content-type"].encode()),
            (b"content-length", got.headers["content-length"].encode()),
        ]
        await send({"type": "http.response.start", "status": got.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": got.content})

    return answer
