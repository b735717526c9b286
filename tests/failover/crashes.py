"""Directors that die at one step of a move, and are started again a while later as an init system would.

Invariant: a crash has bitten only when the director itself came to its step and is gone.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import asking, proc
from tests.countries import RunningCountry
from tests.failover import crashing
from tests.failover.moves import Order
from tests.failover.schedule import ACTIVE, CRASHES, STANDBY, SWITCHOVER_STEPS, Strike

COMES_WITHIN_S = 20.0
# Of a strike's time the director is away for what is beyond this: from too short to be missed to long given up.
THERE_FOR_S = 5.0
POLL_S = 0.02
BEHIND_S = 0.5


def environment(file: Path) -> dict[str, str]:
    """What makes a sandbox's directors able to crash where `file` says."""
    command = shlex.join([sys.executable, "-P", crashing.__file__])
    return {"MASSAR_DIRECTOR_COMMAND": command, crashing.CRASH_FILE: str(file)}


class Crashes:
    """Crashes directors of one country, which was started with `environment(file)`; `orders` notes what it orders."""

    def __init__(self, country: RunningCountry, *, orders: list[Order], file: Path) -> None:
        self._country = country
        self._orders = orders
        self._file = file
        self._done = file.with_suffix(".done")

    async def strike(self, strike: Strike) -> tuple[str, Callable[[], None]]:
        """Set a move going and let a director die in it, as in `crash before claim in a failover`."""
        words = strike.name.removeprefix(CRASHES + " ")
        planned = words.endswith(" in a switchover")
        asked = words.removesuffix(" in a switchover").removesuffix(" in a failover")
        site = SWITCHOVER_STEPS[asked.partition(" ")[2]] if planned else STANDBY
        (before,) = self._rows(f"{site}-director")
        self._done.unlink(missing_ok=True)
        self._file.write_text(f"{site} {asked}", "utf-8")
        moving = None
        began = time.monotonic()
        if planned:
            moving = asyncio.create_task(self._country.massar("dc", "switchover", STANDBY))
        else:
            await self._lose_the_active()
        deadline = time.monotonic() + COMES_WITHIN_S
        while not (self._done.exists() and not proc.alive(before)) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        came = self._done.exists() and not proc.alive(before)
        self._file.unlink(missing_ok=True)
        again_at = time.monotonic() + strike.lasts_s - THERE_FOR_S
        while time.monotonic() < again_at:
            await asyncio.sleep(POLL_S)
        if came:
            await asyncio.to_thread(self._start_again, f"{site}-director")
        if moving is not None:
            await moving
            self._orders.append(Order(target=STANDBY, began=began, ended=time.monotonic()))
        return (f"{site}'s director died {asked}" if came else ""), lambda: None

    async def _lose_the_active(self) -> None:
        """Kill datacenter and database, the standby a moment behind: else nothing were left to replay."""
        lost = [*self._rows(f"{ACTIVE}-postgres"), *self._rows(f"{ACTIVE}-datacenter")]
        for who in proc.descendants(lost):
            if any("walsender" in word for word in proc.command(who)):
                proc.send(who, signal.SIGSTOP)
        kill_at = time.monotonic() + BEHIND_S
        while time.monotonic() < kill_at:
            await asyncio.sleep(POLL_S)
        proc.kill_trees(lost)

    def _rows(self, name: str) -> list[proc.Identity]:
        return [row.who for row in self._country.table().living() if row.name == name]

    def _start_again(self, name: str) -> None:
        # The first sentence says that it runs; whether its site stands is for the schedule to see.
        next(asking.ask(self._country.directory, asking.Revive(name)))
