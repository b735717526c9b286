"""What a person of the results hour costs a worker and the HAProxy that ends TLS before it, in one round.

Each thing that a person does is measured alone, and then whole visits at the rate that keeps the core as busy as a node is
meant to be.

Invariant: what is counted begins when connections stand (handshakes apart, which are a kind of their own) and ends when
every answer is whole; what both processes take with nobody asking is taken off; a read was answered as its kind says.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from auth.passwords import hash_password
from bench import machine
from bench.client import Unexpected
from bench.peers.probing import Probed
from bench.peers.scenarios import raw
from bench.peers.serving import Peer
from bench.phones import Person, Phone, Signer, connect, granted, offer, refresh, sign_in, trusting
from bench.results_estimate import (
    COLD_SHARE,
    CONDITIONAL_READS,
    SIGN_IN_SHARE,
    UTILISATION,
    WARM_READS,
    Kind,
    cpu_s_a_person,
    falls,
)
from sandbox import processes

# Errands due a second when a kind is measured alone. A sign-in keeps a core busy for a sixth of a second.
RATES: Mapping[Kind, float] = {
    Kind.WARM: 300.0,
    Kind.CONDITIONAL: 300.0,
    Kind.FIRST_SEEN: 200.0,
    Kind.HANDSHAKE: 60.0,
    Kind.REFRESH: 50.0,
    Kind.COLD: 30.0,
    Kind.SIGN_IN: 3.0,
}
# People whose results the worker holds, read once more before every block.
KNOWN = 200
# Connections that stand while a kind is measured alone.
PHONES = 16
# People of one mixed block: whole cycles of every share.
VISITS = 300
HIT = b"massar; hit; detail=memory"
MISS = b"massar; fwd"
# Of the reads of a block; relations that ran out just then are fetched again by whoever comes.
OTHERWISE_MAX = 0.05


class Cost(msgspec.Struct, frozen=True):
    """Microseconds of processor time for one errand of a kind, and how many of them were HAProxy's."""

    cpu_us: float
    terminator_us: float


class Round(msgspec.Struct, frozen=True):
    """One round. `idle`: the share of the core with nobody asking. `argon2id_s`: one computation by itself.

    `visits_per_s` people came in the mixed block, kept the core `busy` and cost `visit_s` each, beside the sum of the parts.
    """

    idle: float
    argon2id_s: float
    parts: dict[Kind, Cost]
    visits_per_s: float
    busy: float
    visit_s: float

    @property
    def summed_s(self) -> float:
        """Processor time for a person by the parts, in seconds."""
        return cpu_s_a_person(self.cpu_us)

    @property
    def cpu_us(self) -> dict[Kind, float]:
        """What each kind took."""
        return {kind: cost.cpu_us for kind, cost in self.parts.items()}


