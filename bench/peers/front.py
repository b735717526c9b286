"""What stands before a sandbox's datacenter while misses are measured: reads of timetables are answered by what the
datacenter said to the first of them, after a wait; everything else goes through to it.

`python -m bench.peers.front PORT DATACENTER_PORT DELAY_MS`. So a miss costs the gateway what it always costs, and the
datacenter behind it is as quick as the peers' origin.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress

import uvloop

HEAD_BYTES_MAX = 64 * 1024
_CANNED = re.compile(rb"GET (/v1/classes/[^/ ]+/timetable\?[^ ]*) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_NO_BODY = (b"204", b"304")


class Front:
    """`said` holds what the datacenter answered, by path."""

    def __init__(self, datacenter_port: int, delay_s: float) -> None:
        self.said: dict[bytes, bytes] = {}
        self._datacenter_port = datacenter_port
        self._delay_s = delay_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a gateway, with one of its own to the datacenter as soon as it needs it."""
        behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                request = await _message(reader)
                wanted = _CANNED.match(request)
                said = self.said.get(wanted[1]) if wanted else None
                if said is not None:
                    await asyncio.sleep(self._delay_s)
                else:
                    if behind is None or behind[0].at_eof():
                        behind = await asyncio.open_connection(
                            "127.0.0.1", self._datacenter_port, limit=HEAD_BYTES_MAX
                        )
                    behind[1].write(request)
                    said = await _message(behind[0], answers=request)
                    if wanted and said.startswith(b"HTTP/1.1 200 "):
                        self.said[wanted[1]] = said
                writer.write(said)
        for end in (writer, *([behind[1]] if behind else [])):
            end.close()


async def _message(reader: asyncio.StreamReader, *, answers: bytes = b"") -> bytes:
    """One whole message; `answers` is the request when it is an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    if answers and (answers.startswith(b"HEAD ") or head[9:12] in _NO_BODY):
        return head
    if _CHUNKED.search(head):
        return head + await _chunks(reader)
    length = _LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    whole = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        whole += size + await reader.readexactly(int(size, 16) + 2)
        if int(size, 16) == 0:
            return whole


async def run(port: int, datacenter_port: int, delay_s: float) -> None:
    """Serve until the process ends."""
    front = Front(datacenter_port, delay_s)
    server = await asyncio.start_server(front.serve, "127.0.0.1", port, limit=HEAD_BYTES_MAX, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
