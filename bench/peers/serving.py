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
from typing import TypeAlias

import msgspec

from bench import machine
from bench.client import Unexpected
from bench.peers import setups
from bench.peers.people import Issuer, Pupil
from bench.peers.probing import Probed, probe
from bench.peers.scenarios import MASSAR, MASSAR_MISS, MASSAR_MIX, MASSAR_VALKEY, raw
from sandbox import ports, processes

READY_WITHIN_S = 30.0
_FORGED = "a" * 86
_ANYTHING, _NOTHING = None, b""
_HIT, _MISS = (b"cache-status", b"massar; hit; detail=memory"), (b"cache-status", b"massar; fwd=miss; stored")
_Said: TypeAlias = Mapping[str, tuple[bytes, bytes | None]]
# What each server says of an answer: the field, and its value.
OF_EVERYTHING: _Said = {
    MASSAR: _HIT,
    MASSAR_VALKEY: (b"cache-status", b"massar; hit; detail=valkey"),
    MASSAR_MISS: _MISS,
    MASSAR_MIX: _HIT,
    setups.MASSAR_H2: _HIT,
    setups.NGINX: (b"cache-status", b"HIT"),
    setups.NGINX_ASKING: (b"cache-status", b"HIT"),
    setups.NGINX_SLOW: (b"cache-status", b"MISS"),
    setups.NGINX_MIX: (b"cache-status", b"HIT"),
    setups.NGINX_H2: (b"cache-status", b"HIT"),
    setups.HAPROXY: (b"age", _ANYTHING),
    setups.HAPROXY_MIX: (b"age", _ANYTHING),
    setups.HAPROXY_H2: (b"age", _ANYTHING),
}
OF_WHAT_CHANGED: _Said = {
    MASSAR_MIX: _MISS,
    setups.NGINX_MIX: (b"cache-status", b"BYPASS"),
    setups.HAPROXY_MIX: (b"age", _NOTHING),
}


class Peer(msgspec.Struct, frozen=True):
    """A server that takes part: its port and all its processes; `certificate` when it speaks HTTP/2 over TLS."""

    port: int
    running: Sequence[processes.Running]
    certificate: Path | None = None

    async def probe(self, requests: Iterable[bytes]) -> list[Probed]:
        """Its answers to raw requests, one after the other. Raises: OSError, TimeoutError, IncompleteReadError."""
        return await probe(self.port, requests, certificate=self.certificate)


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
            certificate = ground.certificate if name in setups.OVER_TLS else None
            peers[name] = Peer(port, [running for running, _ in started[began:]], certificate)
        for running, at in started:
            await processes.ready(running, partial(_listens, at), within_s=READY_WITHIN_S)
        yield peers
    finally:
        await asyncio.gather(*(running.stop() for running, _ in started))


async def agree(
    peers: Mapping[str, Peer],
    issuer: Issuer,
    pupils: Sequence[Pupil],
    bodies: Mapping[str, bytes],
    said: _Said = OF_EVERYTHING,
) -> dict[str, dict[str, bytes]]:
    """Each server's entity tags by path, after it gave every one of `bodies` and said of one how it came by it.

    Raises: Unexpected.
    """
    etags: dict[str, dict[str, bytes]] = {}
    for name, peer in peers.items():
        asked = list(issuer.tokens(pupils, len(pupils)))
        answers = await peer.probe([raw(pupil.path, token) for pupil, token in asked])
        for (pupil, _), answer in zip(asked, answers, strict=True):
            if answer.status != 200 or answer.body != bodies[pupil.path]:
                raise Unexpected(f"{name}: {answer.status}, other bytes than the gateway gives")
        etags[name] = {
            pupil.path: answer.fields.get(b"etag", b"")
            for (pupil, _), answer in zip(asked, answers, strict=True)
        }
        if name not in setups.CHECKS_NO_TOKEN:
            await _refuses_forgeries(name, peer, asked[0])
        if name in said:
            await _says_how(name, peer, asked[0], *said[name])
    return etags


async def _refuses_forgeries(name: str, peer: Peer, asked: tuple[Pupil, str]) -> None:
    pupil, token = asked
    head, payload, _ = token.split(".")
    (refused,) = await peer.probe([raw(pupil.path, f"{head}.{payload}.{_FORGED}")])
    if refused.status not in {401, 403}:
        raise Unexpected(f"{name}: {refused.status} for a signature that nobody made")


async def _says_how(
    name: str, peer: Peer, asked: tuple[Pupil, str], field: bytes, expected: bytes | None
) -> None:
    """A server that says how it came by an answer must say what the comparison is about."""
    pupil, token = asked
    answer = (await peer.probe([raw(pupil.path, token)] * 3))[-1]
    said = answer.fields.get(field, _NOTHING)
    if said == _NOTHING if expected is _ANYTHING else said != expected:
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
