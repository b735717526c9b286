"""Doing a schedule's strikes to a real country, and showing of each that it bit.

Invariant: a strike that cannot be shown to have worked has no `bitten`, and a schedule with such a one proves nothing.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import folder, proc, processes
from sandbox.folder import SITES, WITNESS
from sandbox.network import PHONES, Network
from tests.failover import afflicting, gray
from tests.failover.afflicting import BITES_WITHIN_S, POLL_S, Inflicted, nothing, soon
from tests.failover.authority import Authority
from tests.failover.crashes import Crashes
from tests.failover.machines import Machine
from tests.failover.moves import Fault
from tests.failover.schedule import CRASHES, ORDERS, SHORT_S, Strike

SHOWN_WITHIN_S = 0.4
FLAP_S = (0.5, 1.5)
LOSS_PER_THOUSAND = 10
GRAY_PORT = 9977
# What is stopped together as "records": an answerless datacenter on a machine that still holds its connections.
RECORDS = ("datacenter", "postgres")


class Striker:
    """Strikes the country whose processes `table` names; `network` when its sites have one each."""

    def __init__(
        self,
        table: Callable[[], folder.Table],
        *,
        network: Network | None,
        machines: Mapping[str, Machine],
        authority: Authority,
        crashes: Crashes,
        logs: Path,
        seed: str,
    ) -> None:
        self._table = table
        self._machines = machines
        self._authority = authority
        self._crashes = crashes
        self._network = network
        self._logs = logs
        self._seed = seed
        self.faults: list[Fault] = []
        self.worked_at = 0.0
        """When the last thing that was broken at once was broken, before it was looked whether that worked."""

    async def run(
        self, strikes: Iterable[Strike], *, order: Callable[[Strike], Awaitable[None]] | None = None
    ) -> None:
        """Do all strikes at their times, counted from now, and mend each that can be mended; `order` does the humans'."""
        began = time.monotonic()
        for strike in strikes:
            while time.monotonic() < began + strike.at_s:
                await asyncio.sleep(POLL_S)
            if strike.name in ORDERS:
                assert order is not None, "nobody is there to give orders"
                await order(strike)
            else:
                await self.strike(strike)

    def note(self, name: str, where: str, *, began: float, bitten: str) -> None:
        """Keep what was done to the country beside the strikes, and ended now."""
        self.faults.append(Fault(name=name, where=where, began=began, ended=time.monotonic(), bitten=bitten))

    async def strike(self, strike: Strike, *, then: Callable[[], Awaitable[None]] | None = None) -> Fault:
        """Do one strike now and mend it, or end it by `then`; what was noted of it."""
        struck_at = time.monotonic()
        bitten = ""
        mend: Callable[[], None] = nothing
        try:
            bitten, mend = await self._inflict(strike)
            until = struck_at + strike.lasts_s
            while time.monotonic() < until:
                await asyncio.sleep(POLL_S)
            if then is not None:
                await then()
        finally:
            await asyncio.to_thread(mend)  # commands, and the load shares this loop
            lasted_s = time.monotonic() - struck_at
            overdone = strike.explains_beyond_short and lasted_s > SHORT_S  # commands take their time
            made = Fault(
                name=strike.name,
                where=strike.where,
                began=struck_at,
                ended=None if strike.for_good else time.monotonic(),
                explains=(strike.where,) if overdone else strike.explains,
                bitten=bitten,
            )
            self.faults.append(made)
        return made

    def _inflict(self, strike: Strike) -> Coroutine[None, None, Inflicted]:
        if strike.name in self._authority.strikes:
            return self._authority.strikes[strike.name](strike.where)
        verb, _, rest = strike.name.partition(" ")
        if verb == CRASHES:
            return self._crashes.strike(strike)
        if strike.name == "lose site":
            return afflicting.lose(self._table(), strike.where)
        if verb == "clock":
            return afflicting.set_clock(self._machines[strike.where], self._table(), strike.where, rest)
        if strike.name == "full disk":
            return afflicting.fill_disk(self._table(), strike.where)
        if rest == "disk":
            return afflicting.slow_disk(self._machines[strike.where], verb)
        if verb == "kill":
            return self._kill(strike.where, None if rest == "site" else rest)
        if verb == "pause":
            return self._pause(strike.where, RECORDS if rest.startswith("records") else (rest,))
        if verb in {"gray", "jitter"}:
            return self._gray(strike.where, rest or gray.JITTER)
        if verb == "lose":
            return self._lose(strike.where)
        if verb == "flap":
            return self._flap(strike.where, SITES[1], for_s=strike.lasts_s)
        if strike.name.startswith("one way"):
            return self._one_way(strike.where, rest.removeprefix("way "))
        return self._cut(strike.where, _wires(strike.name, strike.where))

    def _servers(self, site: str, kinds: Iterable[str] | None) -> list[folder.Row]:
        return [
            row
            for row in self._table().living()
            if row.site == site and (kinds is None or row.kind in set(kinds))
        ]

    async def _kill(self, site: str, kind: str | None) -> Inflicted:
        rows = self._servers(site, None if kind is None else (kind,))
        killed = proc.kill_trees([row.who for row in rows])
        self.worked_at = time.monotonic()
        gone = bool(rows) and not any(proc.alive(row.who) for row in rows)
        return (f"{len(killed)} processes gone" if gone else ""), nothing

    async def _pause(self, site: str, kinds: tuple[str, ...]) -> Inflicted:
        whole = proc.descendants([row.who for row in self._servers(site, kinds)])
        for who in whole:
            proc.send(who, signal.SIGSTOP)
        self.worked_at = time.monotonic()

        def go_on() -> None:
            for who in whole:
                proc.send(who, signal.SIGCONT)

        stopped = await soon(lambda: bool(whole) and all(_stands_still(who) for who in whole))
        return (f"{len(whole)} processes stand still" if stopped else ""), go_on

    async def _cut(self, here: str, others: tuple[str, ...]) -> Inflicted:
        network = self._needed()
        port = self._etcd_port(here) if here == WITNESS else self._port(here, "gateways")

        for other in others:
            await asyncio.to_thread(network.cut, here, other)
        self.worked_at = time.monotonic()
        through = await self._reaching(others, here, port)

        def mend() -> None:
            for other in others:
                network.mend(here, other)

        return ("" if through else f"{here} and {', '.join(others)} do not reach each other"), mend

    async def _one_way(self, here: str, direction: str) -> Inflicted:
        """`out`: nobody hears the site; `in`: it hears nobody; `to the standby`: that one alone does not hear it."""
        network = self._needed()
        others = tuple(place for place in (*SITES, WITNESS) if place != here)
        pairs = {
            "in": [(here, other) for other in others],
            "out": [(other, here) for other in others],
            "to the standby": [(SITES[1], here)],
        }[direction]
        port = self._port(here, "gateways")

        for deaf, towards in pairs:
            await asyncio.to_thread(network.deafen, deaf, towards)
        self.worked_at = time.monotonic()
        ends = [next(place for place in pair if place != here) for pair in pairs]
        through = await self._reaching(ends, here, port)

        def mend() -> None:
            for deaf in {deaf for deaf, _ in pairs}:
                network.hear_all(deaf)

        return ("" if through else f"{len(pairs)} directions are silent"), mend

    async def _flap(self, here: str, other: str, *, for_s: float) -> Inflicted:
        network = self._needed()
        until = time.monotonic() + for_s
        port, times = self._port(here, "gateways"), 0
        unreached = 0
        try:
            while time.monotonic() < until:
                await asyncio.to_thread(network.cut, here, other)
                unreached += not await asyncio.to_thread(network.reaches, other, here, port)
                await asyncio.to_thread(network.mend, here, other)
                times += 1
                await asyncio.sleep(FLAP_S[times % 2])
        finally:
            network.mend(here, other)
        return (f"down {times} times" if unreached == times else ""), nothing

    async def _lose(self, here: str) -> Inflicted:
        network = self._needed()
        for other in (*SITES, WITNESS, PHONES):
            if other != here:
                network.lose(here, other, per_thousand=LOSS_PER_THOUSAND)
        lost = await soon(lambda: network.lost_packets(here) > 0)
        return ("packets are dropped" if lost else ""), lambda: network.hear_all(here)

    async def _gray(self, here: str, mode: str) -> Inflicted:
        network = self._needed()
        log = self._logs / f"gray-{mode}.log"
        log.unlink(missing_ok=True)
        port = self._port(here, "datacenters")
        proxy = processes.spawn(
            [
                sys.executable,
                "-P",
                gray.__file__,
                mode,
                network.address[here],
                str(GRAY_PORT),
                str(port),
                self._seed,
            ],
            name="gray",
            log=log,
            namespace=network.namespace(here),
        )

        def mend() -> None:
            network.undivert(here)
            proxy.kill()

        try:
            await processes.ready(
                proxy, lambda: network.reaches(here, here, GRAY_PORT), within_s=BITES_WITHIN_S
            )
            network.divert(here, port=port, to_port=GRAY_PORT, mark=gray.MARK)
        except BaseException:
            proxy.kill()
            raise
        spoilt = await soon(lambda: _last_count(log) > 0)
        return (f"{mode}: requests of users were spoilt" if spoilt else ""), mend

    async def _reaching(self, callers: Iterable[str], here: str, port: int) -> list[str]:
        """Who still reaches this place; asked side by side, for a short strike must stay short."""
        names = list(callers)
        network = self._needed()
        answers = await asyncio.gather(
            *(asyncio.to_thread(network.reaches, name, here, port, within_s=SHOWN_WITHIN_S) for name in names)
        )
        return [name for name, reached in zip(names, answers, strict=True) if reached]

    def _needed(self) -> Network:
        assert self._network is not None, "this strike needs sites with a network of their own"
        return self._network

    def _port(self, site: str, of: str) -> int:
        addresses: dict[str, str] = getattr(self._table(), of)
        port = urlsplit(addresses[site]).port
        assert port is not None
        return port

    def _etcd_port(self, site: str) -> int:
        urls = [urlsplit(url) for url in self._table().etcd]
        (port,) = (url.port for url in urls if url.hostname == self._needed().address[site])
        assert port is not None
        return port


def _wires(name: str, where: str) -> tuple[str, ...]:
    """The places that a strike of this name parts from where it strikes."""
    everywhere = tuple(place for place in (*SITES, WITNESS, PHONES) if place != where)
    if name == "bridge":
        return (SITES[1],)
    if name == "cut phones":
        return (PHONES,)
    if name == "isolate from sites" or where == WITNESS:
        return tuple(place for place in everywhere if place != PHONES)
    return everywhere


def _stands_still(who: proc.Identity) -> bool:
    found = proc.look(who.pid)
    # One that ended beside the others waits for a parent that stands still.
    return found is None or found.started_ticks != who.started_ticks or found.state in {"T", "Z"}


def _last_count(log: Path) -> int:
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return int(lines[-1].split()[1]) if lines and lines[-1].split()[-1].isdecimal() else 0
