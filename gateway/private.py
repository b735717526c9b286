"""The private listener: metrics of all workers, what users met at each datacenter, signed notices from them.

One process beside the workers, so that its sums are right whichever worker counted.
Invariant: nothing here is reachable from the public address, and a notice changes nothing unless its sender's
signature, time and nonce hold.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from datacenters.feeds import Publisher
from datacenters.notices import BODY_BYTES_MAX, NoticeMalformed, NoticeRefused, verify_notice
from datacenters.sender_keys import read_public_keys
from datacenters.single_use import SingleUse
from gateway.settings import Settings

BODY_WAIT_S = 5.0
USERS = "massar_users_total"
_NOWHERE = "0-0"

_log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class PrivateListener:
    """A plain ASGI application with three paths."""

    def __init__(
        self, settings: Settings, *, registry: CollectorRegistry, clock: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._keys = read_public_keys(settings.notice_keys_dir, kind="datacenter")
        self._seen = SingleUse()
        self._etcd = Etcd(settings.etcd_urls)
        self._publisher = Publisher(self._etcd, clock=clock)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        match scope["method"], scope["path"]:
            case "GET", "/metrics" | "/":
                await _answer(
                    send, 200, await asyncio.to_thread(generate_latest, self._registry), CONTENT_TYPE_LATEST
                )
            case "GET", "/internal/outcomes":
                outcomes = await asyncio.to_thread(outcomes_of, self._registry)
                await _answer(send, 200, _encode(outcomes), "application/json")
            case "POST", "/internal/purge":
                await _answer(send, await self._purge(scope, receive))
            case _:
                await _answer(send, 404)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._etcd.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def _purge(self, scope: dict[str, Any], receive: Any) -> int:
        """The status for a notice: 204 once every worker of every site will hear it."""
        try:
            async with asyncio.timeout(BODY_WAIT_S):
                body = await _body(receive)
        except TimeoutError:
            return 408
        if body is None:
            return 413
        signature = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == b"massar-signature"), None
        )
        try:
            notice = verify_notice(body, signature, keys=self._keys, seen=self._seen, now=self._clock())
        except NoticeRefused as refused:
            _log.warning("notice refused", reason=str(refused))
            return 401
        except NoticeMalformed:
            return 400
        try:
            await self._publisher.publish_purge(notice.tags, epoch=0, position=_NOWHERE)
        except (EtcdUnavailable, EtcdRefused):
            return 503
        return 204


class _Workers(MultiProcessCollector):
    """Sums what all workers wrote, without the gauges of those that have ended: the server tells of no worker's end."""

    def __init__(self, registry: CollectorRegistry, folder: str) -> None:
        super().__init__(registry, path=folder)  # type: ignore[no-untyped-call]  # the library's own gap
        self._folder = Path(folder)

    def collect(self) -> Any:
        for path in self._folder.glob("gauge_live*_*.db"):
            pid = path.stem.rpartition("_")[2]
            if pid.isdigit() and not _lives(int(pid)):
                path.unlink(missing_ok=True)
        return super().collect()  # type: ignore[no-untyped-call]  # the library's own gap


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def workers_registry(metrics_dir: str) -> CollectorRegistry:
    """A registry that sums what all workers wrote into the shared folder."""
    registry = CollectorRegistry()
    _Workers(registry, metrics_dir)
    return registry


def outcomes_of(registry: CollectorRegistry) -> dict[str, dict[str, int]]:
    """Per datacenter, how many users (each once a window) it served well and badly, since the start."""
    found: dict[str, dict[str, int]] = {}
    for family in _families(registry):
        for sample in family.samples:
            if sample.name == USERS:
                counts = found.setdefault(sample.labels["datacenter"], {"ok": 0, "failed": 0})
                counts[sample.labels["outcome"]] += int(sample.value)
    return found


def _families(registry: CollectorRegistry) -> Iterable[Any]:
    return registry.collect()


async def _body(receive: Any) -> bytes | None:
    """The whole body, or None when it is beyond the bound."""
    body = b""
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return body


async def _answer(send: Any, status: int, body: bytes = b"", content_type: str = "text/plain") -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
