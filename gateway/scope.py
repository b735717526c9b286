"""ASGI's words, and what the gateway keeps in a request's scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGI: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID_KEY = "massar.request_id"
LANGUAGE_KEY = "massar.language"
ROUTE_KEY = "massar.route"


def header_values(scope: Mapping[str, Any], name: bytes) -> list[bytes]:
    """All values of a request's header, in order; `name` in lower case."""
    return [value for candidate, value in scope["headers"] if candidate == name]
