"""The most that a server does: `wrk` with as many requests open as there are connections.

Invariant: an answer of 400 and above, or a broken connection, ends the measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.client import Load
from bench.load import wrk

OVERTIME_S = 15.0
_SCRIPT = Path(__file__).with_name("requests.lua")


def write(path: Path, requests: Sequence[bytes]) -> Path:
    """Keep the requests where `wrk` reads them."""
    path.write_bytes(b"".join(request + b"\0" for request in requests))
    return path


async def peak(program: str, port: int, requests: Path, *, connections: int, seconds: int) -> Load:
    """One block of the requests in a file that `write` made, by `wrk` at `program`. Raises: Unexpected, TimeoutError."""
    options = ("-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", str(_SCRIPT))
    command = [program, *options, f"http://127.0.0.1:{port}/", "--", str(requests)]
    return await wrk(command, within_s=seconds + OVERTIME_S)
