"""What the tests of writing routes share: how a teacher sends a batch, and bodies that no batch may have."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec

from tests.gateway.people import TEACHER
from tests.gateway.world import World


async def send(
    world: World,
    method: str,
    target: str,
    body: Any,
    *,
    key: str | None,
    who: str = TEACHER,
    content_type: str | None = "application/json",
    **headers: str,
) -> httpx.Response:
    """Send `body` (bytes as they are, anything else as JSON) with an Idempotency-Key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["idempotency-key"] = key
    if content_type is not None:
        named["content-type"] = content_type
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await world.ask(method, target, who=who, headers=named, content=content)


def forwarded(world: World) -> list[Any]:
    """The bodies of the writes that reached a datacenter."""
    return [json.loads(seen.body) for seen in world.rabat.seen if seen.method != "GET"]


NOT_JSON = {
    "nothing": b"",
    "cut off": b'{"entries":[',
    "trailing": b'{"entries":[]}{}',
    "comma": b'{"entries":[],}',
    "invalid UTF-8": b'{"entries":["\xff\xfe"]}',
    "lone surrogate": b'{"entries":[{"pupil_id":"\\ud800"}]}',
    "NaN": b'{"entries":NaN}',
    "deep list": b'{"entries":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep object": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "huge integer": b'{"entries":' + b"9" * 60_000 + b"}",
    "huge exponent": b'{"entries":1e999999}',
    "array": b"[]",
    "string": b'"entries"',
    "null": b"null",
    "number": b"1",
    "empty object": b"{}",
    "byte order mark": b'\xef\xbb\xbf{"entries":[]}',
    "UTF-16": '{"entries":[]}'.encode("utf-16"),
}
