"""The loss of the whole active site: the standby's director claims, promotes, fences and serves, whatever breaks."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from datacenters import control, etcd_keys, promotion, record
from datacenters.position import parse
from datacenters.record import Phase, Record
from tests.failover.pair import Pair, running_pair
from tests.waiting import eventually

PROMOTED_WITHIN_S = 15.0  # the target is 5 s; a busy machine must not fail the suite


@pytest.fixture
async def pair(tmp_path: Path, logs: Path) -> AsyncIterator[Pair]:
    async with running_pair(folder=tmp_path, logs=logs) as made:
        yield made


@pytest.fixture(scope="module")
async def lasting_pair(tmp_path_factory: pytest.TempPathFactory, logs: Path) -> AsyncIterator[Pair]:
    """A pair that a test may use which leaves it as it was, and after that one test which burns it."""
    async with running_pair(folder=tmp_path_factory.mktemp("pair"), logs=logs) as made:
        yield made


async def serving(pair: Pair, site: str) -> bool:
    standing = await pair.standing(site)
    return standing is not None and standing.writable


async def is_active(pair: Pair, site: str) -> bool:
    return (await pair.record()).serving == site


async def test_a_site_that_stands_still_for_a_moment_keeps_its_role(lasting_pair: Pair) -> None:
    pair = lasting_pair
    pair.direct("rabat", "marrakech", "witness")
    await eventually(lambda: serving(pair, "rabat"), within_s=10)
    await eventually(lambda: _caught_up(pair), within_s=10)
    with pair.rabat_paused():
        await eventually(lambda: _unheard_for(pair, 1.2), within_s=5)
    await eventually(lambda: _heard(pair), within_s=10)
    await eventually(lambda: serving(pair, "rabat"), within_s=10)
    assert (await pair.record()).epoch == 1
    for site in list(pair.directors):
        await pair.dismiss(site)


async def test_rabat_burns_and_marrakech_takes_over(lasting_pair: Pair) -> None:
    pair = lasting_pair
    pair.direct("rabat", "marrakech", "witness")
    await eventually(lambda: serving(pair, "rabat"), within_s=10)
    streamed = await eventually(lambda: _caught_up(pair), within_s=10)
    assert streamed
    await pair.kill_rabat()
    burnt_at = time.monotonic()
    await eventually(lambda: is_active(pair, "marrakech"), within_s=PROMOTED_WITHIN_S)
    declared_s = time.monotonic() - burnt_at
    await eventually(lambda: serving(pair, "marrakech"), within_s=5)
    print(f"declared after {declared_s:.2f} s, takes writes after {time.monotonic() - burnt_at:.2f} s")

    now = await pair.record()
    assert (now.epoch, now.phase, now.active, now.decided_by) == (
        2,
        Phase.ACTIVE,
        "marrakech",
        "director:marrakech",
    )
    assert len(now.moves) == 1
    fence = await pair.ask("marrakech", "SELECT epoch, site FROM fence")
    assert tuple(fence) == (2, "marrakech")
    at = await pair.ask(
        "marrakech",
        "SELECT pg_is_in_recovery(), ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int,"
        " pg_read_file('pg_wal/00000002.history')",
    )
    assert tuple(at)[:2] == (False, 2)
    assert now.switch_position is not None
    assert parse(now.switch_position) == promotion.last_switch(at[2])
    await _audited(pair)

    await pair.return_rabats_database()
    pair.direct("rabat")
    await eventually(lambda: _closed(pair), within_s=10)
    assert await pair.record() == now


async def _closed(pair: Pair) -> bool:
    """The old primary is back with the fence it had; its own director closes it for good."""
    fence = await pair.ask(
        "rabat", "SELECT epoch, site, heard_at < '1971-01-01', pg_is_in_recovery() FROM fence"
    )
    return tuple(fence) == (2, "marrakech", True, False)


async def _unheard_for(pair: Pair, seconds: float) -> bool:
    seen = await pair.sees("marrakech")
    return seen is not None and seen.looks["rabat"].silent_s >= seconds


async def _heard(pair: Pair) -> bool:
    seen = await pair.sees("marrakech")
    return seen is not None and seen.looks["rabat"].answered


async def _caught_up(pair: Pair) -> bool:
    standing = await pair.standing("marrakech")
    return standing is not None and standing.lag_s == 0.0 and standing.receipt_age_s is not None


async def _audited(pair: Pair) -> None:
    rows = await control.audit(pair.etcd)
    assert [(row.after.epoch, row.after.phase) for row in rows] == [
        (1, Phase.ACTIVE),
        (2, Phase.PROMOTING),
        (2, Phase.REPLAYING),
        (2, Phase.ACTIVE),
    ]
    evidence = rows[1].after.evidence
    assert evidence["verdict"] == "dead"
    assert evidence["sites"] == ["marrakech", "witness"]
    assert set(evidence["observations"]) >= {"marrakech", "witness"}
    epoch = await pair.etcd.read(etcd_keys.EPOCH)
    assert epoch is not None
    assert epoch.value == b"2"


class Crash(BaseException):
    """The director's process ends here."""


async def test_a_director_that_dies_at_any_step_of_a_promotion_is_resumed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await control.read(pair.etcd)
    assert held is not None
    claim = record.claim(
        held.record, target="marrakech", reason="drill", evidence={}, now=time.time(), by="director:marrakech"
    )
    assert isinstance(claim, Record)
    assert await control.change(pair.etcd, held, claim)
    await pair.kill_rabat()
    for module, name, after in (
        ("promotion", "promote", False),
        ("promotion", "promote", True),
        ("Fence", "raise_to", True),
        ("control", "change", False),
    ):
        await _dies_at(pair, monkeypatch, module, name, after=after)
        assert (await pair.record()) == claim
    pair.direct("marrakech", "witness")
    await eventually(lambda: is_active(pair, "marrakech"), within_s=PROMOTED_WITHIN_S)
    await eventually(lambda: serving(pair, "marrakech"), within_s=5)
    assert (await pair.record()).epoch == 2
    assert tuple(await pair.ask("marrakech", "SELECT epoch, site FROM fence")) == (2, "marrakech")
    history = await pair.ask("marrakech", "SELECT pg_read_file('pg_wal/00000002.history')")
    switch = (await pair.record()).switch_position
    assert switch is not None
    assert parse(switch) == promotion.last_switch(history[0])


def _part(name: str) -> Any:
    """A module or class as the director, or the take-over in its name, knows it."""
    known = (
        importlib.import_module(f"datacenters.{module}").__dict__ for module in ("director", "taking_over")
    )
    return next(found[name] for found in known if name in found)


async def _dies_at(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, module: str, name: str, *, after: bool
) -> None:
    reached = asyncio.Event()
    with monkeypatch.context() as patch:
        target = _part(module)
        real = getattr(target, name)

        async def dies(*args: Any, **kwargs: Any) -> Any:
            if after:
                await real(*args, **kwargs)
            reached.set()
            raise Crash(f"{module}.{name}")

        patch.setattr(target, name, dies)
        pair.direct("marrakech")
        async with asyncio.timeout(PROMOTED_WITHIN_S):
            await reached.wait()
        await pair.dismiss("marrakech")
