"""The life of one sandbox from the first line it prints to the last: build, watch, end.

Invariant: however it is asked to end (Ctrl-C, TERM, a hang-up, also while it is still building) everything it
started has ended before it returns, within a bound; asked twice, it kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from sandbox import asking, folder, proc
from sandbox.fleet import Fleet
from sandbox.processes import ProcessFailed
from sandbox.reviving import NothingToRevive, Reviver
from sandbox.wiring import Wiring
from sandbox.world import Wishes, World

LOOK_AT_LOGS_EVERY_S = 5.0


class Supervisor:
    """Builds the country that is wished for in `place`, and keeps it until it is asked to end.

    Sample credentials are said only when `somebody_looks`.
    """

    def __init__(
        self,
        *,
        place: folder.Folder,
        plan: Wiring,
        wishes: Wishes,
        ready_file: Path | None,
        say: Callable[[str], None],
        somebody_looks: bool,
    ) -> None:
        self._place = place
        self._somebody_looks = somebody_looks
        self._ready_file = ready_file
        self._say = say
        self._asked = asyncio.Event()
        self._asked_twice = asyncio.Event()
        self._ready = False
        self._fleet = Fleet(say=say, changed=self._write_table)
        self._world = World(place=place, plan=plan, wishes=wishes, fleet=self._fleet, say=say)
        self._reviver = Reviver(self._world.servers)
        self._door = asking.Door(place.path, self._serve)

    async def run(self) -> None:
        """Return when everything has ended because somebody asked.

        Raises: ProcessFailed: the country could not be built; everything has ended all the same.
        """
        self._listen()
        try:
            build = asyncio.create_task(self._world.build())
            if await self._first(build):
                await build
                await self._door.open()
                self._announce()
                while not self._asked.is_set():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._asked.wait(), LOOK_AT_LOGS_EVERY_S)
                    self._fleet.bound_logs()
        except BaseException:
            await self._fleet.kill()
            raise
        else:
            self._say("ending everything")
            await self._door.close()
            await self._end()
        finally:
            await self._door.close()
            if self._ready_file is not None:
                self._ready_file.unlink(missing_ok=True)
            self._world.close()

    async def _serve(self, request: asking.Request, say: Callable[[str], None]) -> None:
        """Do what another terminal asks for."""
        try:
            match request:
                case asking.Revive(target=target):
                    self._say(f"asked to revive {target}")
                    await self._reviver.revive(target, say)
                case asking.Rejoin(site=site, active=active):
                    await self._reviver.rejoin(site, active, self._say)
        except (NothingToRevive, ProcessFailed) as failure:
            self._say(f"not done: {failure}")
            raise asking.Failed(str(failure)) from None

    async def _first(self, build: asyncio.Task[None]) -> bool:
        """Wait for `build` or for somebody who asks to end; True when it was the former."""
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait((build, asked), return_when=asyncio.FIRST_COMPLETED)
        if not build.done():
            build.cancel()
            await asyncio.wait((build,))
            return False
        asked.cancel()
        return True

    async def _end(self) -> None:
        orderly = asyncio.create_task(self._fleet.stop())
        impatient = asyncio.create_task(self._asked_twice.wait())
        await asyncio.wait((orderly, impatient), return_when=asyncio.FIRST_COMPLETED)
        if not orderly.done():
            orderly.cancel()
            await asyncio.wait((orderly,))
            await self._fleet.kill()
        impatient.cancel()

    def _announce(self) -> None:
        self._ready = True
        self._write_table()
        addresses = self._world.addresses()
        if self._ready_file is not None:
            folder.write_whole(
                self._ready_file, msgspec.json.format(msgspec.json.encode(addresses), indent=1)
            )
        for site, url in addresses.gateways.items():
            self._say(f"{site}: {url} (metrics {addresses.metrics[site]}/metrics)")
        if self._somebody_looks:  # what goes to a file or a pipe is a log, and a log names nobody
            for name, account in addresses.accounts.items():
                self._say(
                    f"{name}: {account['app']}, login {account['login']}, password {account['password']}"
                )
        self._say(f"ready; Ctrl-C ends it; massar sandbox kill rabat --dir {addresses.dir} kills a site")

    def _write_table(self) -> None:
        self._place.write_table(
            folder.Table(
                **msgspec.structs.asdict(self._world.addresses()),
                boot_id=proc.boot_id(),
                supervisor=proc.own_identity(),
                ready=self._ready,
                databases=self._world.databases(),
                processes=self._fleet.rows,
            )
        )

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup a hang-up is to be survived
            heard.append(signal.SIGHUP)
        for signum in heard:
            loop.add_signal_handler(signum, self._ask)

    def _ask(self) -> None:
        if self._asked.is_set():
            self._asked_twice.set()
        self._asked.set()
