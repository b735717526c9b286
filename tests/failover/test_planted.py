"""Bugs planted into the real parts in this process: each must break what the tests of the sound ones assert.

What cannot be planted from outside a datacenter's process (no fence) or is refused by its PostgreSQL (a replay into a
standby) is planted in the model: test_model.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from datacenters import etcd_keys, record
from datacenters.journal import Kept
from datacenters.position import Position
from datacenters.pruning import Pruning
from datacenters.record import Record
from datacenters.replay import Replay, Report
from sandbox import postgres
from tests.conformance import seed
from tests.failover.clerk import Clerk, nothing_is_missing, school
from tests.failover.pair import Pair, running_pair
from tests.failover.test_journal import PROMOTED_WITHIN_S, ready, replication_stopped
from tests.waiting import eventually

FORGET = """
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN DELETE FROM idempotency WHERE key = NEW.key; RETURN NULL; END';
CREATE TRIGGER forget AFTER INSERT ON idempotency FOR EACH ROW EXECUTE FUNCTION forget();
"""
# A connection that was being made when its server was killed may leave its socket to the garbage collector.
pytestmark = pytest.mark.long

Plant = Callable[[pytest.MonkeyPatch, Clerk], None]


@pytest.fixture
async def pair(tmp_path: Path, logs: Path) -> AsyncIterator[Pair]:
    async with running_pair(folder=tmp_path, logs=logs) as made:
        await school(made)
        yield made


def answers_before_the_journal(patch: pytest.MonkeyPatch, clerk: Clerk) -> None:
    async def keeps_nothing(*_: Any, **__: Any) -> Kept:
        return Kept(revision=0, protected=True)

    patch.setattr(clerk.journal, "keep", keeps_nothing)


def prunes_before_confirmation(patch: pytest.MonkeyPatch, clerk: Clerk) -> None:
    async def everything(_: Pruning) -> Position:
        return (1, 1 << 60)

    patch.setattr(Pruning, "_confirmed", everything)


def activates_before_the_replay(patch: pytest.MonkeyPatch, clerk: Clerk) -> None:
    async def nothing_done(_: Replay, *, epoch: int) -> Report:
        return Report(done=0, repeated=0, parked=0)

    patch.setattr(Replay, "run", nothing_done)


@pytest.mark.parametrize(
    "plant",
    [answers_before_the_journal, prunes_before_confirmation, activates_before_the_replay],
    ids=lambda plant: plant.__name__,
)
async def test_a_lost_site_takes_acknowledged_writes_with_it(
    plant: Plant, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sound parts pass the same in test_journal.py."""
    await ready(pair)
    async with Clerk(pair) as clerk:
        plant(monkeypatch, clerk)
        with replication_stopped(pair):
            await clerk.write_all("11.50")
            if plant is prunes_before_confirmation:
                await eventually(lambda: _journal_is_empty(pair), within_s=10)
            await pair.kill_rabat()
        await eventually(lambda: _active(pair, "marrakech"), within_s=PROMOTED_WITHIN_S)
        with pytest.raises(AssertionError):
            await nothing_is_missing(pair, "marrakech", clerk)


async def test_without_memory_of_keys_a_repetition_is_answered_otherwise(pair: Pair) -> None:
    await ready(pair)
    async with Clerk(pair) as clerk:
        await _written_twice(clerk, key="remembered")
        rabat = pair.databases["rabat"]
        await rabat.execute(postgres.RECORDS, FORGET)
        with pytest.raises(AssertionError, match="version-conflict"):
            await _written_twice(clerk, key="forgotten")


async def _written_twice(clerk: Clerk, *, key: str) -> None:
    seen = clerk.versions[seed.CLASSMATE]
    first = await clerk.write(seed.CLASSMATE, "15.00", key=key)
    clerk.versions[seed.CLASSMATE] = seen  # the very same payload
    assert await clerk.write(seed.CLASSMATE, "15.00", key=key) == first


async def test_a_claim_that_does_not_raise_the_epoch_seals_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sound claim the same write ends as OutcomeUnknown: test_journal.py."""
    await ready(pair)
    sound = record._claimed

    def at_the_same_epoch(before: Record, **more: Any) -> Record:
        return msgspec.structs.replace(sound(before, **more), epoch=before.epoch)

    monkeypatch.setattr(record, "_claimed", at_the_same_epoch)
    async with Clerk(pair) as clerk:
        keep = clerk.journal.keep

        async def claims_first(*args: Any, **more: Any) -> Kept:
            held = await pair.held()
            after = record.failover(
                held.record, target="marrakech", reason="drill", evidence={}, now=1e9, by="operator:tests"
            )
            assert isinstance(after, Record)
            assert await pair.change(held, after)
            return await keep(*args, **more)

        monkeypatch.setattr(clerk.journal, "keep", claims_first)
        for site in (
            "marrakech",
            "witness",
            "rabat",
        ):  # the guard lets the datacenter take writes for a moment more
            await pair.dismiss(site)
        await clerk.write(seed.CLASSMATE, "15.00", key="between")
        assert clerk.acknowledged, "acknowledged after the claim: just what a claim must make impossible"


async def _journal_is_empty(pair: Pair) -> bool:
    return not (await pair.etcd.range(etcd_keys.JOURNAL, prefix=True)).items


async def _active(pair: Pair, site: str) -> bool:
    return (await pair.record()).serving == site
