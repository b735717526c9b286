"""A measurement that is told to end takes the servers it started along."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bench.__main__ import _measured


def test_sigterm_ends_a_measurement_by_its_own_way_out() -> None:
    left: list[str] = []

    async def measuring() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(100):
                await asyncio.sleep(0)
            left.append("servers stopped")

    with pytest.raises(SystemExit) as ended:
        _measured(measuring())
    assert (left, ended.value.code) == (["servers stopped"], 128 + signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "whoever starts pytest can still end it"
