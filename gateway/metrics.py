"""What the gateway counts, in Prometheus' terms; right across workers by the shared metrics folder.

Invariant: labels come from fixed sets (route templates, slugs, site names), never from a request.
"""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Histogram

FLUSH_INTERVAL_S = 0.25


class Metrics:
    """Counters of one worker; hot ones are summed here and handed over a few times a second."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self._requests = Counter(
            "massar_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._cache = Counter("massar_cache_events", "What the cache did.", ["event"], registry=registry)
        self._forwarded = Counter(
            "massar_forwarded",
            "Requests forwarded to a datacenter.",
            ["datacenter", "outcome"],
            registry=registry,
        )
        self._users = Counter(
            "massar_users",
            "Callers and resources a datacenter served well or badly, each once a window.",
            ["datacenter", "outcome"],
            registry=registry,
        )
        self._events = Counter(
            "massar_events", "Things worth an operator's look.", ["event"], registry=registry
        )
        self.seconds = Histogram(
            "massar_request_seconds",
            "Time to answer a request that the edge did not answer itself.",
            ["route"],
            registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
        )
        self._pending: dict[tuple[str, str, int], int] = {}
        self._pending_cache: dict[str, int] = {}
        self._flush_at: asyncio.TimerHandle | None = None

    def request(self, route: str, method: str, status: int) -> None:
        """Count one answered request."""
        key = (route, method, status)
        self._pending[key] = self._pending.get(key, 0) + 1
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def cache_event(self, event: str) -> None:
        """Count one thing the cache did."""
        self._pending_cache[event] = self._pending_cache.get(event, 0) + 1
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def forwarded(self, datacenter: str, outcome: str) -> None:
        """Count one forwarded request and how it ended."""
        self._forwarded.labels(datacenter, outcome).inc()

    def user(self, datacenter: str, *, well: bool) -> None:
        """Count one user of a datacenter, once a window, by how it went."""
        self._users.labels(datacenter, "ok" if well else "failed").inc()

    def event(self, event: str) -> None:
        """Count one thing worth an operator's look."""
        self._events.labels(event).inc()

    def flush(self) -> None:
        """Hand the sums over to the shared counters."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        requests, self._pending = self._pending, {}
        for (route, method, status), times in requests.items():
            self._requests.labels(route, method, str(status)).inc(times)
        events, self._pending_cache = self._pending_cache, {}
        for event, times in events.items():
            self._cache.labels(event).inc(times)
