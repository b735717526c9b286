"""The same service as it is usually written with FastAPI: PyJWT on every request, redis-py in front of the origin.

`plain` is that; `with_memo` also remembers the tokens that it has verified, as the gateway does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis

from bench.peers.checker import ORIGIN, PUBLIC_KEY, REDIS
from bench.peers.people import AUDIENCE, ISSUER

MEMO_MAX = 250_000
STORED_S = 3600
_routes = APIRouter()
_bearer = HTTPBearer()
_Credentials = Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]


async def caller(request: Request, credentials: _Credentials) -> dict[str, Any]:
    """The claims of the caller's token. Raises: HTTPException."""
    token, state = credentials.credentials, request.app.state
    claims: dict[str, Any] | None = state.memo.get(token)
    if claims is not None and claims["exp"] > time.time():
        return claims
    try:
        claims = jwt.decode(token, state.key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    if state.memo_max:
        if len(state.memo) >= state.memo_max:
            del state.memo[next(iter(state.memo))]
        state.memo[token] = claims
    return claims


_Caller = Annotated[dict[str, Any], Depends(caller)]


@_routes.get("/v1/pupils/{pupil_id}/timetable")
async def timetable(request: Request, pupil_id: str, claims: _Caller) -> Response:
    """A pupil's own timetable."""
    if claims["sub"] != pupil_id:
        raise HTTPException(404)
    query = request.scope["query_string"].decode("ascii")
    state, name = request.app.state, f"timetable:{pupil_id}:{query}"
    # What has a query has changed since it was kept.
    body = None if query else await state.cache.get(name)
    if body is None:
        answer = await state.origin.get(f"{request.url.path}?{query}" if query else request.url.path)
        answer.raise_for_status()
        body = answer.content
        if answer.headers.get("cache-control") != "no-store":
            await state.cache.set(name, body, ex=STORED_S)
    return Response(body, media_type="application/json")


def plain() -> FastAPI:
    """As usually written."""
    return _application(memo_max=0)


def with_memo() -> FastAPI:
    """The same with a memo of verified tokens."""
    return _application(memo_max=MEMO_MAX)


def _application(*, memo_max: int) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.memo = {}
    app.state.memo_max = memo_max
    app.state.key = load_pem_public_key(Path(os.environ[PUBLIC_KEY]).read_bytes())
    app.state.cache = Redis.from_url(os.environ[REDIS])
    app.state.origin = httpx.AsyncClient(base_url=os.environ[ORIGIN])
    app.include_router(_routes)
    return app
