"""Tier 2 over several Valkeys: whatever moves under the load, nobody gets an error or another's page."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache.bounded_valkey import OPERATION_MAX_S, CacheUnavailable
from cache.cache_key import CacheKey, resource
from cache.deployment import Cluster
from cache.generations import EVERYTHING
from cache.policy import M
from cache.reading import Event, State
from cache.valkey import ValkeyTier
from tests.cache.building import KEYS, Datacenter, World
from tests.journeys import valkey_fleets
from tests.waiting import eventually

PAGES = 60
READERS = 4
AGAIN_WITHIN_S = 20.0
PAUSED_MAX_S = 5.0


class Load:
    """Readers of pages that are all different, past tier 1; every answer is looked at."""

    def __init__(self, url: str, *, operation_max_s: float) -> None:
        self.tier = ValkeyTier(
            url, name_secret=KEYS.name_secret, monotonic=time.monotonic, operation_max_s=operation_max_s
        )
        self.world = World(valkey=self.tier)
        self.answers = 0
        self.wrong: list[object] = []
        self.longest_s = 0.0

    async def read(self, number: int) -> State | None:
        """One read; how it was answered, None where it was not or wrongly."""
        self.world.cache.clear_memory()
        body = f"page {number}".encode()
        key = CacheKey(resource("v1", "pages", str(number)), "family")
        began = time.monotonic()
        try:
            reading = await self.world.cache.read(
                key, policy=M, tags=(EVERYTHING, f"page:{number}"), fetch=Datacenter(body).fetch
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, a reader must not see it
            self.wrong.append(error)
            return None
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.answers += 1
        if reading.entry.body != body:
            self.wrong.append(reading.entry.body)
        return reading.state

    async def all_hit(self) -> bool:
        """Whether every page comes from tier 2."""
        states = [await self.read(number) for number in range(PAGES)]
        return all(state is State.HIT for state in states)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Readers that do not stop."""

        async def reader(place: int) -> None:
            number = place
            while True:
                await self.read(number % PAGES)
                number += 7
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(reader(place)) for place in range(READERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """Let go of Valkey."""
        await self.world.cache.aclose()


@asynccontextmanager
async def load_on(url: str, *, operation_max_s: float = OPERATION_MAX_S) -> AsyncIterator[Load]:
    """A load whose pages are all in tier 2."""
    load = Load(url, operation_max_s=operation_max_s)
    try:
        await eventually(load.all_hit, within_s=AGAIN_WITHIN_S)
        yield load
    finally:
        await load.aclose()


async def test_a_promotion_is_felt_by_nobody(tmp_path: Path, logs: Path) -> None:
    async with valkey_fleets.watched(tmp_path, logs) as fleet, load_on(fleet.url) as load:
        async with load.running():
            fleet.primary.kill()
            await fleet.failed_over()
            await eventually(load.all_hit, within_s=AGAIN_WITHIN_S)
        assert load.wrong == []


@pytest.mark.long
async def test_an_ordered_promotion_leaves_no_writes_at_the_old_primary(tmp_path: Path, logs: Path) -> None:
    async with valkey_fleets.watched(tmp_path, logs) as fleet, load_on(fleet.url) as load:
        async with load.running():
            await fleet.sentinels[0].ask("SENTINEL", "FAILOVER", valkey_fleets.SERVICE)
            await fleet.failed_over()
            await load.world.cache.purge(["page:2"], 9)
            name = load.tier._generation_name("page:2")

            async def arrived() -> bool:
                await load.read(2)
                return await fleet.replica.client.get(name) is not None

            await eventually(arrived, within_s=AGAIN_WITHIN_S)
        assert load.wrong == []


async def test_resharding_is_felt_by_nobody(tmp_path: Path, logs: Path) -> None:
    async with (
        valkey_fleets.parted(tmp_path, logs) as cluster,
        # It is redirections that are tried here: a node that the machine paused is no refusal to follow one.
        load_on(cluster.url, operation_max_s=PAUSED_MAX_S) as load,
    ):
        load.world.events.clear()
        async with load.running():
            for slot in (await cluster.slots_in_use())[::3]:
                await cluster.move(slot)
            await eventually(load.all_hit, within_s=AGAIN_WITHIN_S)
        assert load.wrong == []
        assert load.world.events[Event.HIT_TIER2] > PAGES
        assert load.world.events[Event.UNAVAILABLE] == 0, "who is sent elsewhere asks there"


async def test_a_lost_node_takes_its_own_pages_and_no_others(tmp_path: Path, logs: Path) -> None:
    async with valkey_fleets.parted(tmp_path, logs) as cluster, load_on(cluster.url) as load:
        known = load.tier._valkey._deployment
        assert isinstance(known, Cluster)
        keeps = known.address(load.tier._generation_name(EVERYTHING))
        lost, *left = cluster.nodes
        assert keeps is not None
        assert keeps.port != lost.port, "without the generation of everything nothing is known"

        async def nobody_is_there() -> bool:
            # Each node is asked by itself: a read that cannot learn of everything asks no further.
            for number in range(PAGES):
                with contextlib.suppress(CacheUnavailable):
                    await load.tier.generation(f"page:{number}")
            return {node.port for node in known._slots if node is not None} <= {lost.port}

        async def both() -> bool:
            states = {await load.read(number) for number in range(PAGES)}
            return {State.HIT, State.MISS} <= states <= {State.HIT, State.MISS, State.COLLAPSED}

        async with load.running():
            lost.kill()  # the one node that the URL names
            await eventually(both, within_s=AGAIN_WITHIN_S)
            for node in left:
                node.signal(signal.SIGSTOP)
            await eventually(nobody_is_there, within_s=AGAIN_WITHIN_S)
            for node in left:
                node.signal(signal.SIGCONT)
            await eventually(both, within_s=AGAIN_WITHIN_S)
        assert load.wrong == []
