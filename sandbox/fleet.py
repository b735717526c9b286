"""All processes of one sandbox: who they are, who has ended, how they end together.

Invariant: nothing is ever started again by itself: a process that ends is told in one line and stays away until
somebody asks for it, as a site's loss must look like one. There is one process of a name.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from sandbox import processes
from sandbox.folder import Row

STOP_WITHIN_S = 5.0
# First who could still change something because the others go: then doors, then what they stand on.
_STOP_ORDER = (("director",), ("gateway",), ("datacenter",), ("postgres", "valkey", "etcd"))
_STOP_SIGNALS = {
    "postgres": signal.SIGINT,  # its fast shutdown; TERM would wait for its clients
    "etcd": signal.SIGKILL,  # asked together, members wait seconds for each other to take over the lead
}


class Fleet:
    """The processes that were started, in that order.

    `say` gets one line for each that ends unasked, `changed` is called whenever one was added.
    """

    def __init__(self, *, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._say = say
        self._changed = changed
        self._members: list[tuple[Row, processes.Running]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._unasked: set[str] = set()  # whose end nobody asked for, should it come
        self._stopping = False

    @property
    def rows(self) -> list[Row]:
        """The table of all that were started."""
        return [row for row, _ in self._members]

    def add(self, running: processes.Running, *, site: str, kind: str) -> None:
        """Take a started process in; one of the same name that has ended leaves the table."""
        row = Row(name=running.name, site=site, kind=kind, who=running.who)
        self._members = [member for member in self._members if member[0].name != running.name]
        self._members.append((row, running))
        self._unasked.add(running.name)
        self._watchers = [watcher for watcher in self._watchers if not watcher.done()]
        self._watchers.append(asyncio.create_task(self._watch(running), name=f"watch {running.name}"))
        self._changed()

    def running(self, name: str) -> processes.Running:
        """Return the process of this name."""
        return next(running for row, running in self._members if row.name == name)

    def ended(self, name: str) -> bool:
        """Tell whether no process of this name runs."""
        return all(running.ended for row, running in self._members if row.name == name)

    async def take_out(self, name: str, *, within_s: float = STOP_WITHIN_S) -> None:
        """End one process on purpose, so that nobody is told; it stays in the table as ended."""
        row, running = next(member for member in self._members if member[0].name == name)
        self._unasked.discard(name)
        await running.stop(_STOP_SIGNALS.get(row.kind, signal.SIGTERM), within_s=within_s)

    async def stop(self) -> None:
        """End all in order, each within a bound; what remains is killed."""
        self._stopping = True
        for kinds in _STOP_ORDER:
            await asyncio.gather(
                *(
                    running.stop(_STOP_SIGNALS.get(row.kind, signal.SIGTERM), within_s=STOP_WITHIN_S)
                    for row, running in self._members
                    if row.kind in kinds
                )
            )
        await self._forget()

    async def kill(self) -> None:
        """SIGKILL all at once, descendants included."""
        self._stopping = True
        for _, running in self._members:
            running.kill()
        await self._forget()

    def bound_logs(self) -> None:
        """Cut logs that have grown over their bound."""
        for _, running in self._members:
            processes.bound_log(running.log)

    async def _forget(self) -> None:
        await asyncio.gather(*self._watchers)
        self._watchers.clear()

    async def _watch(self, running: processes.Running) -> None:
        code = await running.exited()
        if not self._stopping and running.name in self._unasked:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._say(f"{running.name} ended ({how}); log: {running.log}")
