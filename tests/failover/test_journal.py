"""No acknowledged write is lost with a site, though its last seconds were never replicated."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from datacenters import etcd_keys, record
from datacenters.position import parse
from datacenters.record import Phase, Record
from datacenters.replay import Replay
from datacenters.unanswered import OutcomeUnknown
from sandbox import proc
from tests.conformance import seed
from tests.failover.clerk import Clerk, nothing_is_missing, school, standing_marks
from tests.failover.pair import Pair, running_pair
from tests.waiting import eventually

PROMOTED_WITHIN_S = 15.0


@pytest.fixture
async def pair(tmp_path: Path, logs: Path) -> AsyncIterator[Pair]:
    async with running_pair(folder=tmp_path, logs=logs) as made:
        await school(made)
        yield made


@contextmanager
def replication_stopped(pair: Pair) -> Iterator[None]:
    """Rabat's PostgreSQL goes on, and sends nothing any more."""
    roots = [pair.databases["rabat"].process.who]
    senders = [
        who for who in proc.descendants(roots) if any("walsender" in word for word in proc.command(who))
    ]
    assert senders
    for who in senders:
        proc.send(who, signal.SIGSTOP)
    try:
        yield
    finally:
        for who in senders:
            proc.send(who, signal.SIGCONT)


async def ready(pair: Pair) -> None:
    pair.direct("rabat", "marrakech", "witness")
    await eventually(lambda: _serving(pair, "rabat"), within_s=10)
    await eventually(lambda: _caught_up(pair), within_s=10)


async def _serving(pair: Pair, site: str) -> bool:
    standing = await pair.standing(site)
    return standing is not None and standing.writable


async def _caught_up(pair: Pair) -> bool:
    standing = await pair.standing("marrakech")
    return standing is not None and standing.lag_s == 0.0 and standing.receipt_age_s is not None


async def _active(pair: Pair, site: str) -> bool:
    return (await pair.record()).serving == site


async def _journal(pair: Pair) -> list[str]:
    return [item.key for item in (await pair.etcd.range(etcd_keys.JOURNAL, prefix=True)).items]


async def _empty(pair: Pair) -> bool:
    return not await _journal(pair)


async def test_the_journal_keeps_a_write_until_the_standby_has_it_and_no_longer(pair: Pair) -> None:
    await ready(pair)
    async with Clerk(pair) as clerk:
        with replication_stopped(pair):
            await clerk.write_all("11.25")
            kept = await _journal(pair)
            assert len(kept) == len(clerk.acknowledged)
        await eventually(lambda: _empty(pair), within_s=10)
        await nothing_is_missing(pair, "marrakech", clerk)


async def test_writes_that_were_never_replicated_are_done_again_before_the_other_site_serves(
    pair: Pair,
) -> None:
    await ready(pair)
    async with Clerk(pair) as clerk:
        await clerk.write_all("10.00")
        with replication_stopped(pair):
            for mark in ("11.50", "12.75"):
                await clerk.write_all(mark)
            assert (await standing_marks(pair, "marrakech")) != (await standing_marks(pair, "rabat"))
            await pair.kill_rabat()
        await eventually(lambda: _active(pair, "marrakech"), within_s=PROMOTED_WITHIN_S)
        await nothing_is_missing(pair, "marrakech", clerk)
        switch = parse((await pair.record()).switch_position or "")
        keys = [key.removeprefix(etcd_keys.JOURNAL) for key in await _journal(pair)]
        assert len(keys) >= 20
        assert all(int(key.split("/")[0]) > switch[0] for key in keys), "they wait for the next standby"
        await eventually(lambda: _serving(pair, "marrakech"), within_s=5)
        await clerk.write_all("13.00")
        await nothing_is_missing(pair, "marrakech", clerk)


async def test_a_director_that_dies_while_it_replays_is_resumed_and_nothing_is_done_twice(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(pair)
    async with Clerk(pair) as clerk:
        with replication_stopped(pair):
            await clerk.write_all("14.25")
            moved = asyncio.Event()
            real = Replay._move

            async def dies_after(self: Replay, *args: Any, **more: Any) -> None:
                await real(self, *args, **more)
                moved.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(Replay, "_move", dies_after)
            await pair.kill_rabat()
        async with asyncio.timeout(PROMOTED_WITHIN_S):
            await moved.wait()
        assert (await pair.record()).phase is Phase.REPLAYING
        await pair.dismiss("marrakech")
        monkeypatch.setattr(Replay, "_move", real)
        pair.direct("marrakech")
        await eventually(lambda: _active(pair, "marrakech"), within_s=PROMOTED_WITHIN_S)
        await nothing_is_missing(pair, "marrakech", clerk)


async def test_after_a_claim_nothing_of_the_old_epoch_is_acknowledged(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other director has just claimed; Rabat's datacenter still takes the write, and nobody is told that it did."""
    await ready(pair)
    for site in ("marrakech", "witness"):
        await pair.dismiss(site)
    async with Clerk(pair) as clerk:
        keep = clerk.journal.keep
        claimed: list[Record] = []

        async def claims_first(*args: Any, **more: Any) -> Any:
            if not claimed:
                await pair.dismiss("rabat")  # not sooner: without it the fence lapses in a moment
                held = await pair.held()
                after = record.failover(
                    held.record, target="marrakech", reason="drill", evidence={}, now=1e9, by="operator:tests"
                )
                assert isinstance(after, Record)
                assert await pair.change(held, after)
                claimed.append(after)
            return await keep(*args, **more)

        monkeypatch.setattr(clerk.journal, "keep", claims_first)
        with pytest.raises(OutcomeUnknown):
            await clerk.write(seed.CLASSMATE, "15.00", key="between")
        assert clerk.acknowledged == []
        assert await _empty(pair)
        monkeypatch.setattr(clerk.journal, "keep", keep)
        pair.direct("marrakech", "witness", "rabat")
        assert await clerk.directory.serving(epoch=2, within_s=PROMOTED_WITHIN_S)
        # The app repeats the same key, as it was told to: it was replicated, so the stored answer comes.
        await clerk.write(seed.CLASSMATE, "15.00", key="between")
        await nothing_is_missing(pair, "marrakech", clerk)
