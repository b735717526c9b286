"""What stands behind the peers: ready answers from memory, after a wait where one is asked for.

`python -m bench.peers.origin PORT ANSWERS [DELAY_MS]`; ANSWERS is a JSON object of targets and bodies. With a delay nothing
may be stored. It shares the load's core, so it does as little as an HTTP/1.1 server can.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from pathlib import Path
from typing import cast

import msgspec
import uvloop

REQUEST_BYTES_MAX = 64 * 1024
FRESH_S = 3600
_END = b"\r\n\r\n"
_NOT_THERE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
_MATCH = re.compile(rb"\r\nif-none-match: *([^\r]+)", re.IGNORECASE)


class Answer(msgspec.Struct, frozen=True):
    """One resource, ready to be written."""

    etag: bytes
    full: bytes
    not_modified: bytes


def answer(body: bytes, *, stored: bool) -> Answer:
    """What is written for `body`; `stored` says whether caches may keep it."""
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
    control = b"public, max-age=%d" % FRESH_S if stored else b"no-store"
    fields = b"content-type: application/json\r\netag: %s\r\ncache-control: %s\r\n" % (etag, control)
    return Answer(
        etag=etag,
        full=b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (fields, len(body), body),
        not_modified=b"HTTP/1.1 304 Not Modified\r\n%s\r\n" % fields,
    )


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests have no body."""

    def __init__(self, answers: dict[bytes, Answer], delay_s: float) -> None:
        self._answers = answers
        self._delay_s = delay_s
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole now."""
        received = self._received + data
        while (end := received.find(_END)) >= 0:
            self._asked(received[: end + 2])
            received = received[end + len(_END) :]
        self._received = received
        if len(received) > REQUEST_BYTES_MAX and self._transport is not None:
            self._transport.close()

    def _asked(self, head: bytes) -> None:
        path = head[head.index(b" ") + 1 : head.index(b" HTTP/")]
        found = self._answers.get(path)
        wanted = _MATCH.search(head)
        if found is None:
            said = _NOT_THERE
        elif wanted is not None and found.etag in wanted[1]:
            said = found.not_modified
        else:
            said = found.full
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._say, said)
        else:
            self._say(said)

    def _say(self, said: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(said)


async def serve(port: int, bodies: dict[str, str], delay_s: float) -> None:
    """Answer until the process ends."""
    answers = {
        path.encode("ascii"): answer(body.encode("utf-8"), stored=not delay_s)
        for path, body in bodies.items()
    }
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers, delay_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    told = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=dict[str, str])
    uvloop.run(serve(int(sys.argv[1]), told, float(sys.argv[3]) / 1000 if len(sys.argv) > 3 else 0.0))
