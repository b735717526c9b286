"""The end of a gateway, ordered and not: nothing in flight is cut off by TERM, and a killed worker costs only what it held."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx

from sandbox import proc
from tests.journeys.breaking import Broken, Classroom, Load, server, stopped
from tests.journeys.lines import Line, lines
from tests.waiting import eventually

ROUNDS = 30
DRAIN_S = 1.0  # as the country's environment says
ENDED_WITHIN_S = 12.0
REPLACED_WITHIN_S = 20.0
# A phone that lost its worker is served by another one at once, not when the lost one is replaced.
SERVED_WITHIN_S = 3.0


async def test_a_killed_worker_is_replaced_and_service_goes_on(worn: Broken) -> None:
    site, token = worn.only("marrakech"), worn.token("student")
    path = f"/v1/pupils/{worn.people.student.pupil_id}/timetable"
    family = _workers(worn, "marrakech-gateway")
    async with lines(site) as before:
        for line in before:
            assert (await line.get(path, token)).status_code == 200
        killed = min(family, key=lambda who: who.pid)
        assert proc.send(killed, signal.SIGKILL)
        at = time.monotonic()
        # Until the kernel has closed its listening socket, new connections still queue there and end with it.
        await eventually(lambda: killed not in _there(killed.pid), within_s=5, what="nothing is left of it")
        left = await _left(before, path, token)
        waits_s: list[float] = []

        async def replaced() -> bool:
            """Ask by a new connection, as a phone does that lost the worker it talked to."""
            began = time.monotonic()
            async with lines(site, workers=1) as (line,):
                assert (await line.get(path, token)).status_code == 200
                waits_s.append(time.monotonic() - began)
                return line.worker not in {known.worker for known in before}

        await eventually(replaced, within_s=REPLACED_WITHIN_S, what="a new worker answers")
        replaced_s = time.monotonic() - at
        assert (await left.get(path, token)).status_code == 200
    assert len(_workers(worn, "marrakech-gateway") & family) == 1
    print(
        f"\na new worker answered after {replaced_s:.1f} s; {len(waits_s)} new connections until then, "
        f"slowest served in {max(waits_s) * 1000:.0f} ms"
    )
    assert max(waits_s) <= SERVED_WITHIN_S


def _workers(worn: Broken, gateway: str) -> set[proc.Identity]:
    """The worker processes of a gateway: the children of the part of it that manages them."""
    family = proc.descendants([server(worn.country.table(), gateway)])
    parts = {who.pid for who in family if {"gateway-part", "workers"} <= set(proc.command(who))}
    return {who for who in family if who.pid in parts and _parent(who) in parts}


def _there(pid: int) -> set[proc.Identity]:
    """What has this process id, not yet waited for by its parent included: a zombie's threads may still end."""
    found = proc.look(pid)
    return {proc.Identity(found.pid, found.started_ticks)} if found is not None else set()


def _parent(who: proc.Identity) -> int:
    found = proc.look(who.pid)
    return found.parent_pid if found is not None else 0


async def _left(before: tuple[Line, ...], path: str, token: str) -> Line:
    """The one line that still works; the other's connection ended with its worker."""
    left = []
    for line in before:
        try:
            answer = await line.get(path, token)
        except (httpx.TransportError, AssertionError):
            continue  # broken off, or taken up again by the other worker
        assert answer.status_code == 200
        left.append(line)
    (only,) = left
    return only


async def test_on_term_the_balancer_is_told_first_and_what_is_in_flight_is_finished(worn: Broken) -> None:
    table = worn.country.table()
    marrakech, private = worn.only("marrakech"), worn.country.addresses.metrics["marrakech"]
    url = marrakech["marrakech"]
    gateway = server(table, "marrakech-gateway")
    family = proc.descendants([gateway])
    load = Load()
    classroom = Classroom(worn, load)
    async with (
        lines(marrakech) as warm,
        lines(marrakech) as cold,
        lines(marrakech, workers=1) as writing,
        _client() as client,
    ):
        steps = (
            await classroom.read_warm(warm),
            await classroom.read_cold(cold),
            await classroom.write_and_read(writing),
        )
        async with load.running(*steps):
            await load.more(ROUNDS)
            assert (await client.get(f"{url}/readyz")).status_code == 200
            with stopped(table, "rabat-datacenter"):
                in_flight = await _assign_homework(
                    worn, client
                )  # no answer while the datacenter stands still
                assert proc.send(gateway, signal.SIGTERM)
                at = time.monotonic()
                await eventually(lambda: _says(client, f"{url}/readyz", 503), within_s=DRAIN_S)
                load.look_away()  # as a balancer does
                told_s = time.monotonic() - at
                assert await _says(client, f"{url}/v1/status", 200), "who comes all the same is served"
                assert not in_flight.done()
                await eventually(lambda: _closed(url), within_s=DRAIN_S + 2, what="the listener is closed")
                closed_s = time.monotonic() - at
                assert not in_flight.done()
            answer = await in_flight
            answered_s = time.monotonic() - at
    await eventually(lambda: not any(map(proc.alive, family)), within_s=ENDED_WITHIN_S, what="all has ended")
    phase = load.phase()
    print(
        f"\n/readyz 503 after {told_s:.2f} s, listener closed after {closed_s:.2f} s, the answer in flight after"
        f" {answered_s:.2f} s, everything over after {time.monotonic() - at:.2f} s\nload: {phase}"
    )
    assert answer.status_code == 201, answer.text
    assert closed_s >= DRAIN_S
    assert phase.wrong == []
    assert set(phase.statuses) == {200}
    assert await _closed(private)
    said = worn.country.process.log
    await eventually(lambda: "marrakech-gateway ended (exit code 0)" in said.read_text("utf-8"), within_s=5)


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=10)


async def _assign_homework(worn: Broken, client: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    """A write of which every byte has been sent when this returns."""
    sent = asyncio.Event()

    async def trace(event: str, _: object) -> None:
        if event == "http11.send_request_body.complete":
            sent.set()

    teacher = worn.people.teacher
    asking = asyncio.create_task(
        client.post(
            f"{worn.gateways['marrakech']}/v1/classes/{teacher.class_id}/homework",
            json={"subject": teacher.subject, "text": "Exercice 7", "due_on": "2026-11-25"},
            headers={"authorization": f"Bearer {worn.token('teacher')}", "idempotency-key": "in-flight"},
            extensions={"trace": trace},
        )
    )
    await eventually(lambda: sent.is_set() or asking.done(), within_s=5, what="the write is sent")
    return asking


async def _says(client: httpx.AsyncClient, url: str, status: int) -> bool:
    """Ask by a connection of its own."""
    return (await client.get(url, headers={"connection": "close"})).status_code == status


async def _closed(url: str) -> bool:
    """Whether nobody listens there."""
    async with _client() as client:
        try:
            await client.get(f"{url}/livez")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
        return False
