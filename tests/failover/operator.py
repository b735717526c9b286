"""What humans do in a schedule: planned switchovers, alone or struck in their midst, and the way back after a loss.

Invariant: every order is given by the real command and kept with its time, so that the audit can be asked for moves that
nobody ordered; whatever was killed is revived by `massar sandbox revive`, and the country must be whole at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable

import msgspec

from datacenters import control
from datacenters.etcd import Etcd, EtcdRefused, EtcdUnavailable
from datacenters.record import Phase, Record
from sandbox.folder import SITES
from tests.countries import RunningCountry
from tests.failover import schedule
from tests.failover.checker import Finding, Wrong
from tests.failover.moves import Fault, Order
from tests.failover.schedule import ACTIVE, FOR_GOOD_S, PHASES, STANDBY, Strike
from tests.failover.striking import Striker
from tests.journeys.breaking import audited

BEGINS_WITHIN_S = 60.0
MOVES_WITHIN_S = 60.0
DECIDED_WITHIN_S = 10.0
WHOLE_WITHIN_S = 90.0
POLL_S = 0.005
ASK_AGAIN_S = 0.5
TRIES_MAX = 3
REFUSED = "REFUSED"
REASON = ("--reason", "announced: chaos")


class Operator:
    """Gives orders to `country`; `findings` are what did not become of them, `orders` gets all that were given."""

    def __init__(self, country: RunningCountry, striker: Striker, *, orders: list[Order]) -> None:
        self._country = country
        self._striker = striker
        self._orders = orders
        self.findings: list[Finding] = []

    async def act(self, strike: Strike) -> None:
        """Do what one strike of orders asks for."""
        if strike.name == schedule.SWITCHOVER:
            await self._there_and_back()
        elif strike.name.startswith(schedule.WITHIN):
            await self._struck(strike)
        else:
            await self._failback(strike.name)

    async def _there_and_back(self) -> None:
        for target in (STANDBY, ACTIVE):
            if await self._whole():
                await self._undisturbed(target)
        await self._whole()

    async def _undisturbed(self, target: str) -> None:
        epoch = (await self._declared()).epoch
        order = await self._switchover(target, undisturbed=True)
        now = await self._declared()
        came = now.serving == target and now.epoch == epoch + 1
        self._striker.note(
            f"switchover to {target}", target, began=order.began, bitten=f"epoch {now.epoch}" if came else ""
        )

    async def _struck(self, strike: Strike) -> None:
        """Order a switchover, and let the fault strike as soon as its phase is reached."""
        if not await self._whole():
            return
        before = await self._declared()
        ordering = asyncio.create_task(self._switchover(STANDBY, undisturbed=False))
        verb, _, kind = strike.name.removeprefix(schedule.WITHIN).partition(" ")
        killed = strike.where if kind == "site" else f"{strike.where}-{kind}"
        try:
            await self._reached(PHASES.index(Phase(strike.phase)), before, ordering)
            fault = await self._striker.strike(
                msgspec.structs.replace(strike, name=strike.name.removeprefix(schedule.WITHIN)),
                then=(lambda: self._revive(killed, after=self._decided)) if verb == "kill" else None,
            )
        finally:
            await ordering
        await self._told_when(fault, before)
        await self._whole()

    async def _failback(self, name: str) -> None:
        """Lose Rabat, revive it, give the role back to it; and perhaps lose it once more."""
        kill = Strike(name="kill site", where=ACTIVE, at_s=0, lasts_s=FOR_GOOD_S, explains=(ACTIVE,))
        await self._striker.strike(kill, then=lambda: self._revive(ACTIVE, after=self._moved))
        if not await self._whole():
            return
        await self._undisturbed(ACTIVE)
        if not await self._whole() or name == schedule.FAILBACK:
            return
        after = self._moved if name == schedule.KILLED_AGAIN else self._failover
        await self._striker.strike(kill, then=lambda: self._revive(ACTIVE, after=after))
        await self._whole()

    async def _switchover(self, target: str, *, undisturbed: bool) -> Order:
        """Order it, again where a rule that held a moment ago refuses, as when a busy machine delays an observation."""
        tries = itertools.count(1)
        while True:
            began = time.monotonic()
            code, said = await self._country.massar("dc", "switchover", target, *REASON)
            if REFUSED not in said or next(tries) >= TRIES_MAX:
                break
            await self._whole()
        order = Order(target=target, began=began, ended=time.monotonic(), undisturbed=undisturbed)
        self._orders.append(order)
        if REFUSED in said or (undisturbed and code != 0):
            self._find(f"a switchover to {target} ended with {code}: {said[-300:]}")
        return order

    async def _failover(self) -> None:
        """Nothing moved by itself within the dwell, so a human orders it."""
        declared = await self._declared()
        if declared.active != ACTIVE:
            self._find(f"{declared.active} is active though the last automatic move was a moment ago")
            return
        began = time.monotonic()
        code, said = await self._country.massar("dc", "failover", STANDBY, "--yes", *REASON)
        self._orders.append(Order(target=STANDBY, began=began, ended=time.monotonic(), undisturbed=False))
        if code != 0:
            self._find(f"a failover that a human ordered ended with {code}: {said[-300:]}")
        await self._moved()

    async def _decided(self) -> None:
        """The switchover has come to an end though what was killed is still gone."""
        await self._until(self._undecided, DECIDED_WITHIN_S, "nobody was declared to take writes")

    async def _undecided(self) -> str | None:
        record = await self._declared()
        return f"{record.phase} at epoch {record.epoch}" if record.serving is None else None

    async def _moved(self) -> None:
        await self._until(self._marrakech_serves, MOVES_WITHIN_S, f"{STANDBY} did not take over")

    async def _marrakech_serves(self) -> str | None:
        record = await self._declared()
        return None if record.serving == STANDBY else f"{record.phase} at {record.active}"

    async def _revive(self, target: str, *, after: Callable[[], Awaitable[None]] | None = None) -> None:
        if after is not None:
            await after()
        began = time.monotonic()
        code, said = await self._country.massar("sandbox", "revive", target)
        stands = said.strip().rpartition("\n")[2]
        self._striker.note(f"revive {target}", target, began=began, bitten=stands if code == 0 else "")
        if code != 0:
            self._find(f"{target} was not revived: {said[-300:]}")

    async def _whole(self) -> bool:
        """Wait until the active site takes writes and the other one could take over; whether it came to that."""
        return await self._until(self._lacking, WHOLE_WITHIN_S, "the country is not whole again")

    async def _lacking(self) -> str | None:
        record = await self._declared()
        (other,) = (site for site in SITES if site != record.active)
        code, said = await self._country.massar("dc", "switchover", other, "--dry-run")
        return None if code == 0 else said.strip().rpartition("\n")[2]

    async def _until(self, lacking: Callable[[], Awaitable[str | None]], within_s: float, what: str) -> bool:
        deadline = time.monotonic() + within_s
        while (why := await lacking()) is not None:
            if time.monotonic() > deadline:
                self._find(f"{what} in {within_s:.0f} s: {why}")
                return False
            await asyncio.sleep(ASK_AGAIN_S)
        return True

    async def _reached(self, phase: int, before: Record, ordering: asyncio.Task[Order]) -> None:
        """Return when the switchover is at this phase or beyond, or was refused."""
        etcd = Etcd(self._country.addresses.etcd)
        try:
            async with asyncio.timeout(BEGINS_WITHIN_S):
                while not ordering.done():
                    now = before
                    with contextlib.suppress(EtcdUnavailable):
                        held = await control.read(etcd)
                        now = held.record if held else before
                    if now.epoch > before.epoch and now.serving is not None:
                        return
                    if now.phase in PHASES and PHASES.index(now.phase) >= phase:
                        return
                    await asyncio.sleep(POLL_S)
        finally:
            await etcd.aclose()

    async def _told_when(self, fault: Fault, before: Record) -> None:
        """Tell in which phase a fault bit: some last so shortly that it strikes the switchover's first moments after."""
        clocks_s = time.time() - time.monotonic()
        struck_at = self._striker.worked_at + clocks_s
        rows = [
            row.after
            for row in await audited(self._country.addresses.etcd)
            if row.after.decided_at > before.decided_at
        ]
        met = [record for record in rows if record.decided_at <= struck_at]
        within = bool(met) and all(record.serving is None for record in met)
        when = f"in {met[-1].phase}" if within else "as it had just ended"
        said = f"{when}: {fault.bitten}" if fault.bitten else ""
        noted = self._striker.faults
        noted[noted.index(fault)] = msgspec.structs.replace(fault, bitten=said)

    async def _declared(self) -> Record:
        """The record, asked for until a majority answers."""
        etcd = Etcd(self._country.addresses.etcd)
        try:
            async with asyncio.timeout(WHOLE_WITHIN_S):
                while True:
                    try:
                        held = await control.read(etcd)
                    except (EtcdUnavailable, EtcdRefused):
                        held = None
                    if held is not None:
                        return held.record
                    await asyncio.sleep(ASK_AGAIN_S)
        finally:
            await etcd.aclose()

    def _find(self, sentence: str) -> None:
        self.findings.append(Finding(Wrong.CAME_TO_NOTHING, str(len(self.findings)), sentence))
