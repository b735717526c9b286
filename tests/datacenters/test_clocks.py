"""Clocks are compared by when their directors' words appear, never better than the round trips allow."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec
import pytest

from datacenters import clocks, etcd_keys
from datacenters.etcd import Etcd
from datacenters.verdict import Observation


async def publish(etcd: Etcd, site: str, ahead_s: float | None) -> None:
    """A director whose clock is `ahead_s` ahead of ours, or who does not tell the time."""
    sequence = 0
    while True:
        sequence += 1
        wall_at = 0.0 if ahead_s is None else time.time() + ahead_s
        seen = Observation(site=site, sequence=sequence, looks={}, wall_at=wall_at)
        await etcd.put(etcd_keys.observation(site), msgspec.json.encode(seen))
        await asyncio.sleep(0.05 if sequence % 2 else 0.06)


async def test_each_sites_offset_is_found_within_its_own_uncertainty(etcd: Etcd) -> None:
    ahead = {"rabat": 0.0, "marrakech": 3600.0, "witness": -5.0}
    tasks = [asyncio.ensure_future(publish(etcd, site, by_s)) for site, by_s in ahead.items()]
    found = await clocks.offsets(etcd, listen_s=1.0)
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert found.keys() == ahead.keys()
    for site, by_s in ahead.items():
        assert abs(found[site].offset_s - by_s) <= found[site].uncertainty_s + 0.05, site
        assert found[site].uncertainty_s < 1.0


async def test_who_does_not_publish_or_does_not_tell_the_time_has_no_offset(etcd: Etcd) -> None:
    silent = Observation(site="rabat", sequence=1, looks={}, wall_at=time.time())
    await etcd.put(etcd_keys.observation("rabat"), msgspec.json.encode(silent))
    await etcd.put(etcd_keys.observation("odd"), b"{")
    task = asyncio.ensure_future(publish(etcd, "old", None))
    assert await clocks.offsets(etcd, listen_s=0.3) == {}
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("ahead_s", [0.0, 7.0])
def test_the_bracket_is_what_bounds_the_claim(ahead_s: float) -> None:
    measured = clocks._bracketed(1000.0 + ahead_s, 999.9, 1000.1)
    assert measured.uncertainty_s >= 0.1
    assert abs(measured.offset_s - ahead_s) <= measured.uncertainty_s
