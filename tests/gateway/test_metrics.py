"""Metrics: summed in the process, right across processes, labelled from fixed sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway import metrics as gateway_metrics
from gateway.metrics import Metrics
from gateway.private import outcomes_of, workers_registry
from gateway.router import endpoints
from tests.gateway.people import PUPIL
from tests.gateway.world import World
from tests.waiting import eventually

WORKER = """
import asyncio, sys
from datacenters.breaker import State
from datacenters.in_flight import Priority
from gateway.metrics import Metrics
async def work(times):
    metrics = Metrics()
    for _ in range(times):
        metrics.request("/v1/me", "GET", 200, 0.004)
        metrics.cache_event("miss")
        metrics.user("rabat", well=True)
    metrics.user("rabat", well=False)
    metrics.user("marrakech", well=False)
    metrics.forwarded("marrakech", "unreachable")
    metrics.event("internal_error")
    metrics.forwarding.repeated("rabat", "retry")
    metrics.forwarding.hedged("rabat", won=False)
    metrics.forwarding.hedged("rabat", won=True)
    metrics.forwarding.shed("rabat", Priority.READ)
    metrics.forwarding.breaker("rabat", State.CLOSED)
    metrics.forwarding.breaker("rabat", State.OPEN if times == 4 else State.CLOSED)
    metrics.forwarding.limit("rabat", 10 * times)
    metrics.forwarding.in_flight("rabat", times)
    metrics.flush()
    if "stay" in sys.argv:
        print("counted", flush=True)
        sys.stdin.read()
asyncio.run(work(int(sys.argv[1])))
"""


def test_counts_of_two_processes_are_one_sum(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(times)], env=environment) for times in (3, 4)
    ]
    assert [process.wait() for process in running] == [0, 0]
    registry = workers_registry(str(tmp_path))
    text = generate_latest(registry).decode()
    assert 'massar_requests_total{method="GET",route="/v1/me",status="200"} 7.0' in text
    assert 'massar_cache_events_total{event="miss"} 7.0' in text
    assert 'massar_forwarded_total{datacenter="marrakech",outcome="unreachable"} 2.0' in text
    assert 'massar_events_total{event="internal_error"} 2.0' in text
    assert 'massar_request_seconds_count{route="/v1/me"} 7.0' in text
    assert outcomes_of(registry) == {"rabat": {"ok": 7, "failed": 2}, "marrakech": {"ok": 0, "failed": 2}}


def test_gauges_are_summed_over_the_workers_that_live(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(times), "stay"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for times in (3, 4)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == b"counted\n"
    registry = workers_registry(str(tmp_path))
    text = generate_latest(registry).decode()
    assert 'massar_breaker_workers{datacenter="rabat",state="closed"} 1.0' in text
    assert 'massar_breaker_workers{datacenter="rabat",state="open"} 1.0' in text
    assert 'massar_in_flight_limit{datacenter="rabat"} 70.0' in text
    assert 'massar_in_flight{datacenter="rabat"} 7.0' in text
    running[1].kill()
    running[1].communicate()
    text = generate_latest(registry).decode()
    assert 'massar_in_flight_limit{datacenter="rabat"} 30.0' in text
    assert 'massar_breaker_workers{datacenter="rabat",state="open"} 0.0' in text
    running[0].communicate()
    text = generate_latest(registry).decode()
    assert "massar_in_flight_limit{" not in text
    assert 'massar_forward_repeats_total{datacenter="rabat",kind="retry"} 2.0' in text
    assert 'massar_hedges_total{datacenter="rabat",result="sent"} 2.0' in text
    assert 'massar_hedges_total{datacenter="rabat",result="won"} 2.0' in text
    assert 'massar_shed_total{datacenter="rabat",priority="read"} 2.0' in text


async def test_two_registries_in_one_process_do_not_mix() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    first, second = Metrics(one), Metrics(other)
    for _ in range(3):
        first.request("/v1/me", "GET", 200, 0.004)
    second.request("/v1/me", "GET", 404, 0.004)
    first.flush()
    second.flush()
    assert b'status="200"} 3.0' in generate_latest(one)
    assert b'status="404"' not in generate_latest(one)
    assert b'status="404"} 1.0' in generate_latest(other)


async def test_hot_counters_are_handed_over_soon_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_metrics, "FLUSH_INTERVAL_S", 0.001)
    metrics = Metrics()
    metrics.request("/v1/me", "GET", 200, 0.004)
    metrics.cache_event("hit_tier1")
    counted = metrics._requests.labels("/v1/me", "GET", "200")
    await eventually(lambda: counted._value.get() == 1, within_s=5.0)
    assert metrics._cache.labels("hit_tier1")._value.get() == 1
    metrics.flush()
    assert counted._value.get() == 1


async def test_labels_never_come_from_a_request(world: World) -> None:
    for target in (f"/v1/pupils/{PUPIL}/grades", "/v1/nothing", "/v1/pupils/x/grades", "/v1/status"):
        for method in ("GET", "BREW", "POST"):
            await world.ask(method, target, who=PUPIL)
    world.metrics.flush()
    samples = [sample for family in world.metrics._requests.collect() for sample in family.samples]
    routes = {sample.labels["route"] for sample in samples}
    assert routes <= {"-", *(endpoint.path for endpoint in endpoints())}
    assert {sample.labels["method"] for sample in samples} <= {"GET", "POST", "other"}
    assert sum(sample.value for sample in samples if sample.name.endswith("_total")) == 12


async def test_forwarded_requests_are_counted_by_datacenter_and_outcome(world: World) -> None:
    await world.rabat.stop()
    await world.get("/v1/me", PUPIL)
    world.metrics.flush()
    counted = world.metrics._forwarded
    assert counted.labels("rabat", "unreachable")._value.get() >= 1
    assert counted.labels("marrakech", "ok")._value.get() >= 1
