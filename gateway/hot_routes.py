"""Which requests may be answered before the router: a table compiled from the handlers' own declarations.

Invariant: a path that matches here is one that Litestar routes to the same handler, or to none.
"""

from __future__ import annotations

from collections.abc import Iterable

from routes.endpoint import CachedRead, Endpoint

SEGMENTS_MAX = 12


class _Node:
    __slots__ = ("endpoint", "literal", "parameter")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.parameter: tuple[str, _Node] | None = None
        self.endpoint: Endpoint | None = None


class HotRoutes:
    """Matches a path to a cached read in one walk over its segments."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root = _Node()
        for endpoint in endpoints:
            if endpoint.read is not None:
                self._add(endpoint)

    def _add(self, endpoint: Endpoint) -> None:
        node = self._root
        for segment in endpoint.path[1:].split("/"):
            if segment.startswith("{"):
                name = segment[1:-1]
                if node.parameter is None:
                    node.parameter = (name, _Node())
                node = node.parameter[1]
            else:
                node = node.literal.setdefault(segment, _Node())
        node.endpoint = endpoint

    def match(self, path: str) -> tuple[Endpoint, CachedRead, dict[str, str]] | None:
        """The endpoint of `path`, what it reads and the path parameters as text, or None."""
        node = self._root
        params: dict[str, str] = {}
        for segment in path[1:].split("/", SEGMENTS_MAX):
            following = node.literal.get(segment)
            if following is None:
                if node.parameter is None or not segment:
                    return None
                name, following = node.parameter
                params[name] = segment
            node = following
        if node.endpoint is None or node.endpoint.read is None:
            return None
        return node.endpoint, node.endpoint.read, params
