"""`massar director`, but it kills itself once at the step that a file names: run in its place by schedules that crash it.

The file holds a site, `before` or `after`, and a step, such as `marrakech before claim`. Whoever comes to it takes the file
away and dies by SIGKILL, so that the next one goes on; without a file this is the director as it is.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from datacenters import control, promotion
from datacenters.control import Held
from datacenters.etcd import Etcd
from datacenters.fence import Fence
from datacenters.record import Phase, Record
from datacenters.replay import Replay
from gateway.directing import run_director

CRASH_FILE = "MASSAR_CRASH_FILE"
P = ParamSpec("P")
R = TypeVar("R")


class Crash:
    """Dies where the file says."""

    def __init__(self, file: Path, *, site: str, die: Callable[[], None]) -> None:
        self._file = file
        self._site = site
        self._die = die

    def at(self, moment: str, step: str) -> None:
        """Die if this is the place."""
        try:
            asked = self._file.read_text("utf-8").strip()
        except FileNotFoundError:
            return
        if asked == f"{self._site} {moment} {step}":
            self._file.rename(self._file.with_suffix(".done"))
            self._die()

    def around(self, step: str, real: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """The step itself, with a place to die right before and right after it."""

        @functools.wraps(real)
        async def crashing(*args: P.args, **kwargs: P.kwargs) -> R:
            self.at("before", step)
            done = await real(*args, **kwargs)
            self.at("after", step)
            return done

        return crashing


def step_of(before: Record, after: Record) -> str:
    """What a transition of the record is called here."""
    if after.phase is Phase.SEALING:
        return "seal"
    if after.phase is Phase.PROMOTING:
        return "sealed claim" if after.planned else "claim"
    if after.phase is Phase.REPLAYING:
        return "begin of replay"
    if before.phase is Phase.REPLAYING:
        return "activation"
    return "abort" if after.epoch > before.epoch else "other"


def plant(crash: Crash, *, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Wrap every step of a director that changes something others rely on."""
    change = control.change

    async def crashing_change(etcd: Etcd, held: Held, after: Record) -> bool:
        step = step_of(held.record, after)
        crash.at("before", step)
        done = await change(etcd, held, after)
        crash.at("after", step)
        return done

    put(control, "change", crashing_change)
    put(promotion, "promote", crash.around("promotion", promotion.promote))
    put(Fence, "freeze", crash.around("freeze", Fence.freeze))
    put(Fence, "raise_to", crash.around("fence", Fence.raise_to))
    put(Replay, "_transact", crash.around("replay", Replay._transact))


def main(environment: Mapping[str, str]) -> None:
    """Direct as the real one does."""
    file = Path(environment[CRASH_FILE])
    plant(
        Crash(file, site=environment["MASSAR_SITE"], die=lambda: os.kill(os.getpid(), signal.SIGKILL)),
    )
    run_director(environment)


if __name__ == "__main__":
    main(os.environ)
