"""A phone as the app teams should build it: it knows every site's address and rotates on a failed connection.

Invariant: a read is repeated at the next address; a write is repeated only under the same Idempotency-Key. What waits
and asks again is `sandbox/sending.py`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import msgspec

CONNECT_WAIT_S = 1.0
ANSWER_WAIT_S = 6.0
SIGNING_IN = "/v1/auth/tokens"


class Account(msgspec.Struct, frozen=True):
    """One sample account of the ready file; `id` is the principal's."""

    app: str
    login: str
    password: str
    id: str = ""
    pupil_id: str = ""
    class_id: str = ""
    children: tuple[str, ...] = ()
    subject: str = ""
    session: int = 1
    revoked: str = ""


class Told(msgspec.Struct, frozen=True):
    """One answer as the phone saw it: where it came from and how long it took, rotation included."""

    status: int
    headers: Mapping[str, str]
    body: Any
    ms: float
    site: str
    rotated: bool

    @property
    def slug(self) -> str:
        """The problem's slug, or nothing."""
        return str(self.body.get("slug", "")) if isinstance(self.body, dict) else ""


class NoAnswer(Exception):
    """No site answered."""


class Phone:
    """One phone. `gateways` maps site names to base addresses, the first choice first.

    `positions` holds, by the resource that was written, the last `Massar-Position` heard, the newest last.
    """

    def __init__(self, account: Account, gateways: Mapping[str, str], *, language: str = "fr") -> None:
        self.account = account
        self._gateways: Sequence[tuple[str, str]] = tuple(gateways.items())
        self._at = 0
        self._access_token = ""
        self.refresh_token = ""
        self.signed_in = asyncio.Event()
        self._renewing = asyncio.Lock()
        self.positions: dict[str, str] = {}
        self.device_id = secrets.token_hex(8)
        self._language = language
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(ANSWER_WAIT_S, connect=CONNECT_WAIT_S),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=32),
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
        )

    @property
    def site(self) -> str:
        """The site this phone talks to now."""
        return self._gateways[self._at][0]

    def leave(self, site: str) -> None:
        """Talk to the next site from now on, unless somebody has left `site` already."""
        if self.site == site:
            self._at = (self._at + 1) % len(self._gateways)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def sign_in(self) -> Told:
        """Sign in with the account's password and keep the tokens."""
        told = await self.send(
            "POST",
            "/v1/auth/tokens",
            payload={
                "grant": "password",
                "app": self.account.app,
                "login": self.account.login,
                "password": self.account.password,
                "device": {"id": self.device_id, "name": "sandbox phone"},
            },
        )
        self._keep(told)
        return told

    async def refresh(self) -> Told:
        """Exchange the refresh token and keep its successor."""
        told = await self.send(
            "POST",
            "/v1/auth/tokens/refresh",
            payload={"refresh_token": self.refresh_token, "device": {"id": self.device_id}},
        )
        self._keep(told)
        return told

    async def get(self, path: str, *, if_none_match: str | None = None) -> Told:
        """Read `path`, this phone's own writes included."""
        headers = {"if-none-match": if_none_match} if if_none_match else {}
        position = self._position_for(path)
        if position is not None:
            headers["massar-position"] = position
        return await self.send("GET", path, headers=headers)

    async def put(self, path: str, payload: Any, *, key: str | None = None) -> Told:
        """Write `payload` to `path` under one key, whichever site takes it."""
        return await self.send(
            "PUT", path, payload=payload, headers={"idempotency-key": key or secrets.token_hex(16)}
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        payload: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Told:
        """Send one request, rotating once around the addresses on failed connections; a token that ran out is renewed.

        Raises: NoAnswer.
        """
        content = msgspec.json.encode(payload) if payload is not None else content
        token = self._access_token
        told = await self._around(method, path, content, headers or {})
        if told.status == 401 and not path.startswith(SIGNING_IN):
            if told.slug != "token-expired":
                self._signed_out(token)
            elif self.refresh_token and await self._renewed(token):
                told = await self._around(method, path, content, headers or {})
        if method != "GET" and told.status < 300 and "massar-position" in told.headers:
            self.note_position(resource_of(path), told.headers["massar-position"])
        return told

    def note_position(self, resource: str, position: str) -> None:
        """Note what a write was answered with as the newest."""
        self.positions.pop(resource, None)
        self.positions[resource] = position

    async def _around(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> Told:
        sent = {"accept-language": self._language, **headers}
        if self._access_token:
            sent["authorization"] = f"Bearer {self._access_token}"
        if content is not None:
            sent["content-type"] = "application/json"
        started = time.perf_counter()
        failure: httpx.TransportError | None = None
        first = self._at
        for turn in range(len(self._gateways)):
            site, base = self._gateways[(first + turn) % len(self._gateways)]
            try:
                response = await self._client.request(method, base + path, headers=sent, content=content)
                body = _decoded(response)
            except httpx.TransportError as error:
                failure = error
                self.leave(site)
                continue
            return Told(
                status=response.status_code,
                headers=dict(response.headers),
                body=body,
                ms=(time.perf_counter() - started) * 1000,
                site=site,
                rotated=turn > 0,
            )
        raise NoAnswer(type(failure).__name__)

    async def _renewed(self, token: str) -> bool:
        """Whether there is another access token than `token` now; one refresh serves all who wait for it."""
        async with self._renewing:
            if self._access_token != token:
                return True
            told = await self.refresh()
            if told.status == 401:
                self._signed_out(token)
            return told.status == 200

    def _signed_out(self, token: str) -> None:
        """Note that this access token is of no more use; another one may be held by now."""
        if self._access_token == token:
            self.signed_in.clear()

    def _position_for(self, path: str) -> str | None:
        own = [at for resource, at in self.positions.items() if path.startswith(resource)]
        newest = next(reversed(self.positions.values()), None)
        return own[-1] if own else newest

    def _keep(self, told: Told) -> None:
        if told.status == 200:
            self._access_token = told.body["access_token"]
            self.refresh_token = told.body["refresh_token"]
            self.signed_in.set()


def resource_of(path: str) -> str:
    """What a write to `path` changes: a gradebook for its entries, else what the path names."""
    return path.removesuffix("/entries")


def _decoded(response: httpx.Response) -> Any:
    if not response.content or "json" not in response.headers.get("content-type", ""):
        return None
    return msgspec.json.decode(response.content)
