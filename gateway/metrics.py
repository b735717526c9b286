"""What the gateway counts, in Prometheus' terms; right across workers by the shared metrics folder.

Invariant: labels come from fixed sets (route templates, slugs, site names), never from a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cache.reading import Event
from datacenters.breaker import State
from datacenters.forwarding_events import ForwardingEvents
from datacenters.in_flight import Priority

FLUSH_INTERVAL_S = 0.25

Key = TypeVar("Key", bound=Hashable)


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
        self._seconds = Histogram(
            "massar_request_seconds",
            "Time to answer a request that was no warm hit.",
            ["route"],
            registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
        )
        self.forwarding = ForwardingMetrics(registry)
        self._seconds_of: dict[str, Histogram] = {}
        self._pending: dict[tuple[str, str, int], int] = {}
        self._pending_warm: dict[tuple[str, str, int], int] = {}
        self._pending_cache: dict[str, int] = {}
        self._pending_forwarded: dict[tuple[str, str], int] = {}
        self._flush_at: asyncio.TimerHandle | None = None

    def warm_hit(self, route: str, method: str, status: int) -> None:
        """Count one request that was answered by tier 1 at once."""
        key = (route, method, status)
        self._pending_warm[key] = self._pending_warm.get(key, 0) + 1
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request that was no warm hit, and how long it took."""
        of_route = self._seconds_of.get(route)
        if of_route is None:
            of_route = self._seconds_of[route] = self._seconds.labels(route)
        of_route.observe(seconds)
        self._sum(self._pending, (route, method, status))

    def cache_event(self, event: str) -> None:
        """Count one thing the cache did."""
        self._sum(self._pending_cache, event)

    def forwarded(self, datacenter: str, outcome: str) -> None:
        """Count one forwarded request and how it ended."""
        self._sum(self._pending_forwarded, (datacenter, outcome))

    def user(self, datacenter: str, *, well: bool) -> None:
        """Count one user of a datacenter, once a window, by how it went."""
        self._users.labels(datacenter, "ok" if well else "failed").inc()

    def event(self, event: str) -> None:
        """Count one thing worth an operator's look."""
        self._events.labels(event).inc()

    def _sum(self, pending: dict[Key, int], key: Key) -> None:
        pending[key] = pending.get(key, 0) + 1
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Hand the sums over to the shared counters."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        requests, self._pending = self._pending, {}
        warm, self._pending_warm = self._pending_warm, {}
        for (route, method, status), times in (*requests.items(), *warm.items()):
            self._requests.labels(route, method, str(status)).inc(times)
        if warm:
            self._cache.labels(Event.HIT_TIER1.value).inc(sum(warm.values()))
        events, self._pending_cache = self._pending_cache, {}
        for event, times in events.items():
            self._cache.labels(event).inc(times)
        forwarded, self._pending_forwarded = self._pending_forwarded, {}
        for names, times in forwarded.items():
            self._forwarded.labels(*names).inc(times)


class ForwardingMetrics(ForwardingEvents):
    """What the forwarder of one worker does. A gauge is the sum over the workers that live."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._repeats = Counter(
            "massar_forward_repeats",
            "Requests sent once more: to the same datacenter, or a read to the other one.",
            ["datacenter", "kind"],
            registry=registry,
        )
        self._hedges = Counter(
            "massar_hedges",
            "Second reads sent beside a slow first one, and how many of them answered first.",
            ["datacenter", "result"],
            registry=registry,
        )
        self._shed = Counter(
            "massar_shed",
            "Requests refused unsent because too much is under way to the datacenter.",
            ["datacenter", "priority"],
            registry=registry,
        )
        self._breaker = _gauge(
            "massar_breaker_workers", "Workers whose breaker stands so.", ["datacenter", "state"], registry
        )
        self._limit = _gauge(
            "massar_in_flight_limit", "Requests that may be under way at once.", ["datacenter"], registry
        )
        self._in_flight = _gauge("massar_in_flight", "Requests under way.", ["datacenter"], registry)

    def repeated(self, datacenter: str, kind: str) -> None:
        """Count one repeat."""
        self._repeats.labels(datacenter, kind).inc()

    def hedged(self, datacenter: str, *, won: bool) -> None:
        """Count one hedge, or one that won."""
        self._hedges.labels(datacenter, "won" if won else "sent").inc()

    def breaker(self, datacenter: str, state: State) -> None:
        """Note this worker's breaker."""
        for each in State:
            self._breaker.labels(datacenter, each.value).set(float(each is state))

    def limit(self, datacenter: str, limit: int) -> None:
        """Note this worker's limit."""
        self._limit.labels(datacenter).set(limit)

    def in_flight(self, datacenter: str, count: int) -> None:
        """Note how many this worker has under way."""
        self._in_flight.labels(datacenter).set(count)

    def shed(self, datacenter: str, priority: Priority) -> None:
        """Count one refusal."""
        self._shed.labels(datacenter, priority.value).inc()


def _gauge(name: str, documentation: str, labels: list[str], registry: CollectorRegistry) -> Gauge:
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode="livesum")
