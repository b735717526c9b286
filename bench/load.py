"""The load of one block: by `wrk` where the machine has it, else by this project's own client.

Invariant: whatever sends the requests, an answer that is not 200 ends the measurement.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence

from bench import client
from bench.client import Load, Refused

OVERTIME_S = 10.0
_SPAN = re.compile(r"(\d+) requests in ([\d.]+)(ms|s|m)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_COMPLAINTS = ("Non-2xx", "Socket errors")


class Asked:
    """One request, over and over: `url_path` with a token, answered by `expected`."""

    def __init__(self, url_path: str, *, token: str, expected: bytes) -> None:
        self.url_path = url_path
        self.expected = expected
        self.headers = {
            "host": "massar.example",
            "authorization": f"Bearer {token}",
            "accept": "application/json",
            "accept-language": "fr",
            "user-agent": "massar-bench",
        }

    @property
    def request(self) -> bytes:
        """The request as it goes over the wire."""
        lines = [
            f"GET {self.url_path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def generator() -> str:
    """What sends the load on this machine: the path of `wrk`, or `own client`."""
    return shutil.which("wrk") or "own client"


async def load(sender: str, port: int, asked: Asked, *, connections: int, seconds: int) -> Load:
    """One block of load against a server on loopback. `sender` is what `generator` says.

    Raises: Unexpected, OSError, TimeoutError.
    """
    if sender == "own client":
        return await client.drive(
            "127.0.0.1",
            port,
            asked.request,
            asked.expected,
            connections=connections,
            seconds=seconds,
        )
    arguments = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
    for name, value in asked.headers.items():
        arguments += ["-H", f"{name}: {value}"]
    return await wrk(
        [sender, *arguments, f"http://127.0.0.1:{port}{asked.url_path}"], within_s=seconds + OVERTIME_S
    )


async def wrk(command: Sequence[str], *, within_s: float) -> Load:
    """Run `wrk` to its end and read what it printed; it is ended after `within_s`. Raises: Unexpected, TimeoutError."""
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(within_s):
            told, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    return read_report(told.decode())


def read_report(report: str) -> Load:
    """What `wrk` printed. Raises: Unexpected."""
    span = _SPAN.search(report)
    if span is None or any(complaint in report for complaint in _COMPLAINTS):
        raise Refused(report)
    return Load(requests=int(span[1]), seconds=float(span[2]) * _UNIT_S[span[3]])
