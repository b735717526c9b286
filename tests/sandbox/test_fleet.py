"""A fleet tells who has ended, starts nobody again, and ends as a whole."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox import proc, processes
from sandbox.fleet import Fleet
from tests.waiting import eventually

PAUSE = [sys.executable, "-c", "import signal; signal.pause()"]


class _Told:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changes = 0

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
def told() -> _Told:
    return _Told()


@pytest.fixture
async def fleet(told: _Told, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(say=told.lines.append, changed=told.changed)
    for kind in ("etcd", "gateway"):
        running = processes.spawn(PAUSE, name=f"rabat-{kind}", log=tmp_path / f"{kind}.log")
        fleet.add(running, site="rabat", kind=kind)
    yield fleet
    await fleet.kill()


async def test_every_member_is_in_the_table(fleet: Fleet, told: _Told) -> None:
    assert [(row.name, row.site, row.kind) for row in fleet.rows] == [
        ("rabat-etcd", "rabat", "etcd"),
        ("rabat-gateway", "rabat", "gateway"),
    ]
    assert told.changes == 2
    assert all(proc.alive(row.who) for row in fleet.rows)


async def test_one_that_ends_unasked_is_told_in_one_line_and_stays_away(fleet: Fleet, told: _Told) -> None:
    os.kill(fleet.running("rabat-gateway").pid, signal.SIGKILL)
    await eventually(lambda: told.lines, within_s=5)
    assert len(told.lines) == 1
    assert told.lines[0].startswith("rabat-gateway ended (SIGKILL); log: ")
    assert [proc.alive(row.who) for row in fleet.rows] == [True, False]
    await fleet.kill()
    assert len(told.lines) == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_all_end_together_and_nobody_complains(fleet: Fleet, told: _Told, how: str) -> None:
    await (fleet.stop() if how == "stop" else fleet.kill())
    assert not any(proc.alive(row.who) for row in fleet.rows)
    assert told.lines == []


async def test_logs_are_kept_within_their_bound(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(processes, "bound_log", seen.append)
    fleet.bound_logs()
    assert [path.name for path in seen] == ["etcd.log", "gateway.log"]
