"""The command as a process: what it does not load."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import runpy, sys
sys.argv = ["massar", "--help"]
try:
    runpy.run_module("gateway", run_name="__main__")
except SystemExit:
    pass
import gateway.asgi
print(*sys.modules, sep="\\n")
"""


def test_a_worker_loads_nothing_that_only_a_console_needs() -> None:
    told = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.splitlines())
    assert "structlog.dev" in loaded, "it was asked for"
    assert not [name for name in loaded if name.startswith("rich.")]
