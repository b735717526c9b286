"""`massar sandbox demo` run at a terminal, as a reader of the README runs it, and watched while it loses a site."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sandbox import folder, proc, processes
from sandbox.phone import Account, Phone
from tests.countries import MASSAR, PUPILS, environment
from tests.waiting import eventually

READY_WITHIN_S = 60.0
WALKED_WITHIN_S = 40.0
OVER_WITHIN_S = 60.0
ENDED_WITHIN_S = 30.0
LOOK_AGAIN_S = 0.5
WALK_BEGINS = "POST /v1/auth/tokens as student"
LOAD_BEGINS = "steady load of the three roles"
STAYS_UP = "Marrakech stays up until Ctrl-C"
OK = "demo: ok"


class Terminal:
    """A command with a terminal for its output; `said` is all it has printed so far."""

    def __init__(self, command: list[str], *, log: Path) -> None:
        self.said = ""
        self._master, slave = os.openpty()
        without_ci = {name: value for name, value in environment().items() if name != "CI"}
        process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=without_ci,
            preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - one system call, no lock taken
        )
        os.close(slave)
        log.touch()
        self.process = processes.Running(name="demo", process=process, log=log)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    async def says(self, words: str, *, within_s: float) -> None:
        """Wait until it has printed `words`."""
        with contextlib.suppress(AssertionError):
            await eventually(lambda: words in self.said or self.process.ended, within_s=within_s)
        assert words in self.said, f"{words!r} was not said within {within_s} s, but:\n{self.said}"

    def close(self) -> None:
        """Give the terminal up."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _read(self) -> None:
        try:
            self.said += os.read(self._master, 65_536).decode().replace("\r\n", "\n")
        except BlockingIOError:
            return
        except OSError:  # the last one that held the other end is gone
            asyncio.get_running_loop().remove_reader(self._master)


class Dump(msgspec.Struct, frozen=True):
    """What lay readable for somebody who got into the caches or at the metrics while everything ran."""

    valkey: dict[str, dict[bytes, bytes]]
    metrics: dict[str, str]


class ToldDemo(msgspec.Struct, frozen=True):
    """A demo that has told its story and stays up; `survivor` signed in at Rabat before the loss."""

    directory: Path
    terminal: Terminal
    table: folder.Table
    accounts: dict[str, Account]
    before: Dump
    survivor: Phone

    @property
    def marrakech(self) -> dict[str, str]:
        return {"marrakech": self.table.gateways["marrakech"]}

    def figure(self, pattern: str) -> float:
        """A number from what the demo printed."""
        found = re.search(pattern, self.terminal.said)
        assert found is not None, f"{pattern!r} is not in:\n{self.terminal.said}"
        return float(found[1])


@asynccontextmanager
async def told_demo(folder_of_its_own: Path) -> AsyncIterator[ToldDemo]:
    """Run the demo until it stays up; Ctrl-C ends it with the block, and with it all that it started."""
    directory = folder_of_its_own / "country"
    terminal = Terminal(
        [MASSAR, "sandbox", "demo", "--dir", str(directory), "--pupils", str(PUPILS)],
        log=folder_of_its_own / "terminal.log",
    )
    everything: list[proc.Identity] = []
    try:
        await terminal.says(WALK_BEGINS, within_s=READY_WITHIN_S)
        table = folder.read_table(directory)
        everything += proc.descendants([terminal.process.who])
        accounts = {name: msgspec.convert(given, Account) for name, given in table.accounts.items()}
        await terminal.says(LOAD_BEGINS, within_s=WALKED_WITHIN_S)
        survivor = Phone(accounts["other_parent"], table.gateways)
        try:
            assert (await survivor.sign_in()).site == "rabat"
            before = await _dumped(table)
            await terminal.says(OK, within_s=OVER_WITHIN_S)
            yield ToldDemo(directory, terminal, table, accounts, before, survivor)
        finally:
            await survivor.aclose()
        everything += proc.descendants([terminal.process.who])
        assert await _ctrl_c(terminal) == 0, terminal.said
        assert not [who for who in everything if proc.alive(who)], "all it started ended with it"
    finally:
        terminal.process.kill()
        proc.kill_trees(everything)
        terminal.close()


def _hear_ctrl_c() -> None:
    """As in a terminal, also when this suite runs in the background of a shell, whose jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def _ctrl_c(terminal: Terminal) -> int:
    """What a terminal does at Ctrl-C: the whole foreground group hears it. The exit code."""
    os.killpg(terminal.process.pid, signal.SIGINT)
    async with asyncio.timeout(ENDED_WITHIN_S):
        return await terminal.process.exited()


async def _dumped(table: folder.Table) -> Dump:
    """All that both Valkeys ever held under the load, and the last metrics, up to Rabat's end."""
    valkey: dict[str, dict[bytes, bytes]] = {site: {} for site in table.valkey}
    metrics: dict[str, str] = {}
    with contextlib.suppress(RedisError, httpx.TransportError):
        while True:
            for site, url in table.valkey.items():
                valkey[site] |= await everything_in(url)
            async with httpx.AsyncClient(trust_env=False) as client:
                for site, url in table.metrics.items():
                    metrics[site] = (await client.get(f"{url}/metrics")).text
                    metrics[site] += (await client.get(f"{url}/internal/outcomes")).text
            await asyncio.sleep(LOOK_AGAIN_S)
    return Dump(valkey=valkey, metrics=metrics)


async def everything_in(url: str) -> dict[bytes, bytes]:
    """Every key of a Valkey with its value, whatever its kind (one that is no string as Valkey dumps it)."""
    client = Redis.from_url(url)
    try:
        found: dict[bytes, bytes] = {}
        async for key in client.scan_iter(count=1000):
            plain = await client.type(key) == b"string"
            value = await (client.get(key) if plain else client.dump(key))
            if value is not None:  # else it went out of date meanwhile
                assert isinstance(value, bytes)
                found[key] = value
        return found
    finally:
        await client.aclose()
