"""What is done to machines says that it bit only where it did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox import folder, proc
from tests.failover import afflicting
from tests.failover.machines import Machine


@pytest.fixture
def table(tmp_path: Path) -> Iterator[folder.Table]:
    """A site of three processes that wait, one of them with a database's command line, and a site of none."""
    with ExitStack() as stack:
        rows = []
        for kind in ("etcd", "postgres", "gateway"):
            (tmp_path / kind / "rabat").mkdir(parents=True)
            command = [sys.executable, "-c", "input()", "-D", str(tmp_path / kind / "rabat")]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(process.kill)
            who = proc.identity(process.pid)
            rows.append(folder.Row(name=f"rabat-{kind}", site="rabat", kind=kind, who=who))
        yield folder.Table(
            gateways={},
            metrics={},
            datacenters={},
            valkey={},
            etcd=["http://127.0.0.1:9"],
            dir=str(tmp_path),
            accounts={},
            boot_id=proc.boot_id(),
            supervisor=proc.own_identity(),
            ready=True,
            databases={},
            processes=rows,
        )


async def test_a_site_is_lost_with_what_it_kept_and_only_once(table: folder.Table) -> None:
    bitten, _ = await afflicting.lose(table, "rabat")
    assert bitten == "3 processes and 2 folders are gone"
    assert [(Path(table.dir) / kind / "rabat").exists() for kind in ("etcd", "postgres", "gateway")] == [
        False,
        False,
        True,
    ]
    assert (await afflicting.lose(table, "rabat"))[0] == ""


async def test_a_clock_that_nobody_tells_of_and_a_disk_that_nobody_waits_for_have_not_bitten(
    table: folder.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afflicting, "BITES_WITHIN_S", 0.2)
    machine = Machine(tmp_path / "machine", tmp_path / "no-library")
    for bitten, mend in (
        await afflicting.slow_disk(machine, "slow"),
        await afflicting.set_clock(machine, table, "rabat", "ahead"),
        await afflicting.set_clock(machine, table, "rabat", "drift"),
    ):
        assert bitten == ""
        mend()
