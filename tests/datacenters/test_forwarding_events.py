"""Hearing of everything and doing nothing is what a counter begins from."""

from __future__ import annotations

from datacenters.breaker import State
from datacenters.forwarding_events import ForwardingEvents
from datacenters.in_flight import Priority
from gateway.metrics import ForwardingMetrics


def test_whoever_counts_nothing_hears_everything() -> None:
    events = ForwardingEvents()
    events.repeated("rabat", "retry")
    events.hedged("rabat", won=True)
    events.breaker("rabat", State.OPEN)
    events.limit("rabat", 16)
    events.in_flight("rabat", 1)
    events.shed("rabat", Priority.READ)


def test_the_gateway_counts_every_event() -> None:
    heard = [name for name in vars(ForwardingEvents) if not name.startswith("_")]
    assert len(heard) == 6
    assert all(name in vars(ForwardingMetrics) for name in heard)