class Visits:
    """The measurement of one round after the other."""

    def __init__(
        self,
        before: Peer,
        worker: processes.Running,
        signer: Signer,
        who: Sequence[Person],
        *,
        seconds: float,
        core: int,
    ) -> None:
        assert before.certificate is not None
        self._before = before
        self._worker = worker
        self._tls = trusting(before.certificate)
        self._signer = signer
        self._known = list(who[:KNOWN])
        # Whose turn it is goes on from block to block, so that nobody signs in often enough to end an older session.
        self._turns = itertools.cycle(self._known)
        self._unseen = deque(who[KNOWN:])
        self._seconds = seconds
        self._core = core
        self._reads = 0
        self._otherwise = 0

    async def round(self) -> Round:
        """Every kind alone, then visits. Raises: Unexpected, OSError, TimeoutError."""
        for person in self._known:
            person.access_token = self._signer.access(person.subject)
        began = self._used()
        await asyncio.sleep(self._seconds)
        idle = Cost(*((now - then) / self._seconds for now, then in zip(self._used(), began, strict=True)))
        parts: dict[Kind, Cost] = {}
        for kind, errand in self._errands().items():
            parts[kind] = await self._alone(kind, errand, idle)
        connected, warm = parts[Kind.HANDSHAKE], parts[Kind.WARM]
        parts[Kind.HANDSHAKE] = Cost(
            connected.cpu_us - warm.cpu_us, connected.terminator_us - warm.terminator_us
        )
        argon2id_s = self._argon2id_s()
        costs_s = cpu_s_a_person({kind: cost.cpu_us for kind, cost in parts.items()})
        rate = (UTILISATION - idle.cpu_us) / costs_s
        await self._know()
        began, took_s = self._used(), await self._offered(self._visit, count=VISITS, rate=rate)
        used_s = self._used()[0] - began[0]
        return Round(
            idle=idle.cpu_us,
            argon2id_s=argon2id_s,
            parts=parts,
            visits_per_s=rate,
            busy=used_s / took_s,
            visit_s=(used_s - idle.cpu_us * took_s) / VISITS,
        )

    def _errands(self) -> dict[Kind, Callable[[Phone], Awaitable[None]]]:
        return {
            Kind.WARM: lambda phone: self._warm(phone, next(self._turns)),
            Kind.CONDITIONAL: lambda phone: self._conditional(phone, next(self._turns)),
            Kind.FIRST_SEEN: lambda phone: self._first_seen(phone, next(self._turns)),
            Kind.COLD: lambda phone: self._cold(phone, self._unseen.popleft()),
            Kind.REFRESH: lambda phone: self._refresh(phone, next(self._turns)),
            Kind.SIGN_IN: lambda phone: self._sign_in(phone, next(self._turns)),
            Kind.HANDSHAKE: lambda phone: self._warm(phone, next(self._turns)),
        }

    async def _alone(self, kind: Kind, errand: Callable[[Phone], Awaitable[None]], idle: Cost) -> Cost:
        """What one errand of a kind takes; a new connection is opened for each handshake alone."""
        await self._know()
        standing: asyncio.Queue[Phone] = asyncio.Queue()
        for _ in range(0 if kind is Kind.HANDSHAKE else PHONES):
            standing.put_nowait(await self._connect())

        async def on_standing(_number: int) -> None:
            phone = await standing.get()
            await errand(phone)
            standing.put_nowait(phone)

        async def on_new(_number: int) -> None:
            phone = await self._connect()
            await errand(phone)
            await phone.close()

        count = max(1, round(RATES[kind] * self._seconds))
        began = self._used()
        took_s = await self._offered(
            on_new if kind is Kind.HANDSHAKE else on_standing, count=count, rate=RATES[kind]
        )
        ended = self._used()
        while not standing.empty():
            await standing.get_nowait().close()
        used_us, terminator_us = (
            1e6 * (now - then - idly * took_s) / count
            for now, then, idly in zip(ended, began, (idle.cpu_us, idle.terminator_us), strict=True)
        )
        return Cost(used_us, terminator_us)

    async def _offered(self, errand: Callable[[int], Awaitable[None]], *, count: int, rate: float) -> float:
        self._reads = self._otherwise = 0
        took_s = await offer(errand, count=count, rate=rate)
        if self._otherwise > OTHERWISE_MAX * self._reads:
            raise Unexpected(f"{self._otherwise} of {self._reads} reads were answered otherwise")
        for running in (*self._before.running, self._worker):
            processes.bound_log(running.log)
        return took_s

    async def _visit(self, number: int) -> None:
        """All that a person does, one thing after the other on one connection."""
        cold = falls(number, COLD_SHARE)
        person = self._unseen.popleft() if cold else next(self._turns)
        phone = await self._connect()
        if falls(number, SIGN_IN_SHARE):
            await self._sign_in(phone, person)
        else:
            await self._refresh(phone, person)
        await self._read(phone, person, MISS if cold else HIT)
        for _ in range(WARM_READS):
            await self._warm(phone, person)
        for _ in range(CONDITIONAL_READS):
            await self._conditional(phone, person)
        await phone.close()

    async def _warm(self, phone: Phone, person: Person) -> None:
        await self._read(phone, person, HIT)

    async def _conditional(self, phone: Phone, person: Person) -> None:
        self._judge(await phone.ask(raw(person.path, person.access_token, etag=person.etag), status=304), HIT)

    async def _first_seen(self, phone: Phone, person: Person) -> None:
        person.access_token = self._signer.access(person.subject)
        await self._read(phone, person, HIT)

    async def _cold(self, phone: Phone, person: Person) -> None:
        person.access_token = self._signer.access(person.subject)
        await self._read(phone, person, MISS)

    async def _refresh(self, phone: Phone, person: Person) -> None:
        answer = await phone.ask(refresh(person))
        person.access_token, person.refresh_token = granted(answer)

    async def _sign_in(self, phone: Phone, person: Person) -> None:
        person.access_token, _ = granted(await phone.ask(sign_in(person)))

    async def _read(self, phone: Phone, person: Person, said: bytes) -> None:
        answer = await phone.ask(raw(person.path, person.access_token))
        person.etag = answer.fields[b"etag"]
        self._judge(answer, said)

    def _judge(self, answer: Probed, said: bytes) -> None:
        self._reads += 1
        self._otherwise += not answer.fields.get(b"cache-status", b"").startswith(said)

    async def _know(self) -> None:
        """Let the worker see everybody it is to know, with the token that is held."""
        phone = await self._connect()
        for person in self._known:
            answer = await phone.ask(raw(person.path, person.access_token))
            person.etag = answer.fields[b"etag"]
        await phone.close()

    async def _connect(self) -> Phone:
        return await connect(self._before.port, self._tls)

    def _used(self) -> tuple[float, float]:
        """Processor time so far: of both, and of what ends TLS."""
        terminator_s = sum(machine.cpu_s(running.who) for running in self._before.running)
        return machine.cpu_s(self._worker.who) + terminator_s, terminator_s

    def _argon2id_s(self) -> float:
        """One computation, on the core of the servers."""
        with machine.pinned(self._core):
            began = time.thread_time()
            hash_password("bench")
            return time.thread_time() - began
