"""What a clock that is set back must not do to a standby: make it look as if it did not follow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from datacenters.rejoin import Rejoining
from sandbox import following
from tests.failover.launcher import on_machines
from tests.failover.machines import Machine, compiled, compiler
from tests.failover.pair import Pair, running_pair
from tests.waiting import eventually

HOUR_S = 3600.0


@pytest.mark.parametrize("possible", [compiler() is not None])
async def test_a_standby_whose_clock_was_set_back_still_follows(possible: bool, tmp_path: Path) -> None:
    if not possible:
        return
    with tempfile.TemporaryDirectory() as folder:
        open_to_all = Path(folder)  # PostgreSQL may run as a user of its own
        open_to_all.chmod(0o755)
        machine = Machine(open_to_all / "machine", compiled(open_to_all))
        with on_machines({"marrakech": machine.environment}):
            async with running_pair(folder=tmp_path, logs=tmp_path) as pair:
                await eventually(lambda: _follows(pair), within_s=20)
                machine.set_clock(ahead_s=-HOUR_S)
                await eventually(lambda: _follows(pair), within_s=10)
                assert machine.wrong_clocks_read > 0


async def _follows(pair: Pair) -> bool:
    """Whether its owner, its director and its datacenter all see that it follows."""
    rejoining = Rejoining(pair.director_dsn("marrakech"), site="marrakech")
    try:
        looked = await rejoining._look()
    finally:
        rejoining.drop()
    said = await pair.standing("marrakech")
    heard = said is not None and said.receipt_age_s is not None and said.receipt_age_s < 2.0
    streams = await following.streams(pair.databases["marrakech"])
    return heard and streams and looked is not None and looked.streaming
