"""Whole sandbox countries for tests, started as anyone would start them: by the `massar` command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from sandbox import folder, processes

MASSAR = str(Path(sys.executable).with_name("massar"))
PUPILS = 400
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
COMMAND_WITHIN_S = (
    150.0  # to revive a whole site is to start six servers, on a machine that may be busy with others
)


class RunningCountry(msgspec.Struct, frozen=True):
    """A country that is ready: `addresses` is its ready file, `process` its supervisor."""

    directory: Path
    addresses: folder.Addresses
    process: processes.Running

    async def massar(self, *arguments: str) -> tuple[int, str]:
        """Run `massar …` with this country's `--dir` at the end; return exit code and all it said."""
        return await massar(*arguments, "--dir", str(self.directory))

    def table(self) -> folder.Table:
        """Return the table of its processes as it is now."""
        return folder.read_table(self.directory)


def environment() -> dict[str, str]:
    """Return what a sandbox of these tests sees: it ends with the test run, however that ends."""
    return {**os.environ, "MASSAR_DIE_WITH_PARENT": "1"}


async def massar(*arguments: str) -> tuple[int, str]:
    """Run the `massar` command to its end; return exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        MASSAR,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(),
    )
    async with asyncio.timeout(COMMAND_WITHIN_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def launch(
    directory: Path,
    *arguments: str,
    log: Path,
    extra: Mapping[str, str] | None = None,
    command: Sequence[str] = (MASSAR,),
) -> processes.Running:
    """Start `massar sandbox` in `directory` without waiting for it."""
    return processes.spawn(
        [*command, "sandbox", "--dir", str(directory), *arguments],
        name="sandbox",
        log=log,
        environment={**environment(), **(extra or {})},
    )


@asynccontextmanager
async def running_country(
    folder_of_its_own: Path,
    *,
    pupils: int = PUPILS,
    workers: int = 1,
    arguments: tuple[str, ...] = (),
    extra: Mapping[str, str] | None = None,
    command: Sequence[str] = (MASSAR,),
) -> AsyncIterator[RunningCountry]:
    """Start a country and wait until it is ready; it ends in order with the block, and says so by exit code 0.

    `command` is what stands in for `massar`.
    """
    directory = folder_of_its_own / "country"
    ready_file = folder_of_its_own / "ready.json"
    process = launch(
        directory,
        *("--pupils", str(pupils), "--workers", str(workers), "--ready-file", str(ready_file), *arguments),
        log=folder_of_its_own / "sandbox.log",
        extra=extra,
        command=command,
    )
    try:
        await processes.ready(process, ready_file.exists, within_s=READY_WITHIN_S)
        addresses = msgspec.json.decode(ready_file.read_bytes(), type=folder.Addresses)
        yield RunningCountry(directory=directory, addresses=addresses, process=process)
        if not process.ended:
            await process.stop(signal.SIGTERM, within_s=STOP_WITHIN_S)
            assert await process.exited() == 0, process.complaint("did not end in order")
    finally:
        process.kill()
