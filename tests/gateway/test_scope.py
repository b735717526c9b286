"""Headers in an ASGI scope."""

from __future__ import annotations

from gateway.scope import header_values
from tests.gateway.world import scope_of


def test_all_values_of_a_header_come_in_order() -> None:
    scope = scope_of("GET", "/", headers=[(b"accept", b"a"), (b"host", b"h"), (b"accept", b"b")])
    assert header_values(scope, b"accept") == [b"a", b"b"]
    assert header_values(scope, b"cookie") == []
