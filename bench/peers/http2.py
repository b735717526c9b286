"""HTTP/2 over TLS, sent by `h2load`: for every pupil a process of its own, with his token, his path and a few connections.

h2load puts the same headers into all that a process sends, so there is no other way to different tokens. A process for each
connection would spend the load's core on changing from one to the next.

Invariant: what counts falls into a span that begins when all have had answers for a while, so no handshake is part of it; an
answer that is not 200 from then on ends the measurement.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.client import Refused, Unexpected
from bench.peers.certificate import HOST
from bench.peers.open_loop import Offered
from bench.peers.people import Pupil

CONNECTIONS_EACH = 4
STARTED_WITHIN_S = 30.0
# Everybody asks for so long before anything counts.
LEAD_S = 1.0
# What was sent at the end of the span has so long to be answered.
TAIL_S = 1.0
POLL_S = 0.02
# Of what was due; with less the server was not asked at the rate that it is said to have been.
SENT_MIN = 0.9
# At a fixed rate what is due is sent though earlier answers are still to come; no server here allows a connection less.
UNDER_WAY_MAX = 100
_CIPHER = "TLS_AES_128_GCM_SHA256"
_SPOKE_IT = b"Application protocol: h2\n"


class Driven(Offered, frozen=True):
    """What one span came to, and the seconds that `cpu_s` counted meanwhile.

    The waits are those of the requests that were sent in it, from h2load's sending to the end of the answer.
    """

    cpu_s: float


class Sender:
    """One h2load: what it is to send, and the files where it says what came of it."""

    def __init__(self, place: Path, number: int, asks: tuple[Pupil, str]) -> None:
        place.mkdir(exist_ok=True)
        self._pupil, self._token = asks
        self._log = place / f"{number}.log"
        self._said = place / f"{number}.said"
        self._running: Process | None = None

    async def start(self, program: str, port: int, *, rate: float | None, seconds: float) -> None:
        """Begin to ask, at `rate` on each connection; without one each request follows the answer to the one before."""
        self._log.unlink(missing_ok=True)
        with self._said.open("wb") as said:
            self._running = await asyncio.create_subprocess_exec(
                *self._command(program, port, rate=rate, seconds=seconds), stdout=said, stderr=said
            )

    def _command(self, program: str, port: int, *, rate: float | None, seconds: float) -> list[str]:
        headers = {
            "authorization": f"Bearer {self._token}",
            "accept": "application/json",
            "accept-language": "fr",
            "user-agent": "massar-bench",
        }
        pace = ["-m", "1"] if rate is None else ["-m", str(UNDER_WAY_MAX), f"--rps={rate:.4f}"]
        return [
            *(program, "-c", str(CONNECTIONS_EACH), "-t", "1", "-D", f"{math.ceil(seconds)}s", *pace),
            *(f"--tls13-ciphers={_CIPHER}", "--npn-list=h2", f"--connect-to=127.0.0.1:{port}"),
            *(word for name, value in headers.items() for word in ("-H", f"{name}: {value}")),
            *(f"--log-file={self._log}", f"https://{HOST}{self._pupil.path}"),
        ]

    async def under_way(self) -> None:
        """Return when an answer has come. Raises: Unexpected when it has ended."""
        while True:
            self.goes_on()
            if self._log.exists() and self._log.stat().st_size > 0:
                return
            await asyncio.sleep(POLL_S)

    def goes_on(self) -> None:
        """Raises: Unexpected when it has ended."""
        if self._running is not None and self._running.returncode is not None:
            raise Unexpected(f"h2load ended: {self._said.read_text('utf-8', 'replace')[-300:]}")

    async def stop(self) -> None:
        """End it wherever it is."""
        if self._running is not None and self._running.returncode is None:
            self._running.kill()
            await self._running.wait()

    def answers(self, since_s: float) -> Iterator[tuple[int, int]]:
        """When each request was sent, in µs since 1970, and how many µs its answer took, of those that ended since.

        Raises: Unexpected.
        """
        if _SPOKE_IT not in self._said.read_bytes():
            raise Unexpected(f"not HTTP/2: {self._said.read_text('utf-8', 'replace')[-300:]}")
        for line in self._log.read_bytes().splitlines():
            sent, status, took = map(int, line.split(b"\t")[:3])
            if sent + took <= since_s * 1e6:
                continue
            if status != 200:
                raise Refused(f"{status} for {self._pupil.path}")
            yield sent, took


async def drive(
    program: str,
    port: int,
    people: Sequence[tuple[Pupil, str]],
    *,
    place: Path,
    rate: float | None,
    seconds: float,
    cpu_s: Callable[[], float],
) -> Driven:
    """Let everybody ask at once by `h2load` at `program`: `rate` requests a second in all, or as many as they can.

    `place` is for the files of their senders. Raises: Unexpected, OSError, TimeoutError.
    """
    senders = [Sender(place, number, asks) for number, asks in enumerate(people)]
    each = None if rate is None else rate / len(senders) / CONNECTIONS_EACH
    try:
        for sender in senders:
            await sender.start(
                program, port, rate=each, seconds=STARTED_WITHIN_S + LEAD_S + seconds + 2 * TAIL_S
            )
        async with asyncio.timeout(STARTED_WITHIN_S):
            for sender in senders:
                await sender.under_way()
        await asyncio.sleep(LEAD_S)
        began, used_s = time.time(), cpu_s()
        await asyncio.sleep(seconds)
        ended, used_s = time.time(), cpu_s() - used_s
        await asyncio.sleep(TAIL_S)
        for sender in senders:
            sender.goes_on()
    finally:
        await asyncio.gather(*(sender.stop() for sender in senders))
    answers = [answer for sender in senders for answer in sender.answers(began)]
    return _counted(answers, began, ended, used_s, rate)


def _counted(
    answers: Sequence[tuple[int, int]], began: float, ended: float, cpu_s: float, rate: float | None
) -> Driven:
    first, last = began * 1e6, ended * 1e6
    answered = sum(sent + took <= last for sent, took in answers)
    waits_ms = [took / 1000 for sent, took in answers if first < sent <= last]
    due = 2 if rate is None else max(2, rate * (ended - began) * SENT_MIN)
    if len(waits_ms) < due:
        raise Unexpected(
            f"{len(waits_ms)} requests were sent and answered of {due / SENT_MIN:.0f} that were due"
        )
    percentiles = statistics.quantiles(waits_ms, n=100, method="inclusive")
    return Driven(
        requests=answered,
        seconds=ended - began,
        cpu_s=cpu_s,
        p50_ms=percentiles[49],
        p99_ms=percentiles[98],
    )
