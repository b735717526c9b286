"""Directors played by the test: they take a switchover through its phases as the real ones would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from datacenters import control, record
from datacenters.etcd import Etcd
from datacenters.record import Phase, Record, Refusal


async def step(etcd: Etcd, now: float) -> None:
    """Take the record one phase further, if one is under way."""
    held = await control.read(etcd)
    if held is None or held.record.target is None:
        return
    declared, target = held.record, held.record.target
    steps: dict[Phase, Callable[[], Record | Refusal]] = {
        Phase.FREEZING: lambda: record.seal(
            declared, site=declared.active, frozen_position="1-9", now=now, by="director:old"
        ),
        Phase.SEALING: lambda: record.claim_sealed(declared, site=target, now=now, by="director:new"),
        Phase.PROMOTING: lambda: record.begin_replay(
            declared, site=target, switch_position="1-9", now=now, by="director:new"
        ),
        Phase.REPLAYING: lambda: record.activate(declared, site=target, now=now, by="director:new"),
    }
    after = steps[declared.phase]()
    assert isinstance(after, Record)
    await control.change(etcd, held, after)


async def directors(etcd: Etcd, *, now: float, pace_s: float = 0.1) -> None:
    """Go on stepping until cancelled, slowly enough that every phase can be met."""
    while True:
        await step(etcd, now)
        await asyncio.sleep(pace_s)


async def aborts(etcd: Etcd, *, now: float) -> None:
    """Give up the first switchover that begins."""
    while True:
        held = await control.read(etcd)
        if held is not None and held.record.phase is Phase.FREEZING:
            after = record.abort(held.record, reason="not within 3 s", now=now, by="director:rabat")
            assert isinstance(after, Record)
            await control.change(etcd, held, after)
        await asyncio.sleep(0.02)
