"""Connections that are kept open, so that a test knows which worker of which site answers."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import msgspec

from tests.waiting import eventually

WORKERS = 2
ATTEMPTS_MAX = 64
ANSWER_WAIT_S = 10.0
HEARD_WITHIN_S = 5.0
KEPT_OPEN_S = 600.0

_TLS = ssl.create_default_context()  # never used; making one per client is what costs


class Line:
    """One connection to one gateway: everything asked on it is answered by the same worker."""

    def __init__(self, site: str, base: str) -> None:
        self.site = site
        self.worker = ""
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEPT_OPEN_S)
        self._client = httpx.AsyncClient(
            base_url=base,
            timeout=ANSWER_WAIT_S,
            transport=httpx.AsyncHTTPTransport(verify=_TLS, limits=limits),
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        )

    def __repr__(self) -> str:
        return f"{self.site}/{self.worker}"

    async def aclose(self) -> None:
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        payload: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]] = (),
    ) -> httpx.Response:
        """Send one request; `payload` goes as JSON, `content` as it is."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        sent = [(name.encode(), value.encode() if isinstance(value, str) else value) for name, value in pairs]
        if token is not None:
            sent.append((b"authorization", f"Bearer {token}".encode()))
        if payload is not None:
            content = msgspec.json.encode(payload)
            sent.append((b"content-type", b"application/json"))
        response = await self._client.request(method, path, headers=sent, content=content)
        worker = response.headers.get("massar-request-id", "").partition("-")[0]
        assert worker, f"{method} {path} was not answered by the gateway: {response.status_code}"
        assert self.worker in ("", worker), "the connection went to another worker"
        self.worker = worker
        return response

    async def get(self, path: str, token: str | None = None, **headers: str) -> httpx.Response:
        """Read `path`; `if_none_match="…"` and the like are headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", path, token=token, headers=named)

    async def put(self, path: str, payload: Any, *, token: str, key: str, **headers: str) -> httpx.Response:
        """Write `payload` under an idempotency key."""
        return await self._write("PUT", path, payload, token=token, key=key, headers=headers)

    async def post(self, path: str, payload: Any, *, token: str, key: str, **headers: str) -> httpx.Response:
        """Write `payload` under an idempotency key."""
        return await self._write("POST", path, payload, token=token, key=key, headers=headers)

    async def _write(
        self, method: str, path: str, payload: Any, *, token: str, key: str, headers: Mapping[str, str]
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask(
            method, path, token=token, payload=payload, headers={"idempotency-key": key, **named}
        )


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Status, and the problem's slug if it is one."""
    return answer.status_code, answer.json().get("slug", "")


@asynccontextmanager
async def lines(gateways: Mapping[str, str], *, workers: int = WORKERS) -> AsyncIterator[tuple[Line, ...]]:
    """One line to every worker of every one of these gateways."""
    async with AsyncExitStack() as stack:
        found: dict[tuple[str, str], Line] = {}
        for site, base in gateways.items():
            for _ in range(ATTEMPTS_MAX):
                line = Line(site, base)
                await line.get("/livez")
                if (site, line.worker) in found:
                    await line.aclose()
                    continue
                found[site, line.worker] = line
                stack.push_async_callback(line.aclose)
                if sum(known == site for known, _ in found) == workers:
                    break
            else:
                raise AssertionError(f"no connection to {site} reached another worker")
        yield tuple(found.values())


async def heard_everywhere(
    asked: Iterable[Line],
    heard: Callable[[Line], Awaitable[object]],
    *,
    what: str,
    since: float | None = None,
) -> dict[str, float]:
    """Ask all lines at once until `heard` says so at each; seconds from `since` (monotonic; now) until each did."""
    began = time.monotonic() if since is None else since

    async def seconds(line: Line) -> float:
        await eventually(lambda: heard(line), within_s=HEARD_WITHIN_S, what=f"{what} at {line}")
        return time.monotonic() - began

    found = {repr(line): asyncio.ensure_future(seconds(line)) for line in asked}
    await asyncio.gather(*found.values())
    return {name: done.result() for name, done in found.items()}
