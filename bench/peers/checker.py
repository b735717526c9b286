"""What nginx asks whether a token holds: PyJWT behind a bare ASGI function, in a process of its own.

It shares the core of the server that asks it, and its processor time is counted as that server's.
"""

from __future__ import annotations

import os
import time
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
        left_s = _holds_for_s(dict(scope["headers"]).get(b"authorization", b""), key)
        # A verdict may be kept as long as the gateway keeps its own: until the token runs out.
        headers = [(b"cache-control", b"max-age=%d" % left_s)]
        await send({"type": "http.response.start", "status": 200 if left_s > 0 else 401, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return answer


def _holds_for_s(authorization: bytes, key: Any) -> int:
    if not authorization.startswith(_BEARER):
        return 0
    try:
        claims = jwt.decode(
            authorization[len(_BEARER) :], key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER
        )
    except jwt.InvalidTokenError:
        return 0
    return max(0, int(claims["exp"] - time.time()))
