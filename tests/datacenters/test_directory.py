"""A worker follows the record at once, never back to a lower epoch, and goes on by the last one without etcd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from datacenters import control, etcd_keys, record
from datacenters.directory import EPOCHS_AHEAD_MAX, ETCD_SILENT_MAX_S, Directory, Mode
from datacenters.etcd import Etcd
from datacenters.record import Phase, Record
from datacenters.sites import Site
from sandbox.etcd import EtcdServer
from tests.datacenters.listening import Proxy
from tests.datacenters.worlds import NOW, declared
from tests.waiting import eventually

SITES = {
    "rabat": Site(datacenter_url="http://r:1"),
    "marrakech": Site(datacenter_url="http://m:1"),
    "witness": Site(),
}
CONVERGENCE_BOUND_S = 2.0  # the target is 0.2 s; a busy machine must not fail the suite


@asynccontextmanager
async def following(etcd: Etcd, *, site: str = "rabat", **options: Any) -> AsyncIterator[Directory]:
    directory = Directory(etcd, site=site, sites=SITES, **options)
    try:
        await directory.start()
        yield directory
    finally:
        await directory.stop()


async def install(etcd: Etcd) -> Record:
    return await control.bootstrap(etcd, active="rabat", now=NOW)


async def change(etcd: Etcd, **changes: Any) -> Record:
    held = await control.read(etcd)
    assert held is not None
    after = msgspec.structs.replace(held.record, decided_at=held.record.decided_at + 1, **changes)
    assert await control.change(etcd, held, after)
    return after


async def write_raw(etcd: Etcd, found: Record) -> None:
    await etcd.put(etcd_keys.CONTROL, record.encode(found))


async def test_the_record_is_known_after_the_start(etcd: Etcd) -> None:
    await install(etcd)
    async with following(etcd) as directory:
        assert (directory.epoch, directory.active, directory.standby) == (1, "rabat", "marrakech")
        assert directory.mode is Mode.NORMAL
        assert directory.read_order() == ("rabat", "marrakech")


async def test_every_worker_hears_of_a_change_by_the_watch_alone(etcd: Etcd) -> None:
    await install(etcd)
    workers = [Directory(etcd, site="rabat", sites=SITES, poll_s=60.0) for _ in range(8)]
    try:
        await asyncio.gather(*(worker.start() for worker in workers))
        after = await change(etcd, epoch=2, phase=Phase.PROMOTING, target="marrakech")
        written_at = time.monotonic()
        await eventually(
            lambda: all(worker.record == after for worker in workers),
            within_s=CONVERGENCE_BOUND_S,
            what="every worker has the new record",
        )
        assert time.monotonic() - written_at < CONVERGENCE_BOUND_S
        assert all(worker.mode is Mode.SWITCHING for worker in workers)
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))


async def test_listeners_hear_each_record_once_and_in_order(etcd: Etcd) -> None:
    await install(etcd)
    seen: list[tuple[int, Phase]] = []
    async with following(etcd) as directory:
        directory.on_change(lambda found: seen.append((found.epoch, found.phase)))
        await change(etcd, epoch=2, phase=Phase.PROMOTING, target="marrakech")
        await change(etcd, phase=Phase.ACTIVE, active="marrakech", target=None)
        await eventually(lambda: len(seen) == 2, within_s=CONVERGENCE_BOUND_S)
        assert await directory.refresh(within_s=2)
        assert seen == [(2, Phase.PROMOTING), (2, Phase.ACTIVE)]
        assert (directory.active, directory.standby) == ("marrakech", "rabat")


async def test_while_a_site_is_promoted_reads_go_there_first(etcd: Etcd) -> None:
    await install(etcd)
    await change(etcd, epoch=2, phase=Phase.PROMOTING, target="marrakech")
    async with following(etcd) as directory:
        assert directory.read_order() == ("marrakech", "rabat")
        assert directory.active == "rabat"


async def test_a_higher_epoch_on_an_answer_makes_the_record_be_read_at_once(
    etcd: Etcd, own_etcd: EtcdServer
) -> None:
    await install(etcd)
    proxy = Proxy(own_etcd.member.client_port)
    client = Etcd([await proxy.start()], timeout_s=0.5)
    try:
        async with following(client, poll_s=60.0) as directory:
            await eventually(lambda: proxy.connections == 2, within_s=5)  # the reads' and the watch's
            proxy.hold_open_ones()  # the watch will never bring it
            await change(etcd, epoch=2, phase=Phase.PROMOTING, target="marrakech")
            assert directory.epoch == 1
            directory.observe_epoch(2)
            assert (directory.epoch, directory.behind, directory.mode) == (2, True, Mode.SWITCHING)
            await eventually(lambda: not directory.behind, within_s=5)
            assert directory.active == "rabat"
    finally:
        await client.aclose()
        await proxy.stop()


async def test_how_far_ahead_a_datacenter_may_know_is_counted_from_what_is_declared(etcd: Etcd) -> None:
    await install(etcd)
    await change(etcd, epoch=5)
    async with following(etcd) as directory:
        assert directory.epoch_max == 5 + EPOCHS_AHEAD_MAX
        directory.observe_epoch(7)  # what was only heard of moves no bound
        assert directory.epoch_max == 5 + EPOCHS_AHEAD_MAX
    assert Directory(etcd, site="rabat", sites={}).epoch_max == EPOCHS_AHEAD_MAX


async def test_a_record_below_the_highest_epoch_is_refused_and_shows_as_degraded(etcd: Etcd) -> None:
    await install(etcd)
    await change(etcd, epoch=5)
    async with following(etcd) as directory:
        current = directory.record
        await write_raw(etcd, declared(epoch=4, active="marrakech"))
        await eventually(lambda: directory.mode is Mode.DEGRADED, within_s=2)
        assert directory.record == current
        directory.observe_epoch(3)
        assert directory.epoch == 5
        await write_raw(etcd, declared(epoch=6, active="marrakech"))
        await eventually(lambda: directory.epoch == 6, within_s=2)
        assert (directory.active, directory.mode) == ("marrakech", Mode.NORMAL)


async def test_etcd_gone_leaves_routing_unchanged_and_says_degraded(etcd: Etcd, own_etcd: EtcdServer) -> None:
    await install(etcd)
    now = 0.0
    proxy = Proxy(own_etcd.member.client_port)
    client = Etcd([await proxy.start()], timeout_s=0.5)
    try:
        async with following(client, poll_s=0.05, monotonic=lambda: now) as directory:
            before = directory.record
            proxy.cut()
            await eventually(lambda: _unheard(directory), within_s=2)
            now += ETCD_SILENT_MAX_S
            modes = [directory.mode]
            now += 3600
            assert [*modes, directory.mode] == [Mode.NORMAL, Mode.DEGRADED]
            assert directory.etcd_silent_s() > 3600
            assert (directory.record, directory.read_order()) == (before, ("rabat", "marrakech"))
            proxy.mend()
            await eventually(lambda: directory.mode is Mode.NORMAL, within_s=5)
    finally:
        await client.aclose()
        await proxy.stop()


async def _unheard(directory: Directory) -> bool:
    return not await directory.refresh(within_s=0.5)


async def test_without_any_record_reads_go_to_the_own_site_first() -> None:
    client = Etcd(["http://127.0.0.1:1"])
    try:
        directory = Directory(client, site="marrakech", sites=SITES)
        assert not await directory.start(within_s=0.1)
        assert directory.read_order() == ("marrakech", "rabat")
        assert (directory.record, directory.epoch, directory.active) == (None, 0, None)
        assert directory.mode is Mode.READ_ONLY
        await directory.stop()
    finally:
        await client.aclose()


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"epoch":"x"}', b"\xff"])
async def test_an_unreadable_or_removed_record_changes_nothing(etcd: Etcd, raw: bytes) -> None:
    await install(etcd)
    async with following(etcd) as directory:
        before = directory.record
        await etcd.put(etcd_keys.CONTROL, raw)
        assert await directory.refresh(within_s=2)
        await etcd.delete(etcd_keys.CONTROL)
        assert await directory.refresh(within_s=2)
        assert directory.record == before
        after = declared(epoch=2, active="marrakech")
        await write_raw(etcd, after)
        await eventually(lambda: directory.record == after, within_s=2)


@pytest.mark.parametrize(
    ("phase", "mode"),
    [
        (Phase.ACTIVE, Mode.NORMAL),
        (Phase.HOLD, Mode.NORMAL),
        (Phase.READ_ONLY, Mode.READ_ONLY),
        (Phase.FREEZING, Mode.SWITCHING),
        (Phase.SEALING, Mode.SWITCHING),
        (Phase.PROMOTING, Mode.SWITCHING),
        (Phase.REPLAYING, Mode.SWITCHING),
    ],
)
async def test_every_phase_has_its_mode(etcd: Etcd, phase: Phase, mode: Mode) -> None:
    await write_raw(etcd, declared(phase=phase))
    async with following(etcd) as directory:
        assert directory.mode is mode
