"""The peers as running servers, and what they must show before anything is measured.

Invariant: every server has given the expected bytes for every path that is asked and refused a token that nobody signed,
and those that keep answers have said that they did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench import machine
from bench.client import Unexpected
from bench.peers import setups
from bench.peers.people import Issuer, Pupil
from bench.peers.probing import Probed, probe
from bench.peers.scenarios import MASSAR, MASSAR_MISS, MASSAR_VALKEY, raw
from sandbox import ports, processes

READY_WITHIN_S = 30.0
_FORGED = "a" * 86
_SAID: dict[str, tuple[bytes, bytes | None]] = {
    MASSAR: (b"cache-status", b"massar; hit; detail=memory"),
    MASSAR_VALKEY: (b"cache-status", b"massar; hit; detail=valkey"),
    MASSAR_MISS: (b"cache-status", b"massar; fwd=miss; stored"),
    setups.NGINX: (b"cache-status", b"HIT"),
    setups.NGINX_ASKING: (b"cache-status", b"HIT"),
    setups.NGINX_SLOW: (b"cache-status", b"MISS"),
    setups.HAPROXY: (b"age", None),
}


class Peer(msgspec.Struct, frozen=True):
    """A server that takes part: its port and all its processes."""

    port: int
    running: Sequence[processes.Running]


@asynccontextmanager
async def serving(ground: setups.Ground, names: Iterable[str], core: int) -> AsyncIterator[dict[str, Peer]]:
    """Start the peers on a core. Raises: Missing, ProcessFailed."""
    wanted = list(names)
    free = ports.free_ports(2 * len(wanted))
    peers: dict[str, Peer] = {}
    started: list[tuple[processes.Running, int]] = []
    try:
        for name in wanted:
            port, began = free.pop(), len(started)
            for program in setups.SETUPS[name](ground, port, free.pop()):
                running = _spawn(program, ground.folder, f"{name}-{len(started) - began}", core)
                started.append((running, program.port))
            peers[name] = Peer(port, [running for running, _ in started[began:]])
        for running, at in started:
            await processes.ready(running, partial(_listens, at), within_s=READY_WITHIN_S)
        yield peers
    finally:
        await asyncio.gather(*(running.stop() for running, _ in started))


async def agree(
    peers: Mapping[str, Peer], issuer: Issuer, pupils: Sequence[Pupil], bodies: Mapping[str, bytes]
) -> dict[str, dict[str, bytes]]:
    """Each server's entity tags by path, after it gave every one of `bodies`. Raises: Unexpected."""
    etags: dict[str, dict[str, bytes]] = {}
    for name, peer in peers.items():
        asked = list(issuer.tokens(pupils, len(pupils)))
        answers = await probe(peer.port, [raw(pupil.path, token) for pupil, token in asked])
        for (pupil, _), answer in zip(asked, answers, strict=True):
            if answer.status != 200 or answer.body != bodies[pupil.path]:
                raise Unexpected(f"{name}: {answer.status}, other bytes than the gateway gives")
        etags[name] = {
            pupil.path: answer.fields.get(b"etag", b"")
            for (pupil, _), answer in zip(asked, answers, strict=True)
        }
        if name not in setups.CHECKS_NO_TOKEN:
            await _refuses_forgeries(name, peer, asked[0])
        await _says_how(name, peer, asked[0])
    return etags


async def _refuses_forgeries(name: str, peer: Peer, asked: tuple[Pupil, str]) -> None:
    pupil, token = asked
    head, payload, _ = token.split(".")
    (refused,) = await probe(peer.port, [raw(pupil.path, f"{head}.{payload}.{_FORGED}")])
    if refused.status not in {401, 403}:
        raise Unexpected(f"{name}: {refused.status} for a signature that nobody made")


async def _says_how(name: str, peer: Peer, asked: tuple[Pupil, str]) -> None:
    """A server that says how it came by an answer must say what the comparison is about."""
    if name not in _SAID:
        return
    pupil, token = asked
    answer: Probed = (await probe(peer.port, [raw(pupil.path, token)] * 3))[-1]
    field, expected = _SAID[name]
    said = answer.fields.get(field)
    if said is None or expected not in {None, said}:
        raise Unexpected(f"{name}: {field.decode()} is {said!r}, not {expected!r}")


def _spawn(program: setups.Program, place: Path, name: str, core: int) -> processes.Running:
    with machine.pinned(core):
        return processes.spawn(
            program.command,
            name=name,
            log=place / f"{name}.log",
            environment={**processes.BARE_ENVIRONMENT, **program.environment},
        )


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
