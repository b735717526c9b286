"""What nginx asks whether a token holds: PyJWT behind a bare ASGI function, in a process of its own.

It shares the core of the server that asks it, and its processor time is counted as that server's.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bench.peers.people import AUDIENCE, ISSUER

# Environment variables of the peers written in Python: a file, and two addresses.
PUBLIC_KEY = "BENCH_PUBLIC_KEY"
ORIGIN = "BENCH_ORIGIN"
REDIS = "BENCH_REDIS"
_BEARER = b"Bearer "

Send = Callable[[dict[str, Any]], Awaitable[None]]


def build() -> Any:
    """The ASGI application; the key's file is named by the environment variable `PUBLIC_KEY`."""
    key = load_pem_public_key(Path(os.environ[PUBLIC_KEY]).read_bytes())

    async def answer(scope: dict[str, Any], _receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        held = dict(scope["headers"]).get(b"authorization", b"")
        await send(
            {"type": "http.response.start", "status": 200 if _holds(held, key) else 401, "headers": []}
        )
        await send({"type": "http.response.body", "body": b""})

    return answer


def _holds(authorization: bytes, key: Any) -> bool:
    if not authorization.startswith(_BEARER):
        return False
    try:
        jwt.decode(authorization[len(_BEARER) :], key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.InvalidTokenError:
        return False
    return True
