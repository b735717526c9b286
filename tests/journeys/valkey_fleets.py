"""Several real Valkeys that are one for those who ask: a primary under Sentinels, and a cluster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from sandbox import ports, processes, valkey
from tests.waiting import eventually

READY_WITHIN_S = 10.0
SETTLED_WITHIN_S = 30.0
SLOTS = 16_384
SERVICE = "schools"


class Node:
    """One process of a fleet."""

    def __init__(self, port: int, bus_port: int, running: processes.Running) -> None:
        self.port = port
        self.bus_port = bus_port
        self.running = running
        self.client: Redis = Redis(host=ports.LOOPBACK, port=port)

    async def ask(self, *words: object) -> Any:
        """The reply to a command."""
        command: Any = self.client.execute_command
        return await command(*words)

    def kill(self) -> None:
        """SIGKILL."""
        self.running.kill()


async def start(folder: Path, logs: Path, *settings: str, sentinel: bool = False) -> Node:
    """A Valkey with a working folder and a writable file of settings of its own."""
    port, bus_port = ports.free_ports(2)
    home = folder / str(port)
    home.mkdir(parents=True)
    written = home / "valkey.conf"
    bus = (
        [f"cluster-port {bus_port}"] if "cluster-enabled yes" in settings else []
    )  # else the port plus 10,000
    plain = (f"bind {ports.LOOPBACK}", f"port {port}", f"dir {home}", *bus, *settings)
    unsaved = (
        () if sentinel else ('save ""', "appendonly no", "maxmemory 64mb", "maxmemory-policy volatile-ttl")
    )
    written.write_text("\n".join([*plain, *unsaved]) + "\n")
    binary = str(valkey.binary(os.environ.get("MASSAR_VALKEY_BIN")))
    command = [binary, str(written), *(["--sentinel"] if sentinel else [])]
    node = Node(
        port, bus_port, processes.spawn(command, name=f"valkey-{port}", log=logs / "valkey-fleet.log")
    )

    async def answers() -> bool:
        try:
            return bool(await node.client.ping())
        except RedisError:
            return False

    await processes.ready(node.running, answers, within_s=READY_WITHIN_S)
    return node


class Watched:
    """A primary, its replica and three Sentinels."""

    def __init__(self, primary: Node, replica: Node, sentinels: list[Node]) -> None:
        self.primary = primary
        self.replica = replica
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """What the gateway is told."""
        hosts = ",".join(f"{ports.LOOPBACK}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    async def failed_over(self) -> None:
        """Wait until the replica is the primary."""

        async def promoted() -> bool:
            return bool((await self.replica.ask("ROLE"))[0] == b"master")

        await eventually(promoted, within_s=SETTLED_WITHIN_S)


@asynccontextmanager
async def watched(folder: Path, logs: Path) -> AsyncIterator[Watched]:
    """A primary with a replica, watched by three Sentinels that all know of each other and of the replica."""
    nodes: list[Node] = []
    try:
        primary = await start(folder, logs)
        nodes.append(primary)
        replica = await start(folder, logs, f"replicaof {ports.LOOPBACK} {primary.port}")
        nodes.append(replica)
        sentinels = []
        for _ in range(3):
            sentinels.append(
                await start(
                    folder,
                    logs,
                    f"sentinel monitor {SERVICE} {ports.LOOPBACK} {primary.port} 2",
                    f"sentinel down-after-milliseconds {SERVICE} 500",
                    f"sentinel failover-timeout {SERVICE} 3000",
                    sentinel=True,
                )
            )
            nodes.append(sentinels[-1])
        fleet = Watched(primary, replica, sentinels)

        async def known() -> bool:
            told = [_facts(await one.ask("SENTINEL", "MASTER", SERVICE)) for one in sentinels]
            return all((int(one["num-other-sentinels"]), int(one["num-slaves"])) == (2, 1) for one in told)

        await eventually(known, within_s=SETTLED_WITHIN_S)
        yield fleet
    finally:
        await _end(nodes)


class Parted:
    """A cluster of three nodes without replicas."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """What the gateway is told: one node, which names the others."""
        return f"redis+cluster://{ports.LOOPBACK}:{self.nodes[0].port}"

    async def move(self, slot: int) -> None:
        """Move a slot from the node that has it to the next one, as a resharding does."""
        here, there = await self._owner(slot)
        own, other = await _id(here), await _id(there)
        await there.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", own)
        await here.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", other)
        while keys := await here.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                await here.ask("MIGRATE", ports.LOOPBACK, there.port, key, 0, 5000, "REPLACE")
        # Who takes it hears first: until then each of the two would send those who ask back to the other.
        for node in (there, here, *[one for one in self.nodes if one not in {there, here}]):
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", other)

    async def slots_in_use(self) -> list[int]:
        """Slots that hold something."""
        return sorted({key_slot(key) for node in self.nodes for key in await node.ask("KEYS", "*")})

    async def _owner(self, slot: int) -> tuple[Node, Node]:
        for first, last, member, *_ in await self.nodes[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                place = [node.port for node in self.nodes].index(int(member[1]))
                return self.nodes[place], self.nodes[(place + 1) % len(self.nodes)]
        raise AssertionError(slot)


@asynccontextmanager
async def parted(folder: Path, logs: Path) -> AsyncIterator[Parted]:
    """A cluster of three nodes that agree about all slots."""
    nodes: list[Node] = []
    try:
        for place in range(3):
            node = await start(
                folder,
                logs,
                "cluster-enabled yes",
                "cluster-node-timeout 1000",
                "cluster-require-full-coverage no",
            )
            nodes.append(node)
            first, last = SLOTS * place // 3, SLOTS * (place + 1) // 3 - 1
            await node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            await nodes[0].ask("CLUSTER", "MEET", ports.LOOPBACK, node.port, node.bus_port)

        async def agreed() -> bool:
            told = [(await node.ask("CLUSTER", "INFO")).decode().split() for node in nodes]
            wanted = {"cluster_state:ok", "cluster_known_nodes:3", f"cluster_slots_ok:{SLOTS}"}
            return all(wanted <= set(one) for one in told)

        await eventually(agreed, within_s=SETTLED_WITHIN_S)
        yield Parted(nodes)
    finally:
        await _end(nodes)


def _facts(told: Any) -> dict[str, Any]:
    """Pairs as a mapping, however the client gives them."""
    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    return {name.decode() if isinstance(name, bytes) else str(name): value for name, value in pairs}


async def _id(node: Node) -> str:
    return str((await node.ask("CLUSTER", "MYID")).decode())


async def _end(nodes: list[Node]) -> None:
    for node in nodes:
        await node.client.aclose()
        node.kill()
