"""The site's own command that makes its PostgreSQL follow the active one: the one thing that no SQL can do.

Invariant: a local command, given by setting and run without a shell; it learns names alone (its environment says which
site, which is active, at which epoch) and ends with the director; running it again at any moment is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from datacenters import lifeline

WITHIN_S = 1800.0  # a base backup of everything


class HookFailed(Exception):
    """The command did not succeed; it is run again later."""


class Hook:
    """Runs `command` with `environment` and nothing else of this process's."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], within_s: float = WITHIN_S
    ) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)
        self._within_s = within_s

    async def run(self, *, site: str, active: str, epoch: int) -> None:
        """Return when PostgreSQL follows.

        Raises: HookFailed.
        """
        told = {"MASSAR_REJOIN_SITE": site, "MASSAR_REJOIN_ACTIVE": active, "MASSAR_REJOIN_EPOCH": str(epoch)}
        try:
            running = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                env={**self._environment, **told},
                preexec_fn=lifeline.tied_child(),
            )
        except OSError as failure:
            raise HookFailed(f"{self._command[0]} does not start: {failure}") from failure
        try:
            async with asyncio.timeout(self._within_s):
                code = await running.wait()
        except TimeoutError:
            raise HookFailed(f"not done after {self._within_s:.0f} s") from None
        finally:
            if running.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    running.kill()
        if code != 0:
            raise HookFailed(f"exit code {code}")
