"""However a sandbox ends, nothing of it is left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sandbox import folder, proc, processes
from tests import countries
from tests.waiting import eventually


def _running_in(directory: Path) -> list[str]:
    """What runs with this folder in its arguments or its environment."""
    found = []
    for process in proc.every_process():
        for name in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{process.pid}/{name}").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in text and process.pid != os.getpid():
                found.append(f"{process.pid} {name}")
    return found


async def test_sites_are_killed_whole_and_a_killed_supervisor_leaves_nothing(tmp_path: Path) -> None:
    async with countries.running_country(tmp_path) as country:
        rows = {row.name: row for row in country.table().processes}
        assert {row.site for row in rows.values()} == {"rabat", "marrakech", "witness"}

        code, said = await country.massar("sandbox", "kill", "valkey")
        assert code == 0
        assert [proc.alive(rows[f"{site}-valkey"].who) for site in folder.SITES] == [False, False]
        assert f"killed rabat-valkey (pid {rows['rabat-valkey'].who.pid})" in said
        assert (await country.massar("sandbox", "kill", "valkey"))[0] == 1

        own = proc.descendants([row.who for row in rows.values() if row.site == "rabat"])
        assert len(own) > len([row for row in rows.values() if row.site == "rabat"])  # workers, backends
        code, said = await country.massar("sandbox", "kill", "rabat")
        assert code == 0
        assert not any(proc.alive(who) for who in own)
        assert all(
            proc.alive(row.who) for row in rows.values() if row.site != "rabat" and row.kind != "valkey"
        )
        await eventually(
            lambda: "rabat-postgres ended (SIGKILL)" in country.process.log.read_text(), within_s=5
        )

        everything = proc.descendants([country.process.who])
        os.kill(country.process.pid, signal.SIGKILL)
        assert await country.process.exited() == -signal.SIGKILL
        await eventually(lambda: not any(proc.alive(who) for who in everything), within_s=10)
        await eventually(lambda: not _running_in(country.directory), within_s=10)


async def test_asked_to_end_while_it_starts_it_ends_in_order(tmp_path: Path) -> None:
    process = countries.launch(tmp_path / "country", "--pupils", "400", log=tmp_path / "log")
    await processes.ready(process, lambda: "is up" in process.log.read_text(), within_s=30)
    await process.stop(signal.SIGTERM, within_s=20)
    assert await process.exited() == 0, process.log.read_text()
    assert _running_in(tmp_path / "country") == []


async def test_asked_to_end_before_it_has_begun_it_ends_quietly(tmp_path: Path) -> None:
    process = countries.launch(tmp_path / "country", log=tmp_path / "log")
    await processes.ready(process, (tmp_path / "country").exists, within_s=30)
    await process.stop(signal.SIGINT, within_s=20)
    assert await process.exited() == 0, process.log.read_text()


async def test_when_asked_to_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    starter = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    parent = processes.spawn(
        [*starter, countries.MASSAR, "sandbox", "--dir", str(tmp_path / "country")],
        name="parent",
        log=log,
        environment=countries.environment(),
    )
    await processes.ready(parent, lambda: "is up" in log.read_text(), within_s=30)
    family = proc.descendants([parent.who])
    os.kill(parent.pid, signal.SIGKILL)
    await parent.exited()
    await eventually(lambda: not any(proc.alive(who) for who in family), within_s=20)
    assert "ending everything" in log.read_text()


async def test_a_start_after_a_killed_one_begins_afresh_and_says_so(tmp_path: Path) -> None:
    place = folder.occupy(tmp_path / "country")
    (place.make("logs") / "old.log").touch()
    place.close()
    process = countries.launch(
        tmp_path / "country", "--ready-file", str(tmp_path / "country" / "ready.json"), log=tmp_path / "log"
    )
    await processes.ready(process, lambda: "is up" in process.log.read_text(), within_s=30)
    await process.stop(within_s=20)
    assert "starting afresh in" in process.log.read_text()
    assert not (tmp_path / "country" / "logs" / "old.log").exists()


async def test_what_cannot_start_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    process = countries.launch(
        tmp_path / "country", log=tmp_path / "log", extra={"MASSAR_VALKEY_BIN": "/no/such/valkey-server"}
    )
    assert await process.exited() == 1
    assert "Error: rabat-valkey: /no/such/valkey-server does not start" in process.log.read_text()
    assert _running_in(tmp_path / "country") == []
