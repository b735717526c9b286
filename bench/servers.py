"""The servers of a comparison: each one worker (or as many as asked for) on the server's core, with what a sandbox's own gateway was given.

Invariant: all of them answer before anything is measured, and end with the block.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import httpx
import msgspec

from bench import machine, variants
from bench.country import Ground
from gateway.serve import METRICS_DIR_VARIABLE
from sandbox import ports, processes

READY_WITHIN_S = 60.0
CLIENT_WAIT_S = 5.0
RATE_UNBOUNDED = "1000000"
THE_PRODUCT = ("-m", "gateway", "gateway-part", "workers")
ONE_EACH: Mapping[str, int] = MappingProxyType({})
ROOT = Path(__file__).parents[1]


class Server(msgspec.Struct, frozen=True):
    """One variant that serves on loopback."""

    running: processes.Running
    port: int
    metrics: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{ports.LOOPBACK}:{self.port}"


@asynccontextmanager
async def serving(
    folder: Path,
    ground: Ground,
    commands: Mapping[str, tuple[str, ...]],
    cores: machine.Cores,
    *,
    workers: Mapping[str, int] = ONE_EACH,
    python: str = sys.executable,
) -> AsyncIterator[dict[str, Server]]:
    """Start each command of `commands` (arguments for `python`) as a server of its own, of one worker or of `workers`."""
    free = ports.free_ports(2 * len(commands))
    servers: dict[str, Server] = {}
    try:
        for name, command in commands.items():
            metrics = folder / f"metrics-{name}"
            metrics.mkdir()
            public, private = free.pop(), free.pop()
            environment = {
                **ground.environment,
                "MASSAR_LISTEN": f"{ports.LOOPBACK}:{public}",
                "MASSAR_PRIVATE_LISTEN": f"{ports.LOOPBACK}:{private}",
                "MASSAR_METRICS_DIR": str(metrics),
                "MASSAR_WORKERS": str(workers.get(name, 1)),
                "MASSAR_RATE_PER_S": RATE_UNBOUNDED,
                "MASSAR_RATE_BURST": RATE_UNBOUNDED,
                METRICS_DIR_VARIABLE: str(metrics),
                "PYTHONPATH": str(ROOT),
                variants.FLOOR_BODY_VARIABLE: str(len(ground.body)),
            }
            with machine.pinned(cores.server):
                running = processes.spawn(
                    [python, *command], name=name, log=folder / f"{name}.log", environment=environment
                )
            servers[name] = Server(running, public, metrics)
        async with httpx.AsyncClient(timeout=CLIENT_WAIT_S, trust_env=False) as client:
            for server in servers.values():
                await processes.ready(
                    server.running, partial(_answers, client, server.url), within_s=READY_WITHIN_S
                )
        yield servers
    finally:
        await asyncio.gather(*(server.running.stop() for server in servers.values()))


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(f"{url}/readyz")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
